"""/api/external-services: services, their life, links and previews."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, delete, get, post, put
from litestar.params import Parameter
from litestar.response import Stream

from purveyor import bindings, parameters, redact
from purveyor.api import views
from purveyor.api.answers import answer, nothing, page
from purveyor.api.auth import admin, own_project, reader
from purveyor.api.flow import begun, flow
from purveyor.api.views import shown
from purveyor.app import App
from purveyor.observe import Checked, History
from purveyor.store import Page, Tx, projects, services
from purveyor.store.records import LinkRecord, OperationRecord
from purveyor.verbs.adopt import ImportArguments
from purveyor.verbs.bind import BindArguments
from purveyor.verbs.create import CreateArguments
from purveyor.verbs.delete import DeleteArguments
from purveyor.verbs.kept import UndoUpgradeArguments
from purveyor.verbs.lifecycle import ServiceArguments, StartArguments
from purveyor.verbs.link import LinkArguments, UnlinkArguments
from purveyor.verbs.projects import PRODUCTION
from purveyor.verbs.restore import CloneArguments
from purveyor.verbs.undelete import UndeleteArguments
from purveyor.verbs.update import UpdateArguments
from purveyor.verbs.upgrade import UpgradeArguments
from purveyor_hooks import BadInput, Client, Listing, NotFound, ServiceType, Variable
from purveyor_hooks.streams import attachment

Req = Request[Any, Any, Any]
Limit = Annotated[int, Parameter(ge=1, le=1000)]
Offset = Annotated[int, Parameter(ge=0)]


class ServiceChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `PUT` takes."""

    parameters: dict[str, Any] = {}
    docker_image: str | None = None


class ImportRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A container by id or name, and its credentials as the type's parameters; `use_found` takes those that are not
    given from the container's own environment."""

    container_id: str
    name: str
    service_type: str
    version: str | None = None
    parameters: dict[str, Any] = {}
    use_found: bool = False


class LinkRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The id (or slug) of the project to link."""

    project_id: int | str


class ProviderMetadata(msgspec.Struct, frozen=True, kw_only=True):
    service_type: str
    display_name: str
    description: str
    icon_url: str
    color: str


class VariableView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: str
    sensitive: bool


class ClientView(msgspec.Struct, frozen=True, kw_only=True):
    """How to open the service's interactive client."""

    container: str
    client: Client


# ---------------------------------------------------------------- types


@get("/types", guards=[reader])
async def list_types(core: App) -> list[str]:
    return [kind.name for kind in core.house.registry.kinds]


@get("/types/{service_type:str}/parameters", guards=[reader])
async def type_parameters(core: App, service_type: str) -> dict[str, Any]:
    return parameters.schema(core.house.registry.provider(service_type).kind, core.house.settings)


def _metadata(kind: ServiceType) -> ProviderMetadata:
    return ProviderMetadata(
        service_type=kind.name,
        display_name=kind.label,
        description=kind.description,
        icon_url=kind.icon_url,
        color=kind.color,
    )


@get("/providers/metadata", guards=[reader])
async def providers(core: App) -> list[ProviderMetadata]:
    return [_metadata(kind) for kind in core.house.registry.kinds]


@get("/providers/metadata/{service_type:str}", guards=[reader])
async def provider(core: App, service_type: str) -> ProviderMetadata:
    return _metadata(core.house.registry.provider(service_type).kind)


# ---------------------------------------------------------------- services


@get("/", guards=[reader])
async def list_services(
    core: App, q: str = "", service_type: str = "", sort: views.Sort = "id", limit: Limit = 100, offset: Offset = 0
) -> Response[list[views.ServiceView]]:
    """A part of the services: those whose name holds `q`, of a type."""
    return page(*await views.service_page(core, views.Listed(q=q, service_type=service_type, sort=sort), limit, offset))


@post("/", guards=[admin])
async def create_service(request: Req, core: App, data: CreateArguments, plan: bool = False) -> Response[Any]:
    async def then(operation: OperationRecord) -> views.ServiceView:
        return await views.service_view(core, operation.service_id or 0)

    return await answer(request, core, "create", data, plan=plan, status=201, then=then)


@get(["/{reference:str}", "/by-slug/{reference:str}"], guards=[reader])
async def show_service(core: App, reference: str) -> views.ServiceDetails:
    return await views.service_details(core, reference)


@put("/{reference:str}", guards=[admin])
async def update_service(request: Req, core: App, reference: str, data: ServiceChange, plan: bool = False) -> Response[Any]:
    given = UpdateArguments(service=reference, parameters=data.parameters, docker_image=data.docker_image)
    return await _answer_service(request, core, "update", given, plan)


