"""/api/tokens, /api/sessions, /api/users: who may do what here, and who works here by name."""

import msgspec
from litestar import Response, Router, delete, get

from purveyor.access import session_store as sessions
from purveyor.access import store as users
from purveyor.access.schemas import (
    NewToken,
    SessionView,
    TokenView,
    UserView,
    user_view,
)
from purveyor.kernel.api import tokens
from purveyor.kernel.api.auth import admin, known_by, reader
from purveyor.kernel.api.notes import note
from purveyor.kernel.api.responses import Limit, Offset, Req, page
from purveyor.kernel.core import Core
from purveyor.kernel.db import Page, Tx


@get("/", guards=[admin])
async def list_users(
    core: Core, limit: Limit = 100, offset: Offset = 0
) -> Response[list[UserView]]:
    def work(tx: Tx) -> Page[UserView]:
        found = users.page(tx, limit=limit, offset=offset)
        shown = [user_view(item, len(tokens.of_user(tx, item.id))) for item in found.items]
        return Page(shown, found.total)

    return page(*await core.context.store.read(work))


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


async def token_made(request: Req, _: Core, made: NewToken) -> NewToken:
    whose = f", for {made.user}" if made.user else ""
    note(request, target=str(made.id), detail=f"{made.name}, {made.scope}{whose}")
    return made


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


router = Router(
    "/",
    route_handlers=[list_tokens, list_sessions, end_session, end_sessions],
    tags=["installation"],
)
user_router = Router("/users", route_handlers=[list_users], tags=["installation"])
