"""Brings the services of a recovery back, two at a time, the small ones first; goes on with it
after a crash."""

from collections.abc import Mapping

import anyio

from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.db.database import forget
from purveyor.kernel.operations import OperationType
from purveyor.kernel.operations.runner import Runner
from purveyor.recovery import models
from purveyor.recovery.models import Recovering, Result, recovering
from purveyor.recovery.operations.recover import RecoverArguments
from purveyor.services import hold
from purveyor.services import store as services
from purveyor_hooks import Conflict, PurveyorError

ACTOR = "recover"
AT_ONCE = 2


class Recovery:
    """One for an installation."""

    def __init__(
        self, context: Context, runner: Runner, operation_types: Mapping[str, OperationType]
    ) -> None:
        self._context = context
        self._runner = runner
        self._operation_types = operation_types

    async def run(self) -> None:
        """Try each service that nothing was tried with yet, then tell what came of it. Without a
        recovery, nothing."""
        if await self._context.store.read(hold.coming):
            # what an earlier process had begun comes first: it has the locks
            await self._runner.recover()
        while True:
            now = await self._context.store.read(recovering)
            if now is None or (not now.pending and now.reported):
                return
            if not now.pending:
                await self._context.store.write(_report)
                return
            async with anyio.create_task_group() as group:
                for service_id in now.pending[:AT_ONCE]:
                    group.start_soon(self._bring_back, service_id)

    async def _bring_back(self, service_id: int) -> None:
        operation: int | None = None
        error = ""
        try:
            handle = await self._runner.submit(
                self._operation_types["recover"], RecoverArguments(service=str(service_id)), ACTOR
            )
            operation = handle.operation_id
            await handle.wait()
        except PurveyorError as raised:
            error = raised.detail
            self._context.logger.warning("recover.failed", service=service_id, error=error)
        result = Result(operation=operation, error=error)
        await self._context.store.write(lambda tx: _tried(tx, service_id, result))


def _tried(tx: Tx, service_id: int, result: Result) -> None:
    now = recovering(tx)
    if now is None:
        return
    record = services.find(tx, service_id)
    if record is not None and record.state == "active":  # whatever an earlier process was told
        result = Result(operation=result.operation)
    elif record is not None and not record.refusal:
        services.update(tx, service_id, refusal=result.error)
    now.pending = [number for number in now.pending if number != service_id]
    now.results[service_id] = result
    models.keep(tx, now)


def _report(tx: Tx) -> None:
    now = recovering(tx)
    if now is None:
        return
    now.reported = True
    models.keep(tx, now)
    hold.come(tx)
    missing = [record.name for record in services.list_all(tx) if record.state == "creating"]
    tx.emit("recovery.done", data={"back": len(now.results) - len(missing), "missing": missing})


def finish(tx: Tx) -> Recovering:
    """A person says that the recovery is finished. Raises `Conflict` while services are still being
    brought back, and for those that are not: what they can come back from is forgotten with it."""
    now = recovering(tx)
    if now is None:
        raise Conflict("No recovery is under way.", remedy="See: purveyor recover status")
    if now.pending:
        raise Conflict(
            f"{len(now.pending)} services are still being brought back.",
            remedy="See: purveyor recover status",
        )
    missing = [record for record in services.list_all(tx) if record.state == "creating"]
    if missing:
        slug = missing[0].slug
        raise Conflict(
            f"{', '.join(record.name for record in missing)} is not back.",
            remedy=f"Bring it back: purveyor recover service {slug}. Or do without it: purveyor delete {slug} "
            "(first, for each project that is linked to it: purveyor unlink --force)",
        )
    forget(tx, models.RECOVERING)
    hold.end(tx)
    tx.emit("recovery.finished", data={"place": now.place})
    return now
