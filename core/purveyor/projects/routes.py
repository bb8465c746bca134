"""/api/projects, and links and variables of services: who uses what."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.handlers import BaseRouteHandler

from purveyor.context import Core
from purveyor.kernel import redact
from purveyor.kernel.actors import actor_fields
from purveyor.kernel.api.auth import Connection, reader
from purveyor.kernel.api.responses import Limit, Offset, page
from purveyor.kernel.db import Page, Tx
from purveyor.kernel.operations.models import OperationRecord
from purveyor.projects import bindings, service_links
from purveyor.projects import schemas as project_schemas
from purveyor.projects import store as projects
from purveyor.projects import variables as project_variables
from purveyor.projects.models import EnvironmentRecord, LinkRecord, ProjectRecord
from purveyor.projects.operations.bind import BindArguments
from purveyor.projects.operations.projects import PRODUCTION
from purveyor.projects.schemas import (
    EnvironmentVariables,
    LinkView,
    ProjectView,
    VariableView,
    project_brief,
)
from purveyor.services import schemas as service_schemas
from purveyor.services import store as services
from purveyor.services.handle import PLACEHOLDER, handle_of
from purveyor.services.models import ServiceRecord
from purveyor.services.routes import service_views
from purveyor_hooks import (
    Actor,
    Binding,
    Conflict,
    EngineUnavailable,
    Forbidden,
    NotFound,
    Scope,
    Variable,
)

Req = Request[Any, Any, Any]


@get("/", guards=[reader])
async def list_projects(
    core: Core, q: str = "", limit: Limit = 100, offset: Offset = 0
) -> Response[list[ProjectView]]:
    """A part of the projects: those whose name holds `q`, with the names of the services that each
    is linked to."""

    def work(tx: Tx) -> Page[ProjectView]:
        found = projects.page(tx, q=q, limit=limit, offset=offset)
        linked = projects.linked_services(tx, [record.id for record in found.items])
        return Page(
            [_listed(record, linked.get(record.id, [])) for record in found.items], found.total
        )

    return page(*await core.context.store.read(work))


def _listed(record: ProjectRecord, linked: list[str]) -> ProjectView:
    return ProjectView(
        id=record.id,
        slug=record.slug,
        name=record.name,
        created_at=record.created_at,
        services=linked,
    )


async def project_made(_: Req, core: Core, operation: OperationRecord) -> ProjectRecord:
    return await core.context.store.read(lambda tx: projects.get(tx, operation.project_id or 0))


async def own_project(connection: Connection, _: BaseRouteHandler) -> None:
    """Admin tokens, and the token of the very project that the path names; not an app's, which is
    of one environment."""
    actor: Actor = connection.user
    if actor.scope == "admin":
        return
    if actor.scope == "project" and actor.environment is None:
        core: Core = connection.app.state.core
        named = connection.path_params.get("project", "")
        record = await core.context.store.read(lambda tx: projects.find(tx, named))
        if record is not None and record.id == actor.project_id:
            return
    raise Forbidden(
        "This token may not read or change that project.",
        remedy="Use a token of the scope admin, or the project's own.",
    )


@get("/{project:str}", guards=[own_project])
async def show_project(core: Core, project: str) -> ProjectRecord:
    return await core.context.store.read(lambda tx: projects.get(tx, project))


@get("/{project:str}/environments", guards=[own_project])
async def list_environments(core: Core, project: str) -> list[EnvironmentRecord]:
    return await core.context.store.read(
        lambda tx: projects.environments(tx, projects.get(tx, project).id)
    )


async def environment_made(_: Req, core: Core, operation: OperationRecord) -> EnvironmentRecord:
    def work(tx: Tx) -> EnvironmentRecord:
        found = projects.find_environment(
            tx, operation.project_id or 0, operation.arguments["environment"]
        )
        assert found is not None
        return found

    return await core.context.store.read(work)


@get("/{project:str}/environments/{environment:str}/masked", guards=[reader])
async def masked_variables(core: Core, project: str, environment: str) -> EnvironmentVariables:
    """What the next deploy gets, secrets masked. Nothing is bound: what is not yet, has names as in
    the preview."""

    def work(tx: Tx) -> EnvironmentVariables:
        record = projects.get(tx, project)
        found = projects.find_environment(tx, record.id, environment)
        values: dict[str, str] = {}
        for link in projects.links(tx, project_id=record.id):
            service = services.get(tx, link.service_id)
            bound_here = found is not None and project_variables.ready(
                tx, core.context, service, found.id
            )
            held = projects.binding_of(tx, service.id, found.id) if found and bound_here else None
            if held is None:
                shown = preview(core, service)
            else:
                server = handle_of(core.context, service)
                view = project_variables.with_api(
                    tx, core.context, server.kind, held, from_host=False
                )
                shown = server.environment(view)
            values |= {variable.name: redact.mask_variable(variable) for variable in shown}
        return EnvironmentVariables(project=record.slug, environment=environment, variables=values)

    return await core.context.store.read(work)


@get(
    "/{project:str}/environments/{environment:str}/variables",
    guards=[own_project],
    opt={"reveals": "variables"},
)
async def environment_variables(
    request: Req,
    core: Core,
    project: str,
    environment: str,
    reach: Literal["network", "host"] = "network",
) -> EnvironmentVariables:
    """Everything that a deploy of this environment gets, bound on first ask. Two services that
    disagree → 409.

    `reach` is from where: containers on the network, or commands on this host.
    """
    found = await bound(request, core, project, environment, reach == "host")
    variables = await core.context.store.read(
        lambda tx: project_variables.merge_variables(tx, found)
    )
    record = await core.context.store.read(lambda tx: projects.get(tx, project))
    values = {variable.name: variable.value for variable in variables}
    return EnvironmentVariables(project=record.slug, environment=environment, variables=values)


@post(
    "/{project:str}/environments/{environment:str}/reveal",
    guards=[own_project],
    status_code=200,
    opt={"reveals": "variables"},
)
async def reveal_variables(
    request: Req, core: Core, project: str, environment: str
) -> EnvironmentVariables:
    """The variables in clear; who looked is in the journal."""
    found = await environment_variables.fn(request, core, project, environment)
    record = await core.context.store.read(lambda tx: projects.get(tx, project))
    data = actor_fields(request.user)
    await core.context.store.write(
        lambda tx: tx.emit("project.revealed", project=record.id, data=data)
    )
    shown: EnvironmentVariables = found
    return shown


@get("/{reference:str}/projects", guards=[reader])
async def linked_projects(
    core: Core, reference: str, limit: Limit = 100, offset: Offset = 0
) -> Response[list[project_schemas.LinkView]]:
    def work(tx: Tx) -> Page[LinkRecord]:
        return projects.links_page(tx, services.get(tx, reference).id, limit=limit, offset=offset)

    found = await core.context.store.read(work)
    return page(await link_views(core, found.items), found.total)


async def link_made(_: Req, core: Core, operation: OperationRecord) -> LinkView:
    def work(tx: Tx) -> list[Any]:
        return projects.links(tx, service_id=operation.service_id, project_id=operation.project_id)

    found = await link_views(core, await core.context.store.read(work))
    if not found:
        raise Conflict(
            "The project was linked, and then unlinked by another request.",
            remedy="See: purveyor events",
        )
    return found[0]


def purge_as_planned(_: Req, given: dict[str, Any], plan: bool) -> dict[str, Any]:
    """A plan shows what would go although nobody has said that it shall."""
    return {**given, "purge": given["purge"] or plan}


@get("/projects/{project:str}", guards=[own_project])
async def project_links(core: Core, project: str) -> list[project_schemas.LinkView]:
    def work(tx: Tx) -> list[Any]:
        return projects.links(tx, project_id=projects.get(tx, project).id)

    return await link_views(core, await core.context.store.read(work))


@get("/projects/{project:str}/endings", guards=[own_project])
async def project_endings(core: Core, project: str) -> list[service_schemas.EndingView]:
    """What the project's apps still use although it is not linked any more, which ends with the
    next deploy; and what a rotation has replaced, which ends at a time."""
    return await core.context.store.read(
        lambda tx: service_links.endings(tx, project_id=projects.get(tx, project).id)
    )


@get("/{reference:str}/preview-environment-names", guards=[reader])
async def preview_names(core: Core, reference: str) -> list[str]:
    record = await core.context.store.read(lambda tx: services.get(tx, reference))
    return [variable.name for variable in preview(core, record)]


@get("/{reference:str}/preview-environment-masked", guards=[reader])
async def preview_masked(core: Core, reference: str) -> dict[str, str]:
    record = await core.context.store.read(lambda tx: services.get(tx, reference))
    return {variable.name: redact.mask_variable(variable) for variable in preview(core, record)}


async def bound(
    request: Req, core: Core, project: str, environment: str, from_host: bool = False
) -> dict[int, list[Variable]]:
    """The variables of a project's environment by service id; what of it is not bound yet is bound
    now. Raises `NotFound` for an environment that there is not: asking makes none."""

    addresses = await _addresses(core, project) if from_host else {}

    def work(tx: Tx) -> dict[int, list[Variable]] | None:
        record = projects.get(tx, project)
        found = bindings.environment_of(tx, record, environment)
        linked = _services(tx, record)
        if not all(
            project_variables.ready(tx, core.context, service, found.id) for service in linked
        ):
            return None
        return project_variables.variables_of(
            tx, core.context, record.id, found.id, from_host=from_host, addresses=addresses
        )

    found = await core.context.store.read(work)
    if found is None:
        await core.run(
            "bind", BindArguments(project=project, environment=environment), request.user.name
        )
        found = await core.context.store.read(work)
    return found or {}


def _services(tx: Tx, project: ProjectRecord) -> list[ServiceRecord]:
    return [services.get(tx, item.service_id) for item in projects.links(tx, project_id=project.id)]


async def _addresses(core: Core, project: str) -> dict[str, str]:
    """Where this host reaches the containers of linked services, by name: for ports that are not
    published."""
    linked = await core.context.store.read(lambda tx: _services(tx, projects.get(tx, project)))
    engine = core.context.engine
    if not linked:
        return {}
    try:
        found = await engine.containers.named([item.container_name for item in linked])
    except EngineUnavailable:  # what is published is told all the same
        return {}
    return {item.name: item.networks.get(engine.namespace, "") for item in found}


async def _linked(
    request: Req, core: Core, reference: str, project: str, environment: str
) -> list[Variable]:
    def work(tx: Tx) -> int:
        service, record = services.get(tx, reference), projects.get(tx, project)
        if projects.find_link(tx, service.id, record.id) is None:
            remedy = f"Link it: purveyor link {service.slug} {record.slug}"
            raise NotFound(f"{service.name} is not linked to {record.slug}.", remedy=remedy)
        return service.id

    service_id = await core.context.store.read(work)
    found = await bound(request, core, project, environment)
    if service_id not in found:
        raise NotFound(
            f"{reference} is not linked to {project} any more.",
            remedy=f"Link it: purveyor link {reference} {project}",
        )
    return found[service_id]


@get(
    "/{reference:str}/projects/{project:str}/environment",
    guards=[own_project],
    opt={"reveals": "variables"},
)
async def environment(
    request: Req, core: Core, reference: str, project: str, environment: str = PRODUCTION
) -> dict[str, str]:
    found = await _linked(request, core, reference, project, environment)
    return {variable.name: variable.value for variable in found}


@get(
    "/{reference:str}/projects/{project:str}/environment/{name:str}",
    guards=[own_project],
    opt={"reveals": "variables"},
)
async def environment_variable(
    request: Req, core: Core, reference: str, project: str, name: str, environment: str = PRODUCTION
) -> VariableView:
    for variable in await _linked(request, core, reference, project, environment):
        if variable.name == name:
            return VariableView(name=name, value=variable.value, sensitive=variable.secret)
    raise NotFound(f"There is no variable {name!r}.", remedy="List them: …/environment")


@get("/projects/{project:str}/environment", guards=[own_project], opt={"reveals": "variables"})
async def project_environment(
    request: Req, core: Core, project: str, environment: str = PRODUCTION
) -> dict[str, dict[str, str]]:
    found = await bound(request, core, project, environment)
    return {
        str(number): {item.name: item.value for item in variables}
        for number, variables in found.items()
    }


def preview(app: Core, record: ServiceRecord) -> list[Variable]:
    """The variables that a link would inject, with placeholders for what is the project's own."""
    service = handle_of(app.context, record)
    first = service.kind.slots[0] if service.kind.slots else None
    placeholder = f"project{service.kind.naming.separator}environment"
    scope = Scope(project="project", environment="environment")
    binding = Binding(
        id=0,
        scope=scope,
        resource=placeholder,
        account=placeholder,
        password="preview-only",
        slot=first,
    )
    binding = msgspec.structs.replace(binding, api=PLACEHOLDER)
    return service.environment(binding)


