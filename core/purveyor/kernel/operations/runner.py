"""Runs operations: one at a time for each service and project, journalled, resumed after a crash.

An operation holds the locks of its target until it is done or undone; but for a step that is apart,
whose services' locks it takes again afterwards. One that cannot be brought to
its end now (an undo that fails, a journal that cannot be written) is tried again by itself, later
and later; meanwhile whoever wants the same target is told which operation is in the way. So no old
intent is ever replayed over a newer one.

A person has two ways to end one: to cancel it, which stops it where it is and takes back what was
begun, up to the step after which there is no way back; and to abandon one that cannot be ended,
which leaves everything as it is and frees its target.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
import anyio.abc
import msgspec

from purveyor.kernel.actors import Who, name_of, token_of, told
from purveyor.kernel.db import Store, Tx
from purveyor.kernel.errors import describe, error_from, how_to_go_on
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord, StepRecord
from purveyor.kernel.operations.operation import Key, Step, Target, Verb
from purveyor.kernel.operations.plan import Plan
from purveyor.kernel.plugins.registry import Registry
from purveyor_hooks import (
    Backoff,
    Cancelled,
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
TURNS = 5  # times that an operation waits for its locks, when what it touches changes meanwhile
FIRST_PAUSE = 1.0  # seconds between two tries to end an operation
BACKOFF = Backoff(FIRST_PAUSE, 60.0)
VETO_DEADLINE = 10.0
UNDO_DEADLINE = 120.0
LIFT_DEADLINE = 180.0  # for the servers that an undo needs
# seconds within which one that is to be cancelled or abandoned says whether it is
ANSWER_DEADLINE = 30.0
END = "its end"  # after the last step


class _PlanOnly(Exception):
    """Carries a plan out of the transaction that is thrown away."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan


class _Moved(Exception):
    """What a verb touches is not any more what it was when its locks were chosen."""


