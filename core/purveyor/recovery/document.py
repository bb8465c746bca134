"""The state as one small database: every row that matters, and history only as far as it is
unfinished.

What changed is known by a counter. Triggers of the writer's own connection raise it in the very
transaction that changes something that matters: they see cascades and raw SQL alike, need no
migration, and leave nothing behind in the file.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from purveyor_hooks import BadInput

UNDER_WAY = "state IN ('running', 'undoing')"
# Of these tables a document has the rows named here alone, or none. A table that nobody has put
# here is carried whole.
HISTORY = {
    "audit": "FALSE",
    "audit_marks": "TRUE",  # from the last number the log goes on
    "events": "FALSE",
    "looks": "FALSE",
    "web_sessions": "FALSE",
    "operations": UNDER_WAY,
    "steps": f"operation_id IN (SELECT id FROM main.operations WHERE {UNDER_WAY})",
}
# tables of which no change is one
PASSING = ("audit", "audit_marks", "events", "looks", "steps", "web_sessions")
COUNTED = {"operations": "{row}." + UNDER_WAY}  # of these, rows alone that a document has
# Columns that say what was seen. They travel along with the next change, and are none themselves.
OBSERVED = {
    "archives": {"until", "queue_bytes", "reason", "state"},
    "schedules": {"last_run", "last_result", "under_way"},
    "services": {"updated_at"},
    "tokens": {"last_used_at"},
}
REVISION = "revision"
# rows of `meta` that are the copies' own
OWN_FACTS = (REVISION, "term", "incarnation", "took-over")
SEEN_FACTS = "incident-%"  # rows of `meta` that say what was seen
CARRIED = "carried"
UNWRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)
RAISE = f"UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = '{REVISION}'"


class File(NamedTuple):
    """What lies beside the database: its permissions, and its content."""

    mode: int
    content: bytes


def watch(writer: sqlite3.Connection) -> None:
    """Have every transaction of this connection that changes what matters raise the revision. To be
    called once the tables are as they should be; whatever happened before is a change, unless the
    disk is full: then it is one with the next."""
    try:
        with writer:
            writer.execute("INSERT OR IGNORE INTO meta VALUES (?, '0')", [REVISION])
            writer.execute(RAISE)
    except sqlite3.OperationalError as error:  # what can be read is to be read
        if error.sqlite_errorcode & 0xFF not in UNWRITABLE:
            raise
    with writer:
        for table in _tables(writer):
            if table not in PASSING:
                _watch(writer, table)


def _watch(writer: sqlite3.Connection, table: str) -> None:
    columns = [row[1] for row in writer.execute(f'PRAGMA main.table_info("{table}")')]
    telling = [name for name in columns if name not in OBSERVED.get(table, ())]
    # an update to the same is no change
    differs = " OR ".join(f'OLD."{name}" IS NOT NEW."{name}"' for name in telling)
    for word, row, condition in (
        ("INSERT", "NEW", "TRUE"),
        ("DELETE", "OLD", "TRUE"),
        ("UPDATE", "NEW", f"({differs})"),
    ):
        if table in COUNTED:
            rows = ("OLD", "NEW") if word == "UPDATE" else (row,)
            condition += f" AND ({' OR '.join(COUNTED[table].format(row=item) for item in rows)})"
        if table == "meta":
            own = ", ".join(f"'{name}'" for name in OWN_FACTS)
            condition += f" AND {row}.key NOT IN ({own}) AND {row}.key NOT LIKE '{SEEN_FACTS}'"
        writer.execute(
            f'CREATE TEMP TRIGGER "copy {table} {word}" AFTER {word} ON main."{table}" WHEN '
            f"{condition} BEGIN {RAISE}; END"
        )


def revision(path: Path) -> int:
    """The number of changes so far."""
    with closing(_connect(path)) as db:
        return _revision(db)


def _revision(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM main.meta WHERE key = ?", [REVISION]).fetchone()
    return int(row[0]) if row else 0


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10
    )


def _tables(db: sqlite3.Connection) -> list[str]:
    found = db.execute(
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite^_%' "
        "ESCAPE '^'"
    )
    return sorted(row[0] for row in found)


def make(path: Path, files: Mapping[str, File]) -> tuple[int, bytes]:
    """The revision and the bytes of a database that holds what matters, and `files` beside it: one
    read transaction, for which no writer waits."""
    with closing(_connect(path)) as db:
        db.execute("ATTACH ':memory:' AS copy")
        db.execute("BEGIN")
        number = _revision(db)  # the snapshot is taken here
        found = db.execute(
            "SELECT type, name, sql FROM main.sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
        ).fetchall()
        own = [(kind, name, sql) for kind, name, sql in found if not name.startswith("sqlite_")]
        for kind, name, sql in own:
            if kind == "table":
                db.execute(_in_copy(sql, "TABLE"))
                db.execute(
                    f'INSERT INTO copy."{name}" SELECT * FROM main."{name}" WHERE '
                    f"{HISTORY.get(name, 'TRUE')}"
                )
        for kind, _, sql in own:
            if kind != "table":
                db.execute(_in_copy(sql, kind.upper()))
        # numbers go on where they were, not where the rows end
        db.execute("DELETE FROM copy.sqlite_sequence")
        db.execute("INSERT INTO copy.sqlite_sequence SELECT * FROM main.sqlite_sequence")
        db.execute(
            f"CREATE TABLE copy.{CARRIED} (name TEXT PRIMARY KEY, mode INTEGER NOT NULL, content "
            "BLOB NOT NULL) STRICT"
        )
        db.executemany(
            f"INSERT INTO copy.{CARRIED} VALUES (?, ?, ?)",
            [(name, *file) for name, file in files.items()],
        )
        db.execute("COMMIT")
        return number, db.serialize(name="copy")


def _in_copy(sql: str, word: str) -> str:
    """A statement of the schema, for the attached database."""
    head, _, rest = sql.partition(f"{word} ")
    return f"{head}{word} copy.{rest.lstrip()}"


def write(body: bytes, target: Path) -> dict[str, File]:
    """Make the database file of a document, whole or not at all; the answer is the files that it
    carries beside.

    Raises `BadInput` for one that is not whole.
    """
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as opened:
        opened.write(body)
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as db:
            files = {
                name: File(*file)
                for name, *file in db.execute(f"SELECT name, mode, content FROM {CARRIED}")
            }
            db.execute(f"DROP TABLE {CARRIED}")
            found = (
                db.execute("PRAGMA integrity_check").fetchone()[0],
                db.execute("PRAGMA foreign_key_check").fetchall(),
            )
        if found != ("ok", []):
            raise BadInput(
                f"The copy of the state is not whole: {found}.",
                remedy="Choose an older one: --at TIME",
            )
    except sqlite3.Error as error:
        raise BadInput(
            f"The copy of the state cannot be read: {error}.",
            remedy="Choose an older one: --at TIME",
        ) from None
    with part.open("rb") as opened:
        os.fsync(opened.fileno())
    part.replace(target)
    return files


def rows(db: sqlite3.Connection) -> Iterator[tuple[str, list[Any]]]:
    """What of a database has to be the same in its document, by table: for comparing, and apart
    from `make` on purpose."""
    for table in _tables(db):
        if table == CARRIED or table in PASSING:
            continue
        names = [
            row[1]
            for row in db.execute(f'PRAGMA main.table_info("{table}")')
            if row[1] not in OBSERVED.get(table, ())
        ]
        listed = ", ".join(f'"{name}"' for name in names)
        where = f" WHERE {HISTORY[table]}" if table in HISTORY else ""
        if table == "meta":
            where = f" WHERE key NOT IN {OWN_FACTS} AND key NOT LIKE '{SEEN_FACTS}'"
        yield (
            table,
            sorted(db.execute(f'SELECT {listed} FROM main."{table}"{where}').fetchall(), key=repr),
        )
