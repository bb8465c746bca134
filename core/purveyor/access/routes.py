"""/api/tokens, /api/sessions, /api/users: who may do what here, and who works here by name."""

from datetime import timedelta

import msgspec
from litestar import Response, Router, delete, get, post

from purveyor.access import session_store as sessions
from purveyor.access import store as users
from purveyor.access.models import UserRecord
from purveyor.access.schemas import (
    NewToken,
    SessionView,
    TokenRequest,
    TokenView,
    UserRequest,
    UserView,
)
from purveyor.kernel.actors import Who, told
from purveyor.kernel.api import tokens
from purveyor.kernel.api.auth import admin, known_by, reader
from purveyor.kernel.api.notes import note
from purveyor.kernel.api.responses import Limit, Offset, Req, page
from purveyor.kernel.core import Core
from purveyor.kernel.db import Page, Tx
from purveyor_hooks import BadInput


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

    return page(*await core.context.store.read(work))


@post("/", guards=[admin])
async def create_user(request: Req, core: Core, data: UserRequest) -> UserView:
    note(request, target=data.name)

    def work(tx: Tx) -> UserView:
        record = users.add(tx, data.name)
        _changed(tx, "created", record, request.user)
        return _view(tx, record)

    return await core.context.store.write(work)


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

    return await core.context.store.write(work)


@post("/{name:str}/enable", guards=[admin], status_code=200)
async def enable_user(request: Req, core: Core, name: str) -> UserView:
    """Allow a user tokens again. Revoked tokens stay revoked."""

    def work(tx: Tx) -> UserView:
        record = users.get(tx, name)
        if record.disabled_at is not None:
            users.enable(tx, record)
            _changed(tx, "enabled", record, request.user)
        return _view(tx, users.get(tx, name))

    return await core.context.store.write(work)


@delete("/{name:str}", guards=[admin])
async def remove_user(request: Req, core: Core, name: str) -> None:
    """End a user's tokens and forget the user; the name stays in the journal and is never given
    again."""

    def work(tx: Tx) -> None:
        record = users.get(tx, name)
        _end_tokens(tx, record, request.user)
        users.remove(tx, record)
        _changed(tx, "removed", record, request.user)

    await core.context.store.write(work)


@get("/tokens", guards=[admin])
async def list_tokens(
    core: Core, people: bool = False, limit: Limit = 100, offset: Offset = 0
) -> Response[list[TokenView]]:
    """A part of the tokens. `people`: those that are valid and were not made for an environment's
    apps."""

    def work(tx: Tx) -> Page[TokenView]:
        found = tokens.page(tx, people=people, limit=limit, offset=offset)
        numbers = sorted({item.project_id for item in found.items if item.project_id})
        slugs = core.subjects["project"].slugs(tx, numbers)
        shown = [
            TokenView(**msgspec.structs.asdict(item), project=slugs.get(item.project_id or 0))
            for item in found.items
        ]
        return Page(shown, found.total)

    return page(*await core.context.store.read(work))


@post("/tokens", guards=[admin], opt={"reveals": "token"})
async def create_token(request: Req, core: Core, data: TokenRequest) -> NewToken:
    if not data.name.strip() or len(data.name) > 80 or not data.name.isprintable():
        why = "1 to 80 characters that can be printed"
        raise BadInput("A token needs a name.", remedy=f"Give one of {why}.", errors={"name": why})
    if (data.scope == "project") != (data.project is not None):
        why = "needed for the scope project, and only for it"
        raise BadInput("The token's scope and project do not go together.", errors={"project": why})
    if data.expires_in is not None and not 0 < data.expires_in <= 10 * 365 * 86400:
        raise BadInput(
            "expires_in is out of range.",
            errors={"expires_in": "seconds, more than 0, at most ten years"},
        )

    def work(tx: Tx) -> NewToken:
        project_id = (
            core.subjects["project"].find(tx, data.project) if data.project is not None else None
        )
        expires = (
            tx.now + timedelta(seconds=data.expires_in) if data.expires_in is not None else None
        )
        user = users.require_enabled(tx, data.user) if data.user is not None else None
        given = {"name": data.name.strip(), "scope": data.scope}
        number, token = tokens.create(
            tx,
            **given,
            project_id=project_id,
            expires_at=expires,
            user_id=user.id if user else None,
        )
        shown = {"id": number, **given, "user": user.name if user else "", **told(request.user)}
        tx.emit("token.created", project=project_id, data=shown)
        return NewToken(id=number, **given, token=token, user=data.user)

    made = await core.context.store.write(work)
    note(
        request,
        target=str(made.id),
        detail=f"{made.name}, {made.scope}{f', for {made.user}' if made.user else ''}",
    )
    return made


@delete("/tokens/{number:int}", guards=[admin])
async def revoke_token(request: Req, core: Core, number: int) -> None:
    """End a token, and what was signed in with it."""

    def work(tx: Tx) -> None:
        tokens.revoke(tx, number)
        sessions.end(tx, request.user.name, token_id=number)
        tx.emit("token.revoked", data={"id": number, **told(request.user)})

    await core.context.store.write(work)


@get("/sessions", guards=[reader])
async def list_sessions(
    request: Req, core: Core, limit: Limit = 100, offset: Offset = 0
) -> Response[list[SessionView]]:
    """A part of the open sessions, the last used first: all of them for administrators, else those
    of one's token."""
    owner, own = await _asking(request)
    found = await core.context.store.read(
        lambda tx: sessions.page(tx, token_id=owner, limit=limit, offset=offset)
    )
    return page(
        [
            SessionView(**msgspec.structs.asdict(item), current=item.id == own)
            for item in found.items
        ],
        found.total,
    )


@delete("/sessions/{number:int}", guards=[reader])
async def end_session(request: Req, core: Core, number: int) -> None:
    """Sign somebody out."""
    owner, _ = await _asking(request)

    def work(tx: Tx) -> None:
        sessions.require(tx, number, token_id=owner)
        sessions.end(tx, request.user.name, number=number)

    await core.context.store.write(work)


@delete("/sessions", guards=[reader])
async def end_sessions(request: Req, core: Core) -> None:
    """Sign everybody out but whoever asks: everybody for administrators, else those of one's
    token."""
    owner, own = await _asking(request)
    await core.context.store.write(
        lambda tx: sessions.end(tx, request.user.name, token_id=owner, but=own)
    )


async def _asking(request: Req) -> tuple[int | None, int | None]:
    """The token whose sessions the asker may see, None for all; and the asker's own session."""
    known = await known_by(request, request.auth) if request.auth else None
    return (
        None if request.user.scope == "admin" or known is None else known.record.id,
        known.session if known else None,
    )


TOKENS = (list_tokens, create_token, revoke_token)
SESSIONS = (list_sessions, end_session, end_sessions)
router = Router("/", route_handlers=[*TOKENS, *SESSIONS], tags=["installation"])
user_router = Router(
    "/users",
    route_handlers=[list_users, create_user, disable_user, enable_user, remove_user],
    tags=["installation"],
)
