"""Connections to Redis as the environments' own users: one for each, shared by all of its requests.

Commands go out as they come and are answered in order, so that requests at the same time cost one
round trip, and a request that is given up leaves its reply to nobody. A pool of connections took
twice the time of the rest of a request.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import anyio
import hiredis
from redis.exceptions import ResponseError

from purveyor_hooks import Bound
from purveyor_kv.direct import from_redis
from purveyor_kv.errors import KVError, unavailable
from purveyor_kv.verbs import Words

PORT = 6379
TIMEOUT = 10.0  # seconds
WIRES = 1024
NOTHING = object()


class Batch(NamedTuple):
    """Commands that were sent together: how many, what has been answered, who waits for the rest
    and until when."""

    expected: int
    replies: list[Any]
    whole: asyncio.Future[list[Any]]
    deadline: float


class PipelinedConnection(asyncio.Protocol):
    """One connection. What the server refuses stands among the replies as `ResponseError`.

    Commands of one turn of the loop leave in one piece. One timer watches the oldest of them: a
    timer for each would be a third of what KV costs.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ResponseError, notEnoughData=NOTHING)
        self._waiting: deque[Batch] = deque()
        self._unsent: list[bytes] = []
        self._watch: asyncio.TimerHandle | None = None
        self._transport: Any = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not NOTHING:
                batch = self._waiting[0]
                batch.replies.append(reply)
                if len(batch.replies) == batch.expected:
                    self._waiting.popleft()
                    if not batch.whole.done():
                        batch.whole.set_result(batch.replies)
        except (hiredis.ProtocolError, IndexError):
            self.close("sent what is no answer")

    def connection_lost(self, _: Exception | None) -> None:
        self.close("closed the connection")

    async def ask(self, commands: Sequence[Words]) -> list[Any]:
        """Send commands at once; the replies in their order. Raises `KVError`."""
        batch = Batch(len(commands), [], self._loop.create_future(), self._loop.time() + TIMEOUT)
        self._waiting.append(batch)
        if self._watch is None:
            self._watch = self._loop.call_later(TIMEOUT, self._look)
        if not self._unsent:
            self._loop.call_soon(self._send)
        for words in commands:
            self._unsent.append(hiredis.pack_command(cast(Any, words)))
        return await batch.whole

    def _send(self) -> None:
        self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _look(self) -> None:
        """Give up when the oldest commands have waited too long, else look again when they would
        have."""
        self._watch = None
        if not self._waiting:
            return
        left = self._waiting[0].deadline - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self.close("does not answer")

    def close(self, why: str = "is no longer asked") -> None:
        """End the connection; who still waits is told why."""
        self.closed = True
        self._transport.abort()
        if self._watch is not None:
            self._watch.cancel()
        while self._waiting:
            batch = self._waiting.popleft()
            if not batch.whole.done():
                batch.whole.set_exception(unavailable(f"The server behind KV {why}."))


class Connections:
    """The wires by binding; one whose binding or place has changed is made anew."""

    def __init__(self) -> None:
        self._wires: dict[int, tuple[Bound, PipelinedConnection]] = {}
        self._lock = anyio.Lock()

    async def ask(self, bound: Bound, words: Words) -> Any:
        """One command, one reply. Raises `KVError`."""
        (reply,) = await self.ask_all(bound, (words,))
        if isinstance(reply, ResponseError):
            raise from_redis(reply)
        return reply

    async def ask_all(self, bound: Bound, commands: Sequence[Words]) -> list[Any]:
        """Commands sent at once; what the server refuses stands among the replies. Raises
        `KVError`."""
        known = self._wires.get(bound.binding.id)
        if known is None or known[1].closed or (known[0] is not bound and known[0] != bound):
            async with self._lock:
                wire = await self._connected(bound)
        else:
            wire = known[1]
        return await wire.ask(commands)

    async def _connected(self, bound: Bound) -> PipelinedConnection:
        known = self._wires.pop(bound.binding.id, None)
        if known is not None:
            if known[0] == bound and not known[1].closed:
                self._wires[bound.binding.id] = known
                return known[1]
            known[1].close()
        while len(self._wires) >= WIRES:
            self._wires.pop(next(iter(self._wires)))[1].close()
        wire = await _log_in(bound)
        self._wires[bound.binding.id] = (bound, wire)
        return wire


async def _log_in(bound: Bound) -> PipelinedConnection:
    service, binding = bound.service, bound.binding
    assert binding.slot is not None
    try:
        with anyio.fail_after(TIMEOUT):
            connect = asyncio.get_running_loop().create_connection(
                PipelinedConnection, service.host, service.port(PORT)
            )
            _, wire = await connect
    except (OSError, TimeoutError):
        raise unavailable("The server behind KV does not answer.") from None
    replies = await wire.ask(
        [("AUTH", binding.account, binding.password), ("SELECT", binding.slot)]
    )
    if any(isinstance(reply, ResponseError) for reply in replies):
        wire.close()
        remedy = "Deploy it again, or link it again."
        raise KVError(
            "unauthorized",
            401,
            "A valid token is needed",
            "The project's account is refused.",
            remedy,
        )
    return wire
