"""Begins, runs and resumes operations: one at a time for each service and project, journalled,
resumed after a crash.

An operation holds the locks of its target (`locks.py`) until it is done or undone; but for a step
that is apart, whose services' locks it takes again afterwards. One that cannot be brought to its
end now (`driver.py`: an undo that fails, a journal that cannot be written) is tried again by itself,
later and later; meanwhile whoever wants the same target is told which operation is in the way. So
no old intent is ever replayed over a newer one. A person has two ways to end one (`by_hand.py`).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio.abc

from purveyor.kernel.actors import Who, actor_fields, name_of, token_of
from purveyor.kernel.db import Store, Tx
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.driver import Driver
from purveyor.kernel.operations.handle import Handle
from purveyor.kernel.operations.immediate import Changed, ImmediateOperation, Moved
from purveyor.kernel.operations.locks import Locks
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.operation import Key, OperationType, Target, mask_arguments
from purveyor.kernel.operations.plan import Plan
from purveyor.kernel.plugins.registry import Registry
from purveyor_hooks import Backoff, Conflict, Logger, Operation, PurveyorError, Vetoed

TURNS = 5  # times that an operation waits for its locks, when what it touches changes meanwhile
BACKOFF = Backoff(1.0, 60.0)  # between two tries to end an operation
VETO_DEADLINE = 10.0
LIFT_DEADLINE = 180.0  # for the servers that an undo needs


class _PlanOnly(Exception):
    """Carries a plan out of the transaction that is thrown away."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan


