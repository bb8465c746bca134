"""What the API answers, built from records and observations."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from purveyor import bindings, parameters, redact
from purveyor.app import App
from purveyor.observe import Status
from purveyor.store import Page, Tx, projects, services
from purveyor.store.records import LinkRecord, OperationRecord, Outcome, ProjectRecord, ServiceRecord, StepRecord
from purveyor_hooks import Binding, PurveyorError, Scope, Variable
from purveyor_hooks.references import parts_of

Sort = Literal["id", "name", "service_type", "status", "memory_bytes", "cpu_percent"]


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """A service as clients see it; times are RFC 3339, `status_reason` is empty when all is plain.

    `healthy`, `latency_ms`, `memory_bytes` and `cpu_percent` (of one core) are of the last look, null before the first.
    """

    id: int
    name: str
    slug: str
    service_type: str
    version: str
    status: str
    status_reason: str
    status_at: datetime
    connection_info: str
    docker_image: str
    container_name: str
    port: int | None
    volume: str | None
    major: str
    imported: bool
    healthy: bool | None
    latency_ms: float | None
    memory_bytes: int | None
    cpu_percent: float | None
    projects: list[str]
    created_at: datetime
    updated_at: datetime


class EndingView(msgspec.Struct, frozen=True, kw_only=True):
    """An account that outlived its link: the active `deployment` uses it until the environment's next deploy. Null: it ends as
    soon as its service serves."""

    service: str
    project: str
    environment: str
    deployment: int | None


class ServiceDetails(msgspec.Struct, frozen=True, kw_only=True):
    """`endings` are accounts that outlived their link. `newer_image` is the id of the image that the service's reference means
    now, when that is another one than it runs."""

    service: ServiceView
    parameter_schema: dict[str, Any]
    current_parameters: dict[str, str]
    notes: list[str]
    newer_image: str = ""
    endings: list[EndingView] = []


class ProjectBrief(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    slug: str
    created_at: datetime


class LinkView(msgspec.Struct, frozen=True, kw_only=True):
    """A link; `state` is linking, linked or unlinking; `notes` are what to know of the type's isolation.

    Of the projects of `service` it names this one alone: the list of a service's links would grow with its square.
    """

    id: int
    project: ProjectBrief
    service: ServiceView
    state: str
    notes: list[str]


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    state: str
    started_at: datetime
    ended_at: datetime | None


class OperationView(msgspec.Struct, frozen=True, kw_only=True):
    """An operation: `state` is running, undoing, succeeded, failed or abandoned. `outcome` is of one that moved data: what is
    not as it was, and what exists and was not carried. `waits` says why one that has not ended cannot be ended now; it is tried
    again."""

    id: int
    verb: str
    service_id: int | None
    project_id: int | None
    actor: str
    arguments: dict[str, Any]
    state: str
    error: dict[str, Any] | None
    created_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None = None
    waits: str = ""
    steps: list[StepView] = []


async def service_views(app: App, records: Sequence[ServiceRecord]) -> list[ServiceView]:
    statuses = await app.observer.statuses(records)
    linked = await app.house.store.read(lambda tx: projects.linked_slugs(tx, [record.id for record in records]))
    return [_service(app, record, statuses[record.id], linked.get(record.id, [])) for record in records]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """Which services, and in which order: those whose name holds `q`, of a type."""

    q: str = ""
    service_type: str = ""
    sort: Sort = "id"


async def service_page(app: App, listed: Listed, limit: int, offset: int) -> Page[ServiceView]:
    """A part of the services. What is seen of them is looked at for those alone, unless the order depends on it."""
    store, chosen = app.house.store, {"q": listed.q, "service_type": listed.service_type}
    order = listed.sort
    if order == "id" or order == "name" or order == "service_type":
        found = await store.read(lambda tx: services.page(tx, **chosen, order=order, limit=limit, offset=offset))
        return Page(await service_views(app, found.items), found.total)
    every = await store.read(lambda tx: services.outlines(tx, **chosen))
    if order == "status":
        statuses = await app.observer.statuses(every)
        every.sort(key=lambda record: statuses[record.id].status)
    else:
        used = {record.id: app.observer.last_sample(record.id) for record in every}
        every.sort(key=lambda record: -(getattr(used[record.id], order, None) or 0))
    numbers = [record.id for record in every[offset : offset + limit]]
    of_page = await store.read(lambda tx: services.numbered(tx, numbers))
    return Page(await service_views(app, [of_page[number] for number in numbers if number in of_page]), len(every))


async def service_view(app: App, reference: str | int) -> ServiceView:
    """The service of this id or name. Raises `NotFound`."""
    record = await app.house.store.read(lambda tx: services.get(tx, reference))
    return (await service_views(app, [record]))[0]


def shown(app: App) -> Callable[[OperationRecord], Awaitable[ServiceView]]:
    """Answers an operation with its service, looked at anew: the server is another one now."""

    async def then(operation: OperationRecord) -> ServiceView:
        record = await app.house.store.read(lambda tx: services.get(tx, operation.service_id or 0))
        await app.observer.check(record)
        return await service_view(app, record.id)

    return then


def _service(app: App, record: ServiceRecord, status: Status, linked: list[str]) -> ServiceView:
    health, sample = app.observer.last_health(record.id), app.observer.last_sample(record.id)
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


def _connection(app: App, record: ServiceRecord) -> str:
    """The address of the service for its administrator, on the network, without the password."""
    provider = app.house.registry.find(record.service_type)
    if provider is None:
        return record.container_name
    values = record.parameters
    owner = Binding(
        id=0,
        scope=Scope(project="", environment=""),
        resource=str(values.get("database", "")),
        account=str(values.get("username", "default")),
        password="hidden",
        slot=0,
        api=bindings.PLACEHOLDER,
    )
    variables = provider.environment(record.view(), owner)
    found = next((variable.value for variable in variables if variable.name.endswith(("_URL", "_ENDPOINT"))), "")
    return redact.mask_url(found)


def preview(app: App, record: ServiceRecord) -> list[Variable]:
    """The variables that a link would inject, with placeholders for what is the project's own."""
    provider = app.house.registry.provider(record.service_type)
    first = provider.kind.slots[0] if provider.kind.slots else None
    placeholder = f"project{provider.kind.naming.separator}environment"
    scope = Scope(project="project", environment="environment")
    binding = Binding(id=0, scope=scope, resource=placeholder, account=placeholder, password="preview-only", slot=first)
    binding = msgspec.structs.replace(binding, api=bindings.PLACEHOLDER)
    return provider.environment(record.view(), binding)


