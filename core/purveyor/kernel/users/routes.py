"""/api/users: who works here, by name."""

from datetime import datetime
from typing import Any

import msgspec
from litestar import Request, Response, Router, delete, get, post

from purveyor.kernel.actors import Who, told
from purveyor.kernel.api import tokens
from purveyor.kernel.api.auditing import note
from purveyor.kernel.api.auth import admin
from purveyor.kernel.api.responses import Limit, Offset, page
from purveyor.kernel.core import Core
from purveyor.kernel.db import Page, Tx
from purveyor.kernel.users import store as users
from purveyor.kernel.users.models import UserRecord

Req = Request[Any, Any, Any]


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


def _view(tx: Tx, record: UserRecord) -> UserView:
    valid = len(tokens.of_user(tx, record.id))
    return UserView(
        id=record.id,
        name=record.name,
        created_at=record.created_at,
        disabled_at=record.disabled_at,
        tokens=valid,
    )


def _changed(tx: Tx, how: str, record: UserRecord, who: Who) -> None:
    tx.emit(f"user.{how}", data={"id": record.id, "name": record.name, **told(who)})


def _end_tokens(tx: Tx, record: UserRecord, who: Who) -> None:
    for number in tokens.of_user(tx, record.id):
        tokens.revoke(tx, number)
        tx.emit("token.revoked", data={"id": number, **told(who)})


@get("/", guards=[admin])
async def list_users(
    core: Core, limit: Limit = 100, offset: Offset = 0
) -> Response[list[UserView]]:
    def work(tx: Tx) -> Page[UserView]:
        found = users.page(tx, limit=limit, offset=offset)
        return Page([_view(tx, record) for record in found.items], found.total)

    return page(*await core.house.store.read(work))


@post("/", guards=[admin])
async def create_user(request: Req, core: Core, data: UserRequest) -> UserView:
    note(request, target=data.name)

    def work(tx: Tx) -> UserView:
        record = users.add(tx, data.name)
        _changed(tx, "created", record, request.user)
        return _view(tx, record)

    return await core.house.store.write(work)


@post("/{name:str}/disable", guards=[admin], status_code=200)
async def disable_user(request: Req, core: Core, name: str) -> UserView:
    """End a user's tokens, all of them and at once; no new ones are made until the user is
    enabled."""

    def work(tx: Tx) -> UserView:
        record = users.get(tx, name)
        if record.disabled_at is None:
            users.disable(tx, record)
            _changed(tx, "disabled", record, request.user)
        _end_tokens(tx, record, request.user)
        return _view(tx, users.get(tx, name))

    return await core.house.store.write(work)


@post("/{name:str}/enable", guards=[admin], status_code=200)
async def enable_user(request: Req, core: Core, name: str) -> UserView:
    """Let a user have tokens again; those that were ended stay so."""

    def work(tx: Tx) -> UserView:
        record = users.get(tx, name)
        if record.disabled_at is not None:
            users.enable(tx, record)
            _changed(tx, "enabled", record, request.user)
        return _view(tx, users.get(tx, name))

    return await core.house.store.write(work)


@delete("/{name:str}", guards=[admin])
async def remove_user(request: Req, core: Core, name: str) -> None:
    """End a user's tokens and forget the user; the name stays in the journal and is never given
    again."""

    def work(tx: Tx) -> None:
        record = users.get(tx, name)
        _end_tokens(tx, record, request.user)
        users.remove(tx, record)
        _changed(tx, "removed", record, request.user)

    await core.house.store.write(work)


router = Router(
    "/users",
    route_handlers=[list_users, create_user, disable_user, enable_user, remove_user],
    tags=["installation"],
)
