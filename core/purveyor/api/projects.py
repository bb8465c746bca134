"""/api/projects: projects, environments, deployments."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from litestar import Request, Response, Router, delete, get, post

from purveyor import bindings, redact
from purveyor.api import views
from purveyor.api.answers import answer, nothing, page
from purveyor.api.auth import admin, own_project, reader
from purveyor.api.services import Limit, Offset, bound
from purveyor.app import App
from purveyor.observe import Status
from purveyor.store import Page, Tx, projects, services
from purveyor.store.records import DeploymentRecord, EnvironmentRecord, OperationRecord, ProjectRecord
from purveyor.verbs.bind import BindArguments
from purveyor.verbs.deploy import DeployArguments, DeployRequest
from purveyor.verbs.environments import EnvironmentArguments
from purveyor.verbs.projects import CreateProjectArguments, ProjectArguments
from purveyor.verbs.rotate import RotateArguments
from purveyor_hooks import NotFound

Req = Request[Any, Any, Any]


class EnvironmentRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str


class ProjectView(msgspec.Struct, frozen=True, kw_only=True):
    """A project in a list, and the names of the services that it is linked to."""

    id: int
    slug: str
    name: str
    created_at: datetime
    services: list[str]


class DeploymentView(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment: `state` is deploying, active, retired or failed; `url` is where it answers on this host.

    `status` is what is seen: for an active one whose app does not run as it should down, unhealthy, restarting, paused, missing
    or unknown, and `status_reason` why; else the state.
    """

    id: int
    project_id: int
    environment: str
    image: str | None
    state: str
    status: str
    status_reason: str
    container: str
    url: str
    error: str
    created_at: datetime
    ended_at: datetime | None


class EnvironmentVariables(msgspec.Struct, frozen=True, kw_only=True):
    """One list of all variables of an environment, as a deploy injects them."""

    project: str
    environment: str
    variables: dict[str, str]


async def _views(core: App, records: Sequence[DeploymentRecord]) -> list[DeploymentView]:
    seen = await core.observer.deployments(records)
    numbers = sorted({record.environment_id for record in records})
    places = await core.house.store.read(lambda tx: projects.environments_by_id(tx, numbers))
    return [_deployment(record, places[record.environment_id].slug, seen[record.id]) for record in records]


def _deployment(record: DeploymentRecord, environment: str, seen: Status) -> DeploymentView:
    return DeploymentView(
        id=record.id,
        project_id=record.project_id,
        environment=environment,
        status=seen.status,
        status_reason=seen.reason,
        image=record.app.image if record.app else None,
        state=record.state,
        container=record.container,
        url=record.url,
        error=record.error,
        created_at=record.created_at,
        ended_at=record.ended_at,
    )


@get("/", guards=[reader])
async def list_projects(core: App, q: str = "", limit: Limit = 100, offset: Offset = 0) -> Response[list[ProjectView]]:
    """A part of the projects: those whose name holds `q`, with the names of the services that each is linked to."""

    def work(tx: Tx) -> Page[ProjectView]:
        found = projects.page(tx, q=q, limit=limit, offset=offset)
        linked = projects.linked_services(tx, [record.id for record in found.items])
        return Page([_listed(record, linked.get(record.id, [])) for record in found.items], found.total)

    return page(*await core.house.store.read(work))


def _listed(record: ProjectRecord, linked: list[str]) -> ProjectView:
    return ProjectView(id=record.id, slug=record.slug, name=record.name, created_at=record.created_at, services=linked)


@post("/", guards=[admin])
async def create_project(request: Req, core: App, data: CreateProjectArguments, plan: bool = False) -> Response[Any]:
    async def then(operation: OperationRecord) -> ProjectRecord:
        return await core.house.store.read(lambda tx: projects.get(tx, operation.project_id or 0))

    return await answer(request, core, "create-project", data, plan=plan, status=201, then=then)


@get("/{project:str}", guards=[own_project])
async def show_project(core: App, project: str) -> ProjectRecord:
    return await core.house.store.read(lambda tx: projects.get(tx, project))


@delete("/{project:str}", guards=[admin], status_code=200)
async def delete_project(request: Req, core: App, project: str, plan: bool = False) -> Response[Any]:
    given = ProjectArguments(project=project)
    return await answer(request, core, "delete-project", given, plan=plan, status=204, then=nothing)


@get("/{project:str}/environments", guards=[own_project])
async def list_environments(core: App, project: str) -> list[EnvironmentRecord]:
    return await core.house.store.read(lambda tx: projects.environments(tx, projects.get(tx, project).id))


@post("/{project:str}/environments", guards=[admin])
async def create_environment(
    request: Req, core: App, project: str, data: EnvironmentRequest, plan: bool = False
) -> Response[Any]:
    async def then(operation: OperationRecord) -> EnvironmentRecord:
        def work(tx: Tx) -> EnvironmentRecord:
            found = projects.find_environment(tx, operation.project_id or 0, operation.arguments["environment"])
            assert found is not None
            return found

        return await core.house.store.read(work)

    given = BindArguments(project=project, environment=data.name)
    return await answer(request, core, "bind", given, plan=plan, status=201, then=then)


@delete("/{project:str}/environments/{environment:str}", guards=[admin], status_code=200)
async def delete_environment(
    request: Req, core: App, project: str, environment: str, purge: bool = False, plan: bool = False
) -> Response[Any]:
    given = EnvironmentArguments(project=project, environment=environment, purge=purge)
    return await answer(request, core, "delete-environment", given, plan=plan, status=204, then=nothing)


