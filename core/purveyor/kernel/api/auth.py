"""Who asks, and what they may do."""

from contextlib import suppress
from typing import Any, NamedTuple

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from purveyor.kernel.api import tokens
from purveyor.kernel.api.models import TokenRecord
from purveyor.kernel.api.peers import REACH, Reach
from purveyor.kernel.api.tokens import actor_of
from purveyor.kernel.core import Core
from purveyor.kernel.db import Tx
from purveyor.kernel.db.rows import WHOLE, Row
from purveyor_hooks import Actor, Forbidden, StateUnavailable, Unauthorized

TRUSTED = "purveyor.trusted"
# in the scope of what a plugin asks in this very process: there a session is as good as its token
INWARD = "purveyor.inward"
Connection = ASGIConnection[Any, Any, Any, Any]


LOCAL = Actor(name="local", scope="admin")


class Authentication(AbstractAuthenticationMiddleware):
    """A Bearer token, or the local socket that only the state directory's owner can open."""

    async def authenticate_request(self, connection: Connection) -> AuthenticationResult:
        if connection.scope.get(TRUSTED):
            return AuthenticationResult(user=LOCAL, auth=None)
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized(
                "No token was sent.",
                remedy=(
                    "Send: Authorization: Bearer TOKEN. Make one on the server: purveyor token "
                    "create NAME"
                ),
            )
        core: Core = connection.app.state.core
        text = token.strip()
        known = await known_by(connection, text)
        if known is None:
            if not connection.scope.get(INWARD):
                await core.wrong_tokens.note(connection.client.host if connection.client else "")
            raise Unauthorized(
                "This token is unknown, expired or revoked.",
                remedy="Make another on the server: purveyor token create NAME",
            )
        if connection.scope.get(REACH) is Reach.APPS and await _is_strange(
            core, connection, known.record
        ):
            await core.wrong_tokens.note(connection.client.host if connection.client else "")
            raise Forbidden(
                "This token is of another environment than the app that sent it.",
                remedy="Use the variables that were injected into this app.",
            )
        await self._touch(core, known.record)
        return AuthenticationResult(user=known.actor, auth=text)

    async def _touch(self, core: Core, record: TokenRecord) -> None:
        """Note the use, at most once a minute: reading must not mean writing."""
        now = core.now()
        last = core.token_uses.get(record.id, record.last_used_at)
        if last is None or (now - last).total_seconds() > 60:
            core.token_uses[record.id] = now
            with suppress(StateUnavailable):  # reading goes on while nothing can be written
                await core.context.store.write(lambda tx: tokens.touch(tx, record.id))


async def _is_strange(core: Core, connection: Connection, record: TokenRecord) -> bool:
    """Whether an app sends a token of another project or environment. Who is on the installation's
    own network was put there by a person, and is nobody's app."""
    peer = connection.client.host if connection.client else ""
    if record.project_id is None:
        return False
    home = await core.memory.get_or_load(
        ("home", peer), lambda: core.home(peer), lambda _: [("networks", WHOLE)]
    )
    other = (
        home.environment_id != record.environment_id
        if record.environment_id
        else home.project_id != record.project_id
    )
    return bool(home.environment_id) and other


class Known(NamedTuple):
    """A valid token: its record, and who it stands for; `session` when it is one that was opened
    with the token."""

    record: TokenRecord
    actor: Actor
    session: int | None = None


async def known_by(connection: Connection, text: str) -> Known | None:
    """What a token, or from within a session, stands for now; None for one that is unknown or
    over."""
    core: Core = connection.app.state.core
    if connection.scope.get(INWARD) and (found := await core.signed_in(text)) is not None:
        return Known(found.token, _actor(found.token, None), found.number)
    known = await core.memory.get_or_load(
        ("token", text),
        lambda: core.context.store.read(lambda tx: _look_up(core, tx, text)),
        _read_from,
    )
    return (
        None
        if known is None or (known.record.expires_at and known.record.expires_at <= core.now())
        else known
    )


async def still_valid(connection: Connection) -> bool:
    """Whether what a connection was let in with holds still: a stream may go on for days."""
    text: str | None = connection.scope.get("auth")
    return text is None or await known_by(connection, text) is not None


def _look_up(core: Core, tx: Tx, token: str) -> Known | None:
    record = tokens.check(tx, token)
    if record is None:
        return None
    number = record.environment_id
    environment = core.subjects["environment"].slugs(tx, [number])[number] if number else None
    return Known(record, _actor(record, environment))


def _read_from(known: Known | None) -> list[Row]:
    """What a token is told by: its own row, and that of the environment whose slug it bears."""
    if known is None:
        return []
    number = known.record.environment_id
    return [("tokens", known.record.id), *([("environments", number)] if number else [])]


def _actor(record: TokenRecord, environment: str | None) -> Actor:
    return Actor(
        name=actor_of(record),
        scope=record.scope,
        project_id=record.project_id,
        environment=environment,
        token_id=record.id,
    )


async def admin(connection: Connection, _: BaseRouteHandler) -> None:
    """Only admin tokens. (Guards that are not async are run in a thread, which costs more than they
    do.)"""
    connection.user.require("admin")


async def reader(connection: Connection, _: BaseRouteHandler) -> None:
    """Admin and read tokens."""
    if connection.user.scope not in ("admin", "read"):
        raise Forbidden(
            "A project's token may only use its own project.",
            remedy="Use a token of the scope read or admin.",
        )
