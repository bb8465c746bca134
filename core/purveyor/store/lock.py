"""The lock on the state directory: one process at a time runs the core."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from purveyor_hooks import Conflict


class StateLock:
    """Held from `acquire` until `release` or the end of the process, however it ends."""

    def __init__(self, state: Path) -> None:
        self._path = state / "lock"
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises `Conflict` that names the process that holds it."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise Conflict(
                f"Another Purveyor (process {holder}) is using {self._path.parent}.",
                remedy="Stop it first, or give this one another state directory (--state).",
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        self._handle = handle

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> "StateLock":
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
