"""Streams that a reader takes at its own pace."""

from collections.abc import AsyncIterator, Callable

import anyio

from purveyor_hooks.types import Event


async def paced(follow: Callable[[int], AsyncIterator[Event]], after: int, silence: float) -> AsyncIterator[Event | None]:
    """Every event after a number, and None whenever none came for `silence` seconds; ends when the line does.

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
