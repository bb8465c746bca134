"""Goes on with unfinished operations whenever what they work on can be reached again."""

from collections.abc import Callable

from purveyor.kernel.alarm import Alarm
from purveyor.kernel.operations.runner import Runner


class Resumption:
    """One for the daemon. `reachable` says whether steps can do anything at all: without that they
    would fail, and all be undone."""

    def __init__(self, runner: Runner, alarm: Alarm, reachable: Callable[[], bool]) -> None:
        self._runner = runner
        self._alarm = alarm
        self._reachable = reachable

    def wake(self) -> None:
        """What operations work on is there, for the first time or again."""
        self._alarm.wake()

    async def run(self) -> None:
        while True:
            await self._alarm.wait()
            if self._reachable():
                await self._runner.recover(wait=False)
