"""/api/tokens, /api/sessions, /api/users: who may do what here, and who works here by name."""

import msgspec
from litestar import Response, Router, delete, get, post

from purveyor.access import session_store as sessions
from purveyor.access import store as users
from purveyor.access.operations.tokens import TokenArguments
from purveyor.access.operations.users import UserArguments
from purveyor.access.schemas import (
    NewToken,
    SessionView,
    TokenRequest,
    TokenView,
    UserRequest,
    UserView,
    user_view,
)
from purveyor.kernel.api import tokens
from purveyor.kernel.api.auth import admin, known_by, reader
from purveyor.kernel.api.notes import note
from purveyor.kernel.api.responses import PLANNED, Limit, Offset, Req, changed, page
from purveyor.kernel.core import Core
from purveyor.kernel.db import Page, Tx
from purveyor.kernel.operations import Plan


@get("/", guards=[admin])
async def list_users(
    core: Core, limit: Limit = 100, offset: Offset = 0
) -> Response[list[UserView]]:
    def work(tx: Tx) -> Page[UserView]:
        found = users.page(tx, limit=limit, offset=offset)
        shown = [user_view(item, len(tokens.of_user(tx, item.id))) for item in found.items]
        return Page(shown, found.total)

    return page(*await core.context.store.read(work))


@post("/", guards=[admin], responses=PLANNED)
async def create_user(
    request: Req, core: Core, data: UserRequest, plan: bool = False
) -> Response[UserView]:
    return await changed(request, core, "create-user", data, plan=plan, status=201)


@post("/{name:str}/disable", guards=[admin], status_code=200)
async def disable_user(
    request: Req, core: Core, name: str, plan: bool = False
) -> Response[UserView | Plan]:
    """End a user's tokens, all of them and at once; no new ones are made until the user is
    enabled."""
    given = UserArguments(name=name)
    return await changed(request, core, "disable-user", given, plan=plan, status=200)


@post("/{name:str}/enable", guards=[admin], status_code=200)
async def enable_user(
    request: Req, core: Core, name: str, plan: bool = False
) -> Response[UserView | Plan]:
    """Allow a user tokens again. Revoked tokens stay revoked."""
    given = UserArguments(name=name)
    return await changed(request, core, "enable-user", given, plan=plan, status=200)


@delete("/{name:str}", guards=[admin], responses=PLANNED)
async def remove_user(request: Req, core: Core, name: str, plan: bool = False) -> Response[None]:
    """End a user's tokens and forget the user; the name stays in the journal and is never given
    again."""
    given = UserArguments(name=name)
    return await changed(request, core, "remove-user", given, plan=plan, status=204)


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


@post("/tokens", guards=[admin], opt={"reveals": "token"}, responses=PLANNED)
async def create_token(
    request: Req, core: Core, data: TokenRequest, plan: bool = False
) -> Response[NewToken]:
    found = await changed(request, core, "create-token", data, plan=plan, status=201)
    if not plan:
        made: NewToken = found.content
        whose = f", for {made.user}" if made.user else ""
        note(request, target=str(made.id), detail=f"{made.name}, {made.scope}{whose}")
    return found


@delete("/tokens/{number:int}", guards=[admin], responses=PLANNED)
async def revoke_token(request: Req, core: Core, number: int, plan: bool = False) -> Response[None]:
    """End a token, and what was signed in with it."""
    given = TokenArguments(token=number)
    return await changed(
        request, core, "revoke-token", given, plan=plan, status=204, target=str(number)
    )


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
