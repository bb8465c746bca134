"""A stream of named parts, for `backup` and `restore`: a stream that was cut off is never taken for
a whole one.

A record is one letter, four bytes of length, and so many bytes: P begins a part (JSON: its name and
facts), D is data of it, E ends it, Z ends the stream.
"""

import struct
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from purveyor_hooks.errors import BadInput
from purveyor_hooks.protocols import Sink, Source

HEAD = struct.Struct("!cI")
LIMIT = 64 * 1024 * 1024  # bytes of one record


class Head(msgspec.Struct, frozen=True):
    """What begins a part."""

    name: str
    facts: dict[str, Any] = {}


class PartWriter:
    """Writes parts one after the other: `begin`, any number of `write`, `end`; `close` after the
    last."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def begin(self, name: str, **facts: Any) -> None:
        await self._record(b"P", msgspec.json.encode(Head(name, facts)))

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), LIMIT):
            await self._record(b"D", bytes(view[start : start + LIMIT]))

    async def end(self) -> None:
        await self._record(b"E", b"")

    async def whole(self, name: str, data: bytes, **facts: Any) -> None:
        """A part that is small."""
        await self.begin(name, **facts)
        await self.write(data)
        await self.end()

    async def close(self) -> None:
        await self._record(b"Z", b"")

    async def _record(self, kind: bytes, data: bytes) -> None:
        await self._sink.write(HEAD.pack(kind, len(data)) + data)


class Part:
    """A part being read: iterate over its data once."""

    def __init__(self, head: Head, records: AsyncIterator[tuple[bytes, bytes]]) -> None:
        self.name = head.name
        self.facts = head.facts
        self._records = records
        self.ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self.ended:
            kind, data = await anext(self._records)
            if kind == b"E":
                self.ended = True
            elif kind == b"D":
                yield data
            else:
                raise _damaged()

    async def read(self) -> bytes:
        """The whole of a part that is small."""
        return b"".join([data async for data in self])


async def read_parts(source: Source) -> AsyncIterator[Part]:
    """The parts of a stream, in order. Raises `BadInput` for a stream that is damaged or cut
    off."""
    records = _records(source)
    try:
        while True:
            kind, data = await anext(records)
            if kind == b"Z":
                return
            if kind != b"P":
                raise _damaged()
            part = Part(msgspec.json.decode(data, type=Head), records)
            yield part
            async for _ in part:  # what the reader left of it
                pass
    except (StopAsyncIteration, msgspec.DecodeError):
        raise _damaged() from None


async def _records(source: Source) -> AsyncIterator[tuple[bytes, bytes]]:
    buffer = bytearray()
    chunks = aiter(source)

    async def fill(size: int) -> None:
        while len(buffer) < size:
            buffer.extend(await anext(chunks))

    while True:
        try:
            await fill(HEAD.size)
            kind, size = HEAD.unpack_from(buffer)
            if size > LIMIT:
                raise _damaged()
            await fill(HEAD.size + size)
        except StopAsyncIteration:
            return
        data = bytes(memoryview(buffer)[HEAD.size : HEAD.size + size])
        del buffer[: HEAD.size + size]
        yield kind, data


def _damaged() -> BadInput:
    return BadInput(
        "The backup's data is damaged or was cut off.", remedy="Restore another backup."
    )
