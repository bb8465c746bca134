"""Bodies of answers that a task of their own writes while a reader takes them."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import anyio
import anyio.abc

from purveyor_hooks import Sink

BUFFER = 4  # chunks that wait for the reader


class _Into:
    """`Sink` into a stream."""

    def __init__(self, stream: anyio.abc.ObjectSendStream[bytes]) -> None:
        self._stream = stream

    async def write(self, chunk: bytes) -> None:
        await self._stream.send(chunk)


async def flow(
    group: anyio.abc.TaskGroup, write: Callable[[Sink], Awaitable[None]]
) -> AsyncGenerator[bytes, None]:
    """What `write` gives its sink, as it comes; it is cancelled when the reader leaves. Raises what
    it raised.

    It runs in `group` and not in one of this generator's: a reader who leaves may have it closed by
    another task, and a group can only be left by the one that entered it.
    """
    sending, receiving = anyio.create_memory_object_stream[bytes](BUFFER)
    failed: list[Exception] = []
    scope = anyio.CancelScope()

    async def run() -> None:
        async with sending:
            with scope:
                try:
                    await write(_Into(sending))
                except Exception as error:  # it is the reader's, and must not end the group
                    failed.append(error)

    group.start_soon(run)
    try:
        async for chunk in receiving:
            yield chunk
    finally:
        scope.cancel()
        receiving.close()
    if failed:
        raise failed[0]


async def prefetch_first(chunks: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """The same chunks, once the first is there: what fails before it can still be answered as an
    error."""
    first = await anext(chunks, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        async with aclosing(chunks):
            yield first
            async for chunk in chunks:
                yield chunk

    return all_of_them()
