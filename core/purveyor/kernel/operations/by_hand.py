"""Operations that a person ends: stopped and taken back, or left as they are."""

import anyio
import msgspec

from purveyor.kernel.actors import Who
from purveyor.kernel.db import Tx
from purveyor.kernel.errors import how_to_go_on
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.driver import because, no_way_back
from purveyor.kernel.operations.handle import END, Handle
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.operation import OperationType
from purveyor.kernel.operations.plan import Plan
from purveyor.kernel.operations.runner import Runner
from purveyor_hooks import Cancelled, Conflict, PurveyorError

# seconds within which one that is to be cancelled or abandoned says whether it is
ANSWER_DEADLINE = 30.0


async def cancel(runner: Runner, operation_id: int, actor: str) -> Handle:
    """Have an operation stopped where it is and taken back; the handle follows that.

    Raises `Conflict` with the reason when it has ended, is being taken back already, or has no
    way back.
    """
    operation, kind = await _unfinished(runner, operation_id)
    steps = await runner.store.read(lambda tx: operations.steps(tx, operation_id))
    # nothing is awaited from here on
    handle = runner.running.get(operation_id) or runner.left.get(operation_id)
    what = f"Operation {operation_id} ({operation.verb})"
    if handle is None:
        raise Conflict(f"{what} has just ended.", remedy=f"See: purveyor operations {operation_id}")
    if kind is None:
        raise Conflict(
            f"{what} cannot be taken back: {handle.waits}.", remedy=_abandon(operation_id)
        )
    if operation.state == "undoing" or handle.undoing:
        raise Conflict(
            f"{what} is being taken back already{because(handle.waits)}.",
            remedy=_abandon(operation_id),
        )
    if final := handle.final or no_way_back(kind, operation, steps):
        raise Conflict(
            f"{what} can no longer be taken back: it has come to "
            f"{final if final == END else f'the step {final!r}'}.",
            remedy=f"Wait for its end: purveyor operations follow {operation_id}",
        )
    if runner.left.pop(operation_id, None) is not None:
        handle.waits = ""
        runner.launch(kind, handle)
    if handle.answered.is_set():  # else somebody who cancels it, too, waits for it
        handle.answered = anyio.Event()
    if handle.waits:
        handle.again()
    handle.cancel(actor)
    with anyio.move_on_after(ANSWER_DEADLINE):
        await handle.answered.wait()
    return handle


async def abandon(runner: Runner, operation_id: int, actor: Who) -> None:
    """Leave an operation that cannot be ended as it is, and free its target.

    Raises `Conflict` for one that has ended, or that can still be finished or taken back.
    """
    operation, kind = await _unfinished(runner, operation_id)
    what = f"Operation {operation_id} ({operation.verb})"
    if (left := runner.left.get(operation_id)) is not None:
        if kind is not None and operation.state != "undoing":
            raise Conflict(f"{what} can still be finished.", remedy=how_to_go_on(operation_id))
        del runner.left[operation_id]
        try:
            await runner.driver.write_off(kind, operation_id, actor, left.waits)
        except BaseException:
            runner.left[operation_id] = left
            raise
        runner.locks.release_all(left)
        return
    handle = runner.running.get(operation_id)
    if handle is None or not handle.waits:
        word = "under way" if operation.state == "running" else "being taken back"
        raise Conflict(f"{what} is {word}, and is not stuck.", remedy=how_to_go_on(operation_id))
    handle.again()
    handle.abandon(actor)
    with anyio.move_on_after(ANSWER_DEADLINE) as scope:
        try:
            await handle.wait()
        except Cancelled:
            return
        except PurveyorError as error:
            raise Conflict(
                f"{what} could not be abandoned: {error.detail}", remedy=error.remedy
            ) from error
    if scope.cancelled_caught:
        raise Conflict(
            f"{what} is in the middle of something that cannot be stopped.",
            remedy="Try again in a minute.",
        )


async def _unfinished(
    runner: Runner, operation_id: int
) -> tuple[OperationRecord, OperationType | None]:
    operation = await runner.store.read(lambda tx: operations.get(tx, operation_id))
    if operation.state not in ("running", "undoing"):
        what = f"Operation {operation_id} ({operation.verb})"
        raise Conflict(
            f"{what} has ended: {operation.state}.",
            remedy=f"See: purveyor operations {operation_id}",
        )
    return operation, runner.operation_types.get(operation.verb)


def _plan_end(
    runner: Runner, tx: Tx, operation: OperationRecord, kind: OperationType | None
) -> tuple[Plan, list[str]]:
    """What the operation's own plan says, and the steps that were begun and are not taken
    back."""
    begun = [step.name for step in operations.steps(tx, operation.id) if step.state != "undone"]
    subject = f"operation {operation.id} ({operation.verb})"
    plan = Plan(verb=operation.verb, subject=subject, steps=[])
    if kind is not None:
        try:
            plan = msgspec.structs.replace(kind.plan(tx, operation), subject=subject)
        except Exception as error:  # what it is about may be gone
            runner.logger.info(
                "operation.undescribed", operation=operation.id, error=type(error).__name__
            )
    return plan, begun


async def plan_to_cancel(runner: Runner, operation_id: int) -> Plan:
    """What cancelling an operation takes back."""
    operation, kind = await _unfinished(runner, operation_id)
    plan, begun = await runner.store.read(lambda tx: _plan_end(runner, tx, operation, kind))
    undone = reversed(kind.steps(operation)) if kind is not None else ()
    steps = [f"undo {step.name}" for step in undone if step.undo is not None and step.name in begun]
    return Plan(verb="cancel", subject=plan.subject, steps=steps, apps=plan.apps)


async def plan_to_abandon(runner: Runner, operation_id: int) -> Plan:
    """What may stay behind when an operation is abandoned."""
    operation, kind = await _unfinished(runner, operation_id)
    plan, begun = await runner.store.read(lambda tx: _plan_end(runner, tx, operation, kind))
    left = "may be left as it is"
    warnings = (
        [f"These steps were begun and are not taken back: {', '.join(begun)}."] if begun else []
    )
    if reason := runner.waiting(operation_id):
        warnings.append(f"It waits: {reason}")
    return msgspec.structs.replace(
        plan,
        verb="abandon",
        steps=[],
        containers=[msgspec.structs.replace(item, action=left) for item in plan.containers],
        volumes=[msgspec.structs.replace(item, action=left) for item in plan.volumes],
        ports=[msgspec.structs.replace(item, action=left) for item in plan.ports],
        resources=[f"{item} ({left})" for item in plan.resources],
        variables=[],
        downtime="as it is now",
        warnings=warnings,
    )


def _abandon(operation_id: int) -> str:
    return f"If it can never be ended: purveyor operations abandon {operation_id}"
