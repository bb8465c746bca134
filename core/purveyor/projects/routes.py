"""/api/projects, and links and variables of services: who uses what."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from purveyor.context import Core
from purveyor.kernel import redact
from purveyor.kernel.actors import actor_fields
from purveyor.kernel.api.auth import Connection, admin, reader
from purveyor.kernel.api.responses import Limit, Offset, answer, nothing, page
from purveyor.kernel.db import Page, Tx
from purveyor.kernel.operations.models import OperationRecord
from purveyor.projects import bindings, service_links
from purveyor.projects import schemas as project_schemas
from purveyor.projects import store as projects
from purveyor.projects import variables as project_variables
from purveyor.projects.models import EnvironmentRecord, LinkRecord, ProjectRecord
from purveyor.projects.operations.bind import BindArguments
from purveyor.projects.operations.environments import EnvironmentArguments
from purveyor.projects.operations.link import LinkArguments, UnlinkArguments
from purveyor.projects.operations.projects import (
    PRODUCTION,
    CreateProjectArguments,
    ProjectArguments,
)
from purveyor.projects.operations.remove_database import RemoveDatabaseArguments
from purveyor.projects.operations.rotate import LONGEST, RotateArguments
from purveyor.projects.schemas import (
    EnvironmentRequest,
    EnvironmentVariables,
    LinkRequest,
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
Grace = Annotated[int, Parameter(ge=0, le=LONGEST)]


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


@post("/", guards=[admin])
async def create_project(
    request: Req, core: Core, data: CreateProjectArguments, plan: bool = False
) -> Response[Any]:
    async def then(operation: OperationRecord) -> ProjectRecord:
        return await core.context.store.read(lambda tx: projects.get(tx, operation.project_id or 0))

    return await answer(request, core, "create-project", data, plan=plan, status=201, then=then)


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


@delete("/{project:str}", guards=[admin], status_code=200)
async def delete_project(
    request: Req, core: Core, project: str, plan: bool = False
) -> Response[Any]:
    given = ProjectArguments(project=project)
    return await answer(request, core, "delete-project", given, plan=plan, status=204, then=nothing)


@get("/{project:str}/environments", guards=[own_project])
async def list_environments(core: Core, project: str) -> list[EnvironmentRecord]:
    return await core.context.store.read(
        lambda tx: projects.environments(tx, projects.get(tx, project).id)
    )


@post("/{project:str}/environments", guards=[admin])
async def create_environment(
    request: Req, core: Core, project: str, data: EnvironmentRequest, plan: bool = False
) -> Response[Any]:
    async def then(operation: OperationRecord) -> EnvironmentRecord:
        def work(tx: Tx) -> EnvironmentRecord:
            found = projects.find_environment(
                tx, operation.project_id or 0, operation.arguments["environment"]
            )
            assert found is not None
            return found

        return await core.context.store.read(work)

    given = BindArguments(project=project, environment=data.name)
    return await answer(request, core, "bind", given, plan=plan, status=201, then=then)


@delete("/{project:str}/environments/{environment:str}", guards=[admin], status_code=200)
async def delete_environment(
    request: Req,
    core: Core,
    project: str,
    environment: str,
    purge: bool = False,
    plan: bool = False,
) -> Response[Any]:
    given = EnvironmentArguments(project=project, environment=environment, purge=purge)
    return await answer(
        request, core, "delete-environment", given, plan=plan, status=204, then=nothing
    )


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
    variables = await core.context.store.read(lambda tx: project_variables.merged(tx, found))
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


@post("/{project:str}/environments/{environment:str}/rotate", guards=[admin], status_code=200)
async def rotate(
    request: Req,
    core: Core,
    project: str,
    environment: str,
    service: str | None = None,
    grace: Grace = 0,
    plan: bool = False,
) -> Response[Any]:
    """New credentials for one environment; its next deploy injects them. The old ones work for
    `grace` seconds more."""
    given = RotateArguments(project=project, environment=environment, service=service, grace=grace)
    return await answer(request, core, "rotate", given, plan=plan, status=204, then=nothing)


@get("/{reference:str}/projects", guards=[reader])
async def linked_projects(
    core: Core, reference: str, limit: Limit = 100, offset: Offset = 0
) -> Response[list[project_schemas.LinkView]]:
    def work(tx: Tx) -> Page[LinkRecord]:
        return projects.links_page(tx, services.get(tx, reference).id, limit=limit, offset=offset)

    found = await core.context.store.read(work)
    return page(await link_views(core, found.items), found.total)


@post("/{reference:str}/projects", guards=[admin])
async def link(
    request: Req, core: Core, reference: str, data: LinkRequest, plan: bool = False
) -> Response[Any]:
    async def then(operation: OperationRecord) -> project_schemas.LinkView:
        def work(tx: Tx) -> list[Any]:
            return projects.links(
                tx, service_id=operation.service_id, project_id=operation.project_id
            )

        found = await link_views(core, await core.context.store.read(work))
        if not found:
            raise Conflict(
                "It was linked, and unlinked again by somebody else.", remedy="See: purveyor events"
            )
        return found[0]

    given = LinkArguments(
        service=reference, project=str(data.project_id), extra_databases=data.extra_databases
    )
    return await answer(request, core, "link", given, plan=plan, status=201, then=then)


@delete("/{reference:str}/projects/{project:str}", guards=[admin], status_code=200)
async def unlink(
    request: Req,
    core: Core,
    reference: str,
    project: str,
    purge: bool = False,
    force: bool = False,
    now: bool = False,
    plan: bool = False,
) -> Response[Any]:
    """The data is kept. An account that an active deployment uses ends with that environment's next
    deploy, or `now`."""
    given = UnlinkArguments(service=reference, project=project, purge=purge, force=force, now=now)
    return await answer(request, core, "unlink", given, plan=plan, status=204, then=nothing)


@delete(
    "/{reference:str}/projects/{project:str}/extra-databases/{database:str}",
    guards=[admin],
    status_code=200,
)
async def remove_database(
    request: Req,
    core: Core,
    reference: str,
    project: str,
    database: str,
    purge: bool = False,
    plan: bool = False,
) -> Response[Any]:
    """Drop one further database in every environment of the project. Its data goes with it, which
    `purge` has to say."""
    given = RemoveDatabaseArguments(
        service=reference, project=project, database=database, purge=purge or plan
    )
    return await answer(
        request, core, "remove-database", given, plan=plan, status=204, then=nothing
    )


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
        of_projects = projects.named(tx, sorted({link.project_id for link in links}))
        return of_projects, services.numbered(tx, sorted({link.service_id for link in links}))

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
    ],
    tags=["projects"],
)


service_router = Router(
    "/external-services",
    route_handlers=[
        linked_projects,
        link,
        unlink,
        remove_database,
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