async def link_views(app: Core, links: Sequence[LinkRecord]) -> list[LinkView]:
    """Links as clients see them. Each one's service is asked about once, however many links it
    has."""

    def work(tx: Tx) -> tuple[dict[int, ProjectRecord], dict[int, ServiceRecord]]:
        of_projects = projects.get_by_ids(tx, sorted({link.project_id for link in links}))
        return of_projects, services.get_by_ids(tx, sorted({link.service_id for link in links}))

    of_projects, of_services = await app.context.store.read(work)
    views = {view.id: view for view in await service_views(app, list(of_services.values()))}
    return [
        LinkView(
            id=link.id,
            project=project_brief(of_projects[link.project_id]),
            service=msgspec.structs.replace(
                views[link.service_id], projects=[of_projects[link.project_id].slug]
            ),
            state=link.state,
            notes=_notes(app, of_services[link.service_id]),
        )
        for link in links
        if link.project_id in of_projects and link.service_id in views  # else it has just ended
    ]


def _notes(app: Core, service: ServiceRecord) -> list[str]:
    known = app.context.registry.find(service.service_type)
    return handle_of(app.context, service).notes() if known else []


router = Router(
    "/projects",
    route_handlers=[
        list_projects,
        show_project,
        list_environments,
        environment_variables,
        masked_variables,
        reveal_variables,
    ],
    tags=["projects"],
)


service_router = Router(
    "/external-services",
    route_handlers=[
        linked_projects,
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
