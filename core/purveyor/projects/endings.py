"""The end of accounts that outlived their link, or the rotation that replaced them: looked for from
time to time, for whoever stopped using them may not deploy."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime

import anyio

from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType, Runner
from purveyor.projects import bindings
from purveyor.projects import store as projects
from purveyor.services import store as services
from purveyor.services.operations.lifecycle import ServiceArguments
from purveyor_hooks import PurveyorError

PAUSE = 15.0  # seconds


class Endings:
    """Ends what nobody uses any more, for as long as the daemon serves."""

    def __init__(
        self,
        context: Context,
        runner: Runner,
        operation_types: Mapping[str, OperationType],
        passed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._runner = runner
        self._operation_types = operation_types
        self._passed = passed
        # of what a rotation has left: until when, and when that is by a clock that nobody sets
        self._awaited: dict[int, tuple[datetime, float]] = {}

    async def run(self) -> None:
        while True:
            try:
                await self.turn()
            except Exception as error:  # a store that cannot be read now is tried again
                self._context.logger.warning("endings.fault", exc_info=error)
            await anyio.sleep(PAUSE)

    async def turn(self) -> None:
        """End what is due on every service that serves; what cannot be ended now is looked at
        again."""
        if overdue := await self._context.store.read(self._overdue):
            await self._context.store.write(lambda tx: self._end(tx, overdue))

        def look(tx: Tx) -> list[int]:
            due = {item.service_id for item in projects.ending(tx) if projects.due(tx, item)}
            due |= {
                item.service_id
                for item in projects.outlived(tx)
                if item.former_until and item.former_until <= tx.now
            }
            found = [services.get(tx, number) for number in sorted(due)]
            return [item.id for item in found if item.desired == "running" and not item.refusal]

        for number in await self._context.store.read(look):
            if self._runner.busy(number):
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

    def _overdue(self, tx: Tx) -> list[int]:
        """What has worked for its time although the host's clock, which was set back, does not say
        so."""
        known, now = self._awaited, self._passed()
        self._awaited = {}
        for item in projects.outlived(tx):
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