@delete("/{reference:str}", guards=[admin], status_code=200)
async def delete_service(request: Req, core: App, reference: str, purge: bool = False, plan: bool = False) -> Response[Any]:
    given = DeleteArguments(service=reference, purge=purge)
    return await answer(request, core, "delete", given, plan=plan, status=204, then=nothing)


async def _answer_service(request: Req, core: App, verb: str, given: msgspec.Struct, plan: bool) -> Response[Any]:
    async def then(operation: OperationRecord) -> views.ServiceView:
        return await views.service_view(core, operation.service_id or 0)

    return await answer(request, core, verb, given, plan=plan, status=200, then=then)


@post("/{reference:str}/start", guards=[admin])
async def start_service(request: Req, core: App, reference: str, accept_data: bool = False, plan: bool = False) -> Response[Any]:
    return await _answer_service(request, core, "start", StartArguments(service=reference, accept_data=accept_data), plan)


@post("/{reference:str}/stop", guards=[admin])
async def stop_service(request: Req, core: App, reference: str, plan: bool = False) -> Response[Any]:
    return await _answer_service(request, core, "stop", ServiceArguments(service=reference), plan)


@post("/{reference:str}/restart", guards=[admin])
async def restart_service(request: Req, core: App, reference: str, plan: bool = False) -> Response[Any]:
    return await _answer_service(request, core, "restart", ServiceArguments(service=reference), plan)


@get("/{reference:str}/health", guards=[reader])
async def service_health(core: App, reference: str) -> Checked:
    record = await core.house.store.read(lambda tx: services.get(tx, reference))
    return await core.observer.check(record)


@get("/{reference:str}/history", guards=[reader])
async def service_history(core: App, reference: str) -> History:
    """The last health checks, and what the container used."""
    record = await core.house.store.read(lambda tx: services.get(tx, reference))
    return await core.observer.history(record.id)


@get("/{reference:str}/browse", guards=[admin])
async def browse_service(core: App, reference: str, path: list[str] | None = None, cursor: str = "", order: str = "") -> Listing:
    """One page of what a service holds; `path` is what was opened so far. Nothing can be changed this way."""
    record = await core.house.store.read(lambda tx: services.get(tx, reference))
    bindings.require_serving(record)
    if cursor and len(cursor) > 2000:
        raise BadInput("The cursor is none of ours.", errors={"cursor": "as an earlier answer said"})
    provider = core.house.registry.provider(record.service_type)
    return await provider.browse(record.view(), core.provision.access(record, provider), tuple(path or ()), cursor, order)


@get("/{reference:str}/download", guards=[admin])
async def download_from_service(core: App, reference: str, path: list[str]) -> Stream:
    """One thing that a listing offered, as it is."""
    record = await core.house.store.read(lambda tx: services.get(tx, reference))
    bindings.require_serving(record)
    provider = core.house.registry.provider(record.service_type)
    assert core.workers is not None
    access = core.provision.access(record, provider)
    chunks = await begun(flow(core.workers, lambda sink: provider.download(record.view(), access, tuple(path), sink)))
    headers = {"Content-Disposition": attachment(path[-1] if path else ""), "X-Content-Type-Options": "nosniff"}
    return Stream(chunks, media_type="application/octet-stream", headers=headers)


@post("/{reference:str}/reveal", guards=[admin], status_code=200)
async def reveal_service(request: Req, core: App, reference: str) -> dict[str, str]:
    """The secret parameters in clear; who looked is in the journal."""

    def work(tx: Tx) -> dict[str, str]:
        record = services.get(tx, reference)
        names = redact.secret_names(core.house.registry.provider(record.service_type).kind)
        tx.emit("service.revealed", service=record.id, data={"actor": request.user.name})
        return {name: str(value) for name, value in record.parameters.items() if name in names}

    return await core.house.store.write(work)


@get("/{reference:str}/logs", guards=[admin])
async def service_logs(
    core: App, reference: str, tail: Annotated[int, Parameter(ge=0, le=100_000)] = 200, follow: bool = False
) -> Stream:
    record = await core.house.store.read(lambda tx: services.get(tx, reference))
    engine = core.house.engine
    if await core.provision.found(record) is None:
        raise NotFound(f"{record.name} has no container now.", remedy=f"Start it: purveyor start {record.slug}")
    hidden = redact.secret_values(core.house.registry.provider(record.service_type).kind, record.parameters)

    async def lines() -> AsyncIterator[str]:
        if follow:
            async for chunk in engine.containers.follow(record.container_name, lines=tail):
                yield redact.scrub(chunk, hidden)
        else:
            for line in await engine.containers.log(record.container_name, lines=tail):
                yield redact.scrub(line, hidden) + "\n"

    return Stream(lines(), media_type="text/plain; charset=utf-8")


@get("/{reference:str}/client", guards=[admin])
async def service_client(core: App, reference: str) -> ClientView:
    record = await core.house.store.read(lambda tx: services.get(tx, reference))
    provider = core.house.registry.provider(record.service_type)
    client = provider.client(bindings.seen_from(provider.kind, record, from_host=True))
    return ClientView(container=record.container_name, client=client)


