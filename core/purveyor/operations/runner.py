"""Runs operations: one at a time for each service and project, journalled, resumed after a crash.

An operation holds the locks of its target until it is done or undone. One that cannot be brought to its end now (an undo
that fails, a journal that cannot be written) is tried again by itself, later and later; meanwhile whoever wants the same
target is told which operation is in the way. So no old intent is ever replayed over a newer one.
"""

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.abc
import msgspec

from purveyor.failures import describe, error_from
from purveyor.operations.plan import Plan
from purveyor.operations.verb import Key, Step, Target, Verb
from purveyor.registry import Registry
from purveyor.store import Store, Tx, operations
from purveyor.store.records import OperationRecord
from purveyor_hooks import (
    Conflict,
    DeadlineExceeded,
    Failed,
    Interrupted,
    Logger,
    Operation,
    PurveyorError,
    Vetoed,
)

LOCK_PATIENCE = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two tries to end an operation
VETO_DEADLINE = 10.0
UNDO_DEADLINE = 120.0


class _PlanOnly(Exception):
    """Carries a plan out of the transaction that is thrown away."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan


class Handle:
    """An operation under way: its id, and how the first try to bring it to its end went."""

    def __init__(self, operation_id: int, verb: str, keys: Sequence[Key]) -> None:
        self.operation_id = operation_id
        self.verb = verb
        self.keys = keys
        self.waits = ""  # why it could not be ended yet; it is tried again
        self._error: PurveyorError | None = None
        self._tried = anyio.Event()

    def tried(self, error: PurveyorError | None) -> None:
        if not self._tried.is_set():
            self._error = error
            self._tried.set()

    def again(self) -> None:
        """Have `wait` wait for the next try."""
        self._tried = anyio.Event()

    async def wait(self) -> None:
        """Wait until it has ended, or could not be ended. Raises what it failed with."""
        await self._tried.wait()
        if self._error is not None:
            raise self._error


class Runner:
    """Starts, runs, undoes and resumes operations in the task group it is given."""

    def __init__(self, store: Store, registry: Registry, logger: Logger, verbs: Mapping[str, Verb]) -> None:
        self._store = store
        self._registry = registry
        self._logger = logger
        self._verbs = verbs
        self._locks: defaultdict[Key, anyio.Semaphore] = defaultdict(_lock)
        self._holders: dict[Key, Handle] = {}
        self._running: dict[int, Handle] = {}
        self._left: dict[int, Handle] = {}  # of an earlier process: their locks are taken, and nobody works on them yet
        self._looked = False
        self._wake = anyio.Event()
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
        await self._take(target.keys)
        try:
            operation_id = await self._store.write(lambda tx: self._intend(tx, verb, target, given, actor))
        except BaseException:
            self._release(target.keys)
            raise
        handle = Handle(operation_id, verb.name, target.keys)
        self._holders.update(dict.fromkeys(handle.keys, handle))
        return self._launch(verb, handle)

    def _intend(self, tx: Tx, verb: Verb, target: Target, given: Any, actor: str) -> int:
        operation_id = verb.intend(tx, given, actor)
        operations.keep_locks(tx, operation_id, target.keys)
        operation = operations.get(tx, operation_id)
        emit(tx, verb, operation, "started", {"actor": actor, "steps": [step.name for step in verb.steps(operation)]})
        return operation_id

    def _launch(self, verb: Verb, handle: Handle) -> Handle:
        """Run an operation, and let its locks go when it has ended. It holds them already, but for those that an older
        operation of an earlier process has."""
        assert self._group is not None
        self._running[handle.operation_id] = handle

        async def run() -> None:
            held: list[Key] = []
            try:
                for key in handle.keys:
                    if self._holders.get(key) is not handle:
                        await self._locks[key].acquire()
                        self._holders[key] = handle
                    held.append(key)
                await self._bring_to_its_end(verb, handle)
            finally:
                del self._running[handle.operation_id]
                self._release(held)

        self._group.start_soon(run, name=f"operation {handle.operation_id} {verb.name}")
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

    async def _take(self, keys: Sequence[Key]) -> None:
        """Take locks, in their order. Raises `Conflict` that names the operation in the way: at once when that one waits
        itself, else after some patience."""
        for key in keys:
            if (holder := self._holders.get(key)) is not None and holder.waits:
                raise _in_the_way(holder)
        taken: list[Key] = []
        try:
            with anyio.fail_after(LOCK_PATIENCE):
                for key in keys:
                    await self._locks[key].acquire()
                    taken.append(key)
        except TimeoutError:
            holder = self._holders.get(keys[len(taken)])
            self._release(taken)
            raise _in_the_way(holder) from None
        except BaseException:
            self._release(taken)
            raise

    def _release(self, keys: Sequence[Key]) -> None:
        for key in reversed(keys):
            self._holders.pop(key, None)
            self._locks[key].release()

    # ---------------------------------------------------------------- running

    async def _bring_to_its_end(self, verb: Verb, handle: Handle) -> None:
        """Try until it has ended. Whoever started it hears of the first try alone."""
        pause = FIRST_PAUSE
        try:
            while True:
                error, ended = await self._try(verb, handle)
                handle.waits = "" if ended or error is None else error.detail
                handle.tried(error)
                if ended:
                    return
                again = self._wake
                with anyio.move_on_after(pause * random.uniform(1.0, 1.3)):
                    await again.wait()
                    pause = FIRST_PAUSE
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:  # when the process ends first, nobody may take it for done
            handle.tried(Interrupted(f"{verb.name} was interrupted.", remedy="It goes on when Purveyor is started again."))

    async def _try(self, verb: Verb, handle: Handle) -> tuple[PurveyorError | None, bool]:
        """One try: what it failed with, and whether it has ended."""
        try:
            operation = await self._store.read(lambda tx: operations.get(tx, handle.operation_id))
            return await self._drive(verb, operation, handle)
        except PurveyorError as raised:  # the journal itself could not be written or read
            return raised, False
        except Exception as raised:  # a fault of ours at the very end
            self._logger.warning("operation.fault", operation=handle.operation_id, exc_info=raised)
            detail = f"{verb.name} could not be brought to its end ({type(raised).__name__}); it is tried again."
            return Failed(detail, remedy="See the daemon's log."), False

    async def _drive(self, verb: Verb, operation: OperationRecord, handle: Handle) -> tuple[PurveyorError | None, bool]:
        """Go on with an operation from wherever it is."""
        if operation.state == "undoing":
            return await self._undo(verb, operation, handle, error_from(operation.error or {}))
        if operation.state != "running":
            return error_from(operation.error) if operation.error else None, True
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
                return await self._give_up(verb, operation, handle, step, raised)
            previous = step
        await self._store.write(lambda tx: self._finish(tx, verb, operation, previous))
        return None, True

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

    async def _give_up(
        self, verb: Verb, operation: OperationRecord, handle: Handle, step: Step, error: PurveyorError
    ) -> tuple[PurveyorError | None, bool]:
        def work(tx: Tx) -> None:
            operations.end_step(tx, operation.id, step.name, "failed")
            operations.set_state(tx, operation.id, "undoing", describe(error))
            emit(tx, verb, operation, "step", {"step": step.name, "state": "failed", "error": error.detail})

        with anyio.CancelScope(shield=True):
            await self._store.write(work)
        return await self._undo(verb, operation, handle, error)

    async def _undo(
        self, verb: Verb, operation: OperationRecord, handle: Handle, error: PurveyorError
    ) -> tuple[PurveyorError | None, bool]:
        """Take back every step that was begun, last first, up to one that cannot be taken back now."""
        begun = {step.name: step.state for step in await self._store.read(lambda tx: operations.steps(tx, operation.id))}
        for step in reversed(verb.steps(operation)):
            if step.undo is None or begun.get(step.name, "undone") == "undone":
                continue
            try:
                await self._within(step.undo, UNDO_DEADLINE, f"Undoing the step {step.name!r} of {verb.name}")
            except PurveyorError as raised:
                if handle.waits != error.detail:  # said once, not at every try
                    self._logger.warning("operation.undo", operation=operation.id, step=step.name, error=raised.detail)
                    data = {"error": error.detail, "because": raised.detail}
                    await self._store.write(lambda tx: emit(tx, verb, operation, "waiting", data))  # noqa: B023
                return error, False
            name = step.name
            await self._store.write(lambda tx: operations.end_step(tx, operation.id, name, "undone"))  # noqa: B023

        def work(tx: Tx) -> None:
            verb.fail(tx, operation, describe(error))
            operations.set_state(tx, operation.id, "failed", describe(error))
            emit(tx, verb, operation, "failed", {"error": error.detail, "remedy": error.remedy, "code": error.code})

        await self._store.write(work)
        return error, True

    async def _within(self, work: Callable[[], Awaitable[None]], deadline: float, what: str) -> None:
        try:
            with anyio.move_on_after(deadline) as scope:
                await work()
            if scope.cancelled_caught:
                raise DeadlineExceeded(f"{what} took longer than {deadline:.0f} s.")
        except PurveyorError:
            raise
        except Exception as error:  # a fault of ours: told to people without its text, which may hold anything
            self._logger.warning("operation.fault", what=what, error=type(error).__name__, exc_info=error)
            raise Failed(f"{what} failed unexpectedly ({type(error).__name__}).", remedy="See the daemon's log.") from error

    # ---------------------------------------------------------------- recovery

    async def hold_unfinished(self) -> None:
        """Take the locks of every operation that an earlier process left unfinished. Once, before a new one is let in: one that
        this process has just begun is unfinished as well."""
        self._looked = True
        for operation in await self._store.read(operations.unfinished):
            handle = Handle(operation.id, operation.verb, self._keys(operation))
            handle.waits = "it is of an earlier start, and not finished yet"
            for key in handle.keys:
                if self._locks[key].value:  # else an older one has it: an older version let in two on one target
                    self._locks[key].acquire_nowait()
                    self._holders[key] = handle
            self._left[operation.id] = handle

    def _keys(self, operation: OperationRecord) -> Sequence[Key]:
        """The locks that an operation took; of one that an older version left, those of what it is about."""
        if operation.locks is not None:
            return operation.locks
        verb = self._verbs.get(operation.verb)
        lock = verb.lock if verb is not None else "service"
        return Target(service=operation.service_id, project=operation.project_id, lock=lock).keys

    async def recover(self, *, wait: bool = True) -> None:
        """Go on with every operation that is unfinished: what a crash left, and what waits for the engine or for its next try.
        With `wait`, return when each has been tried."""
        if not self._looked:
            await self.hold_unfinished()
        left, self._left = self._left, {}
        for handle in left.values():
            verb = self._verbs.get(handle.verb)
            if verb is None:  # its plugin is gone: it holds its target until that is back
                handle.waits = f"nothing here knows {handle.verb!r}"
                self._left[handle.operation_id] = handle
                continue
            self._logger.info("operation.resumed", operation=handle.operation_id, verb=handle.verb)
            handle.waits = ""
            self._launch(verb, handle)
        waiting = [handle for handle in self._running.values() if handle.waits]
        for handle in waiting:
            handle.again()
        self._wake.set()
        self._wake = anyio.Event()
        if wait:
            for handle in [*(item for item in left.values() if item.operation_id in self._running), *waiting]:
                try:
                    await handle.wait()
                except PurveyorError as error:
                    self._logger.warning("operation.failed", operation=handle.operation_id, error=error.detail)

    def handle(self, operation_id: int) -> Handle | None:
        """The handle of an operation that is under way in this process."""
        return self._running.get(operation_id)


def _lock() -> anyio.Semaphore:
    """A lock that another task than the one that took it may release: the operation outlives its caller."""
    return anyio.Semaphore(1, max_value=1)


def _in_the_way(holder: Handle | None) -> Conflict:
    if holder is None:
        return Conflict("Another operation is under way on the same target.", remedy="Follow it with: purveyor operations")
    what = f"Operation {holder.operation_id} ({holder.verb})"
    remedy = f"Follow it with: purveyor operations {holder.operation_id}; then try again."
    if holder.waits:
        return Conflict(f"{what} is in the way until it has ended: {holder.waits.rstrip('.')}.", remedy=remedy)
    return Conflict(f"{what} is under way on the same service or project.", remedy=remedy)


def emit(tx: Tx, verb: Verb, operation: OperationRecord, moment: str, data: dict[str, Any]) -> None:
    """Publish ``service.create.step``, ``project.create.succeeded`` and the like."""
    tx.emit(
        verb.event(moment),
        operation=operation.id,
        service=operation.service_id,
        project=operation.project_id,
        data=data,
    )
