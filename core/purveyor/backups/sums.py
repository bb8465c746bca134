"""A hash of each part of a file, so that each part is checked before it is used: not the whole when
all of it was used."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio.to_thread

from purveyor_hooks import BadInput

CHUNK = 8 * 1024 * 1024  # bytes
SIZE = hashlib.sha256().digest_size
PIECE = 1024 * 1024  # bytes handed on at once


class Summing:
    """Hands bytes on, and hashes each `CHUNK` of them."""

    def __init__(self, hand_on: Callable[[bytes], Awaitable[None]]) -> None:
        self._hand_on = hand_on
        self._buffer = bytearray()
        self._sums = bytearray()

    async def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        while len(self._buffer) >= CHUNK:
            await self._sum(bytes(self._buffer[:CHUNK]))
            del self._buffer[:CHUNK]
        await self._hand_on(chunk)

    async def close(self) -> bytes:
        """All hashes, one after the other, once all bytes were written."""
        if self._buffer:
            await self._sum(bytes(self._buffer))
            self._buffer.clear()
        return bytes(self._sums)

    async def _sum(self, part: bytes) -> None:
        self._sums += await anyio.to_thread.run_sync(_digest, part)


def _digest(part: bytes) -> bytes:
    return hashlib.sha256(part).digest()


async def check_parts(
    stored: AsyncIterator[bytes], sums: bytes, chunk: int
) -> AsyncIterator[bytes]:
    """The same bytes, none of which is handed on before its part was found to be what was written.
    Raises `BadInput`."""
    if not 0 < chunk <= CHUNK or len(sums) % SIZE:
        raise _damaged()
    buffer, number = bytearray(), 0

    async def next_part(size: int) -> bytes:
        nonlocal number
        part = bytes(buffer[:size])
        del buffer[:size]
        expected = sums[number * SIZE : (number + 1) * SIZE]
        number += 1
        if await anyio.to_thread.run_sync(_digest, part) != expected:
            raise _damaged()
        return part

    async for piece in stored:
        buffer += piece
        while len(buffer) >= chunk:
            part = await next_part(chunk)
            for start in range(0, chunk, PIECE):
                yield part[start : start + PIECE]
    if buffer:
        yield await next_part(len(buffer))
    if number * SIZE != len(sums):
        raise _damaged()


def _damaged() -> BadInput:
    return BadInput(
        "The backup's data is not what was written: the checksum of a part of it differs.",
        remedy="Nothing was restored. Choose another backup.",
    )