# ---------------------------------------------------------------- containers that somebody else made


class AvailableContainer(msgspec.Struct, frozen=True, kw_only=True):
    """A container that can be imported. `suggested` are parameters that its environment tells, secrets masked: they are
    used when the import says `use_found`."""

    container_id: str
    container_name: str
    image: str
    version: str
    service_type: str
    is_running: bool
    exposed_ports: list[int]
    suggested: dict[str, str]


@get("/available-containers", guards=[admin])
async def available_containers(core: App) -> list[AvailableContainer]:
    taken = await core.house.store.read(services.container_names)
    registry = core.house.registry
    found = []
    for item in await core.house.engine.containers.foreign():
        for kind in registry.kinds:
            recognised = registry.provider(kind.name).recognise(item)
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
                    suggested=redact.mask_parameters(kind, recognised.suggested),
                )
            )
            break
    return found


@post("/import", guards=[admin])
async def import_container(request: Req, core: App, data: ImportRequest, plan: bool = False) -> Response[Any]:
    given = ImportArguments(**msgspec.structs.asdict(data))
    return await answer(request, core, "import", given, plan=plan, status=201, then=shown(core))


# ---------------------------------------------------------------- links


@get("/{reference:str}/projects", guards=[reader])
async def linked_projects(core: App, reference: str, limit: Limit = 100, offset: Offset = 0) -> Response[list[views.LinkView]]:
    def work(tx: Tx) -> Page[LinkRecord]:
        return projects.links_page(tx, services.get(tx, reference).id, limit=limit, offset=offset)

    found = await core.house.store.read(work)
    return page(await views.link_views(core, found.items), found.total)


@post("/{reference:str}/projects", guards=[admin])
async def link(request: Req, core: App, reference: str, data: LinkRequest, plan: bool = False) -> Response[Any]:
    async def then(operation: OperationRecord) -> views.LinkView:
        def work(tx: Tx) -> list[Any]:
            return projects.links(tx, service_id=operation.service_id, project_id=operation.project_id)

        return (await views.link_views(core, await core.house.store.read(work)))[0]

    given = LinkArguments(service=reference, project=str(data.project_id))
    return await answer(request, core, "link", given, plan=plan, status=201, then=then)


@delete("/{reference:str}/projects/{project:str}", guards=[admin], status_code=200)
async def unlink(
    request: Req,
    core: App,
    reference: str,
    project: str,
    purge: bool = False,
    force: bool = False,
    now: bool = False,
    plan: bool = False,
) -> Response[Any]:
    """The data is kept. An account that an active deployment uses ends with that environment's next deploy, or `now`."""
    given = UnlinkArguments(service=reference, project=project, purge=purge, force=force, now=now)
    return await answer(request, core, "unlink", given, plan=plan, status=204, then=nothing)


@get("/projects/{project:str}", guards=[own_project])
async def project_links(core: App, project: str) -> list[views.LinkView]:
    def work(tx: Tx) -> list[Any]:
        return projects.links(tx, project_id=projects.get(tx, project).id)

    return await views.link_views(core, await core.house.store.read(work))


@get("/projects/{project:str}/endings", guards=[own_project])
async def project_endings(core: App, project: str) -> list[views.EndingView]:
    """What the project's apps still use although it is not linked any more: each ends with the next deploy."""
    return await core.house.store.read(lambda tx: views.endings(tx, project_id=projects.get(tx, project).id))


# ---------------------------------------------------------------- the life of data


class UpgradeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another image; `rehearse` runs the whole of it on a copy and changes nothing. A loss stops it unless `keep_going`;
    `skip_settings` are server settings that are not set on the new server."""

    docker_image: str
    rehearse: bool = False
    keep_going: bool = False
    skip_settings: list[str] = []


class CloneRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The name of the copy, and the image that it runs where that is another one."""

    name: str
    docker_image: str | None = None


@post("/{reference:str}/upgrade", guards=[admin])
async def upgrade_service(request: Req, core: App, reference: str, data: UpgradeRequest, plan: bool = False) -> Response[Any]:
    given = UpgradeArguments(
        service=reference,
        docker_image=data.docker_image,
        rehearse=data.rehearse,
        keep_going=data.keep_going,
        skip_settings=tuple(data.skip_settings),
    )
    return await answer(request, core, "upgrade", given, plan=plan, status=200, then=shown(core))


@post("/{reference:str}/undo-upgrade", guards=[admin])
async def undo_upgrade(request: Req, core: App, reference: str, plan: bool = False) -> Response[Any]:
    given = UndoUpgradeArguments(service=reference)
    return await answer(request, core, "undo-upgrade", given, plan=plan, status=200, then=shown(core))


