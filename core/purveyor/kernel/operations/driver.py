"""One try to bring an operation to its end: step by step, and back when one fails."""

from collections.abc import Awaitable, Callable, Collection, Sequence

import anyio

from purveyor.kernel.actors import Who, actor_fields, name_of
from purveyor.kernel.db import Store, Tx
from purveyor.kernel.errors import describe, error_from
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.handle import END, Handle
from purveyor.kernel.operations.locks import Locks
from purveyor.kernel.operations.models import OperationRecord, StepRecord
from purveyor.kernel.operations.operation import OperationType, Step
from purveyor_hooks import DeadlineExceeded, Failed, Logger, PurveyorError

UNDO_DEADLINE = 120.0


class Driver:
    """Goes on with an operation from wherever it is."""

    def __init__(self, store: Store, logger: Logger, locks: Locks) -> None:
        self._store = store
        self._logger = logger
        self._locks = locks

    async def attempt(
        self, kind: OperationType, handle: Handle
    ) -> tuple[PurveyorError | None, bool]:
        """One try: what it failed with, and whether it has ended."""
        handle.because = ""
        try:
            if not handle.abandoned_by:
                operation = await self._store.read(
                    lambda tx: operations.get(tx, handle.operation_id)
                )
                error, ended = await self._drive(kind, operation, handle)
                if ended or not handle.abandoned_by:
                    return error, ended
            await self.write_off(kind, handle.operation_id, handle.abandoned_by, handle.waits)
            return handle.stopped, True
        except PurveyorError as raised:  # the journal itself could not be written or read
            return raised, False
        except Exception as raised:  # a fault of ours at the very end
            self._logger.warning("operation.fault", operation=handle.operation_id, exc_info=raised)
            detail = (
                f"{kind.name} could not be brought to its end ({type(raised).__name__}); it is "
                "tried again."
            )
            return Failed(detail, remedy="See the daemon's log."), False

    async def _drive(
        self, kind: OperationType, operation: OperationRecord, handle: Handle
    ) -> tuple[PurveyorError | None, bool]:
        """Go on with an operation from wherever it is."""
        if operation.state == "undoing":
            return await self._undo(kind, operation, handle, error_from(operation.error or {}))
        if operation.state != "running":
            return error_from(operation.error) if operation.error else None, True
        steps = await self._store.read(lambda tx: operations.steps(tx, operation.id))
        handle.final = no_way_back(kind, operation, steps)
        done = {step.name for step in steps if step.state == "done"}
        pending = load_decided_steps(kind, operation, without=done)
        previous: Step | None = None
        for step in pending:
            if (stopped := handle.stopped) is not None:
                return await self._give_up(kind, operation, handle, previous, stopped)
            if step.final:
                handle.final = handle.final or step.name
            ended = previous
            await self._store.write(lambda tx: self._advance(tx, kind, operation, ended, step))  # noqa: B023
            if (failed := await self._do(kind, handle, step)) is not None:
                return await self._give_up(
                    kind, operation, handle, step, handle.stopped or failed, "failed"
                )
            previous = step
        if (stopped := handle.stopped) is not None:
            return await self._give_up(kind, operation, handle, previous, stopped)
        before, handle.final = handle.final, handle.final or END
        try:
            await self._store.write(lambda tx: self._finish(tx, kind, operation, previous))
        except BaseException:
            handle.final = before
            raise
        return None, True

    async def _do(self, kind: OperationType, handle: Handle, step: Step) -> PurveyorError | None:
        """Do a step; the answer is what it failed with. While one that is apart works, others have
        the services: a project whose app never comes up would keep everybody from them."""
        let_go = [key for key in handle.keys if key[0] == "service"] if step.apart else []
        self._locks.release(let_go)
        failed = None
        try:
            await self._within(
                handle, step.do, step.deadline, f"The step {step.name!r} of {kind.name}"
            )
        except PurveyorError as raised:
            failed = raised
        for key in let_go:  # in their order, and after that of the project: as everybody takes them
            await self._locks.queue(handle, key)
        return failed

    def _advance(
        self,
        tx: Tx,
        kind: OperationType,
        operation: OperationRecord,
        ended: Step | None,
        step: Step,
    ) -> None:
        """One durable transaction for the end of a step and the beginning of the next."""
        self._end_step(tx, kind, operation, ended)
        operations.start_step(tx, operation.id, step.name)
        kind.emit(tx, operation, "step", {"step": step.name, "state": "started"})

    def _end_step(
        self, tx: Tx, kind: OperationType, operation: OperationRecord, ended: Step | None
    ) -> None:
        if ended is not None:
            operations.end_step(tx, operation.id, ended.name, "done")
            kind.emit(tx, operation, "step", {"step": ended.name, "state": "done"})

    def _finish(
        self, tx: Tx, kind: OperationType, operation: OperationRecord, ended: Step | None
    ) -> None:
        self._end_step(tx, kind, operation, ended)
        kind.on_success(tx, operation)
        operations.set_state(tx, operation.id, "succeeded")
        kind.emit(tx, operation, "succeeded", {})

    # ---------------------------------------------------------------- failing

    async def _give_up(
        self,
        kind: OperationType,
        operation: OperationRecord,
        handle: Handle,
        step: Step | None,
        error: PurveyorError,
        state: str = "done",
    ) -> tuple[PurveyorError | None, bool]:
        """Take an operation back; `step` is the last one, and `state` how it ended."""
        if handle.abandoned_by:
            return error, False

        def work(tx: Tx) -> None:
            if step is not None:
                operations.end_step(tx, operation.id, step.name, state)
                data = {"step": step.name, "state": state}
                kind.emit(
                    tx,
                    operation,
                    "step",
                    data | ({"error": error.detail} if state == "failed" else {}),
                )
            operations.set_state(tx, operation.id, "undoing", describe(error))

        with anyio.CancelScope(shield=True):
            await self._store.write(work)
        return await self._undo(kind, operation, handle, error)

    async def _undo(
        self,
        kind: OperationType,
        operation: OperationRecord,
        handle: Handle,
        error: PurveyorError,
    ) -> tuple[PurveyorError | None, bool]:
        """Take back every step that was begun, last first, up to one that cannot be taken back
        now."""
        handle.undoing = True
        handle.answered.set()
        begun = {
            step.name: step.state
            for step in await self._store.read(lambda tx: operations.steps(tx, operation.id))
        }
        over = {
            name for name in operation.step_names or () if begun.get(name, "undone") == "undone"
        }
        try:
            planned = load_decided_steps(kind, operation, without=over)
        except PurveyorError as raised:
            handle.because = raised.detail
            return error, False
        for step in reversed(planned):
            if step.undo is None or begun.get(step.name, "undone") == "undone":
                continue
            try:
                await self._within(
                    handle,
                    step.undo,
                    UNDO_DEADLINE,
                    f"Undoing the step {step.name!r} of {kind.name}",
                )
            except PurveyorError as raised:
                handle.because = raised.detail
                return error, False
            name = step.name
            await self._store.write(
                lambda tx: operations.end_step(tx, operation.id, name, "undone")  # noqa: B023
            )

        def work(tx: Tx) -> None:
            kind.on_failure(tx, operation, describe(error))
            operations.set_state(tx, operation.id, "failed", describe(error))
            kind.emit(
                tx,
                operation,
                "failed",
                {"error": error.detail, "remedy": error.remedy, "code": error.code},
            )

        try:
            await self._store.write(work)
        except PurveyorError as raised:
            handle.because = raised.detail
            return error, False
        except Exception as raised:  # what it is about may be gone
            self._logger.warning("operation.fault", operation=operation.id, exc_info=raised)
            handle.because = (
                f"Its end could not be written ({type(raised).__name__}). See the daemon's log."
            )
            return error, False
        return error, True

    async def _within(
        self, handle: Handle, work: Callable[[], Awaitable[None]], deadline: float, what: str
    ) -> None:
        try:
            if not await handle.work(work, deadline):
                raise DeadlineExceeded(f"{what} took longer than {deadline:.0f} s.")
        except PurveyorError:
            raise
        except Exception as error:
            # a fault of ours: told to people without its text, which may hold anything
            self._logger.warning(
                "operation.fault", what=what, error=type(error).__name__, exc_info=error
            )
            raise Failed(
                f"{what} failed unexpectedly ({type(error).__name__}).",
                remedy="See the daemon's log.",
            ) from error

    async def write_off(
        self, kind: OperationType | None, operation_id: int, actor: Who, reason: str
    ) -> None:
        """Mark an operation abandoned. An operation that cannot settle its records leaves them as they
        are."""

        def work(tx: Tx, settle: bool) -> None:
            operation = operations.get(tx, operation_id)
            begun = [
                step.name for step in operations.steps(tx, operation_id) if step.state != "undone"
            ]
            failed = (operation.error or {}).get("detail", "")
            why = " ".join(part for part in (failed, reason) if part)
            detail = f"{operation.verb} was abandoned by {name_of(actor)}{because(why)}."
            remedy = (
                "What it had begun is left as it is: see purveyor list, purveyor volumes, "
                "purveyor doctor."
            )
            if settle and kind is not None:
                kind.settle(tx, operation, detail)
            operations.set_state(
                tx,
                operation_id,
                "abandoned",
                {"code": "abandoned", "detail": detail, "remedy": remedy},
            )
            data = {**actor_fields(actor), "error": why, "left": begun}
            if kind is not None:
                kind.emit(tx, operation, "abandoned", data)
            else:
                where = {
                    "operation": operation.id,
                    "service": operation.service_id,
                    "project": operation.project_id,
                }
                tx.emit("operation.abandoned", **where, data=data)

        try:
            await self._store.write(lambda tx: work(tx, True))
        except Exception as error:  # what it is about may be gone
            self._logger.warning("operation.settle", operation=operation_id, exc_info=error)
            await self._store.write(lambda tx: work(tx, False))


def load_decided_steps(
    kind: OperationType, operation: OperationRecord, without: Collection[str]
) -> list[Step]:
    """The steps that were decided with the intent, in their order, but for those that are over.
    Raises `Failed` for one that this version does not know: it is never left out."""
    known = {step.name: step for step in kind.steps(operation)}
    wanted = [name for name in operation.step_names or known if name not in without]
    if strange := [name for name in wanted if name not in known]:
        raise Failed(
            f"This version of Purveyor does not know the step {strange[0]!r} of {kind.name}.",
            remedy="Start the version that began it, and let it end there.",
        )
    return [known[name] for name in wanted]


def no_way_back(
    kind: OperationType, operation: OperationRecord, steps: Sequence[StepRecord]
) -> str:
    """The step that was begun and after which there is no way back, "" while there is one."""
    begun = {step.name for step in steps}
    return next(
        (step.name for step in kind.steps(operation) if step.final and step.name in begun),
        "",
    )


def because(reason: str) -> str:
    return f": {reason.rstrip('.')}" if reason else ""
