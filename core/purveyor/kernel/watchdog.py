"""Long work is ended for lack of progress, never for its length."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from purveyor_hooks import DeadlineExceeded

T = TypeVar("T")


class Heartbeat:
    """Work that goes on says so by `beat`."""

    def __init__(self) -> None:
        self.last = anyio.current_time()
        self.bytes = 0

    def beat(self, size: int = 0) -> None:
        self.last = anyio.current_time()
        self.bytes += size


async def run_with_stall_timeout(
    work: Callable[[Heartbeat], Awaitable[T]],
    limit: float,
    what: str,
    tell: Callable[[int], Awaitable[None]] | None = None,
    every: float = 2.0,
) -> T:
    """Run work that beats; when it has not for `limit` seconds it is cancelled and
    `DeadlineExceeded` raised.

    `tell` hears how many bytes have passed, now and then.
    """
    pulse = Heartbeat()
    stalled = False

    async def watch(scope: anyio.CancelScope) -> None:
        nonlocal stalled
        told = 0
        while True:
            await anyio.sleep(min(every, limit / 4))
            if anyio.current_time() - pulse.last > limit:
                stalled = True
                scope.cancel()
                return
            if tell is not None and pulse.bytes != told:
                told = pulse.bytes
                await tell(told)

    answer: list[T] = []
    failed: list[BaseException] = []

    async def run() -> None:
        try:
            answer.append(await work(pulse))
        except Exception as error:  # carried out of the group, which would wrap it
            failed.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(watch, group.cancel_scope)
        await run()
        group.cancel_scope.cancel()
    if failed:
        raise failed[0]
    if not answer:
        assert stalled
        raise DeadlineExceeded(
            f"{what} made no progress for {limit:.0f} s and was ended.",
            remedy="Is the disk or network stuck?",
        )
    return answer[0]
