"""What lies beside the database and belongs to the state: settings, the state's key, hooks, what
plugins keep.

Whatever is in the state directory is carried, but for what is listed here: a plugin's folder is not
forgotten because nobody thought of it. A SQLite file is copied as one whole state of it.
"""

import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from purveyor.recovery.document import File

DATABASE, KEY = "purveyor.db", "key"
PART = "taken"  # the folder of a database that is being made of what containers and servers say
LEFT = {
    "lock",
    "daemon.lock",
    "purveyor.sock",
    "backup.key",
    "beginning",
    "copies",
    "volumes",
    "backups",
    "archives",
    PART,
}  # at the top
LARGEST = 16 * 1024 * 1024  # bytes of one file; larger ones are no state
SMALLEST = 512  # bytes of a SQLite file; what is smaller it may take for an empty one
PATIENCE = 5.0  # seconds for somebody who writes to one of them
ASIDE = ("-wal", "-shm", "-journal")  # of SQLite's own, beside a file of that name


def read_files(state: Path, without: Collection[Path] = ()) -> dict[str, File]:
    """Each file, by its path in the state directory. Folders `without` are left out: of data, of
    backups."""
    found: dict[str, File] = {}
    for path in _files(state, without):
        try:
            seen = path.stat()
            if seen.st_size > LARGEST:
                continue
            content = _content(path, seen.st_size)
        except OSError:  # it went away meanwhile
            continue
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise  # the next try has it: a copy that lacks it would be taken for whole
            continue
        found[str(path.relative_to(state))] = File(seen.st_mode & 0o777, content)
    return found


def too_large(state: Path, without: Collection[Path] = ()) -> dict[Path, int]:
    """The files that are not carried, since they are larger than any state, and their bytes."""
    return {path: size for path in _files(state, without) if (size := _size(path)) > LARGEST}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it went away meanwhile
        return 0


def _files(state: Path, without: Collection[Path]) -> Iterator[Path]:
    for folder, folders, names in os.walk(state):
        top = Path(folder) == state
        folders[:] = sorted(
            name
            for name in folders
            if not (top and name in LEFT) and Path(folder) / name not in without
        )
        for name in sorted(names):
            if top and (
                name in LEFT or name.startswith(DATABASE) or name.endswith((".log", ".part"))
            ):
                continue
            path = Path(folder) / name
            if not path.is_file() or name.endswith(ASIDE):  # of a link, what it leads to
                continue
            yield path


def _content(path: Path, size: int) -> bytes:
    """A file's bytes. SQLite is asked first whether it is one of its own: opening and closing one
    of those by ourselves would drop the locks that this process holds on it."""
    if size < SMALLEST:
        return path.read_bytes() if size else b""
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=PATIENCE)) as db:
            db.execute("BEGIN")
            # waits so long and no longer; `backup` would wait for ever
            db.execute("SELECT count(*) FROM sqlite_master")
            return db.serialize()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise
    return path.read_bytes()


def stamp(state: Path, without: Collection[Path] = ()) -> tuple[tuple[str, int, int], ...]:
    """What tells one state of these files from another, without reading them: names, sizes,
    times."""
    found = []
    for path in _files(state, without):
        for item in (path, path.with_name(f"{path.name}-wal")):
            try:
                seen = item.stat()
            except OSError:
                continue
            found.append((str(item.relative_to(state)), seen.st_size, seen.st_mtime_ns))
    return tuple(found)


def put_back(files: Mapping[str, File], state: Path) -> None:
    """Write the files of a document into a state directory that is not in use yet."""
    for name, file in files.items():
        path = state / name
        if not path.resolve().is_relative_to(state.resolve()):
            continue  # sealed with our key, and yet: never outside
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, file.mode)
        with os.fdopen(handle, "wb") as opened:
            opened.write(file.content)
            opened.flush()
            os.fsync(handle)
