"""Places at which another installation has taken this one's place: nothing is written, and nothing
deleted there any more."""

import time
from collections.abc import Awaitable, Callable

from purveyor_hooks import Conflict


class Fence:
    """Whoever writes to a place of backups, or deletes there, asks first. `look` goes there and
    sees who writes now."""

    def __init__(self) -> None:
        self.look: Callable[[str], Awaitable[None]] | None = None
        self._closed: dict[str, str] = {}
        self._looked: dict[str, float] = {}

    @property
    def closed(self) -> dict[str, str]:
        """Who has taken over, by the address of the place."""
        return dict(self._closed)

    def close(self, place: str, who: str) -> None:
        self._closed[place] = who

    def open(self, place: str) -> None:
        self._closed.pop(place, None)

    async def require(self, place: str, within: float = 0.0) -> None:
        """Raise `Conflict` where another one writes. `within` so many seconds one look is enough,
        for what is written small and often; what is deleted asks each time."""
        if self.look is not None and place not in self._closed:
            now = time.monotonic()
            if not within or now - self._looked.get(place, -within) >= within:
                await self.look(place)
                self._looked[place] = now
        if place in self._closed:
            raise Conflict(
                f"Another installation has taken over from this one at {place}: "
                f"{self._closed[place]}.",
                remedy="Nothing is written and nothing deleted there any more. If this is the one that is to go on: "
                "purveyor takeover",
            )
