"""Places at which another installation has taken this one's place: nothing is written, and nothing deleted there any more."""

from collections.abc import Awaitable, Callable

from purveyor_hooks import Conflict


class Fence:
    """Whoever writes to a place of backups, or deletes there, asks first. `look` goes there and sees who writes now."""

    def __init__(self) -> None:
        self.look: Callable[[str], Awaitable[None]] | None = None
        self._closed: dict[str, str] = {}

    @property
    def closed(self) -> dict[str, str]:
        """Who has taken over, by the label of the place."""
        return dict(self._closed)

    def close(self, place: str, who: str) -> None:
        self._closed[place] = who

    def open(self, place: str) -> None:
        self._closed.pop(place, None)

    async def require(self, place: str) -> None:
        """Raise `Conflict` where another one writes."""
        if self.look is not None and place not in self._closed:
            await self.look(place)
        if place in self._closed:
            raise Conflict(
                f"Another installation has taken over from this one at {place}: {self._closed[place]}.",
                remedy="Nothing is written and nothing deleted there any more. If this is the one that is to go on: "
                "purveyor takeover",
            )