@post("/{reference:str}/clone", guards=[admin])
async def clone_service(request: Req, core: App, reference: str, data: CloneRequest, plan: bool = False) -> Response[Any]:
    given = CloneArguments(service=reference, name=data.name, docker_image=data.docker_image)
    return await answer(request, core, "clone", given, plan=plan, status=201, then=shown(core))


@post("/{reference:str}/rotate", guards=[admin])
async def rotate_administrator(request: Req, core: App, reference: str, plan: bool = False) -> Response[Any]:
    given = ServiceArguments(service=reference)
    return await answer(request, core, "rotate-administrator", given, plan=plan, status=200, then=shown(core))


@post("/{reference:str}/undelete", guards=[admin])
async def undelete_service(request: Req, core: App, reference: str, plan: bool = False) -> Response[Any]:
    given = UndeleteArguments(service=reference)
    return await answer(request, core, "undelete", given, plan=plan, status=200, then=shown(core))


# ---------------------------------------------------------------- variables


@get("/{reference:str}/preview-environment-names", guards=[reader])
async def preview_names(core: App, reference: str) -> list[str]:
    record = await core.house.store.read(lambda tx: services.get(tx, reference))
    return [variable.name for variable in views.preview(core, record)]


@get("/{reference:str}/preview-environment-masked", guards=[reader])
async def preview_masked(core: App, reference: str) -> dict[str, str]:
    record = await core.house.store.read(lambda tx: services.get(tx, reference))
    return {variable.name: redact.mask_variable(variable) for variable in views.preview(core, record)}


async def bound(request: Req, core: App, project: str, environment: str, from_host: bool = False) -> dict[int, list[Variable]]:
    """The variables of a project's environment by service id; what of it is not bound yet is bound now. Raises `NotFound` for an
    environment that there is not: asking makes none."""

    def work(tx: Tx) -> dict[int, list[Variable]] | None:
        record = projects.get(tx, project)
        found = bindings.environment_of(tx, record, environment)
        linked = [services.get(tx, item.service_id) for item in projects.links(tx, project_id=record.id)]
        if not all(bindings.ready(tx, core.house, service, found.id) for service in linked):
            return None
        return bindings.variables_of(tx, core.house, record.id, found.id, from_host=from_host)

    found = await core.house.store.read(work)
    if found is None:
        await core.run("bind", BindArguments(project=project, environment=environment), request.user.name)
        found = await core.house.store.read(work)
    return found or {}


async def _linked(request: Req, core: App, reference: str, project: str, environment: str) -> list[Variable]:
    def work(tx: Tx) -> int:
        service, record = services.get(tx, reference), projects.get(tx, project)
        if projects.find_link(tx, service.id, record.id) is None:
            remedy = f"Link it: purveyor link {service.slug} {record.slug}"
            raise NotFound(f"{service.name} is not linked to {record.slug}.", remedy=remedy)
        return service.id

    service_id = await core.house.store.read(work)
    return (await bound(request, core, project, environment))[service_id]


@get("/{reference:str}/projects/{project:str}/environment", guards=[own_project])
async def environment(request: Req, core: App, reference: str, project: str, environment: str = PRODUCTION) -> dict[str, str]:
    found = await _linked(request, core, reference, project, environment)
    return {variable.name: variable.value for variable in found}


@get("/{reference:str}/projects/{project:str}/environment/{name:str}", guards=[own_project])
async def environment_variable(
    request: Req, core: App, reference: str, project: str, name: str, environment: str = PRODUCTION
) -> VariableView:
    for variable in await _linked(request, core, reference, project, environment):
        if variable.name == name:
            return VariableView(name=name, value=variable.value, sensitive=variable.secret)
    raise NotFound(f"There is no variable {name!r}.", remedy="List them: …/environment")


@get("/projects/{project:str}/environment", guards=[own_project])
async def project_environment(request: Req, core: App, project: str, environment: str = PRODUCTION) -> dict[str, dict[str, str]]:
    found = await bound(request, core, project, environment)
    return {str(number): {item.name: item.value for item in variables} for number, variables in found.items()}


router = Router(
    "/external-services",
    route_handlers=[
        list_types,
        type_parameters,
        providers,
        provider,
        list_services,
        create_service,
        show_service,
        update_service,
        delete_service,
        start_service,
        stop_service,
        restart_service,
        service_health,
        service_history,
        reveal_service,
        browse_service,
        download_from_service,
        service_logs,
        service_client,
        available_containers,
        import_container,
        upgrade_service,
        undo_upgrade,
        clone_service,
        rotate_administrator,
        undelete_service,
        linked_projects,
        link,
        unlink,
        project_links,
        project_endings,
        preview_names,
        preview_masked,
        environment,
        environment_variable,
        project_environment,
    ],
    tags=["services"],
)