class Runner:
    """Starts, runs, undoes and resumes operations in the task group it is given. `running` are those
    under way, by their ids; `left` those of an earlier process, whose locks are taken and on which
    nobody works yet."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        logger: Logger,
        operation_types: Mapping[str, OperationType],
    ) -> None:
        self.store = store
        self._registry = registry
        self.logger = logger
        self.operation_types = operation_types
        self.locks = Locks()
        self.driver = Driver(store, logger, self.locks)
        self.running: dict[int, Handle] = {}
        self.left: dict[int, Handle] = {}
        self._looked = False
        self._group: anyio.abc.TaskGroup | None = None
        # has servers run that an undo waits for
        self.lift: Callable[[Sequence[Key]], Awaitable[None]] | None = None

    def attach(self, group: anyio.abc.TaskGroup) -> None:
        """Name the task group that all operations run in."""
        self._group = group

    def busy(self, number: int, kind: str = "service") -> bool:
        """Whether an operation is under way on a service, or on a project."""
        return self.locks.taken((kind, number))

    # ---------------------------------------------------------------- starting

    async def plan(self, kind: OperationType | ImmediateOperation, given: Any) -> Plan:
        """What the operation would do: its own intent and description, in a transaction that is taken
        back."""
        prepared = await kind.prepare(given)

        def work(tx: Tx) -> None:
            if isinstance(kind, ImmediateOperation):
                kind.target(tx, given)
                raise _PlanOnly(_enact(tx, kind, given, prepared, "plan", ()).made.plan(kind.name))
            operation_id = kind.validate_and_record(tx, prepared, "plan")
            raise _PlanOnly(kind.plan(tx, operations.get(tx, operation_id)))

        try:
            await self.store.write(work)
        except _PlanOnly as found:
            return found.plan
        except Moved:
            raise _restless(kind.name) from None
        raise AssertionError("a plan always leaves by its exception")

    async def submit(self, kind: OperationType, given: Any, actor: Who) -> Handle:
        """Check, write the intent, and start the steps; the handle follows them.

        Raises `Vetoed` when a plugin refuses, `Conflict` when another operation holds the target
        for too long.
        """
        if self._group is None:
            raise RuntimeError("the runner has no task group")
        for _ in range(TURNS):
            try:
                return self.launch(kind, await self._begin(kind, given, actor))
            except Moved:
                # while it waited for its turn: a name is another service's now, or there is another
                # link
                self.logger.info("operation.moved", verb=kind.name)
        raise _restless(kind.name)

    async def change(self, kind: ImmediateOperation, given: Any, actor: Who) -> Changed:
        """Do all of an operation that has no steps, in one transaction and under its locks. Raises
        what `submit` does."""
        for _ in range(TURNS):
            try:
                return await self._change(kind, given, actor)
            except Moved:
                self.logger.info("operation.moved", verb=kind.name)
        raise _restless(kind.name)

    async def _change(self, kind: ImmediateOperation, given: Any, actor: Who) -> Changed:
        target, prepared = await self._admit(kind, given)

        def work(tx: Tx) -> Changed:
            if kind.target(tx, given) != target:
                raise Moved
            return _enact(tx, kind, given, prepared, actor, target.keys)

        try:
            return await self.store.write(work)
        finally:
            self.locks.release(target.keys)

    async def _admit(
        self, kind: OperationType | ImmediateOperation, given: Any
    ) -> tuple[Target, Any]:
        """What is found out before the transaction, and the locks of all that is touched."""
        target = await self.store.read(lambda tx: kind.target(tx, given))
        await self._ask_for_vetoes(kind.name, target, given)
        prepared = await kind.prepare(given)
        await self.locks.take(target.keys)
        return target, prepared

    async def _begin(self, kind: OperationType, given: Any, actor: Who) -> Handle:
        """The intent, written under the locks of all that it touches. Raises `Moved` when that
        needs other locks."""
        target, prepared = await self._admit(kind, given)

        def work(tx: Tx) -> int:
            if kind.target(tx, given) != target:
                raise Moved
            return self._record(tx, kind, target, prepared, actor)

        try:
            operation_id = await self.store.write(work)
        except BaseException:
            self.locks.release(target.keys)
            raise
        handle = Handle(operation_id, kind.name, target.keys)
        self.locks.give(handle)
        return handle

    def _record(self, tx: Tx, kind: OperationType, target: Target, given: Any, actor: Who) -> int:
        operation_id = kind.validate_and_record(tx, given, name_of(actor))
        operations.keep_intent(tx, operation_id, token_of(actor), target.keys, kind.internal)
        operation = operations.get(tx, operation_id)
        names = [step.name for step in kind.steps(operation)]
        operations.keep_steps(tx, operation_id, names)
        kind.emit(tx, operation, "started", {**actor_fields(actor), "steps": names})
        return operation_id

    def launch(self, kind: OperationType, handle: Handle) -> Handle:
        """Run an operation, and let its locks go when it has ended. It holds them already, but for
        those that an older operation of an earlier process has."""
        assert self._group is not None
        self.running[handle.operation_id] = handle

        async def run() -> None:
            try:
                await self.locks.take_rest(handle)
                await self._bring_to_its_end(kind, handle)
            finally:
                del self.running[handle.operation_id]
                self.locks.release_all(handle)

        self._group.start_soon(run, name=f"operation {handle.operation_id} {kind.name}")
        return handle

    async def _ask_for_vetoes(self, name: str, target: Target, given: Any) -> None:
        operation = Operation(
            id=0,
            verb=name,
            service=target.service,
            project=target.project,
            arguments=mask_arguments(given),
        )
        async for plugin, reason in self._registry.ask(
            "before_operation", VETO_DEADLINE, operation=operation
        ):
            if reason:
                raise Vetoed(f"The plugin {plugin.name} refused to {name}: {reason}")

    # ---------------------------------------------------------------- running

    async def _bring_to_its_end(self, kind: OperationType, handle: Handle) -> None:
        """Try until it has ended. Whoever started it hears of the first try alone."""
        failures = 0
        try:
            while True:
                error, ended = await self.driver.attempt(kind, handle)
                if not ended and error is not None:
                    reason = handle.because or error.detail
                    if not handle.waits:  # said once, not at every try
                        await self._say_that_it_waits(kind, handle, error, reason)
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
            self.logger.warning("operation.lift", operation=handle.operation_id, error=detail)

    async def _say_that_it_waits(
        self, kind: OperationType, handle: Handle, error: PurveyorError, reason: str
    ) -> None:
        data = {"error": error.detail, "because": reason}
        self.logger.warning(
            "operation.waits", operation=handle.operation_id, verb=kind.name, **data
        )

        def work(tx: Tx) -> None:
            kind.emit(tx, operations.get(tx, handle.operation_id), "waiting", data)

        try:
            await self.store.write(work)
        except Exception as raised:  # it may be the journal itself that cannot be written
            self.logger.warning(
                "operation.untold", operation=handle.operation_id, error=type(raised).__name__
            )

    def waiting(self, operation_id: int) -> str:
        """Why an unfinished operation cannot be ended now, "" while nothing hinders it."""
        handle = self.running.get(operation_id) or self.left.get(operation_id)
        return handle.waits if handle is not None else ""

    def interrupt(self) -> None:
        """Tell whoever waits for an operation that this process ends first; it goes on at the next
        start."""
        for handle in self.running.values():
            handle.interrupt()

    # ---------------------------------------------------------------- recovery

    async def hold_unfinished(self) -> None:
        """Take the locks of every operation that an earlier process left unfinished. Once, before a
        new one is let in: one that this process has just begun is unfinished as well."""
        self._looked = True
        for operation in await self.store.read(operations.list_unfinished):
            await self._decide(operation)
            handle = Handle(operation.id, operation.verb, self._keys(operation))
            handle.waits = "it is of an earlier start, and not finished yet"
            self.locks.take_free(handle)
            self.left[operation.id] = handle

    async def _decide(self, operation: OperationRecord) -> None:
        """The steps of one that an older version left, which decided them anew at each start."""
        kind = self.operation_types.get(operation.verb)
        if operation.step_names is not None or kind is None:
            return
        try:
            names = [step.name for step in kind.steps(operation)]
        except Exception as error:
            # it is told when it is gone on with, and keeps nobody from starting
            self.logger.warning("operation.undecided", operation=operation.id, exc_info=error)
            return
        await self.store.write(lambda tx: operations.keep_steps(tx, operation.id, names))

    def _keys(self, operation: OperationRecord) -> Sequence[Key]:
        """The locks that an operation took; of one that an older version left, those of what it is
        about."""
        if operation.locks is not None:
            return operation.locks
        kind = self.operation_types.get(operation.verb)
        lock = kind.lock if kind is not None else "service"
        return Target(service=operation.service_id, project=operation.project_id, lock=lock).keys

    async def recover(self, *, wait: bool = True) -> None:
        """Go on with every operation that is unfinished: what a crash left, and what waits for the
        engine or for its next try. With `wait`, return when each has been tried."""
        if not self._looked:
            await self.hold_unfinished()
        left, self.left = self.left, {}
        for handle in left.values():
            kind = self.operation_types.get(handle.verb)
            if kind is None:  # its plugin is gone: it holds its target until that is back
                handle.waits = f"nothing here knows {handle.verb!r}"
                if "." in handle.verb:
                    handle.waits += ": install the plugin that brings it, in a version that does"
                self.left[handle.operation_id] = handle
                continue
            self.logger.info("operation.resumed", operation=handle.operation_id, verb=handle.verb)
            handle.waits = ""
            self.launch(kind, handle)
        waiting = [handle for handle in self.running.values() if handle.waits]
        for handle in waiting:
            handle.again()
        if wait:
            for handle in [
                *(item for item in left.values() if item.operation_id in self.running),
                *waiting,
            ]:
                try:
                    await handle.wait()
                except PurveyorError as error:
                    self.logger.warning(
                        "operation.failed", operation=handle.operation_id, error=error.detail
                    )

    def unfinished(self) -> str:
        """The operations that are under way, in words."""
        return ", ".join(map(str, self.running.values()))

    def handle(self, operation_id: int) -> Handle | None:
        """The handle of an operation that is under way in this process."""
        return self.running.get(operation_id)


def _restless(name: str) -> Conflict:
    remedy = "Try again; see: purveyor operations"
    return Conflict(f"What {name} is about changes all the time.", remedy=remedy)


def _enact(
    tx: Tx, kind: ImmediateOperation, given: Any, prepared: Any, actor: Who, keys: Sequence[Key]
) -> Changed:
    """All of an operation without steps: its record, and what it does."""
    number = operations.insert(tx, kind.name, actor=name_of(actor), arguments=mask_arguments(given))
    operations.keep_intent(tx, number, token_of(actor), keys)
    operations.keep_steps(tx, number, ())
    tx.operation = number
    made = kind.change(tx, prepared, actor)
    operations.end_at_once(tx, number, made.project)
    return Changed(number, made)
