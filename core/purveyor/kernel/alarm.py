"""When a controller looks again: woken by what was published, at the next due moment of the wall
clock, and now and then without cause."""

from collections.abc import Callable
from datetime import datetime, timedelta

import anyio

RESYNC = 300.0  # seconds between two looks that nothing was the cause of: a wake may be missed
GLANCE = 15.0  # seconds between two glances at the clock, which somebody may put forward or back
SHORTEST = 1.0  # seconds between two looks: what is due and cannot be done keeps nobody busy


class Alarm:
    """One controller's. It says that there is something to look at and never what: that is read
    from the database."""

    def __init__(
        self, now: Callable[[], datetime], *, resync: float = RESYNC, glance: float = GLANCE
    ) -> None:
        self._now = now
        self._resync = resync
        self._glance = glance
        self._woken = anyio.Event()
        self._seen = now()

    def wake(self) -> None:
        """Have it look, now or right after the look that is under way."""
        self._woken.set()

    def now(self) -> datetime:
        """The time by which a look acts: when the clock is put back after that, the next wait sees
        it."""
        now = self._now()
        self._seen = max(self._seen, now)
        return now

    async def wait(self, due: datetime | None = None) -> None:
        """Wait until it is woken, a moment has come, the clock was put back, or it is time to look
        without cause. What woke it since the last wait counts: the look that follows sees it."""
        end = anyio.current_time() + self._resync
        begun = self._now()
        if due is not None:  # what was due already could not be done just now
            due = max(due, begun + timedelta(seconds=SHORTEST))
        while not self._woken.is_set() and not self._put_back():
            left = end - anyio.current_time()
            if due is not None:
                left = min(left, (due - self._seen).total_seconds())
            if left <= 0:
                break
            with anyio.move_on_after(min(left, self._glance)):
                await self._woken.wait()
        self._woken = anyio.Event()

    def _put_back(self) -> bool:
        """Whether the clock was put back since the last glance, also while somebody looked."""
        before, self._seen = self._seen, self._now()
        return self._seen < before
