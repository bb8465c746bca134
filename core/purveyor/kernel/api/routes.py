"""/api/tokens, /api/plugins, /api/doctor, /api/version: the installation itself."""

from datetime import timedelta

import msgspec
from litestar import Response, Router, delete, get, post

from purveyor import __version__, doctor
from purveyor.app import App
from purveyor.kernel.api import tokens
from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.api.responses import Limit, Offset, page
from purveyor.kernel.api.schemas import NewToken, TokenRequest, TokenView, Version
from purveyor.kernel.db import Page, Tx
from purveyor.kernel.plugins.registry import Plugin
from purveyor.projects import store as projects
from purveyor_hooks import CONTRACT_VERSION, BadInput


@get("/version")
async def version() -> Version:
    return Version(name="purveyor", version=__version__, contract=CONTRACT_VERSION)


@get("/tokens", guards=[admin])
async def list_tokens(core: App, people: bool = False, limit: Limit = 100, offset: Offset = 0) -> Response[list[TokenView]]:
    """A part of the tokens. `people`: those that are valid and were not made for an environment's apps."""

    def work(tx: Tx) -> Page[TokenView]:
        found = tokens.page(tx, people=people, limit=limit, offset=offset)
        named = projects.named(tx, sorted({item.project_id for item in found.items if item.project_id}))
        slugs = {number: record.slug for number, record in named.items()}
        shown = [TokenView(**msgspec.structs.asdict(item), project=slugs.get(item.project_id or 0)) for item in found.items]
        return Page(shown, found.total)

    return page(*await core.house.store.read(work))


@post("/tokens", guards=[admin])
async def create_token(core: App, data: TokenRequest) -> NewToken:
    if not data.name.strip() or len(data.name) > 80 or not data.name.isprintable():
        why = "1 to 80 characters that can be printed"
        raise BadInput("A token needs a name.", remedy=f"Give one of {why}.", errors={"name": why})
    if (data.scope == "project") != (data.project is not None):
        why = "needed for the scope project, and only for it"
        raise BadInput("The token's scope and project do not go together.", errors={"project": why})
    if data.expires_in is not None and not 0 < data.expires_in <= 10 * 365 * 86400:
        raise BadInput("The token's life is not one.", errors={"expires_in": "seconds, more than 0, at most ten years"})

    def work(tx: Tx) -> NewToken:
        project_id = projects.get(tx, data.project).id if data.project is not None else None
        expires = tx.now + timedelta(seconds=data.expires_in) if data.expires_in is not None else None
        number, token = tokens.create(tx, name=data.name.strip(), scope=data.scope, project_id=project_id, expires_at=expires)
        tx.emit("token.created", project=project_id, data={"id": number, "name": data.name.strip(), "scope": data.scope})
        return NewToken(id=number, name=data.name.strip(), scope=data.scope, token=token)

    return await core.house.store.write(work)


@delete("/tokens/{number:int}", guards=[admin])
async def revoke_token(core: App, number: int) -> None:
    def work(tx: Tx) -> None:
        tokens.revoke(tx, number)
        tx.emit("token.revoked", data={"id": number})

    await core.house.store.write(work)


@get("/plugins", guards=[reader])
async def list_plugins(core: App) -> list[Plugin]:
    return list(core.house.registry.plugins)


@get("/doctor", guards=[reader])
async def run_doctor(
    core: App, project: str | None = None, environment: str = "production", quick: bool = False
) -> Response[list[doctor.Check]]:
    """Every part of the path from an app to its data. `quick` leaves out what reads the whole store."""
    return Response(await doctor.examine(core, project, environment, quick=quick))


router = Router(
    "/",
    route_handlers=[version, list_tokens, create_token, revoke_token, list_plugins, run_doctor],
    tags=["installation"],
)
