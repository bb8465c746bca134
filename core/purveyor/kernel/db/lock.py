"""The lock on the state directory: one process at a time runs the core."""

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import anyio

from purveyor.kernel.db.faults import translate_faults
from purveyor_hooks import Conflict

DAEMON = "daemon.lock"  # held by a daemon from its first moment, also while it waits for its turn


class StateLocked(Conflict):
    """Another process runs the core of this state directory."""

    def __init__(self, state: Path, holder: str) -> None:
        super().__init__(
            f"Another Purveyor (process {holder}) is using {state}.",
            remedy="Stop it first, or give this one another state directory (--state).",
        )
        self.holder = holder


def holder(state: Path, name: str = "lock") -> str:
    """The number of the process that has taken the lock last, "" when that is not known."""
    try:
        return (state / name).read_text().strip()
    except OSError:
        return ""


def daemon_is_there(state: Path) -> bool:
    """Whether a daemon serves, is about to, or ends: nobody else begins to run the core before it,
    for it would wait for ever behind one command after the other."""
    try:
        handle = os.open(state / DAEMON, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # for a moment: a daemon that begins just then tries again
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


class StateLock:
    """Held from `acquire` until `release` or the end of the process, however it ends."""

    def __init__(self, state: Path, name: str = "lock") -> None:
        self._path = state / name
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises `StateLocked` that names the process that holds it."""
        with translate_faults(self._path):
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            number = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise StateLocked(self._path.parent, number or "unknown") from None
        with suppress(OSError):  # on a full disk it is held all the same, by nobody knows whom
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode())
        self._handle = handle

    async def wait(
        self, patience: float, tell: Callable[[StateLocked], None] = lambda locked: None
    ) -> None:
        """Take the lock, and wait for whoever has it. `tell` hears once that it is waited. Raises
        `StateLocked` after `patience` seconds."""
        until = anyio.current_time() + patience
        waited = False
        while True:
            try:
                self.acquire()
                return
            except StateLocked as locked:
                if anyio.current_time() >= until:
                    raise
                if not waited:
                    tell(locked)
                waited = True
            await anyio.sleep(0.1)

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> "StateLock":
        if self._handle is None:
            self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