async def service_details(app: App, reference: str) -> ServiceDetails:
    view = await service_view(app, reference)
    record = await app.house.store.read(lambda tx: services.get(tx, view.id))
    provider = app.house.registry.find(record.service_type)
    kind = provider.kind if provider else None
    shown = redact.mask_parameters(kind, record.parameters)
    return ServiceDetails(
        service=view,
        parameter_schema=parameters.schema(kind, app.house.settings) if kind else {},
        current_parameters={**shown, parameters.IMAGE: record.image},
        notes=list(kind.notes) if kind else [],
        newer_image=await _newer(app, record),
        endings=await app.house.store.read(lambda tx: endings(tx, service_id=record.id)),
    )


def endings(tx: Tx, *, service_id: int | None = None, project_id: int | None = None) -> list[EndingView]:
    """The accounts that outlived their link."""
    return [
        EndingView(
            service=services.get(tx, item.service_id).slug,
            project=item.project,
            environment=item.environment,
            deployment=None if projects.due(tx, item) else item.ends_after,
        )
        for item in projects.ending(tx, service_id=service_id, project_id=project_id)
    ]


async def _newer(app: App, record: ServiceRecord) -> str:
    try:
        return await app.provision.newer_image(record)
    except PurveyorError:  # an engine that is away is told by the status
        return ""


def project_brief(record: ProjectRecord) -> ProjectBrief:
    return ProjectBrief(id=record.id, slug=record.slug, created_at=record.created_at)


async def link_views(app: App, links: Sequence[LinkRecord]) -> list[LinkView]:
    """Links as clients see them. Each one's service is asked about once, however many links it has."""

    def work(tx: Tx) -> tuple[dict[int, ProjectRecord], dict[int, ServiceRecord]]:
        of_projects = projects.named(tx, sorted({link.project_id for link in links}))
        return of_projects, services.numbered(tx, sorted({link.service_id for link in links}))

    of_projects, of_services = await app.house.store.read(work)
    views = {view.id: view for view in await service_views(app, list(of_services.values()))}
    return [
        LinkView(
            id=link.id,
            project=project_brief(of_projects[link.project_id]),
            service=msgspec.structs.replace(views[link.service_id], projects=[of_projects[link.project_id].slug]),
            state=link.state,
            notes=_notes(app, link.service_type),
        )
        for link in links
        if link.project_id in of_projects and link.service_id in views  # else it has just ended
    ]


def _notes(app: App, service_type: str) -> list[str]:
    provider = app.house.registry.find(service_type)
    return list(provider.kind.notes) if provider else []


def operation_view(record: OperationRecord, steps: Sequence[StepRecord] = (), waits: str = "") -> OperationView:
    return OperationView(
        id=record.id,
        verb=record.verb,
        service_id=record.service_id,
        project_id=record.project_id,
        actor=record.actor,
        arguments={name: value for name, value in record.arguments.items() if name not in ("bindings", "new_bindings", "later")},
        state=record.state,
        error=record.error,
        created_at=record.created_at,
        ended_at=record.ended_at,
        outcome=record.outcome,
        waits=waits,
        steps=[StepView(name=s.name, state=s.state, started_at=s.started_at, ended_at=s.ended_at) for s in steps],
    )
