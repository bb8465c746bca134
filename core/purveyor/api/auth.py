"""Who asks, and what they may do."""

from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from purveyor.app import App
from purveyor.store import projects, tokens
from purveyor.store.records import TokenRecord
from purveyor_hooks import Forbidden, Unauthorized

TRUSTED = "purveyor.trusted"
Connection = ASGIConnection[Any, Any, Any, Any]


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: `name` for the journal; `scope` admin, read or project; the one project of a project token."""

    name: str
    scope: str
    project_id: int | None = None


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
                remedy="Send: Authorization: Bearer TOKEN. Make one on the server: purveyor token create NAME",
            )
        core: App = connection.app.state.core
        record = await core.house.store.read(lambda tx: tokens.check(tx, token.strip()))
        if record is None:
            raise Unauthorized(
                "This token is unknown, expired or revoked.", remedy="Make another on the server: purveyor token create NAME"
            )
        await self._touch(core, record)
        actor = Actor(name=f"token:{record.name}", scope=record.scope, project_id=record.project_id)
        return AuthenticationResult(user=actor, auth=None)

    async def _touch(self, core: App, record: TokenRecord) -> None:
        """Note the use, at most once a minute: reading must not mean writing."""
        if record.last_used_at is None or (core.now() - record.last_used_at).total_seconds() > 60:
            await core.house.store.write(lambda tx: tokens.touch(tx, record.id))


def admin(connection: Connection, _: BaseRouteHandler) -> None:
    """Only admin tokens."""
    if connection.user.scope != "admin":
        raise Forbidden(f"A token of the scope {connection.user.scope} may not do this.", remedy="Use one of the scope admin.")


def reader(connection: Connection, _: BaseRouteHandler) -> None:
    """Admin and read tokens."""
    if connection.user.scope not in ("admin", "read"):
        raise Forbidden("A project's token may only use its own project.", remedy="Use a token of the scope read or admin.")


async def own_project(connection: Connection, _: BaseRouteHandler) -> None:
    """Admin tokens, and the token of the very project that the path names."""
    actor: Actor = connection.user
    if actor.scope == "admin":
        return
    if actor.scope == "project":
        core: App = connection.app.state.core
        named = connection.path_params.get("project", "")
        record = await core.house.store.read(lambda tx: projects.find(tx, named))
        if record is not None and record.id == actor.project_id:
            return
    raise Forbidden(
        "This token may not read or change that project.", remedy="Use a token of the scope admin, or the project's own."
    )
