"""/api/tokens, /api/plugins, /api/volumes, /api/doctor, /api/version: the installation itself."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from anyio import to_thread
from litestar import Request, Response, Router, delete, get, post
from litestar.params import Parameter

from purveyor import __version__, doctor
from purveyor.api.answers import answer, nothing, page
from purveyor.api.auth import admin, reader
from purveyor.api.services import Limit, Offset
from purveyor.api.views import shown
from purveyor.app import App
from purveyor.engine.volumes import size_of
from purveyor.registry import Plugin
from purveyor.store import Page, Tx, projects, services, tokens
from purveyor.verbs.kept import AttachVolumeArguments, CloneVolumeArguments
from purveyor.verbs.purge import PurgeArguments
from purveyor_hooks import CONTRACT_VERSION, BadInput

Req = Request[Any, Any, Any]


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`expires_in` is in seconds; a token of the scope project needs its project."""

    name: str
    scope: Literal["admin", "read", "project"] = "admin"
    project: str | int | None = None
    expires_in: int | None = None


class TokenView(msgspec.Struct, frozen=True, kw_only=True):
    """A token without its text; `project` is the slug of the project that it is of."""

    id: int
    name: str
    scope: str
    project_id: int | None
    project: str | None
    environment_id: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """The token in clear, shown this once."""

    id: int
    name: str
    scope: str
    token: str


class VolumeView(msgspec.Struct, frozen=True, kw_only=True):
    """A volume and where its data is. `service_id` is empty for one that is kept; `facts` say of what it is the data, and
    `kept_until` how long it is promised to stay. Nothing deletes it by itself."""

    id: str
    name: str
    path: str
    service_type: str
    major: str
    state: str
    origin: str
    service_id: int | None
    created_at: datetime
    kept_at: datetime | None
    kept_until: datetime | None
    facts: dict[str, Any]
    size_bytes: int | None


class Version(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: str
    contract: int


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
    if not data.name.strip() or len(data.name) > 80:
        raise BadInput("A token needs a name.", remedy="Give one of 1 to 80 characters.", errors={"name": "1 to 80 characters"})
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


@get("/volumes", guards=[reader])
async def list_volumes(
    core: App,
    volume_state: Annotated[Literal["new", "used", "kept"] | None, Parameter(query="state")] = None,
    sizes: bool = False,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Response[list[VolumeView]]:
    """A part of the volumes, or of those in one state. `sizes` adds up what is in each, as far as this process may read it."""
    found = await core.house.store.read(lambda tx: services.volumes_page(tx, volume_state, limit=limit, offset=offset))
    measured = {item.id: await to_thread.run_sync(size_of, item.path) for item, _ in found.items} if sizes else {}
    listed = [
        VolumeView(
            id=item.id,
            name=item.name,
            path=item.path,
            service_type=item.service_type,
            major=item.major,
            state=item.state,
            origin=item.origin,
            service_id=owner,
            created_at=item.created_at,
            kept_at=item.kept_at,
            kept_until=item.kept_until,
            facts=item.facts or {},
            size_bytes=measured.get(item.id),
        )
        for item, owner in found.items
    ]
    return page(listed, found.total)


class PurgeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The name of the service that the data was made for, typed by whoever wants it gone."""

    confirm: str


@post("/volumes/{reference:str}/purge", guards=[admin], status_code=200)
async def purge_volume(request: Req, core: App, reference: str, data: PurgeRequest, plan: bool = False) -> Response[Any]:
    given = PurgeArguments(volume=reference, confirm=data.confirm)
    return await answer(request, core, "purge-volume", given, plan=plan, status=204, then=nothing)


class AttachRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The service that goes on with the volume's data; what it holds now is kept."""

    service: str | int


class CopyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The new service that a copy of the volume's data is for."""

    name: str


@post("/volumes/{reference:str}/attach", guards=[admin], status_code=200)
async def attach_volume(request: Req, core: App, reference: str, data: AttachRequest, plan: bool = False) -> Response[Any]:
    given = AttachVolumeArguments(service=str(data.service), volume=reference)
    return await answer(request, core, "attach-volume", given, plan=plan, status=200, then=shown(core))


@post("/volumes/{reference:str}/clone", guards=[admin], status_code=201)
async def clone_volume(request: Req, core: App, reference: str, data: CopyRequest, plan: bool = False) -> Response[Any]:
    given = CloneVolumeArguments(volume=reference, name=data.name)
    return await answer(request, core, "clone-volume", given, plan=plan, status=201, then=shown(core))


@get("/doctor", guards=[reader])
async def run_doctor(
    core: App, project: str | None = None, environment: str = "production", quick: bool = False
) -> Response[list[doctor.Check]]:
    """Every part of the path from an app to its data. `quick` leaves out what reads the whole store."""
    return Response(await doctor.examine(core, project, environment, quick=quick))


router = Router(
    "/",
    route_handlers=[
        version,
        list_tokens,
        create_token,
        revoke_token,
        list_plugins,
        list_volumes,
        purge_volume,
        attach_volume,
        clone_volume,
        run_doctor,
    ],
    tags=["installation"],
)