class Handle:
    """An operation under way: its id, and how the first try to bring it to its end went."""

    def __init__(self, operation_id: int, verb: str, keys: Sequence[Key]) -> None:
        self.operation_id = operation_id
        self.verb = verb
        self.keys = keys
        self.waits = ""  # why it could not be ended yet; it is tried again
        self.because = ""  # why the last undo could not be done
        self.final = ""  # the step after which there is no way back, once it is begun
        self.undoing = False
        self.cancelled_by = ""
        self.abandoned_by: Who = ""
        self.answered = anyio.Event()  # whether it is taken back is known
        self._scope: anyio.CancelScope | None = None
        self._error: PurveyorError | None = None
        self._tried = anyio.Event()
        self._woken = anyio.Event()

    def tried(self, error: PurveyorError | None) -> None:
        if not self._tried.is_set():
            self._error = error
            self._tried.set()

    def interrupt(self) -> None:
        """Tell whoever waits that this process ends before the operation does."""
        remedy = f"It goes on when Purveyor is started again. {how_to_go_on(self.operation_id)}"
        self.tried(Interrupted(f"{self.verb} was interrupted.", remedy=remedy))

    def again(self) -> None:
        """Have `wait` wait for the next try, and have that made now."""
        # else somebody waits for that one already, and would never hear of another
        if self._tried.is_set():
            self._tried = anyio.Event()
        self.wake()

    def wake(self) -> None:
        self._woken.set()

    async def rest(self, seconds: float) -> bool:
        """Wait for the next try; the answer is whether somebody asked for it, since the last one
        began at the earliest."""
        with anyio.move_on_after(seconds):
            await self._woken.wait()
        asked, self._woken = self._woken.is_set(), anyio.Event()
        return asked

    def cancel(self, actor: str) -> None:
        """Have it taken back from where it is."""
        self.cancelled_by = actor
        self._stop()

    def abandon(self, actor: Who) -> None:
        self.abandoned_by = actor
        self._stop()

    def _stop(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
        self.wake()

    @property
    def stopped(self) -> PurveyorError | None:
        """Why nothing more may be done for it, if that is so."""
        if self.abandoned_by:
            return Cancelled(f"{self.verb} was abandoned by {name_of(self.abandoned_by)}.")
        if self.cancelled_by and not self.final and not self.undoing:
            return Cancelled(f"{self.verb} was cancelled by {self.cancelled_by}.")
        return None

    async def work(self, work: Callable[[], Awaitable[None]], deadline: float) -> bool:
        """Do a part of it, which is stopped when it is cancelled or abandoned; was it done in time?
        Raises `Cancelled`."""
        with anyio.CancelScope() as scope:
            self._scope = scope
            try:
                if self.stopped is None:
                    with anyio.move_on_after(deadline) as timer:
                        await work()
                    return not timer.cancelled_caught  # a driver's own TimeoutError is its own
            finally:
                self._scope = None
        raise self.stopped or Cancelled(f"{self.verb} was stopped.")

    async def wait(self) -> None:
        """Wait until it has ended, or could not be ended. Raises what it failed with."""
        await self._tried.wait()
        if self._error is not None:
            raise self._error


class Runner:
    """Starts, runs, undoes and resumes operations in the task group it is given."""

    def __init__(
        self, store: Store, registry: Registry, logger: Logger, verbs: Mapping[str, Verb]
    ) -> None:
        self._store = store
        self._registry = registry
        self._logger = logger
        self._verbs = verbs
        self._locks: defaultdict[Key, anyio.Semaphore] = defaultdict(_lock)
        self._holders: dict[Key, Handle] = {}
        self._running: dict[int, Handle] = {}
        # of an earlier process: their locks are taken, and nobody works on them yet
        self._left: dict[int, Handle] = {}
        self._looked = False
        self._group: anyio.abc.TaskGroup | None = None
        # has servers run that an undo waits for
        self.lift: Callable[[Sequence[Key]], Awaitable[None]] | None = None

    def attach(self, group: anyio.abc.TaskGroup) -> None:
        """Name the task group that all operations run in."""
        self._group = group

    def busy(self, number: int, kind: str = "service") -> bool:
        """Whether an operation is under way on a service, or on a project."""
        return self._locks[(kind, number)].value == 0

    # ---------------------------------------------------------------- starting

    async def plan(self, verb: Verb, given: Any) -> Plan:
        """What the verb would do: its own intent and description, in a transaction that is taken
        back."""
        given = await verb.prepare(given)

        def work(tx: Tx) -> None:
            operation_id = verb.intend(tx, given, "plan")
            raise _PlanOnly(verb.describe(tx, operations.get(tx, operation_id)))

        try:
            await self._store.write(work)
        except _PlanOnly as found:
            return found.plan
        raise AssertionError("a plan always leaves by its exception")

    async def submit(self, verb: Verb, given: Any, actor: Who) -> Handle:
        """Check, write the intent, and start the steps; the handle follows them.

        Raises `Vetoed` when a plugin refuses, `Conflict` when another operation holds the target
        for too long.
        """
        if self._group is None:
            raise RuntimeError("the runner has no task group")
        for _ in range(TURNS):
            try:
                return self._launch(verb, await self._begin(verb, given, actor))
            except _Moved:
                # while it waited for its turn: a name is another service's now, or there is another
                # link
                self._logger.info("operation.moved", verb=verb.name)
        raise Conflict(
            f"What {verb.name} is about changes all the time.",
            remedy="Try again; see: purveyor operations",
        )

    async def _begin(self, verb: Verb, given: Any, actor: Who) -> Handle:
        """The intent, written under the locks of all that it touches. Raises `_Moved` when that
        needs other locks."""
        target = await self._store.read(lambda tx: verb.target(tx, given))
        await self._ask_for_vetoes(verb, target, given)
        prepared = await verb.prepare(given)
        await self._take(target.keys)

        def work(tx: Tx) -> int:
            if verb.target(tx, given) != target:
                raise _Moved
            return self._intend(tx, verb, target, prepared, actor)

        try:
            operation_id = await self._store.write(work)
        except BaseException:
            self._release(target.keys)
            raise
        handle = Handle(operation_id, verb.name, target.keys)
        self._holders.update(dict.fromkeys(handle.keys, handle))
        return handle

    def _intend(self, tx: Tx, verb: Verb, target: Target, given: Any, actor: Who) -> int:
        operation_id = verb.intend(tx, given, name_of(actor))
        operations.keep_intent(tx, operation_id, token_of(actor), target.keys)
        operation = operations.get(tx, operation_id)
        names = [step.name for step in verb.steps(operation)]
        operations.keep_steps(tx, operation_id, names)
        emit(tx, verb, operation, "started", {**told(actor), "steps": names})
        return operation_id

    def _launch(self, verb: Verb, handle: Handle) -> Handle:
        """Run an operation, and let its locks go when it has ended. It holds them already, but for
        those that an older operation of an earlier process has."""
        assert self._group is not None
        self._running[handle.operation_id] = handle

        async def run() -> None:
            try:
                for key in handle.keys:
                    if self._holders.get(key) is not handle and not await self._queue(handle, key):
                        break
                await self._bring_to_its_end(verb, handle)
            finally:
                del self._running[handle.operation_id]
                self._release([key for key in handle.keys if self._holders.get(key) is handle])

        self._group.start_soon(run, name=f"operation {handle.operation_id} {verb.name}")
        return handle

    async def _queue(self, handle: Handle, key: Key) -> bool:
        """Wait for a lock that another operation has, and say so meanwhile. The answer is whether
        it was got: one that is abandoned needs none."""
        with suppress(anyio.WouldBlock):
            self._locks[key].acquire_nowait()
            self._holders[key] = handle
            return True
        had = False
        async with anyio.create_task_group() as group:

            async def tell() -> None:
                while not handle.abandoned_by:
                    holder = self._holders.get(key)
                    error = _in_the_way(holder)
                    handle.waits = error.detail
                    if holder is not None and holder.waits:  # nobody knows for how long
                        handle.answered.set()
                        handle.tried(error)
                    await handle.rest(FIRST_PAUSE)
                group.cancel_scope.cancel()

            group.start_soon(tell)
            await self._locks[key].acquire()
            had = True
            group.cancel_scope.cancel()
        if had:
            self._holders[key] = handle
            handle.waits = ""
        return had

    async def _ask_for_vetoes(self, verb: Verb, target: Target, given: Any) -> None:
        shown = msgspec.to_builtins(given)
        for name in ("parameters", "variables"):
            if isinstance(shown.get(name), dict):
                shown[name] = sorted(shown[name])  # names only: values may be secret
        operation = Operation(
            id=0, verb=verb.name, service=target.service, project=target.project, arguments=shown
        )
        async for plugin, reason in self._registry.ask(
            "before_operation", VETO_DEADLINE, operation=operation
        ):
            if reason:
                raise Vetoed(f"The plugin {plugin.name} refused to {verb.name}: {reason}")

    async def _take(self, keys: Sequence[Key]) -> None:
        """Take locks, in their order. Raises `Conflict` that names the operation in the way: at
        once when that one waits itself, else after some patience."""
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
        failures = 0
        try:
            while True:
                error, ended = await self._try(verb, handle)
                if not ended and error is not None:
                    reason = handle.because or error.detail
                    if not handle.waits:  # said once, not at every try
                        await self._say_that_it_waits(verb, handle, error, reason)
                    handle.waits = reason
                handle.answered.set()
                handle.tried(error)
                if ended:
                    return
                hurried = await handle.rest(BACKOFF.pause(failures))
                failures = 1 if hurried else failures + 1
                await self._have_it_lifted(handle)
        finally:  # when the process ends first, nobody may take it for done
            handle.interrupt()

    async def _have_it_lifted(self, handle: Handle) -> None:
        """What an undo needs may be down, and nobody else may bring it back: the operation that
        waits has the locks."""
        lift = self.lift
        if lift is None or not handle.undoing:
            return
        try:
            await handle.work(lambda: lift(handle.keys), LIFT_DEADLINE)
        except Exception as error:  # the undo itself says what is in its way
            detail = error.detail if isinstance(error, PurveyorError) else type(error).__name__
            self._logger.warning("operation.lift", operation=handle.operation_id, error=detail)

    async def _say_that_it_waits(
        self, verb: Verb, handle: Handle, error: PurveyorError, reason: str
    ) -> None:
        data = {"error": error.detail, "because": reason}
        self._logger.warning(
            "operation.waits", operation=handle.operation_id, verb=verb.name, **data
        )

        def work(tx: Tx) -> None:
            emit(tx, verb, operations.get(tx, handle.operation_id), "waiting", data)

        try:
            await self._store.write(work)
        except Exception as raised:  # it may be the journal itself that cannot be written
            self._logger.warning(
                "operation.untold", operation=handle.operation_id, error=type(raised).__name__
            )

    async def _try(self, verb: Verb, handle: Handle) -> tuple[PurveyorError | None, bool]:
        """One try: what it failed with, and whether it has ended."""
        handle.because = ""
        try:
            if not handle.abandoned_by:
                operation = await self._store.read(
                    lambda tx: operations.get(tx, handle.operation_id)
                )
                error, ended = await self._drive(verb, operation, handle)
                if ended or not handle.abandoned_by:
                    return error, ended
            await self._write_off(verb, handle.operation_id, handle.abandoned_by, handle.waits)
            return handle.stopped, True
        except PurveyorError as raised:  # the journal itself could not be written or read
            return raised, False
        except Exception as raised:  # a fault of ours at the very end
            self._logger.warning("operation.fault", operation=handle.operation_id, exc_info=raised)
            detail = (
                f"{verb.name} could not be brought to its end ({type(raised).__name__}); it is "
                "tried again."
            )
            return Failed(detail, remedy="See the daemon's log."), False

    async def _drive(
        self, verb: Verb, operation: OperationRecord, handle: Handle
    ) -> tuple[PurveyorError | None, bool]:
        """Go on with an operation from wherever it is."""
        if operation.state == "undoing":
            return await self._undo(verb, operation, handle, error_from(operation.error or {}))
        if operation.state != "running":
            return error_from(operation.error) if operation.error else None, True
        steps = await self._store.read(lambda tx: operations.steps(tx, operation.id))
        handle.final = _no_way_back(verb, operation, steps)
        done = {step.name for step in steps if step.state == "done"}
        pending = _planned(verb, operation, without=done)
        previous: Step | None = None
        for step in pending:
            if (stopped := handle.stopped) is not None:
                return await self._give_up(verb, operation, handle, previous, stopped)
            if step.final:
                handle.final = handle.final or step.name
            ended = previous
            await self._store.write(lambda tx: self._advance(tx, verb, operation, ended, step))  # noqa: B023
            if (failed := await self._do(verb, handle, step)) is not None:
                return await self._give_up(
                    verb, operation, handle, step, handle.stopped or failed, "failed"
                )
            previous = step
        if (stopped := handle.stopped) is not None:
            return await self._give_up(verb, operation, handle, previous, stopped)
        before, handle.final = handle.final, handle.final or END
        try:
            await self._store.write(lambda tx: self._finish(tx, verb, operation, previous))
        except BaseException:
            handle.final = before
            raise
        return None, True

    async def _do(self, verb: Verb, handle: Handle, step: Step) -> PurveyorError | None:
        """Do a step; the answer is what it failed with. While one that is apart works, others have
        the services: a project whose app never comes up would keep everybody from them."""
        let_go = [key for key in handle.keys if key[0] == "service"] if step.apart else []
        self._release(let_go)
        failed = None
        try:
            await self._within(
                handle, step.do, step.deadline, f"The step {step.name!r} of {verb.name}"
            )
        except PurveyorError as raised:
            failed = raised
        for key in let_go:  # in their order, and after that of the project: as everybody takes them
            await self._queue(handle, key)
        return failed

    def _advance(
        self, tx: Tx, verb: Verb, operation: OperationRecord, ended: Step | None, step: Step
    ) -> None:
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
        self,
        verb: Verb,
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
                emit(
                    tx,
                    verb,
                    operation,
                    "step",
                    data | ({"error": error.detail} if state == "failed" else {}),
                )
            operations.set_state(tx, operation.id, "undoing", describe(error))

        with anyio.CancelScope(shield=True):
            await self._store.write(work)
        return await self._undo(verb, operation, handle, error)

    async def _undo(
        self, verb: Verb, operation: OperationRecord, handle: Handle, error: PurveyorError
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
            planned = _planned(verb, operation, without=over)
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
                    f"Undoing the step {step.name!r} of {verb.name}",
                )
            except PurveyorError as raised:
                handle.because = raised.detail
                return error, False
            name = step.name
            await self._store.write(
                lambda tx: operations.end_step(tx, operation.id, name, "undone")  # noqa: B023
            )

        def work(tx: Tx) -> None:
            verb.fail(tx, operation, describe(error))
            operations.set_state(tx, operation.id, "failed", describe(error))
            emit(
                tx,
                verb,
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

    # ---------------------------------------------------------------- ended by a person

    async def cancel(self, operation_id: int, actor: str) -> Handle:
        """Have an operation stopped where it is and taken back; the handle follows that.

        Raises `Conflict` with the reason when it has ended, is being taken back already, or has no
        way back.
        """
        operation, verb = await self._unfinished(operation_id)
        steps = await self._store.read(lambda tx: operations.steps(tx, operation_id))
        # nothing is awaited from here on
        handle = self._running.get(operation_id) or self._left.get(operation_id)
        what = f"Operation {operation_id} ({operation.verb})"
        if handle is None:
            raise Conflict(
                f"{what} has just ended.", remedy=f"See: purveyor operations {operation_id}"
            )
        if verb is None:
            raise Conflict(
                f"{what} cannot be taken back: {handle.waits}.", remedy=_abandon(operation_id)
            )
        if operation.state == "undoing" or handle.undoing:
            raise Conflict(
                f"{what} is being taken back already{_colon(handle.waits)}.",
                remedy=_abandon(operation_id),
            )
        if final := handle.final or _no_way_back(verb, operation, steps):
            raise Conflict(
                f"{what} can no longer be taken back: it has come to "
                f"{final if final == END else f'the step {final!r}'}.",
                remedy=f"Wait for its end: purveyor operations follow {operation_id}",
            )
        if self._left.pop(operation_id, None) is not None:
            handle.waits = ""
            self._launch(verb, handle)
        if handle.answered.is_set():  # else somebody who cancels it, too, waits for it
            handle.answered = anyio.Event()
        if handle.waits:
            handle.again()
        handle.cancel(actor)
        with anyio.move_on_after(ANSWER_DEADLINE):
            await handle.answered.wait()
        return handle

    async def abandon(self, operation_id: int, actor: Who) -> None:
        """Leave an operation that cannot be ended as it is, and free its target.

        Raises `Conflict` for one that has ended, or that can still be finished or taken back.
        """
        operation, verb = await self._unfinished(operation_id)
        what = f"Operation {operation_id} ({operation.verb})"
        if (left := self._left.get(operation_id)) is not None:
            if verb is not None and operation.state != "undoing":
                raise Conflict(f"{what} can still be finished.", remedy=how_to_go_on(operation_id))
            del self._left[operation_id]
            try:
                await self._write_off(verb, operation_id, actor, left.waits)
            except BaseException:
                self._left[operation_id] = left
                raise
            self._release([key for key in left.keys if self._holders.get(key) is left])
            return
        handle = self._running.get(operation_id)
        if handle is None or not handle.waits:
            word = "under way" if operation.state == "running" else "being taken back"
            raise Conflict(
                f"{what} is {word}, and is not stuck.", remedy=how_to_go_on(operation_id)
            )
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

    async def _unfinished(self, operation_id: int) -> tuple[OperationRecord, Verb | None]:
        operation = await self._store.read(lambda tx: operations.get(tx, operation_id))
        if operation.state not in ("running", "undoing"):
            what = f"Operation {operation_id} ({operation.verb})"
            raise Conflict(
                f"{what} has ended: {operation.state}.",
                remedy=f"See: purveyor operations {operation_id}",
            )
        return operation, self._verbs.get(operation.verb)

    async def _write_off(
        self, verb: Verb | None, operation_id: int, actor: Who, reason: str
    ) -> None:
        """Mark an operation abandoned. A verb that cannot settle its records leaves them as they
        are."""

        def work(tx: Tx, settle: bool) -> None:
            operation = operations.get(tx, operation_id)
            begun = [
                step.name for step in operations.steps(tx, operation_id) if step.state != "undone"
            ]
            failed = (operation.error or {}).get("detail", "")
            why = " ".join(part for part in (failed, reason) if part)
            detail = f"{operation.verb} was abandoned by {name_of(actor)}{_colon(why)}."
            remedy = (
                "What it had begun is left as it is: see purveyor list, purveyor volumes, "
                "purveyor doctor."
            )
            if settle and verb is not None:
                verb.settle(tx, operation, detail)
            operations.set_state(
                tx,
                operation_id,
                "abandoned",
                {"code": "abandoned", "detail": detail, "remedy": remedy},
            )
            data = {**told(actor), "error": why, "left": begun}
            if verb is not None:
                emit(tx, verb, operation, "abandoned", data)
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

    def _plan_end(
        self, tx: Tx, operation: OperationRecord, verb: Verb | None
    ) -> tuple[Plan, list[str]]:
        """What the operation's own plan says, and the steps that were begun and are not taken
        back."""
        begun = [step.name for step in operations.steps(tx, operation.id) if step.state != "undone"]
        subject = f"operation {operation.id} ({operation.verb})"
        plan = Plan(verb=operation.verb, subject=subject, steps=[])
        if verb is not None:
            try:
                plan = msgspec.structs.replace(verb.describe(tx, operation), subject=subject)
            except Exception as error:  # what it is about may be gone
                self._logger.info(
                    "operation.undescribed", operation=operation.id, error=type(error).__name__
                )
        return plan, begun

    async def plan_to_cancel(self, operation_id: int) -> Plan:
        """What cancelling an operation takes back."""
        operation, verb = await self._unfinished(operation_id)
        plan, begun = await self._store.read(lambda tx: self._plan_end(tx, operation, verb))
        undone = reversed(verb.steps(operation)) if verb is not None else ()
        steps = [
            f"undo {step.name}" for step in undone if step.undo is not None and step.name in begun
        ]
        return Plan(verb="cancel", subject=plan.subject, steps=steps, apps=plan.apps)

    async def plan_to_abandon(self, operation_id: int) -> Plan:
        """What may stay behind when an operation is abandoned."""
        operation, verb = await self._unfinished(operation_id)
        plan, begun = await self._store.read(lambda tx: self._plan_end(tx, operation, verb))
        left = "may be left as it is"
        warnings = (
            [f"These steps were begun and are not taken back: {', '.join(begun)}."] if begun else []
        )
        if reason := self.waiting(operation_id):
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

    def waiting(self, operation_id: int) -> str:
        """Why an unfinished operation cannot be ended now, "" while nothing hinders it."""
        handle = self._running.get(operation_id) or self._left.get(operation_id)
        return handle.waits if handle is not None else ""

    def interrupt(self) -> None:
        """Tell whoever waits for an operation that this process ends first; it goes on at the next
        start."""
        for handle in self._running.values():
            handle.interrupt()

    # ---------------------------------------------------------------- recovery

    async def hold_unfinished(self) -> None:
        """Take the locks of every operation that an earlier process left unfinished. Once, before a
        new one is let in: one that this process has just begun is unfinished as well."""
        self._looked = True
        for operation in await self._store.read(operations.unfinished):
            await self._decide(operation)
            handle = Handle(operation.id, operation.verb, self._keys(operation))
            handle.waits = "it is of an earlier start, and not finished yet"
            for key in handle.keys:
                # else an older one has it: an older version let in two on one target
                if self._locks[key].value:
                    self._locks[key].acquire_nowait()
                    self._holders[key] = handle
            self._left[operation.id] = handle

    async def _decide(self, operation: OperationRecord) -> None:
        """The steps of one that an older version left, which decided them anew at each start."""
        verb = self._verbs.get(operation.verb)
        if operation.step_names is not None or verb is None:
            return
        try:
            names = [step.name for step in verb.steps(operation)]
        except Exception as error:
            # it is told when it is gone on with, and keeps nobody from starting
            self._logger.warning("operation.undecided", operation=operation.id, exc_info=error)
            return
        await self._store.write(lambda tx: operations.keep_steps(tx, operation.id, names))

    def _keys(self, operation: OperationRecord) -> Sequence[Key]:
        """The locks that an operation took; of one that an older version left, those of what it is
        about."""
        if operation.locks is not None:
            return operation.locks
        verb = self._verbs.get(operation.verb)
        lock = verb.lock if verb is not None else "service"
        return Target(service=operation.service_id, project=operation.project_id, lock=lock).keys

    async def recover(self, *, wait: bool = True) -> None:
        """Go on with every operation that is unfinished: what a crash left, and what waits for the
        engine or for its next try. With `wait`, return when each has been tried."""
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
        if wait:
            for handle in [
                *(item for item in left.values() if item.operation_id in self._running),
                *waiting,
            ]:
                try:
                    await handle.wait()
                except PurveyorError as error:
                    self._logger.warning(
                        "operation.failed", operation=handle.operation_id, error=error.detail
                    )

    def unfinished(self) -> str:
        """The operations that are under way, in words."""
        return ", ".join(
            f"operation {handle.operation_id} ({handle.verb})" for handle in self._running.values()
        )

    def handle(self, operation_id: int) -> Handle | None:
        """The handle of an operation that is under way in this process."""
        return self._running.get(operation_id)


def _lock() -> anyio.Semaphore:
    """A lock that another task than the one that took it may release: the operation outlives its
    caller."""
    return anyio.Semaphore(1, max_value=1)


def _in_the_way(holder: Handle | None) -> Conflict:
    if holder is None:
        return Conflict(
            "Another operation is in progress on the same target.",
            remedy="Follow it with: purveyor operations",
        )
    what = f"Operation {holder.operation_id} ({holder.verb})"
    remedy = f"Follow it with: purveyor operations {holder.operation_id}; then try again."
    if holder.waits:
        remedy += f" If it can never be ended: purveyor operations abandon {holder.operation_id}"
        return Conflict(
            f"{what} is in the way until it has ended: {holder.waits.rstrip('.')}.", remedy=remedy
        )
    return Conflict(f"{what} is in progress on the same service or project.", remedy=remedy)


def _planned(verb: Verb, operation: OperationRecord, without: Collection[str]) -> list[Step]:
    """The steps that were decided with the intent, in their order, but for those that are over.
    Raises `Failed` for one that this version does not know: it is never left out."""
    known = {step.name: step for step in verb.steps(operation)}
    wanted = [name for name in operation.step_names or known if name not in without]
    if strange := [name for name in wanted if name not in known]:
        raise Failed(
            f"This version of Purveyor does not know the step {strange[0]!r} of {verb.name}.",
            remedy="Start the version that began it, and let it end there.",
        )
    return [known[name] for name in wanted]


def _no_way_back(verb: Verb, operation: OperationRecord, steps: Sequence[StepRecord]) -> str:
    """The step that was begun and after which there is no way back, "" while there is one."""
    begun = {step.name for step in steps}
    return next(
        (step.name for step in verb.steps(operation) if step.final and step.name in begun), ""
    )


def _colon(reason: str) -> str:
    return f": {reason.rstrip('.')}" if reason else ""


def _abandon(operation_id: int) -> str:
    return f"If it can never be ended: purveyor operations abandon {operation_id}"


def emit(tx: Tx, verb: Verb, operation: OperationRecord, moment: str, data: dict[str, Any]) -> None:
    """Publish ``service.create.step``, ``project.create.succeeded`` and the like."""
    tx.emit(
        verb.event(moment),
        operation=operation.id,
        service=operation.service_id,
        project=operation.project_id,
        data=data,
    )
