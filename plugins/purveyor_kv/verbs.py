"""KV commands as generators, without I/O: each yields commands, is sent the replies, and returns the
result.

The server and the SDK's direct path run the very same ones, so both mean the same.
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar

import msgspec

from purveyor_kv.errors import bad_input

T = TypeVar("T")
Word = str | bytes | int
Words = tuple[Word, ...]
Talk = Generator[Words, Any, T]

KEY_LIMIT = 32 * 1024  # bytes
PATTERN_LIMIT = 1024
LARGEST = 2**63 - 1
SCAN_COUNT = 1000


def get(key: str) -> Talk[Any]:
    """The value of a key, None without one."""
    return value_of((yield ("GET", _key(key))))


def get_raw(key: str) -> Talk[bytes]:
    """The value of a key as JSON text."""
    reply = yield ("GET", _key(key))
    if reply is None:
        return b"null"
    try:
        msgspec.json.decode(reply)
    except msgspec.DecodeError:
        return msgspec.json.encode(value_of(reply))
    return bytes(reply)


def value_of(reply: Any) -> Any:
    """A stored value: JSON, or plain text that somebody else put there."""
    if reply is None:
        return None
    try:
        return msgspec.json.decode(reply)
    except msgspec.DecodeError:
        pass
    try:
        return str(reply, "utf-8")
    except UnicodeDecodeError:
        raise bad_input(
            "The key's value is neither JSON nor text.", "Read it with a Redis client."
        ) from None


def json_of(value: Any) -> bytes:
    """A value as JSON text."""
    if isinstance(value, msgspec.Raw):
        return bytes(value)
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise bad_input(
            f"The value is not JSON: {error}.",
            "Give text, numbers, booleans, lists, objects or null.",
        ) from None


def set_(
    key: str,
    value: Any,
    ex: int | None = None,
    px: int | None = None,
    nx: bool = False,
    xx: bool = False,
) -> Talk[str | None]:
    """Set a key. `ex` in seconds and `px` in milliseconds are when it ends; `nx` only when it is
    not there, `xx` only when it is: None then says that nothing was set."""
    if ex is not None and px is not None:
        raise bad_input("ex and px exclude each other.", "Give one of the two.")
    if nx and xx:
        raise bad_input("nx and xx exclude each other.", "Give one of the two.")
    words: list[Word] = ["SET", _key(key), json_of(value)]
    if ex is not None:
        words += ["EX", _positive(ex, "ex")]
    if px is not None:
        words += ["PX", _positive(px, "px")]
    words += ["NX"] * nx + ["XX"] * xx
    reply = yield tuple(words)
    return None if reply is None else "OK"


def delete(keys: Sequence[str]) -> Talk[int]:
    """Delete keys; the answer is how many were there."""
    if isinstance(keys, str):
        raise bad_input("keys must be a list.")
    names = [_key(key) for key in keys]
    return int((yield ("DEL", *names))) if names else 0


def incr(key: str, amount: int = 1) -> Talk[int]:
    """Add to a whole number; a key that is not there counts as 0."""
    if isinstance(amount, bool) or not isinstance(amount, int) or not -LARGEST <= amount <= LARGEST:
        raise bad_input("amount must be a whole number of at most 64 bits.")
    return int((yield ("INCRBY", _key(key), amount)))


def expire(key: str, seconds: int) -> Talk[bool]:
    """End a key in some seconds; False when it is not there."""
    return bool((yield ("EXPIRE", _key(key), _positive(seconds, "seconds"))))


def ttl(key: str) -> Talk[int]:
    """Seconds until a key ends; -1 when it does not, -2 when it is not there."""
    return int((yield ("TTL", _key(key))))


def keys(pattern: str) -> Talk[list[str]]:
    """The keys that match a pattern (``*``, ``?``, ``[abc]``, ``\\`` before a character), in
    order."""
    _check_pattern(pattern)
    found: set[str] = set()
    cursor = "0"
    while True:
        reply = yield ("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
        found.update(str(key, "utf-8", "replace") for key in reply[1])
        cursor = str(reply[0], "ascii")
        if cursor == "0":
            return sorted(found)


def _key(key: Any) -> str:
    if not isinstance(key, str) or not key:
        raise bad_input("A key must be text of at least one character.")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise bad_input("A key must be text that UTF-8 can hold.") from None
    if size > KEY_LIMIT:
        raise bad_input(
            f"The key has {size} bytes; at most {KEY_LIMIT} are taken.",
            "Shorten it, or use its hash.",
        )
    return key


def _positive(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LARGEST // 1000:
        raise bad_input(
            f"{name} must be a whole number above 0.", "To remove a key now, delete it."
        )
    return value


def _check_pattern(pattern: Any) -> None:
    if (
        not isinstance(pattern, str)
        or not pattern
        or len(pattern.encode("utf-8", "replace")) > PATTERN_LIMIT
    ):
        raise bad_input(
            f"A pattern must be text of 1 to {PATTERN_LIMIT} bytes.", "For every key: *"
        )
    inside = False
    escaped = False
    for character in pattern:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "[":
            inside = True
        elif character == "]":
            inside = False
    if inside or escaped:
        raise bad_input(
            "The pattern is not complete.",
            "Close every [ with ], and let a character follow every \\.",
        )


def check(talk: Talk[Any]) -> None:
    """Refuse bad input before anything is sent; the talk is over then."""
    next(talk, None)
    talk.close()


def drive(talk: Talk[T], ask: Callable[[Words], Any]) -> T:
    """Have a talk by asking one command after the other."""
    try:
        words = next(talk)
        while True:
            words = talk.send(ask(words))
    except StopIteration as end:
        result: T = end.value
        return result


async def drive_async(talk: Talk[T], ask: Callable[[Words], Awaitable[Any]]) -> T:
    """Have a talk by awaiting one command after the other."""
    try:
        words = next(talk)
        while True:
            words = talk.send(await ask(words))
    except StopIteration as end:
        result: T = end.value
        return result
