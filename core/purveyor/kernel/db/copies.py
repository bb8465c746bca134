"""Copies of the database: one before its tables are changed, and one each day, so that its loss is
not the end."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

from purveyor.kernel.db.faults import translate_faults
from purveyor.kernel.naming import number_of
from purveyor_hooks import StateRefused

FOLDER = "copies"
RESCUED = "rescued"
EVERY = 24 * 3600.0  # seconds
KEPT = 3


class Kept(NamedTuple):
    """What tells one state of the database from another: a later one has a higher term, or in the
    same one a higher revision."""

    installation: str
    incarnation: str
    term: int
    revision: int


def copy(path: Path, name: str) -> Path:
    """Copy a database, whole as of now, to the folder of copies beside it."""
    made = path.parent / FOLDER / f"{name}.db"
    with translate_faults(made), closing(_opened(path, "rw")) as source:
        _write(source, made)
    return made


def rescue(source: sqlite3.Connection, path: Path) -> Path:
    """Copy what a connection still has of a database whose file was taken away. Raises
    `sqlite3.Error` and `StateRefused` when that is nothing, or not all."""
    made = path.parent / FOLDER / f"{RESCUED}.db"
    with translate_faults(made, (OSError,)):
        _write(source, made, whole=True)
    return made


def identify_copy(path: Path) -> Kept | None:
    """Which state a database file holds, None for one that is not there, not whole or of nobody."""
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        with closing(_opened(path, "ro")) as db:
            return _kept(db)
    except sqlite3.Error:
        return None


def _kept(db: sqlite3.Connection) -> Kept | None:
    if db.execute("PRAGMA integrity_check").fetchone() != ("ok",):
        return None
    facts = dict(db.execute("SELECT key, value FROM meta").fetchall())
    if "seal" not in facts:
        return None
    return Kept(
        str(facts.get("installation") or ""),
        str(facts.get("incarnation") or ""),
        int(facts.get("term") or 0),
        int(facts.get("revision") or 0),
    )


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    # one that was taken away is not made anew, as an empty one
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)


def _write(source: sqlite3.Connection, made: Path, *, whole: bool = False) -> None:
    made.parent.mkdir(mode=0o700, exist_ok=True)
    part = made.with_suffix(".part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(part)) as target:
            # in one step: part by part it begins anew whenever somebody writes, and never ends
            source.backup(target)
            if whole and _kept(target) is None:  # rather the copy of before than one of nothing
                raise StateRefused("The database holds nothing that could be copied.")
        part.rename(made)
    finally:
        part.unlink(missing_ok=True)


async def keep(path: Path) -> None:
    """Copy the database once a day for as long as this runs, and keep the last few."""
    while True:
        await anyio.to_thread.run_sync(_rotate, path)
        await anyio.sleep(EVERY / 24)


def _rotate(path: Path) -> None:
    numbered = (
        (number_of(item.stem.partition("-")[2]), item)
        for item in (path.parent / FOLDER).glob("daily-*.db")
    )
    # any other is somebody's own
    copies = sorted((number, item) for number, item in numbered if number > 0)
    # one from the future is of a clock that was put back since
    if not copies or not 0 <= time.time() - copies[-1][1].stat().st_mtime < EVERY:
        number = copies[-1][0] + 1 if copies else 1
        copies.append((number, copy(path, f"daily-{number}")))
    for _, old in copies[:-KEPT]:
        old.unlink(missing_ok=True)
