"""/api/tokens, /api/sessions, /api/version: the installation itself."""

from datetime import timedelta

import msgspec
from litestar import Response, Router, delete, get, post

from purveyor import __version__
from purveyor.kernel.actors import told
from purveyor.kernel.api import sessions, tokens
from purveyor.kernel.api.auditing import note
from purveyor.kernel.api.auth import admin, known_by, reader
from purveyor.kernel.api.responses import Limit, Offset, Req, page
from purveyor.kernel.api.schemas import (
    NewToken,
    SessionView,
    TokenRequest,
    TokenView,
    Version,
)
from purveyor.kernel.core import Core
from purveyor.kernel.db import Page, Tx
from purveyor.kernel.users import store as users
from purveyor_hooks import CONTRACT_VERSION, BadInput


@get("/version")
async def version() -> Version:
    return Version(name="purveyor", version=__version__, contract=CONTRACT_VERSION)


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

    return page(*await core.house.store.read(work))


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
            "The token's life is not one.",
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

    made = await core.house.store.write(work)
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

    await core.house.store.write(work)


@get("/sessions", guards=[reader])
async def list_sessions(
    request: Req, core: Core, limit: Limit = 100, offset: Offset = 0
) -> Response[list[SessionView]]:
    """A part of the open sessions, the last used first: all of them for administrators, else those
    of one's token."""
    owner, own = await _asking(request)
    found = await core.house.store.read(
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

    await core.house.store.write(work)


@delete("/sessions", guards=[reader])
async def end_sessions(request: Req, core: Core) -> None:
    """Sign everybody out but whoever asks: everybody for administrators, else those of one's
    token."""
    owner, own = await _asking(request)
    await core.house.store.write(
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
router = Router("/", route_handlers=[version, *TOKENS, *SESSIONS], tags=["installation"])
