"""Tokens, sessions and users as the API is told and tells them."""

from datetime import datetime
from typing import Literal

import msgspec

from purveyor.access.models import UserRecord


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`expires_in` is in seconds; a token of the scope project needs its project. What is done with
    a token of a `user` is done in that one's name."""

    name: str
    scope: Literal["admin", "read", "project"] = "admin"
    project: str | int | None = None
    expires_in: int | None = None
    user: str | None = None


class TokenView(msgspec.Struct, frozen=True, kw_only=True):
    """A token without its text; `project` is the slug of the project that it is of, `user` the name
    of whose it is."""

    id: int
    name: str
    scope: str
    project_id: int | None
    project: str | None
    environment_id: int | None
    user: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's session in a browser: the token that opened it, whose that is, from where; whether
    it is the one that asks."""

    id: int
    token_id: int
    token: str
    user: str | None
    peer: str
    agent: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    current: bool


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """The token in clear, shown this once."""

    id: int
    name: str
    scope: str
    token: str
    user: str | None = None


class UserRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new user: `name` is small letters, digits and . _ @ + -, beginning with a letter."""

    name: str


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    """A user, and how many valid tokens that one has."""

    id: int
    name: str
    created_at: datetime
    disabled_at: datetime | None
    tokens: int


def user_view(record: UserRecord, tokens: int) -> UserView:
    return UserView(
        id=record.id,
        name=record.name,
        created_at=record.created_at,
        disabled_at=record.disabled_at,
        tokens=tokens,
    )
