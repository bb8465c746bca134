"""What a disk, a file system or the operating system does to the state directory, told once and in
words."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from purveyor_hooks import PurveyorError, StateRefused, StateUnavailable, StorageFull

FULL = frozenset([errno.ENOSPC, errno.EDQUOT])
HANDLES = frozenset([errno.EMFILE, errno.ENFILE])
DENIED = frozenset([errno.EACCES, errno.EPERM])
NO_PLACE = frozenset(
    [errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP]
)
LITTLE = 64 * 1024  # bytes: with less, SQLite cannot even make the files that it works with


@contextmanager
def translate_faults(
    path: Path, kinds: tuple[type[Exception], ...] = (sqlite3.Error, OSError)
) -> Iterator[None]:
    """Errors of SQLite and of the operating system at `path` are raised as ours, with what to
    do."""
    try:
        yield
    except kinds as error:
        found = translate_error(error, path)
        if found is None:
            raise
        raise found from error


def translate_error(error: Exception, path: Path) -> PurveyorError | None:
    """The error of ours that one at `path` means, None for a fault of the program."""
    if isinstance(error, OSError):
        return _system(error.errno or 0, path)
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return _full(path)
    # with a file system that can be written it is a reader of ours that writes
    if code == sqlite3.SQLITE_READONLY:
        cause = _cause(path)
        return _system(cause, path) if cause in (errno.EROFS, errno.EACCES) else None
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StateUnavailable(
            f"The database {path} is locked by another process.",
            remedy=f"Nothing was changed. End what has it open (fuser {path}), and try again.",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StateRefused(f"The database {path} is damaged: {error}.", remedy=way_back(path))
    # SQLite does not say why: the system does
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
        return _system(_cause(path), path)
    return None


def _cause(path: Path) -> int:
    """What stands in the way of writing beside `path`, as an errno."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        room = os.statvfs(path.parent)
    except OSError as error:
        return error.errno or errno.EIO
    if room.f_flag & os.ST_RDONLY:
        return errno.EROFS
    if room.f_bavail * room.f_frsize < LITTLE or (room.f_files and not room.f_favail):
        return errno.ENOSPC
    if not os.access(path if path.exists() else path.parent, os.R_OK | os.W_OK):
        return errno.EACCES
    return errno.EIO


def _system(number: int, path: Path) -> PurveyorError | None:
    if number in FULL:
        return _full(path)
    if number == errno.EROFS:
        return _read_only(path)
    if number in HANDLES:
        return StateUnavailable(
            "This process has no file handle left.",
            remedy=(
                "It passes when connections end. Raise the limit: LimitNOFILE in "
                "purveyor.service, or ulimit -n."
            ),
        )
    if number in DENIED:
        return StateUnavailable(
            f"This user may not use {path}.",
            remedy=f"Run Purveyor as the user who owns {path.parent}, or choose another --state.",
        )
    if number in NO_PLACE:
        return StateUnavailable(
            f"{path} cannot be made: {os.strerror(number)}.",
            remedy=(
                "A state directory is a folder, or a name for one in a folder: choose another "
                "--state."
            ),
        )
    if number == errno.EIO:
        return StateUnavailable(
            f"The disk under {path.parent} does not read or write.",
            remedy="See what the kernel says of it: dmesg.",
        )
    return None


def _full(path: Path) -> StorageFull:
    return StorageFull(
        f"The state cannot be written: the disk of {path.parent} is full.",
        remedy="Nothing was changed. Make room, then try again; running services go on.",
    )


def _read_only(path: Path) -> StateUnavailable:
    return StateUnavailable(
        f"The state cannot be written: {path.parent} is read-only.",
        remedy=(
            "Nothing was changed. Mount it for writing (mount -o remount,rw), and see dmesg "
            "for why it became so."
        ),
    )


def way_back(path: Path) -> str:
    """How a database comes back: from the newest copy that there is."""
    folder = path.parent / "copies"
    found = (
        sorted(folder.glob("*.db"), key=lambda item: item.stat().st_mtime)
        if folder.is_dir()
        else []
    )
    own = f" The newest of Purveyor's own is {found[-1]}." if found else ""
    return (
        f"Stop Purveyor, and put the newest copy back: purveyor recover database --plan.{own} "
        "Where a bucket has newer ones, name it: purveyor recover database s3://BUCKET/PATH. "
        "Without one: purveyor recover containers --plan"
    )
