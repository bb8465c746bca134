"""/api/external-services, /api/volumes: services and their data."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from litestar import MediaType, Request, Response, Router, get, post
from litestar.params import Parameter
from litestar.response import Stream

from purveyor.context import Core
from purveyor.docker import image_registry
from purveyor.docker.volumes import sizes_of
from purveyor.kernel import redact
from purveyor.kernel.actors import actor_fields
from purveyor.kernel.api.auth import admin, reader, still_valid
from purveyor.kernel.api.responses import Limit, Offset, page
from purveyor.kernel.api.streaming import flow, prefetch_first
from purveyor.kernel.db import Page, Tx
from purveyor.kernel.operations.models import OperationRecord
from purveyor.providers import masking
from purveyor.services import parameters
from purveyor.services import schemas as service_schemas
from purveyor.services import store as services
from purveyor.services.above import Links
from purveyor.services.handle import PLACEHOLDER, handle_of, hooks_of, require_serving
from purveyor.services.health import Checked, History, Observer, Status
from purveyor.services.models import ServiceRecord
from purveyor.services.provisioning import Provisioner
from purveyor.services.schemas import (
    AvailableContainer,
    ClientView,
    Listed,
    ProviderMetadata,
    ServiceDetails,
    ServiceView,
    VolumeView,
)
from purveyor_hooks import (
    BadInput,
    Binding,
    Listing,
    NotFound,
    PurveyorError,
    Scope,
    ServiceType,
    Sink,
)
from purveyor_hooks.references import parts_of
from purveyor_hooks.streams import attachment

Req = Request[Any, Any, Any]
RESTS = ("stopped", "down", "missing", "refused")  # of statuses: nothing of it runs
SIZES_WITHIN = 10.0  # seconds in which the sizes of all volumes of an answer are added up


# ---------------------------------------------------------------- types


@get("/types", guards=[reader])
async def list_types(core: Core) -> list[str]:
    return [kind.name for kind in core.context.registry.kinds]


@get("/types/{service_type:str}/parameters", guards=[reader])
async def type_parameters(core: Core, service_type: str) -> dict[str, Any]:
    return parameters.schema(core.context.registry.kind(service_type), core.context.settings)


def _metadata(kind: ServiceType) -> ProviderMetadata:
    return ProviderMetadata(
        service_type=kind.name,
        display_name=kind.label,
        description=kind.description,
        icon_url=kind.icon_url,
        color=kind.color,
    )


@get("/providers/metadata", guards=[reader])
async def providers(core: Core) -> list[ProviderMetadata]:
    return [_metadata(kind) for kind in core.context.registry.kinds]


@get("/providers/metadata/{service_type:str}", guards=[reader])
async def provider(core: Core, service_type: str) -> ProviderMetadata:
    return _metadata(core.context.registry.kind(service_type))


# ---------------------------------------------------------------- services


@get("/", guards=[reader])
async def list_services(
    core: Core,
    q: str = "",
    service_type: str = "",
    sort: service_schemas.Sort = "id",
    limit: Limit = 100,
    offset: Offset = 0,
) -> Response[list[service_schemas.ServiceView]]:
    """A part of the services: those whose name holds `q`, of a type."""
    return page(
        *await service_page(
            core, service_schemas.Listed(q=q, service_type=service_type, sort=sort), limit, offset
        )
    )


async def show_service(core: Core, reference: str) -> service_schemas.ServiceDetails:
    return await service_details(core, reference)


# one route with two paths would have them in no order
SHOW_SERVICE = [
    get(path, guards=[reader])(show_service)
    for path in ("/{reference:str}", "/by-slug/{reference:str}")
]


@get("/{reference:str}/health", guards=[reader])
async def service_health(core: Core, reference: str) -> Checked:
    record = await core.context.store.read(lambda tx: services.get(tx, reference))
    return await core.part(Observer).check(record)


@get("/{reference:str}/history", guards=[reader])
async def service_history(core: Core, reference: str) -> History:
    """The last health checks, and what the container used."""
    record = await core.context.store.read(lambda tx: services.get(tx, reference))
    return await core.part(Observer).history(record.id)


@get("/{reference:str}/browse", guards=[admin], opt={"reveals": "rows"})
async def browse_service(
    core: Core, reference: str, path: list[str] | None = None, cursor: str = "", order: str = ""
) -> Listing:
    """One page of what a service holds; `path` is what was opened so far. Nothing can be changed
    this way."""
    record = await core.context.store.read(lambda tx: services.get(tx, reference))
    require_serving(record)
    if cursor and len(cursor) > 2000:
        raise BadInput("Invalid cursor.", errors={"cursor": "as an earlier answer said"})
    return await handle_of(core.context, record).browse(tuple(path or ()), cursor, order)


@get(
    "/{reference:str}/download",
    guards=[admin],
    media_type="application/octet-stream",
    opt={"reveals": "data"},
)
async def download_from_service(core: Core, reference: str, path: list[str]) -> Stream:
    """One thing that a listing offered, as it is."""
    record = await core.context.store.read(lambda tx: services.get(tx, reference))
    require_serving(record)
    service = handle_of(core.context, record)
    assert core.workers is not None
    chunks = await prefetch_first(
        flow(core.workers, lambda sink: service.download(tuple(path), sink))
    )
    headers = {
        "Content-Disposition": attachment(path[-1] if path else ""),
        "X-Content-Type-Options": "nosniff",
    }
    return Stream(chunks, media_type="application/octet-stream", headers=headers)


@post("/{reference:str}/reveal", guards=[admin], status_code=200, opt={"reveals": "parameters"})
async def reveal_service(request: Req, core: Core, reference: str) -> dict[str, str]:
    """The secret parameters in clear; who looked is in the journal."""

    def work(tx: Tx) -> dict[str, str]:
        record = services.get(tx, reference)
        names = masking.secret_names(core.context.registry.kind(record.service_type))
        tx.emit("service.revealed", service=record.id, data=actor_fields(request.user))
        return {name: str(value) for name, value in record.parameters.items() if name in names}

    return await core.context.store.write(work)


@get(
    "/{reference:str}/logs",
    guards=[admin],
    media_type=MediaType.TEXT,
    opt={"reveals": "log"},
)
async def service_logs(
    request: Req,
    core: Core,
    reference: str,
    tail: Annotated[int, Parameter(ge=0, le=100_000)] = 200,
    follow: bool = False,
) -> Stream:
    """What a service's container printed. With `follow` it goes on, for as long as the token
    holds."""
    record = await core.context.store.read(lambda tx: services.get(tx, reference))
    engine = core.context.engine
    if await core.part(Provisioner).found(record) is None:
        raise NotFound(
            f"{record.name} has no container now.", remedy=f"Start it: purveyor start {record.slug}"
        )
    links = core.part(Links)
    passwords = await core.context.store.read(lambda tx: links.passwords(tx, record.id))
    kind = core.context.registry.kind(record.service_type)
    hidden = [*masking.secret_values(kind, record.parameters), *record.secrets.values(), *passwords]

    async def write(sink: Sink) -> None:
        if follow:
            async with aclosing(
                redact.scrub_stream(
                    engine.containers.follow(record.container_name, lines=tail), hidden
                )
            ) as lines:
                async for line in lines:
                    if not await still_valid(request):
                        return
                    await sink.write(line.encode())
        else:
            for line in await engine.containers.log(record.container_name, lines=tail):
                await sink.write(f"{redact.scrub(line, hidden)}\n".encode())

    # in a task of its own: the generators of an answer whose reader just goes away are closed in
    # any order, and fail
    assert core.workers is not None
    return Stream(flow(core.workers, write), media_type=MediaType.TEXT)


@get("/{reference:str}/client", guards=[admin], opt={"reveals": "connection"})
async def service_client(core: Core, reference: str) -> ClientView:
    record = await core.context.store.read(lambda tx: services.get(tx, reference))
    client = handle_of(core.context, record).from_host(core.context).client()
    return ClientView(container=record.container_name, client=client)


# --------------------------------------------------------------- containers that somebody else made


@get("/available-containers", guards=[admin])
async def available_containers(core: Core) -> list[AvailableContainer]:
    taken = await core.context.store.read(services.container_names)
    registry = core.context.registry
    found = []
    for item in await core.context.engine.containers.foreign():
        for kind in registry.kinds:
            recognised = hooks_of(core.context, kind.name).recognise(item)
            if recognised is None or item.name in taken:
                continue
            found.append(
                AvailableContainer(
                    container_id=item.id,
                    container_name=item.name,
                    image=item.image.reference,
                    version=recognised.version,
                    service_type=kind.name,
                    is_running=item.running,
                    exposed_ports=list(item.ports),
                    suggested=masking.mask_parameters(kind, recognised.suggested),
                )
            )
            break
    return found


@get("/volumes", guards=[reader])
async def list_volumes(
    core: Core,
    volume_state: Annotated[Literal["new", "used", "kept"] | None, Parameter(query="state")] = None,
    sizes: bool = False,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Response[list[VolumeView]]:
    """A part of the volumes, or of those in one state. `sizes` adds up what is in each, as far as
    this process may read it and there is time: where a size is null, `size_missing` says why."""
    found = await core.context.store.read(
        lambda tx: services.volumes_page(tx, volume_state, limit=limit, offset=offset)
    )
    measured = await sizes_of([item.path for item, _ in found.items], SIZES_WITHIN) if sizes else {}
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
            size_bytes=measured.get(item.path),
            size_missing=_missing(measured, item.path) if sizes else "",
        )
        for item, owner in found.items
    ]
    return page(listed, found.total)


def _missing(measured: Mapping[str, int | None], path: str) -> str:
    if path not in measured:
        return "There was not enough time to add it up."
    return "It may not be read." if measured[path] is None else ""


async def service_views(app: Core, records: Sequence[ServiceRecord]) -> list[ServiceView]:
    statuses = await app.part(Observer).statuses(records)
    links = app.part(Links)
    linked = await app.context.store.read(
        lambda tx: links.linked(tx, [record.id for record in records])
    )
    return [
        _service(app, record, statuses[record.id], linked.get(record.id, [])) for record in records
    ]


async def service_page(app: Core, listed: Listed, limit: int, offset: int) -> Page[ServiceView]:
    """A part of the services. What is seen of them is looked at for those alone, unless the order
    depends on it."""
    store, chosen = app.context.store, {"q": listed.q, "service_type": listed.service_type}
    order = listed.sort
    if order == "id" or order == "name" or order == "service_type":
        found = await store.read(
            lambda tx: services.page(tx, **chosen, order=order, limit=limit, offset=offset)
        )
        return Page(await service_views(app, found.items), found.total)
    every = await store.read(lambda tx: services.outlines(tx, **chosen))
    if order == "status":
        statuses = await app.part(Observer).statuses(every)
        every.sort(key=lambda record: statuses[record.id].status)
    else:
        used = {record.id: app.part(Observer).last_sample(record.id) for record in every}
        every.sort(key=lambda record: -(getattr(used[record.id], order, None) or 0))
    numbers = [record.id for record in every[offset : offset + limit]]
    of_page = await store.read(lambda tx: services.get_by_ids(tx, numbers))
    return Page(
        await service_views(app, [of_page[number] for number in numbers if number in of_page]),
        len(every),
    )


async def service_view(app: Core, reference: str | int) -> ServiceView:
    """The service of this id or name. Raises `NotFound`."""
    record = await app.context.store.read(lambda tx: services.get(tx, reference))
    return (await service_views(app, [record]))[0]


async def service_made(_: Req, core: Core, operation: OperationRecord) -> ServiceView:
    """Answers an operation with its service."""
    return await service_view(core, operation.service)


async def service_answer(_: Req, core: Core, operation: OperationRecord) -> ServiceView:
    """Answers an operation with its service, looked at anew: the server is another one now."""
    record = await core.context.store.read(lambda tx: services.get(tx, operation.service))
    await core.part(Observer).check(record)
    return await service_view(core, record.id)


def _service(app: Core, record: ServiceRecord, status: Status, linked: list[str]) -> ServiceView:
    observer = app.part(Observer)
    health, sample = observer.last_health(record.id), observer.last_sample(record.id)
    if status.status in RESTS:  # it uses nothing
        sample = None
    port = record.parameters.get("port")
    return ServiceView(
        id=record.id,
        name=record.name,
        slug=record.slug,
        service_type=record.service_type,
        version=(health.version if health else "") or record.major or parts_of(record.image).tag,
        status=status.status,
        status_reason=status.reason,
        status_at=status.checked_at,
        connection_info=_connection(app, record),
        docker_image=record.image,
        container_name=record.container_name,
        port=int(port) if port is not None else None,
        volume=record.volume_id,
        major=record.major,
        imported=record.imported is not None,
        healthy=health.healthy if health else None,
        latency_ms=health.latency_ms if health else None,
        memory_bytes=sample.memory_bytes if sample else None,
        cpu_percent=sample.cpu_percent if sample else None,
        projects=linked,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def _connection(app: Core, record: ServiceRecord) -> str:
    """The address of the service for its administrator, on the network, without the password."""
    if app.context.registry.find(record.service_type) is None:
        return record.container_name
    values = record.parameters
    owner = Binding(
        id=0,
        scope=Scope(project="", environment=""),
        resource=str(values.get("database", "")),
        account=str(values.get("username", "default")),
        password="hidden",
        slot=0,
        api=PLACEHOLDER,
    )
    variables = handle_of(app.context, record).environment(owner)
    found = next(
        (variable.value for variable in variables if variable.name.endswith(("_URL", "_ENDPOINT"))),
        "",
    )
    return redact.mask_url(found)


async def service_details(app: Core, reference: str) -> ServiceDetails:
    view = await service_view(app, reference)
    record = await app.context.store.read(lambda tx: services.get(tx, view.id))
    provider = app.context.registry.find(record.service_type)
    kind = provider.kind if provider else None
    unsaid = {item.name: item.former for item in kind.parameters} if kind else {}
    before = {name: value for name, value in unsaid.items() if value is not None}
    shown = masking.mask_parameters(kind, {**before, **record.parameters})
    return ServiceDetails(
        service=view,
        parameter_schema=parameters.schema(kind, app.context.settings) if kind else {},
        current_parameters={**shown, parameters.IMAGE: record.image},
        notes=handle_of(app.context, record).notes() if provider else [],
        newer_image=await _newer(app, record),
        image_digest=await app.context.store.read(
            lambda tx: image_registry.digest_of(tx, record.image_id)
        ),
        endings=await app.context.store.read(lambda tx: app.part(Links).endings(tx, record.id)),
    )


async def _newer(app: Core, record: ServiceRecord) -> str:
    try:
        return await app.part(Provisioner).newer_image(record)
    except PurveyorError:  # an engine that is away is told by the status
        return ""


volume_router = Router(
    "/",
    route_handlers=[list_volumes],
    tags=["installation"],
)


router = Router(
    "/external-services",
    route_handlers=[
        list_types,
        type_parameters,
        providers,
        provider,
        list_services,
        *SHOW_SERVICE,
        service_health,
        service_history,
        reveal_service,
        browse_service,
        download_from_service,
        service_logs,
        service_client,
        available_containers,
    ],
    tags=["services"],
)
