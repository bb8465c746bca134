"""What is in two backups, thing by thing, side by side on disk: memory stays bounded however many
there are."""

import hashlib
import secrets
import sqlite3
from pathlib import Path
from typing import Any

import anyio.to_thread

from purveyor.kernel.db.faults import translate_faults
from purveyor_hooks import Inventory
from purveyor_hooks.types import HOLDERS, holder_of

BATCH = 2000
CACHE = 32 * 1024  # KiB
LONGEST = 200  # characters of what a thing is called; of more the beginning, and a hash
TOLD = 100  # differences; of more the number
TABLE = """
CREATE TABLE things (
    kind TEXT NOT NULL, name TEXT NOT NULL, what TEXT NOT NULL, digest BLOB NOT NULL,
    saved INTEGER NOT NULL, restored INTEGER NOT NULL, fleeting INTEGER NOT NULL,
    PRIMARY KEY (kind, name, what, digest)
) STRICT, WITHOUT ROWID
"""
NUMBERS = "SELECT kind, name, sum(saved) FROM things GROUP BY kind, name"
DIFFERENT = """
SELECT kind, name, what, sum(saved), sum(restored) FROM things GROUP BY kind, name, what
HAVING sum(saved <> restored) AND NOT max(fleeting)
"""


class Side:
    """`Contents` of one of the two."""

    def __init__(self, db: sqlite3.Connection, path: Path, column: str) -> None:
        self._db = db
        self._path = path
        self._column = column
        self._batch: list[tuple[Any, ...]] = []
        self._put = (
            "INSERT INTO things (kind, name, what, digest, saved, restored, fleeting) VALUES (?, "
            "?, ?, ?, 0, 0, ?) "
            "ON CONFLICT DO UPDATE SET fleeting = max(fleeting, excluded.fleeting)",
            f"UPDATE things SET {column} = {column} + ? WHERE kind = ? AND name = ? AND what = ? "
            "AND digest = ?",
        )

    async def put(
        self,
        kind: str,
        name: str,
        what: str,
        digest: bytes,
        *,
        number: int = 1,
        fleeting: bool = False,
    ) -> None:
        if len(what) > LONGEST:
            what = (
                f"{what[:LONGEST]}… "
                f"({hashlib.sha256(what.encode(errors='surrogatepass')).hexdigest()[:16]})"
            )
        what = what.encode(errors="backslashreplace").decode()
        self._batch.append((kind, name, what, digest, number, fleeting))
        if len(self._batch) >= BATCH:
            await self.flush()

    async def forget(self, kind: str, name: str) -> None:
        await self.flush()
        await anyio.to_thread.run_sync(self._forget, kind, name)

    async def flush(self) -> None:
        batch, self._batch = self._batch, []
        await anyio.to_thread.run_sync(self._write, batch)

    def _write(self, batch: list[tuple[Any, ...]]) -> None:
        batch.sort(key=lambda item: item[:4])  # neighbours lie together in the table
        with translate_faults(self._path):
            self._db.execute("BEGIN")
            for kind, name, what, digest, number, fleeting in batch:
                self._db.execute(self._put[0], (kind, name, what, digest, fleeting))
                self._db.execute(self._put[1], (number, kind, name, what, digest))
            self._db.execute("COMMIT")

    def _forget(self, kind: str, name: str) -> None:
        with translate_faults(self._path):
            self._db.execute(
                f"UPDATE things SET {self._column} = 0 WHERE kind = ? AND name = ?", (kind, name)
            )


class Compared:
    """Two sides. The file has no name: it is gone with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        path = folder / f"contents-{secrets.token_hex(8)}"
        with translate_faults(path):
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            try:
                # nothing of it is worth a journal, and one would have a name
                for pragma in (
                    "journal_mode = OFF",
                    "synchronous = OFF",
                    f"cache_size = -{CACHE}",
                    "temp_store = MEMORY",
                ):
                    self._db.execute(f"PRAGMA {pragma}")
                self._db.execute(TABLE)
            finally:
                path.unlink(missing_ok=True)
        self._path = path
        self.saved, self.restored = Side(self._db, path, "saved"), Side(self._db, path, "restored")

    def close(self) -> None:
        self._db.close()

    async def differences(self, counted: Inventory) -> list[str]:
        """In words; `counted` is what was counted when the backup was written."""
        await self.saved.flush()
        await self.restored.flush()
        return await anyio.to_thread.run_sync(self._differences, counted)

    def _differences(self, counted: Inventory) -> list[str]:
        with translate_faults(self._path):
            said = self._numbers(counted)
            more = 0
            for kind, name, what, saved, restored in self._db.execute(DIFFERENT):
                if len(said) < TOLD:
                    said.append(_told(kind, name, what, saved, restored))
                else:
                    more += 1
        return [*said, f"and {more} more"] if more else said

    def _numbers(self, counted: Inventory) -> list[str]:
        """The numbers are another way's: asked of the server, or kept by who wrote it."""
        held: dict[str, dict[str, int]] = {}
        for kind, name, number in self._db.execute(NUMBERS):
            held.setdefault(kind, {})[name] = number
        failed = {item.where for item in counted.failed}
        every = {*failed, *(name for kind in HOLDERS for name in counted.counts.get(kind, {}))}
        said = []
        for kind, names in sorted(held.items()):
            lasting, fleeting = counted.counts.get(kind, {}), counted.fleeting.get(kind, {})
            for name in sorted({*lasting, *fleeting}):
                wanted = lasting.get(name, 0) + fleeting.get(name, 0)
                if names.get(name, 0) != wanted and (holder_of(name, every) or name) not in failed:
                    said.append(
                        f"{kind} of {name}: {wanted} were counted when it was written, it holds "
                        f"{names.get(name, 0)}"
                    )
        return said


def _told(kind: str, name: str, what: str, saved: int, restored: int) -> str:
    if not what:
        return f"{kind} of {name}: what came back is not what the backup holds"
    if not restored:
        why = "did not come back"
    elif not saved:
        why = "is not in the backup, and came back"
    else:
        why = "is not as it was"
    return f"{kind} of {name}: {what} {why}"
