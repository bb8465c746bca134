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
from time import monotonic
from typing import Any, cast

import anyio
import hiredis
from redis.exceptions import ResponseError

from purveyor_hooks import Bound
from purveyor_kv.direct import from_redis
from purveyor_kv.errors import KVError, bad_input, unavailable
from purveyor_kv.verbs import Words
from purveyor_kv_service.connections import NOTHING, PORT, TIMEOUT
from purveyor_kv_service.patterns import Patterns

EACH, OF_PROJECT, ALL = 100, 250, 1000  # listeners of one environment, one project, and of all
CHANNELS = 32  # of one listener
NAME, NAMES = 1024, 4096  # bytes of a channel or a pattern, and of all of one listener
MESSAGE = 1024 * 1024  # bytes of one message
BACKLOG = 1024 * 1024  # bytes in several messages that wait for one who reads slowly
BACKLOGS = 32 * 1024 * 1024  # bytes that wait for all listeners of one project
PIECE = 64 * 1024  # bytes of events that go out together
TURN, PART = 0.005, 0.25  # seconds of one turn; of all time what one project's listeners may take
SLOW = 30.0  # seconds for which what is sent may wait for the reader
ALIVE = 15.0  # seconds of silence until a sign of life
IDLE = 3600.0  # seconds without a message after which a listener is let go
BODY = 1024 * 1024  # bytes of a request that nobody reads

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
    if len(words) > 2 and len(_bytes(words[2])) > MESSAGE:
        raise bad_input(
            f"A message may have {MESSAGE} bytes at most.", "Store it, and publish its key."
        )
    channel = words[1].decode(errors="replace") if isinstance(words[1], bytes) else str(words[1])
    return (words[0], own(bound, channel), *words[2:])


def _bytes(word: Any) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


