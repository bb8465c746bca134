"""/api/projects/…/deployments."""

from collections.abc import Sequence
from typing import Any

from litestar import MediaType, Request, Response, Router, get

from purveyor.context import Core
from purveyor.deployments import store as deployment_store
from purveyor.deployments.containment import MB
from purveyor.deployments.models import DeploymentRecord
from purveyor.deployments.schemas import DeploymentView
from purveyor.deployments.status import statuses
from purveyor.docker import image_registry
from purveyor.kernel import redact
from purveyor.kernel.api.responses import Limit, Offset, page
from purveyor.kernel.db import Page, Tx
from purveyor.kernel.operations.models import OperationRecord
from purveyor.projects import store as projects
from purveyor.projects.models import EnvironmentRecord
from purveyor.projects.routes import own_project
from purveyor.services.health import Observer, Status
from purveyor_hooks import NotFound

Req = Request[Any, Any, Any]


async def _views(core: Core, records: Sequence[DeploymentRecord]) -> list[DeploymentView]:
    seen = await statuses(core.part(Observer), records)
    numbers = sorted({record.environment_id for record in records})

    def look(tx: Tx) -> tuple[dict[int, EnvironmentRecord], dict[str, str]]:
        digests = {
            number: image_registry.digest_of(tx, number)
            for number in {record.image_id for record in records}
            if number
        }
        return projects.environments_by_id(tx, numbers), digests

    places, digests = await core.context.store.read(look)
    return [
        _deployment(
            record,
            places[record.environment_id].slug,
            seen[record.id],
            digests.get(record.image_id, ""),
        )
        for record in records
    ]


def _deployment(
    record: DeploymentRecord, environment: str, seen: Status, digest: str
) -> DeploymentView:
    app = record.app
    return DeploymentView(
        id=record.id,
        project_id=record.project_id,
        environment=environment,
        status=seen.status,
        status_reason=seen.reason,
        image=app.image if app else None,
        image_digest=digest,
        cap_add=list(app.capabilities) if app else [],
        memory=app.memory // MB if app and app.memory else None,
        pids=app.pids if app else None,
        state=record.state,
        container=record.container,
        url=record.url,
        error=record.error,
        created_at=record.created_at,
        ended_at=record.ended_at,
    )


@get("/{project:str}/deployments", guards=[own_project])
async def list_deployments(
    core: Core, project: str, limit: Limit = 100, offset: Offset = 0
) -> Response[list[DeploymentView]]:
    def work(tx: Tx) -> Page[DeploymentRecord]:
        return deployment_store.deployments_page(
            tx, projects.get(tx, project).id, limit=limit, offset=offset
        )

    found = await core.context.store.read(work)
    return page(await _views(core, found.items), found.total)


def by_whom(request: Req, given: dict[str, Any], _: bool) -> dict[str, Any]:
    """A project's own token may do less."""
    return {**given, "by_project": request.user.scope != "admin"}


async def deployment_made(_: Req, core: Core, operation: OperationRecord) -> DeploymentView:
    number = operation.arguments["deployment"]
    record = await core.context.store.read(lambda tx: deployment_store.deployment(tx, number))
    return (await _views(core, [record]))[0]


@get("/{project:str}/deployments/{number:int}", guards=[own_project])
async def show_deployment(core: Core, project: str, number: int) -> DeploymentView:
    def work(tx: Tx) -> DeploymentRecord:
        record = projects.get(tx, project)
        found = deployment_store.deployment(tx, number)
        return found if found.project_id == record.id else deployment_store.deployment(tx, 0)

    return (await _views(core, [await core.context.store.read(work)]))[0]


@get(
    "/{project:str}/deployments/{number:int}/log",
    guards=[own_project],
    media_type=MediaType.TEXT,
    opt={"reveals": "log"},
)
async def deployment_log(core: Core, project: str, number: int) -> Response[str]:
    """What the deployment's container printed last; secrets of the environment masked."""

    def work(tx: Tx) -> tuple[DeploymentRecord, list[str]]:
        record = projects.get(tx, project)
        found = deployment_store.deployment(tx, number)
        if found.project_id != record.id:
            raise NotFound(f"{record.slug} has no deployment {number}.")
        used = {link.service_id for link in projects.links(tx, project_id=record.id)}
        held = [
            item.password for number in used for item in projects.bindings(tx, service_id=number)
        ]
        return found, held

    record, secrets = await core.context.store.read(work)
    if not record.container:
        raise NotFound(
            "The deployment has no container.", remedy="It only ran hooks, or it never came up."
        )
    lines = await core.context.engine.containers.log(record.container, lines=400)
    return Response(redact.scrub("\n".join(lines), secrets))


router = Router(
    "/projects",
    route_handlers=[list_deployments, show_deployment, deployment_log],
    tags=["projects"],
)
