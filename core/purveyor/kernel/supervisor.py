"""One supervisor for all that runs as long as the daemon does: a fault ends the turn, never the
daemon."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import anyio
import msgspec

from purveyor.kernel.db import Store
from purveyor_hooks import Backoff, Logger, PurveyorError

FIRST, LONGEST = 1.0, 60.0  # seconds between a fault and the next try
SETTLED = 30.0  # seconds after which a loop that was begun again has got over its fault

Work = Callable[[], Awaitable[None]]


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """A loop that fails: since when, how often by now, and what it says."""

    loop: str
    error: str
    since: datetime
    times: int = 1


class Supervisor:
    """Keeps loops alive. What fails is begun again, later and later; it is logged and published,
    and the doctor tells it."""

    def __init__(
        self, store: Store, logger: Logger, *, first: float = FIRST, settled: float = SETTLED
    ) -> None:
        self._store = store
        self._logger = logger
        self.first = first
        self.settled = settled
        self._troubles: dict[str, Trouble] = {}

    @property
    def troubles(self) -> list[Trouble]:
        """The loops that fail now."""
        return list(self._troubles.values())

    async def keep(self, loop: str, work: Work, turn: float = 0.0) -> None:
        """Run `work` until it returns or is cancelled; begin it again whenever it raises.

        `turn` is how many seconds go by until it first does something: its fault is over later than
        that.
        """
        failures = 0
        while True:
            begun, settled = anyio.current_time(), turn + self.settled
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._settle, loop, settled)
                    await work()
                    group.cancel_scope.cancel()
                await self._over(loop)
                return
            except Exception as error:
                await self._note(loop, _first(error))
            if anyio.current_time() - begun > settled:
                failures = 0
            await anyio.sleep(Backoff(self.first, LONGEST).pause(failures))
            failures += 1

    async def _settle(self, loop: str, settled: float) -> None:
        await anyio.sleep(settled)
        await self._over(loop)

    async def _note(self, loop: str, error: Exception) -> None:
        said = (
            error.detail
            if isinstance(error, PurveyorError)
            else f"a fault of the program ({type(error).__name__})"
        )
        known = self._troubles.get(loop)
        since, times = (known.since, known.times + 1) if known else (datetime.now(UTC), 1)
        self._troubles[loop] = Trouble(loop=loop, error=said, since=since, times=times)
        if known and known.error == said:
            return
        trace = {} if isinstance(error, PurveyorError) else {"exc_info": error}
        self._logger.warning("loop.failed", loop=loop, error=said, **trace)
        await self._say("daemon.trouble", loop, said)

    async def _over(self, loop: str) -> None:
        trouble = self._troubles.pop(loop, None)
        if trouble is not None:
            self._logger.info("loop.recovered", loop=loop, times=trouble.times)
            await self._say("daemon.recovered", loop, trouble.error)

    async def _say(self, kind: str, loop: str, said: str) -> None:
        try:
            await self._store.write(lambda tx: tx.emit(kind, data={"loop": loop, "error": said}))
        except Exception as error:  # a journal that cannot be written is what is being told about
            self._logger.warning("loop.untold", loop=loop, error=type(error).__name__)


def _first(error: Exception) -> Exception:
    """The first error inside what a task group raised."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
