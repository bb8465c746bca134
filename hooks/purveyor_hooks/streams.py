"""Streams that a reader takes at its own pace, and what they are called."""

from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

import anyio

from purveyor_hooks.types import Event


def attachment(path: str) -> str:
    """The header Content-Disposition for something to save, named for the last part of its path
    (RFC 6266): whatever letters it has, and without those that end a header or leave a folder."""
    name = (
        "".join(letter if letter.isprintable() else "_" for letter in path.rpartition("/")[2])[
            :200
        ].strip(". ")
        or "file"
    )
    plain = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_"
        for letter in name
    )
    encoded = quote(name.encode(errors="replace"), safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


async def paced(
    follow: Callable[[int], AsyncIterator[Event]], after: int, silence: float
) -> AsyncIterator[Event | None]:
    """Every event after a number, and None whenever none came for `silence` seconds; ends when the
    line does.

    Waiting has the deadline, and handing over has none: a reader who takes long is never cut off.
    """
    line = follow(after)
    while True:
        event: Event | None = None
        ended = False
        with anyio.move_on_after(silence) as scope:
            try:
                event = await anext(line)
            except StopAsyncIteration:
                ended = True
        if ended:
            return
        if event is not None:
            after = event.id
        elif scope.cancelled_caught:
            line = follow(after)  # the one that was waited for is closed by that
        yield event
