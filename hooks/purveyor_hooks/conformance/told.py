"""What a type's hook `contents` tells of a backup, heard by the kit itself."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import zstandard


class Stored:
    """`Source` of a backup as it lies in its folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "data.zst"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._path.open("rb") as file:
            for chunk in zstandard.ZstdDecompressor().read_to_iter(file):
                yield chunk


class Told:
    """`Contents` that keeps all of it but what may change by itself."""

    def __init__(self) -> None:
        self.things: Counter[tuple[str, str, str, bytes]] = Counter()

    async def put(
        self,
        kind: str,
        name: str,
        what: str,
        digest: bytes,
        *,
        number: int = 1,
        fleeting: bool = False,
    ) -> None:
        if not fleeting:
            self.things[kind, name, what, digest] += number

    async def forget(self, kind: str, name: str) -> None:
        for thing in [thing for thing in self.things if thing[:2] == (kind, name)]:
            del self.things[thing]

    def besides(self, other: "Told") -> str:
        """What one of the two holds and the other does not, the first of it, or ""."""
        different = (self.things - other.things) + (other.things - self.things)
        return next((f"{kind} of {name} {what}".strip() for kind, name, what, _ in different), "")
