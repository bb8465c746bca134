"""The bus: one numbered line of events, durable in the journal, followed by cursors.

Publishing never waits: it puts the event into a ring and wakes the followers. A follower that lags
behind the ring reads on from the journal, so a slow one costs nobody anything and misses nothing.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import anyio

from purveyor.kernel.db import Store
from purveyor.kernel.events import store as events
from purveyor_hooks import Event

RING = 512


class Bus:
    """Hands the events of committed transactions to whoever follows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ring: deque[Event] = deque(maxlen=RING)
        self._advanced = anyio.Event()
        self._watchers: list[Callable[[Sequence[Event]], None]] = []
        self._closed = False
        store.published = self._publish

    def watch(self, call: Callable[[Sequence[Event]], None]) -> None:
        """Have a function called, at once, whenever something is published."""
        self._watchers.append(call)

    def wakes(self, wake: Callable[[], None], *begin: str, ends: tuple[str, ...] = ("",)) -> None:
        """Have a controller woken by events whose types begin, and end, with one of these. It is
        not told which: it looks at how things are."""

        def call(batch: Sequence[Event]) -> None:
            if any(item.type.startswith(begin) and item.type.endswith(ends) for item in batch):
                wake()

        self._watchers.append(call)

    def _publish(self, batch: Sequence[Event]) -> None:
        self._ring.extend(batch)
        for call in self._watchers:
            call(batch)
        self._advanced.set()
        self._advanced = anyio.Event()

    async def last(self) -> int:
        """The highest number so far."""
        return self._ring[-1].id if self._ring else await self._store.read(events.last)

    async def follow(self, after: int) -> AsyncIterator[Event]:
        """Every event with a higher number than `after`, in order and without gaps, then those to
        come, until `close`."""
        while True:
            advanced = self._advanced
            batch = await self._since(after)
            for event in batch:
                yield event
                after = event.id
            if not batch:
                if self._closed:
                    return
                await advanced.wait()

    def close(self) -> None:
        """End every `follow` once it has told what there is: streams are to end, and not to
        tear."""
        self._closed = True
        self._advanced.set()

    async def _since(self, after: int) -> Sequence[Event]:
        if self._ring and self._ring[0].id <= after + 1:
            return [event for event in self._ring if event.id > after]
        return await self._store.read(lambda tx: events.after(tx, after))
