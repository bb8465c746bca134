"""Channels as server-sent events: /subscribe and /psubscribe of the Upstash REST protocol.

An environment's channels begin with the name of its user, which is all that the server lets that
user publish to and hear; here they are called without it. Each listener has a connection of its own
to the server, as that user, so that a rotation or an unlink ends it there.
"""

import asyncio
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple, cast

import anyio
import hiredis
from redis.exceptions import ResponseError

from purveyor_hooks import Bound
from purveyor_kv.direct import from_redis
from purveyor_kv.errors import KVError, bad_input, unavailable
from purveyor_kv.verbs import Words
from purveyor_kv_service.connections import NOTHING, PORT, TIMEOUT
from purveyor_kv_service.patterns import Token, compiled, matches

EACH, ALL = 100, 1000  # listeners of one environment, and of all
CHANNELS = 32  # of one listener
NAME = 1024  # bytes of a channel or a pattern
BACKLOG = 1024 * 1024  # bytes that wait for one who reads slowly
SLOW = 30.0  # seconds for which what is sent may wait for the reader
ALIVE = 15.0  # seconds of silence until a sign of life
IDLE = 3600.0  # seconds without a message after which a listener is let go

Told = Callable[[Any], Iterable[bytes]]


def own(bound: Bound, channel: str) -> str:
    """A channel's name on the server. One that says whose it is, as those who talk to the server
    itself have to, stays as it is."""
    prefix = f"{bound.binding.account}:"
    return channel if channel.startswith(prefix) else prefix + channel


def published(bound: Bound, words: Words) -> Words:
    """A command as the server takes it: PUBLISH with the channel's name there."""
    name = words[0].upper() if isinstance(words[0], str) else ""
    if name != "PUBLISH" or len(words) < 2:
        return words
    channel = words[1].decode(errors="replace") if isinstance(words[1], bytes) else str(words[1])
    return (words[0], own(bound, channel), *words[2:])


