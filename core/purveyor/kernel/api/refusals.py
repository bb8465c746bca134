"""Wrong tokens: whoever sends them is slowed and then refused, and the journal tells of them, one
event a minute at most."""

import time
from collections.abc import Callable
from contextlib import suppress
from math import ceil

import anyio

from purveyor.kernel.db import Store, Tx
from purveyor_hooks import StateUnavailable

EVERY = 60.0  # seconds between two events of one kind
NAMED = 5  # peers that an event names
LIMIT = 10_000  # names that are remembered


class Buckets:
    """Token buckets by name: so many tries at once, then one more every so many seconds. A full one
    is forgotten."""

    def __init__(
        self, size: int, every: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.size = size
        self._every = every
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}  # how many were left, and when that was

    def take(self, name: str) -> int | None:
        """Use a try up. The answer is how many were used before it, None when there was none
        left."""
        left, now = self._now(name)
        if left < 1:
            return None
        self._left.pop(name, None)
        if len(self._left) >= LIMIT:
            self._tidy()
        self._left[name] = (left - 1, now)
        return ceil(self.size - left)

    def _now(self, name: str) -> tuple[float, float]:
        now = self._clock()
        left, at = self._left.get(name, (float(self.size), now))
        return min(self.size, left + (now - at) / self._every), now

    def _tidy(self) -> None:
        """Forget the full ones; where that is not enough, those that were used longest ago."""
        self._left = {
            name: state for name, state in self._left.items() if self._now(name)[0] < self.size
        }
        for name in list(self._left)[: max(0, len(self._left) - LIMIT // 2)]:
            del self._left[name]


class Refusals:
    """Counts what was refused, and tells it as events of one kind: the first at once, the others
    once a minute."""

    def __init__(
        self, store: Store, kind: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._kind = kind
        self._clock = clock
        self._count = 0
        self._peers: dict[str, None] = {}
        self._told = -EVERY

    async def note(self, peer: str) -> None:
        """One more was refused."""
        self._count += 1
        if len(self._peers) < NAMED:
            self._peers[peer or "local"] = None
        await self.tell()

    async def tell(self) -> None:
        """Publish what has not been told, unless the last event is too fresh."""
        now = self._clock()
        if not self._count or now - self._told < EVERY:
            return
        data = {"count": self._count, "peers": list(self._peers)}
        self._count, self._peers, self._told = 0, {}, now

        def work(tx: Tx) -> None:
            tx.emit(self._kind, data=data)

        with suppress(StateUnavailable):  # a refusal is one, whether it can be written down or not
            await self._store.write(work)

    async def run(self) -> None:
        """Tell what is left when nobody comes any more."""
        while True:
            await anyio.sleep(EVERY)
            await self.tell()
