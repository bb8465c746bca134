"""The locks of operations: who holds what, and who waits for whom."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

import anyio

from purveyor.kernel.operations.handle import Handle
from purveyor.kernel.operations.operation import Key
from purveyor_hooks import Conflict

PATIENCE = 30.0  # seconds that a new operation waits for its locks
LOOK = 1.0  # seconds between two looks at who is in the way


class Locks:
    """A lock is taken by whoever begins an operation and let go when that has ended, by another
    task: it outlives its caller."""

    def __init__(self) -> None:
        self._locks: defaultdict[Key, anyio.Semaphore] = defaultdict(_lock)
        self._holders: dict[Key, Handle] = {}

    def taken(self, key: Key) -> bool:
        return self._locks[key].value == 0

    async def take(self, keys: Sequence[Key]) -> None:
        """Take locks, in their order. Raises `Conflict` that names the operation in the way: at
        once when that one waits itself, else after some patience."""
        for key in keys:
            if (holder := self._holders.get(key)) is not None and holder.waits:
                raise in_the_way(holder)
        taken: list[Key] = []
        try:
            with anyio.fail_after(PATIENCE):
                for key in keys:
                    await self._locks[key].acquire()
                    taken.append(key)
        except TimeoutError:
            holder = self._holders.get(keys[len(taken)])
            self.release(taken)
            raise in_the_way(holder) from None
        except BaseException:
            self.release(taken)
            raise

    def release(self, keys: Sequence[Key]) -> None:
        for key in reversed(keys):
            self._holders.pop(key, None)
            self._locks[key].release()

    def give(self, handle: Handle) -> None:
        """Have an operation hold what was taken for it."""
        self._holders.update(dict.fromkeys(handle.keys, handle))

    def take_free(self, handle: Handle) -> None:
        """Have an operation hold those of its locks that are free."""
        for key in handle.keys:
            # else an older one has it: an older version let in two on one target
            if not self.taken(key):
                self._locks[key].acquire_nowait()
                self._holders[key] = handle

    async def take_rest(self, handle: Handle) -> None:
        """Have an operation hold all of its locks. It waits for those that an older one has, unless
        it is abandoned."""
        for key in handle.keys:
            if self._holders.get(key) is not handle and not await self.queue(handle, key):
                return

    def release_all(self, handle: Handle) -> None:
        """Let go of what an operation holds."""
        self.release([key for key in handle.keys if self._holders.get(key) is handle])

    async def queue(self, handle: Handle, key: Key) -> bool:
        """Wait for a lock that another operation has, and say so meanwhile. The answer is whether
        it was got: one that is abandoned needs none."""
        with suppress(anyio.WouldBlock):
            self._locks[key].acquire_nowait()
            self._holders[key] = handle
            return True
        had = False
        async with anyio.create_task_group() as group:

            async def tell() -> None:
                while not handle.abandoned_by:
                    holder = self._holders.get(key)
                    error = in_the_way(holder)
                    handle.waits = error.detail
                    if holder is not None and holder.waits:  # nobody knows for how long
                        handle.answered.set()
                        handle.tried(error)
                    await handle.rest(LOOK)
                group.cancel_scope.cancel()

            group.start_soon(tell)
            await self._locks[key].acquire()
            self._holders[key] = handle
            had = True
            group.cancel_scope.cancel()
        if had:
            handle.waits = ""
        return had


def _lock() -> anyio.Semaphore:
    """A lock that another task than the one that took it may release."""
    return anyio.Semaphore(1, max_value=1)


def in_the_way(holder: Handle | None) -> Conflict:
    """What whoever wants a lock is told of its holder."""
    if holder is None:
        return Conflict(
            "Another operation is in progress on the same target.",
            remedy="Follow it with: purveyor operations",
        )
    what = f"Operation {holder.operation_id} ({holder.verb})"
    remedy = f"Follow it with: purveyor operations {holder.operation_id}; then try again."
    if holder.waits:
        remedy += f" If it can never be ended: purveyor operations abandon {holder.operation_id}"
        return Conflict(
            f"{what} is in the way until it has ended: {holder.waits.rstrip('.')}.", remedy=remedy
        )
    return Conflict(f"{what} is in progress on the same service or project.", remedy=remedy)
