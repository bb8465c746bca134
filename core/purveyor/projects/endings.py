"""The end of accounts that outlived their link, or the rotation that replaced them: looked for from
time to time, for whoever stopped using them may not deploy."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import anyio

from purveyor.context import Context
from purveyor.kernel.alarm import Alarm
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType, Runner
from purveyor.projects import bindings
from purveyor.projects import store as projects
from purveyor.services import store as services
from purveyor.services.operations.lifecycle import ServiceArguments
from purveyor_hooks import PurveyorError

PAUSE = 15.0  # seconds after which what is due and could not be ended is tried again
# what begins and ends with an operation: that somebody uses an account, and that a service serves
WAKING = ("service.", "project.", "app.")
ENDS = (".succeeded", ".failed", ".abandoned", ".verified")


class Endings:
    """Ends what nobody uses any more, for as long as the daemon serves."""

    def __init__(
        self,
        context: Context,
        runner: Runner,
        operation_types: Mapping[str, OperationType],
        now: Callable[[], datetime],
        passed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._runner = runner
        self._operation_types = operation_types
        self.alarm = Alarm(now)
        self._passed = passed
        # of what a rotation has left: until when, and when that is by a clock that nobody sets
        self._awaited: dict[int, tuple[datetime, float]] = {}
        self._looked = passed()

    async def run(self) -> None:
        """Look when an operation has ended, for it may be what sets or hinders an end, and when a
        grace is over."""
        while True:
            await anyio.sleep(PAUSE)  # at a start others come first
            try:
                while await self.turn():
                    await self.alarm.wait(await self._context.store.read(self._next_due))
            except Exception as error:  # a store that cannot be read now is tried again
                self._context.logger.warning("endings.fault", exc_info=error)

    async def turn(self) -> bool:
        """End what is due on every service that serves. The answer is whether all of it is; what
        cannot be ended now is looked at again."""
        all_ended = True
        if overdue := await self._context.store.read(self._overdue):
            await self._context.store.write(lambda tx: self._end(tx, overdue))

        def look(tx: Tx) -> list[int]:
            due = {item.service_id for item in projects.ending(tx) if projects.is_due(tx, item)}
            due |= {
                item.service_id
                for item in projects.list_outlived(tx)
                if item.former_until and item.former_until <= tx.now
            }
            found = [services.get(tx, number) for number in sorted(due)]
            return [item.id for item in found if item.desired == "running" and not item.refusal]

        for number in await self._context.store.read(look):
            if self._runner.busy(number):
                all_ended = False
                continue
            try:
                await (
                    await self._runner.submit(
                        self._operation_types["end-access"],
                        ServiceArguments(service=str(number)),
                        "sweep",
                    )
                ).wait()
            except PurveyorError as error:
                self._context.logger.warning("endings", service=number, error=error.detail)
                all_ended = False
        return all_ended

    def _next_due(self, tx: Tx) -> datetime | None:
        """When the next grace is over: as the host's clock, which may be set back meanwhile, says
        it now."""
        now = self._passed()
        ahead = [end - now for _, end in self._awaited.values() if end > self._looked]
        return tx.now + timedelta(seconds=min(ahead)) if ahead else None

    def _overdue(self, tx: Tx) -> list[int]:
        """What has worked for its time although the host's clock, which was set back, does not say
        so."""
        known, now = self._awaited, self._passed()
        self._awaited, self._looked = {}, now
        for item in projects.list_outlived(tx):
            assert item.former_until is not None
            until, end = known.get(item.id, (None, 0.0))
            if until != item.former_until:
                end = now + (item.former_until - tx.now).total_seconds()
            self._awaited[item.id] = item.former_until, end
        return [number for number, (_, end) in self._awaited.items() if end <= now]

    @staticmethod
    def _end(tx: Tx, numbers: list[int]) -> None:
        for number in numbers:
            if record := projects.binding(tx, number):
                bindings.end_former(tx, record)
