"""What the doctor asks the servers themselves: how they serve, and what keeps projects out of them or
lets others in."""

from collections.abc import Sequence

import anyio

from purveyor.app import App
from purveyor.checks import Check
from purveyor.kernel.db import Tx
from purveyor.projects import store as projects
from purveyor.services import store as services
from purveyor.services.handle import handle_of
from purveyor.services.models import ServiceRecord
from purveyor_hooks import Binding, EngineUnavailable, PurveyorError

AT_ONCE = 8


async def of_servers(
    app: App, chosen: Sequence[ServiceRecord] | None = None, project: str = ""
) -> list[Check]:
    """Of the services that are chosen, or all; with a project of its accounts alone."""
    records = await app.context.store.read(services.list_all) if chosen is None else chosen
    seen = await app.observer.statuses(records)
    found: dict[int, list[Check]] = {}
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def ask(record: ServiceRecord) -> None:
        async with limiter:
            try:
                found[record.id] = await _asked(app, record, project)
            except EngineUnavailable:
                raise
            except PurveyorError as error:
                found[record.id] = [_amiss(record, "health", error.detail, error.remedy)]

    running = [item for item in records if seen[item.id].status == "running"]
    async with anyio.create_task_group() as group:
        for record in running:
            group.start_soon(ask, record)
    return [check for item in running for check in found[item.id]]


async def _asked(app: App, record: ServiceRecord, project: str) -> list[Check]:
    checked = await app.observer.check(record)
    told = []
    if checked.detail:
        told.append(_amiss(record, "health", checked.detail, f"See: purveyor logs {record.slug}"))
    if not checked.healthy:
        return told

    def look(tx: Tx) -> list[Binding]:
        return [
            item.view()
            for item in projects.bindings(tx, service_id=record.id)
            if item.state == "bound"
        ]

    held = await app.context.store.read(look)
    theirs = {item.account for item in held if project in ("", item.scope.project)}
    remedy = (
        f"See: purveyor logs {record.slug}. Its accounts are set anew by purveyor restart "
        f"{record.slug}; one account by purveyor rotate PROJECT -e ENVIRONMENT"
    )
    for finding in await handle_of(app.context, record).examine(held):
        if not project or finding.where in theirs:
            told.append(_amiss(record, finding.where, f"{finding.what}: {finding.why}.", remedy))
    return told


def _amiss(record: ServiceRecord, name: str, detail: str, remedy: str) -> Check:
    return Check(subject=record.name, name=name, ok=False, detail=detail, remedy=remedy)
