"""Copies of the database: one before its tables are changed, and one each day, so that its loss is
not the end."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread

from purveyor.kernel.db.faults import told
from purveyor.kernel.naming import number_of

FOLDER = "copies"
EVERY = 24 * 3600.0  # seconds
KEPT = 3


def copy(path: Path, name: str) -> Path:
    """Copy a database, whole as of now, to the folder of copies beside it."""
    folder = path.parent / FOLDER
    made = folder / f"{name}.db"
    with told(made):
        folder.mkdir(mode=0o700, exist_ok=True)
        part = made.with_suffix(".part")
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as target:
                # in one step: part by part it begins anew whenever somebody writes, and never ends
                source.backup(target)
            part.rename(made)
        finally:
            part.unlink(missing_ok=True)
    return made


async def keep(path: Path) -> None:
    """Copy the database once a day for as long as this runs, and keep the last few."""
    while True:
        await anyio.to_thread.run_sync(_turn, path)
        await anyio.sleep(EVERY / 24)


def _turn(path: Path) -> None:
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