@get("/{project:str}/environments/{environment:str}/masked", guards=[reader])
async def masked_variables(core: App, project: str, environment: str) -> EnvironmentVariables:
    """What the next deploy gets, secrets masked. Nothing is bound: what is not yet, has names as in the preview."""

    def work(tx: Tx) -> EnvironmentVariables:
        record = projects.get(tx, project)
        found = projects.find_environment(tx, record.id, environment)
        values: dict[str, str] = {}
        for link in projects.links(tx, project_id=record.id):
            service = services.get(tx, link.service_id)
            bound_here = found is not None and bindings.ready(tx, core.house, service, found.id)
            held = projects.binding_of(tx, service.id, found.id) if found and bound_here else None
            if held is None:
                shown = views.preview(core, service)
            else:
                provider = core.house.registry.provider(service.service_type)
                view = bindings.with_api(tx, core.house, provider.kind, held, from_host=False)
                shown = provider.environment(service.view(), view)
            values |= {variable.name: redact.mask_variable(variable) for variable in shown}
        return EnvironmentVariables(project=record.slug, environment=environment, variables=values)

    return await core.house.store.read(work)


@get("/{project:str}/environments/{environment:str}/variables", guards=[own_project])
async def environment_variables(
    request: Req, core: App, project: str, environment: str, reach: Literal["network", "host"] = "network"
) -> EnvironmentVariables:
    """Everything that a deploy of this environment gets, bound on first ask. Two services that disagree → 409.

    `reach` is from where: containers on the network, or commands on this host.
    """
    found = await bound(request, core, project, environment, reach == "host")
    variables = await core.house.store.read(lambda tx: bindings.merged(tx, found))
    record = await core.house.store.read(lambda tx: projects.get(tx, project))
    values = {variable.name: variable.value for variable in variables}
    return EnvironmentVariables(project=record.slug, environment=environment, variables=values)


@post("/{project:str}/environments/{environment:str}/reveal", guards=[own_project], status_code=200)
async def reveal_variables(request: Req, core: App, project: str, environment: str) -> EnvironmentVariables:
    """The variables in clear; who looked is in the journal."""
    found = await environment_variables.fn(request, core, project, environment)
    record = await core.house.store.read(lambda tx: projects.get(tx, project))
    data = {"actor": request.user.name}
    await core.house.store.write(lambda tx: tx.emit("project.revealed", project=record.id, data=data))
    shown: EnvironmentVariables = found
    return shown


@get("/{project:str}/deployments", guards=[own_project])
async def list_deployments(core: App, project: str, limit: Limit = 100, offset: Offset = 0) -> Response[list[DeploymentView]]:
    def work(tx: Tx) -> Page[DeploymentRecord]:
        return projects.deployments_page(tx, projects.get(tx, project).id, limit=limit, offset=offset)

    found = await core.house.store.read(work)
    return page(await _views(core, found.items), found.total)


@post("/{project:str}/deployments", guards=[own_project])
async def deploy(request: Req, core: App, project: str, data: DeployRequest, plan: bool = False) -> Response[Any]:
    async def then(operation: OperationRecord) -> DeploymentView:
        number = operation.arguments["deployment"]
        return (await _views(core, [await core.house.store.read(lambda tx: projects.deployment(tx, number))]))[0]

    fields = {name: getattr(data, name) for name in data.__struct_fields__}
    given = DeployArguments(project=project, **fields)
    return await answer(request, core, "deploy", given, plan=plan, status=201, then=then)


@get("/{project:str}/deployments/{number:int}", guards=[own_project])
async def show_deployment(core: App, project: str, number: int) -> DeploymentView:
    def work(tx: Tx) -> DeploymentRecord:
        record = projects.get(tx, project)
        found = projects.deployment(tx, number)
        return found if found.project_id == record.id else projects.deployment(tx, 0)

    return (await _views(core, [await core.house.store.read(work)]))[0]


@get("/{project:str}/deployments/{number:int}/log", guards=[own_project])
async def deployment_log(core: App, project: str, number: int) -> Response[str]:
    """What the deployment's container printed last; secrets of the environment masked."""

    def work(tx: Tx) -> tuple[DeploymentRecord, list[str]]:
        record = projects.get(tx, project)
        found = projects.deployment(tx, number)
        if found.project_id != record.id:
            raise NotFound(f"{record.slug} has no deployment {number}.")
        used = {link.service_id for link in projects.links(tx, project_id=record.id)}
        held = [item.password for number in used for item in projects.bindings(tx, service_id=number)]
        return found, held

    record, secrets = await core.house.store.read(work)
    if not record.container:
        raise NotFound("The deployment has no container.", remedy="It only ran hooks, or it never came up.")
    lines = await core.house.engine.containers.log(record.container, lines=400)
    return Response(redact.scrub("\n".join(lines), secrets), media_type="text/plain; charset=utf-8")


@post("/{project:str}/environments/{environment:str}/rotate", guards=[admin], status_code=200)
async def rotate(
    request: Req, core: App, project: str, environment: str, service: str | None = None, plan: bool = False
) -> Response[Any]:
    """New credentials for one environment; its next deploy injects them."""
    given = RotateArguments(project=project, environment=environment, service=service)
    return await answer(request, core, "rotate", given, plan=plan, status=204, then=nothing)


router = Router(
    "/projects",
    route_handlers=[
        list_projects,
        create_project,
        show_project,
        delete_project,
        list_environments,
        create_environment,
        delete_environment,
        environment_variables,
        masked_variables,
        reveal_variables,
        rotate,
        list_deployments,
        deploy,
        show_deployment,
        deployment_log,
    ],
    tags=["projects"],
)
