"""Runs operations: one at a time for each service and project, journalled, resumed after a crash."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import msgspec

from purveyor.failures import describe, error_from
from purveyor.operations.plan import Plan
from purveyor.operations.verb import Step, Target, Verb
from purveyor.registry import Registry
from purveyor.store import Store, Tx, operations
from purveyor.store.records import OperationRecord
from purveyor_hooks import (
    Conflict,
    DeadlineExceeded,
    EngineUnavailable,
    Failed,
    Logger,
    Operation,
    PurveyorError,
    Vetoed,
)

LOCK_PATIENCE = 30.0
VETO_DEADLINE = 10.0
UNDO_DEADLINE = 120.0


class _PlanOnly(Exception):
    """Carries a plan out of the transaction that is thrown away."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan


class Handle:
    """An operation under way: its id, and its end."""

    def __init__(self, operation_id: int) -> None:
        self.operation_id = operation_id
        self.error: PurveyorError | None = None
        self._ended = anyio.Event()

    def end(self, error: PurveyorError | None) -> None:
        self.error = error
        self._ended.set()

    async def wait(self) -> None:
        """Wait for the end; raises what the operation failed with."""
        await self._ended.wait()
        if self.error is not None:
            raise self.error


class Runner:
    """Starts, runs, undoes and resumes operations in the task group it is given."""

    def __init__(self, store: Store, registry: Registry, logger: Logger, verbs: Mapping[str, Verb]) -> None:
        self._store = store
        self._registry = registry
        self._logger = logger
        self._verbs = verbs
        self._locks: defaultdict[tuple[str, int], anyio.Semaphore] = defaultdict(_lock)
        self._running: dict[int, Handle] = {}
        self._group: anyio.abc.TaskGroup | None = None

    def attach(self, group: anyio.abc.TaskGroup) -> None:
        """Name the task group that all operations run in."""
        self._group = group

    def busy(self, service_id: int) -> bool:
        """Whether an operation is under way on a service."""
        return self._locks[("service", service_id)].value == 0

    # ---------------------------------------------------------------- starting

    async def plan(self, verb: Verb, given: Any) -> Plan:
        """What the verb would do: its own intent and description, in a transaction that is taken back."""
        given = await verb.prepare(given)

        def work(tx: Tx) -> None:
            operation_id = verb.intend(tx, given, "plan")
            raise _PlanOnly(verb.describe(tx, operations.get(tx, operation_id)))

        try:
            await self._store.write(work)
        except _PlanOnly as found:
            return found.plan
        raise AssertionError("a plan always leaves by its exception")

    async def submit(self, verb: Verb, given: Any, actor: str) -> Handle:
        """Check, write the intent, and start the steps; the handle follows them.

        Raises `Vetoed` when a plugin refuses, `Conflict` when another operation holds the target for too long.
        """
        if self._group is None:
            raise RuntimeError("the runner has no task group")
        target = await self._store.read(lambda tx: verb.target(tx, given))
        await self._ask_for_vetoes(verb, target, given)
        given = await verb.prepare(given)
        held = AsyncExitStack()
        await held.enter_async_context(self._holding(target))
        try:
            operation_id = await self._store.write(lambda tx: self._intend(tx, verb, given, actor))
        except BaseException:
            await held.aclose()
            raise
        return self._launch(verb, operation_id, held)

    def _intend(self, tx: Tx, verb: Verb, given: Any, actor: str) -> int:
        operation_id = verb.intend(tx, given, actor)
        operation = operations.get(tx, operation_id)
        emit(tx, verb, operation, "started", {"actor": actor, "steps": [step.name for step in verb.steps(operation)]})
        return operation_id

    def _launch(self, verb: Verb, operation_id: int, held: AsyncExitStack) -> Handle:
        assert self._group is not None
        handle = self._running[operation_id] = Handle(operation_id)

        async def run() -> None:
            async with held:
                await self._run(verb, handle)

        self._group.start_soon(run, name=f"operation {operation_id} {verb.name}")
        return handle

    async def _ask_for_vetoes(self, verb: Verb, target: Target, given: Any) -> None:
        shown = msgspec.to_builtins(given)
        for name in ("parameters", "variables"):
            if isinstance(shown.get(name), dict):
                shown[name] = sorted(shown[name])  # names only: values may be secret
        operation = Operation(id=0, verb=verb.name, service=target.service, project=target.project, arguments=shown)
        async for plugin, reason in self._registry.ask("before_operation", VETO_DEADLINE, operation=operation):
            if reason:
                raise Vetoed(f"The plugin {plugin.name} refused to {verb.name}: {reason}")

    @asynccontextmanager
    async def _holding(self, target: Target) -> AsyncIterator[None]:
        taken: list[anyio.Semaphore] = []
        try:
            with anyio.fail_after(LOCK_PATIENCE):
                for key in target.keys:
                    await self._locks[key].acquire()
                    taken.append(self._locks[key])
        except TimeoutError:
            _release(taken)
            remedy = "Follow it with: purveyor operations; then try again."
            raise Conflict("Another operation is under way on the same service or project.", remedy=remedy) from None
        except BaseException:
            _release(taken)
            raise
        try:
            yield
        finally:
            _release(taken)

    # ---------------------------------------------------------------- running

    async def _run(self, verb: Verb, handle: Handle) -> None:
        error: PurveyorError | None = None
        try:
            operation = await self._store.read(lambda tx: operations.get(tx, handle.operation_id))
            error = await self._drive(verb, operation)
        except PurveyorError as raised:  # the journal itself could not be written or read
            error = raised
        except Exception as raised:  # a fault of ours at the very end: this operation is resumed at the next start
            self._logger.warning("operation.fault", operation=handle.operation_id, exc_info=raised)
            error = Failed(
                f"{verb.name} could not be brought to its end ({type(raised).__name__}).", remedy="See the daemon's log."
            )
        finally:
            del self._running[handle.operation_id]
            handle.end(error)

    async def _drive(self, verb: Verb, operation: OperationRecord) -> PurveyorError | None:
        """Bring an operation to its end from wherever it is; the answer is what it failed with."""
        if operation.state == "undoing":
            return await self._undo(verb, operation, error_from(operation.error or {}))
        steps = await self._store.read(lambda tx: operations.steps(tx, operation.id))
        done = {step.name for step in steps if step.state == "done"}
        pending = [step for step in verb.steps(operation) if step.name not in done]
        previous: Step | None = None
        for step in pending:
            ended = previous
            await self._store.write(lambda tx: self._advance(tx, verb, operation, ended, step))  # noqa: B023
            try:
                await self._within(step.do, step.deadline, f"The step {step.name!r} of {verb.name}")
            except PurveyorError as raised:
                return await self._give_up(verb, operation, step, raised)
            previous = step
        await self._store.write(lambda tx: self._finish(tx, verb, operation, previous))
        return None

    def _advance(self, tx: Tx, verb: Verb, operation: OperationRecord, ended: Step | None, step: Step) -> None:
        """One durable transaction for the end of a step and the beginning of the next."""
        self._end_step(tx, verb, operation, ended)
        operations.start_step(tx, operation.id, step.name)
        emit(tx, verb, operation, "step", {"step": step.name, "state": "started"})

    def _end_step(self, tx: Tx, verb: Verb, operation: OperationRecord, ended: Step | None) -> None:
        if ended is not None:
            operations.end_step(tx, operation.id, ended.name, "done")
            emit(tx, verb, operation, "step", {"step": ended.name, "state": "done"})

    def _finish(self, tx: Tx, verb: Verb, operation: OperationRecord, ended: Step | None) -> None:
        self._end_step(tx, verb, operation, ended)
        verb.succeed(tx, operation)
        operations.set_state(tx, operation.id, "succeeded")
        emit(tx, verb, operation, "succeeded", {})

    # ---------------------------------------------------------------- failing

    async def _give_up(self, verb: Verb, operation: OperationRecord, step: Step, error: PurveyorError) -> PurveyorError:
        def work(tx: Tx) -> None:
            operations.end_step(tx, operation.id, step.name, "failed")
            operations.set_state(tx, operation.id, "undoing", describe(error))
            emit(tx, verb, operation, "step", {"step": step.name, "state": "failed", "error": error.detail})

        with anyio.CancelScope(shield=True):
            await self._store.write(work)
        return await self._undo(verb, operation, error)

    async def _undo(self, verb: Verb, operation: OperationRecord, error: PurveyorError) -> PurveyorError:
        """Take back every step that was begun, last first. What cannot be taken back now is tried again later."""
        begun = {step.name: step.state for step in await self._store.read(lambda tx: operations.steps(tx, operation.id))}
        for step in reversed(verb.steps(operation)):
            if step.undo is None or begun.get(step.name, "undone") == "undone":
                continue
            try:
                await self._within(step.undo, UNDO_DEADLINE, f"Undoing the step {step.name!r} of {verb.name}")
            except PurveyorError as raised:
                self._logger.warning("operation.undo", operation=operation.id, step=step.name, error=raised.detail)
                data = {"error": error.detail, "because": raised.detail}
                await self._store.write(lambda tx: emit(tx, verb, operation, "waiting", data))  # noqa: B023
                return error
            name = step.name
            await self._store.write(lambda tx: operations.end_step(tx, operation.id, name, "undone"))  # noqa: B023

        def work(tx: Tx) -> None:
            verb.fail(tx, operation, describe(error))
            operations.set_state(tx, operation.id, "failed", describe(error))
            emit(tx, verb, operation, "failed", {"error": error.detail, "remedy": error.remedy, "code": error.code})

        await self._store.write(work)
        return error

    async def _within(self, work: Callable[[], Awaitable[None]], deadline: float, what: str) -> None:
        try:
            with anyio.fail_after(deadline):
                await work()
        except TimeoutError:
            raise DeadlineExceeded(f"{what} took longer than {deadline:.0f} s.") from None
        except PurveyorError:
            raise
        except Exception as error:  # a fault of ours: told to people without its text, which may hold anything
            self._logger.warning("operation.fault", what=what, error=type(error).__name__, exc_info=error)
            raise Failed(f"{what} failed unexpectedly ({type(error).__name__}).", remedy="See the daemon's log.") from error

    # ---------------------------------------------------------------- recovery

    async def recover(self) -> None:
        """Finish or undo every operation that a crash, or an engine that was away, left unfinished."""
        for operation in await self._store.read(operations.unfinished):
            verb = self._verbs.get(operation.verb)
            if operation.id in self._running or verb is None:
                continue
            target = Target(service=operation.service_id, project=operation.project_id, lock=verb.lock)
            self._logger.info("operation.resumed", operation=operation.id, verb=operation.verb, state=operation.state)
            held = AsyncExitStack()
            await held.enter_async_context(self._holding(target))
            handle = self._launch(verb, operation.id, held)
            try:
                await handle.wait()
            except EngineUnavailable as error:
                self._logger.warning("operation.waits", operation=operation.id, error=error.detail)
                return
            except PurveyorError as error:
                self._logger.warning("operation.failed", operation=operation.id, error=error.detail)

    def handle(self, operation_id: int) -> Handle | None:
        """The handle of an operation that is under way in this process."""
        return self._running.get(operation_id)


def _lock() -> anyio.Semaphore:
    """A lock that another task than the one that took it may release: the operation outlives its caller."""
    return anyio.Semaphore(1, max_value=1)


def _release(locks: list[anyio.Semaphore]) -> None:
    for lock in reversed(locks):
        lock.release()
    locks.clear()


def emit(tx: Tx, verb: Verb, operation: OperationRecord, moment: str, data: dict[str, Any]) -> None:
    """Publish ``service.create.step``, ``project.create.succeeded`` and the like."""
    tx.emit(
        verb.event(moment),
        operation=operation.id,
        service=operation.service_id,
        project=operation.project_id,
        data=data,
    )
