"""Small objects are carried side by side: one after the other, most of the time would go into
waiting for the server.

They are held in memory meanwhile, at most a turn of them; larger ones go one by one, in constant
memory.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import anyio

from purveyor_s3.transfer import first_of

T = TypeVar("T")
SMALL = 256 * 1024  # bytes
TURN = 32  # objects
AT_ONCE = 8


async def together(work: Callable[[T], Awaitable[Any]], items: Sequence[T]) -> list[Any]:
    """What `work` answers for each, in their order. Raises the first error, when what was under way
    has ended."""
    answers: list[Any] = [None] * len(items)
    waiting = iter(enumerate(items))

    async def take() -> None:
        for place, item in waiting:
            answers[place] = await work(item)

    try:
        async with anyio.create_task_group() as group:
            for _ in range(min(AT_ONCE, len(items))):
                group.start_soon(take)
    except BaseExceptionGroup as errors:
        raise first_of(errors) from None
    return answers