class Room:
    """What all listeners of one project take of us: how many they are, the bytes that wait for
    them, and time."""

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.listeners: Counter[int] = Counter()
        self.waiting = 0
        self._clock, self._sleep = clock, sleep
        self._turns = anyio.Lock()
        self._free = 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A piece of work, one after the other, with breaks in between that leave the rest of all
        time to others."""
        async with self._turns:
            await self._sleep(max(0.0, self._free - self._clock()))
            begun = self._clock()
            yield
            now = self._clock()
            self._free = now + (now - begun) * (1 / PART - 1)


class Ear(asyncio.Protocol):
    """One connection that hears channels. What comes is kept until it was sent on, up to `BACKLOG`;
    beyond that it is closed, so that who reads slowly costs neither us nor the server more."""

    def __init__(self, room: Room) -> None:
        self._reader = hiredis.Reader(replyError=ResponseError, notEnoughData=NOTHING)
        self._heard: deque[tuple[Any, int]] = deque()
        self._room, self._waiting, self._counted = room, 0, 0
        self._woken = asyncio.Event()
        self._transport: Any = None
        self.ended = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def say(self, *commands: Words) -> None:
        self._transport.write(b"".join(hiredis.pack_command(cast(Any, item)) for item in commands))

    def data_received(self, data: bytes) -> None:
        if self.ended:
            return
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not NOTHING:
                size = _size(reply)
                self._heard.append((reply, size))
                self._waiting += size
        except hiredis.ProtocolError:
            self.close("the server sent what is no answer")
        self._count()
        several = self._waiting > BACKLOG and len(self._heard) > 1
        if several or self._counted > BACKLOG + MESSAGE or self._room.waiting > BACKLOGS:
            self.close("it was read too slowly")
        self._woken.set()

    def connection_lost(self, _: Exception | None) -> None:
        self.close("the server closed the connection")

    def close(self, why: str) -> None:
        self.ended = self.ended or why
        self._transport.abort()
        self._woken.set()

    def forget(self) -> None:
        """Nobody takes what it has heard any more."""
        self.close("it is no longer wanted")
        self._heard.clear()
        self._reader = hiredis.Reader()
        self._waiting = 0
        self._count()

    def _count(self) -> None:
        """Of a message that has come in part as well: its parts are kept until it is whole."""
        now = self._waiting + self._reader.len()
        self._room.waiting += now - self._counted
        self._counted = now

    async def heard(self) -> bool:
        """Wait until there is something; False when it has ended."""
        while not self._heard:
            if self.ended:
                return False
            self._woken.clear()
            await self._woken.wait()
        return True

    def take(self) -> tuple[Any, int]:
        """What was heard first, and its size, which counts until it was `sent`."""
        return self._heard.popleft()

    def sent(self, size: int) -> None:
        self._waiting -= size
        self._count()

    async def next(self) -> Any:
        """What was heard next; None when it has ended."""
        if not await self.heard():
            return None
        reply, size = self.take()
        self.sent(size)
        return reply

    @property
    def empty(self) -> bool:
        return not self._heard


def _size(reply: Any) -> int:
    parts = reply if isinstance(reply, list) else ()
    return sum(len(part) for part in parts if isinstance(part, bytes)) + 100  # and what holds it


class Listener:
    """What somebody listens with; `told` makes events of what was heard, `first` are told before
    any."""

    def __init__(self, ear: Ear, room: Room, first: bytes, told: Told) -> None:
        self.first = first
        self._ear, self._room, self._told = ear, room, told
        self._sending = 0

    async def next(self) -> bytes | None:
        """The next events, None when there are no more; those before were sent. It may be
        cancelled, and loses nothing."""
        self._ear.sent(self._sending)
        self._sending = 0
        while await self._ear.heard():
            async with self._room.turn():
                events, taken = self._events()
            if events:
                self._sending = taken
                return events
            self._ear.sent(taken)
        return None

    def _events(self) -> tuple[bytes, int]:
        """Some of them, and what they take of the room."""
        events, length, taken, until = list[bytes](), 0, 0, monotonic() + TURN
        while not self._ear.empty and length < PIECE and monotonic() < until:
            reply, size = self._ear.take()
            taken += size
            for event in self._told(reply):
                events.append(event)
                length += len(event)
        return b"".join(events), taken


class Listening:
    """Who listens, counted."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}
        # held by the one that follows for all, so that an event wakes one and not a thousand
        self.following = anyio.Lock()

    @contextmanager
    def _counted(self, bound: Bound) -> Iterator[Room]:
        project, number = bound.binding.scope.project, bound.binding.id
        room = self._rooms.setdefault(project, Room())
        every = sum(each.listeners.total() for each in self._rooms.values())
        if room.listeners[number] >= EACH or room.listeners.total() >= OF_PROJECT or every >= ALL:
            raise KVError(
                "too-many",
                429,
                "Too many requests",
                f"There are {EACH} listeners of this environment already, {OF_PROJECT} of this "
                f"project, or {ALL} of all.",
                "End some of them, or listen to several channels with one.",
            )
        room.listeners[number] += 1
        try:
            yield room
        finally:
            room.listeners[number] -= 1
            if not room.listeners.total():
                self._rooms.pop(project, None)

    @asynccontextmanager
    async def listen(
        self, bound: Bound, given: Sequence[str], *, patterns: bool
    ) -> AsyncIterator[Listener]:
        """A listener to channels, or to all that patterns match. Raises `KVError`."""
        names = list(dict.fromkeys(given))
        sizes = [len(name.encode()) for name in names]
        if not all(names) or len(names) > CHANNELS or max(sizes) > NAME or sum(sizes) > NAMES:
            raise bad_input(
                f"Name 1 to {CHANNELS} channels of 1 to {NAME} bytes, {NAMES} bytes in all."
            )
        wanted = Patterns([_short(bound, name) for name in names]) if patterns else None
        with self._counted(bound) as room:
            ear = await _connected(bound, room)
            try:
                if wanted is not None:
                    # of patterns the server allows the one that is all of its own
                    ear.say(("PSUBSCRIBE", own(bound, "*")))
                    await _confirmed(ear, 1)
                    first, told = _begun("psubscribe", names), _matched(bound, names, wanted)
                else:
                    actual = {own(bound, name).encode(): name.encode() for name in names}
                    ear.say(("SUBSCRIBE", *actual))
                    await _confirmed(ear, len(actual))
                    first, told = _begun("subscribe", names), _heard(actual)
                yield Listener(ear, room, first, told)
            finally:
                ear.forget()


async def _connected(bound: Bound, room: Room) -> Ear:
    service, binding = bound.service, bound.binding
    try:
        with anyio.fail_after(TIMEOUT):
            _, ear = await asyncio.get_running_loop().create_connection(
                lambda: Ear(room), service.host, service.port(PORT)
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


def _matched(bound: Bound, names: Sequence[str], wanted: Patterns) -> Told:
    prefix, called = f"{bound.binding.account}:".encode(), [name.encode() for name in names]

    def told(reply: Any) -> Iterator[bytes]:
        kind, _, channel, text = reply
        short = channel.removeprefix(prefix)
        if kind != b"pmessage" or len(short) > NAME:
            return
        for name, fits in zip(called, wanted.matches(short), strict=True):
            if fits:
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
                left = BODY
                while left > 0 and (got := await receive())["type"] != "http.disconnect":
                    left -= len(got.get("body", b""))
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