class Ear(asyncio.Protocol):
    """One connection that hears channels. What comes is kept until it is taken, up to `BACKLOG`;
    beyond that it is closed, so that who reads slowly costs neither us nor the server more."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(replyError=ResponseError, notEnoughData=NOTHING)
        self._heard: deque[tuple[Any, int]] = deque()
        self._waiting = 0
        self._woken = asyncio.Event()
        self._transport: Any = None
        self.ended = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def say(self, *commands: Words) -> None:
        self._transport.write(b"".join(hiredis.pack_command(cast(Any, item)) for item in commands))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not NOTHING:
                size = _size(reply)
                self._heard.append((reply, size))
                self._waiting += size
        except hiredis.ProtocolError:
            self.close("the server sent what is no answer")
        if self._waiting > BACKLOG and len(self._heard) > 1:
            self.close("it was read too slowly")
        self._woken.set()

    def connection_lost(self, _: Exception | None) -> None:
        self.close("the server closed the connection")

    def close(self, why: str) -> None:
        self.ended = self.ended or why
        self._transport.abort()
        self._woken.set()

    async def next(self) -> Any:
        """What was heard next; None when it has ended."""
        while not self._heard:
            if self.ended:
                return None
            self._woken.clear()
            await self._woken.wait()
        reply, size = self._heard.popleft()
        self._waiting -= size
        return reply


def _size(reply: Any) -> int:
    parts = reply if isinstance(reply, list) else ()
    return sum(len(part) for part in parts if isinstance(part, bytes)) + 100  # and what holds it


class Listener(NamedTuple):
    """What somebody listens with; `told` makes events of what was heard."""

    ear: Ear
    first: bytes
    told: Told

    async def next(self) -> bytes | None:
        """The next events, None when there are no more. It may be cancelled, and loses nothing."""
        while (reply := await self.ear.next()) is not None:
            if events := b"".join(self.told(reply)):
                return events
        return None


class Listening:
    """Who listens, counted."""

    def __init__(self) -> None:
        self._each: Counter[int] = Counter()

    @contextmanager
    def _counted(self, bound: Bound) -> Iterator[None]:
        number = bound.binding.id
        if self._each[number] >= EACH or self._each.total() >= ALL:
            raise KVError(
                "too-many",
                429,
                "Too many requests",
                f"There are {EACH} listeners of this environment already, or {ALL} of all.",
                "End some of them, or listen to several channels with one.",
            )
        self._each[number] += 1
        try:
            yield
        finally:
            self._each[number] -= 1

    @asynccontextmanager
    async def listen(
        self, bound: Bound, given: Sequence[str], *, patterns: bool
    ) -> AsyncIterator[Listener]:
        """A listener to channels, or to all that patterns match. Raises `KVError`."""
        names = list(dict.fromkeys(given))
        if not all(names) or len(names) > CHANNELS or max(map(len, names)) > NAME:
            raise bad_input(f"Name 1 to {CHANNELS} channels of 1 to {NAME} characters.")
        wanted = [(name.encode(), compiled(_short(bound, name))) for name in names if patterns]
        with self._counted(bound):
            ear = await _connected(bound)
            try:
                if patterns:
                    # of patterns the server allows the one that is all of its own
                    ear.say(("PSUBSCRIBE", own(bound, "*")))
                    await _confirmed(ear, 1)
                    yield Listener(ear, _begun("psubscribe", names), _matched(bound, wanted))
                else:
                    actual = {own(bound, name).encode(): name.encode() for name in names}
                    ear.say(("SUBSCRIBE", *actual))
                    await _confirmed(ear, len(actual))
                    yield Listener(ear, _begun("subscribe", names), _heard(actual))
            finally:
                ear.close("it is no longer wanted")


async def _connected(bound: Bound) -> Ear:
    service, binding = bound.service, bound.binding
    try:
        with anyio.fail_after(TIMEOUT):
            _, ear = await asyncio.get_running_loop().create_connection(
                Ear, service.host, service.port(PORT)
            )
    except (OSError, TimeoutError):
        raise unavailable("The server behind KV does not answer.") from None
    ear.say(("AUTH", binding.account, binding.password))
    await _confirmed(ear, 1)
    return ear


async def _confirmed(ear: Ear, number: int) -> None:
    for _ in range(number):
        reply = None
        with anyio.move_on_after(TIMEOUT):
            reply = await ear.next()
        if isinstance(reply, ResponseError):
            ear.close("it was refused")
            raise from_redis(reply)
        if reply is None:
            ear.close("it does not answer")
            raise unavailable("The server behind KV does not answer.")


def _short(bound: Bound, name: str) -> str:
    return name.removeprefix(f"{bound.binding.account}:")


def _event(*parts: bytes) -> bytes:
    """One event; a text of several lines has one `data` for each, as the format wants it."""
    lines = re.split(rb"\r\n|\r|\n", b",".join(parts))
    return b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"


def _begun(kind: str, names: Sequence[str]) -> bytes:
    return b"".join(
        _event(kind.encode(), name.encode(), str(place).encode())
        for place, name in enumerate(names, 1)
    )


def _heard(actual: dict[bytes, bytes]) -> Told:
    def told(reply: Any) -> Iterator[bytes]:
        kind, channel, text = reply
        if kind == b"message":
            yield _event(b"message", actual[channel], text)

    return told


def _matched(bound: Bound, wanted: Sequence[tuple[bytes, Sequence[Token]]]) -> Told:
    prefix = f"{bound.binding.account}:".encode()

    def told(reply: Any) -> Iterator[bytes]:
        kind, _, channel, text = reply
        short = channel.removeprefix(prefix)
        for name, tokens in wanted:
            if kind == b"pmessage" and len(short) <= NAME and matches(tokens, short):
                yield _event(b"pmessage", name, short, text)

    return told


# ------------------------------------------------------------------------------------ the answer


def answer(
    listening: Any, valid: Callable[[], Awaitable[bool]], over: Callable[[], Awaitable[None]]
) -> Any:
    """The ASGI answer that carries what a `Listening.listen` hears, until the client goes, is too
    slow, has heard nothing for long, is not `valid` any more, or all is `over`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with listening as listener, anyio.create_task_group() as group:

            async def wait_for_the_end() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            async def deliver() -> None:
                with suppress(TimeoutError):
                    await _deliver(listener, valid, send)

            group.start_soon(wait_for_the_end)
            headers = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async with anyio.create_task_group() as either:
                for work in (deliver, over):
                    either.start_soon(_first, either.cancel_scope, work)
            with suppress(TimeoutError):
                await _put(send, b"", more=False)
            group.cancel_scope.cancel()

    return app


async def _first(scope: anyio.CancelScope, work: Callable[[], Awaitable[None]]) -> None:
    await work()
    scope.cancel()


async def _deliver(listener: Listener, valid: Callable[[], Awaitable[bool]], send: Any) -> None:
    await _put(send, listener.first)
    heard = anyio.current_time()
    while True:
        events, silent = None, True
        with anyio.move_on_after(ALIVE):
            events = await listener.next()
            silent = False
        now = anyio.current_time()
        if (events is None and not silent) or not await valid() or now - heard > IDLE:
            return
        if events is not None:
            heard = now
        await _put(send, events or b": alive\n\n")


async def _put(send: Any, data: bytes, *, more: bool = True) -> None:
    """Raises `TimeoutError` when the reader takes nothing."""
    with anyio.fail_after(SLOW):
        await send({"type": "http.response.body", "body": data, "more_body": more})
