"""An operation under way in this process, as those see it who wait for it, stop it or run it."""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from purveyor.kernel.actors import Who, name_of
from purveyor.kernel.errors import how_to_go_on
from purveyor.kernel.operations.operation import Key
from purveyor_hooks import Cancelled, Interrupted, PurveyorError

END = "its end"  # after the last step


class Handle:
    """An operation under way: its id, and how the first try to bring it to its end went."""

    def __init__(self, operation_id: int, verb: str, keys: Sequence[Key]) -> None:
        self.operation_id = operation_id
        self.verb = verb
        self.keys = keys
        self.waits = ""  # why it could not be ended yet; it is tried again
        self.because = ""  # why the last undo could not be done
        self.final = ""  # the step after which there is no way back, once it is begun
        self.undoing = False
        self.cancelled_by = ""
        self.abandoned_by: Who = ""
        self.answered = anyio.Event()  # whether it is taken back is known
        self._scope: anyio.CancelScope | None = None
        self._error: PurveyorError | None = None
        self._tried = anyio.Event()
        self._woken = anyio.Event()

    def __str__(self) -> str:
        return f"operation {self.operation_id} ({self.verb})"

    def tried(self, error: PurveyorError | None) -> None:
        if not self._tried.is_set():
            self._error = error
            self._tried.set()

    def interrupt(self) -> None:
        """Tell whoever waits that this process ends before the operation does."""
        remedy = f"It goes on when Purveyor is started again. {how_to_go_on(self.operation_id)}"
        self.tried(Interrupted(f"{self.verb} was interrupted.", remedy=remedy))

    def again(self) -> None:
        """Have `wait` wait for the next try, and have that made now."""
        # else somebody waits for that one already, and would never hear of another
        if self._tried.is_set():
            self._tried = anyio.Event()
        self.wake()

    def wake(self) -> None:
        self._woken.set()

    async def rest(self, seconds: float) -> bool:
        """Wait for the next try; the answer is whether somebody asked for it, since the last one
        began at the earliest."""
        with anyio.move_on_after(seconds):
            await self._woken.wait()
        asked, self._woken = self._woken.is_set(), anyio.Event()
        return asked

    def cancel(self, actor: str) -> None:
        """Have it taken back from where it is."""
        self.cancelled_by = actor
        self._stop()

    def abandon(self, actor: Who) -> None:
        self.abandoned_by = actor
        self._stop()

    def _stop(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
        self.wake()

    @property
    def stopped(self) -> PurveyorError | None:
        """Why nothing more may be done for it, if that is so."""
        if self.abandoned_by:
            return Cancelled(f"{self.verb} was abandoned by {name_of(self.abandoned_by)}.")
        if self.cancelled_by and not self.final and not self.undoing:
            return Cancelled(f"{self.verb} was cancelled by {self.cancelled_by}.")
        return None

    async def work(self, work: Callable[[], Awaitable[None]], deadline: float) -> bool:
        """Do a part of it, which is stopped when it is cancelled or abandoned; was it done in time?
        Raises `Cancelled`."""
        with anyio.CancelScope() as scope:
            self._scope = scope
            try:
                if self.stopped is None:
                    with anyio.move_on_after(deadline) as timer:
                        await work()
                    return not timer.cancelled_caught  # a driver's own TimeoutError is its own
            finally:
                self._scope = None
        raise self.stopped or Cancelled(f"{self.verb} was stopped.")

    async def wait(self) -> None:
        """Wait until it has ended, or could not be ended. Raises what it failed with."""
        await self._tried.wait()
        if self._error is not None:
            raise self._error
