"""The database: one writer, transactions in a worker thread, events handed on in the order of their
numbers."""

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import anyio
import anyio.to_thread
import msgspec
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from purveyor import __version__
from purveyor.kernel.db import copies, rows
from purveyor.kernel.db.beginning import MARK, describe_loss, mark_begun
from purveyor.kernel.db.faults import translate_faults, way_back
from purveyor.kernel.db.secrets import Secrets
from purveyor_hooks import Event, NotFound, PurveyorError, StateRefused

T = TypeVar("T")
Record = TypeVar("Record", bound=msgspec.Struct)
Row = dict[str, Any]
LARGEST = 2**63 - 1  # of the numbers that SQLite holds
EVERY = "TRUE"  # matches every row
READER_CACHE = 1000  # kB of pages; behind it is the system's own cache
READERS = 6  # that read side by side, each on a connection of its own


class Page(NamedTuple, Generic[T]):
    """A part of a list, and how long the whole list is."""

    items: list[T]
    total: int


class Tx:
    """One transaction: the database, the vault, the time, and the events that are published if it
    commits."""

    def __init__(self, db: Database, secrets: Secrets, now: datetime) -> None:
        self.db = db
        self.secrets = secrets
        self.now = now
        self.events: list[Event] = []
        self.operation: int | None = None  # of events that do not name theirs
        self._cursors: set[sqlite3.Cursor] = set()  # of SELECTs that are not read to their end

    def insert(self, table: str, /, **values: Any) -> int:
        """Insert a row; the answer is its number."""
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join(f":{name}" for name in values)
        cursor = self.db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", _plain(values))
        return cursor.lastrowid or 0

    def update(self, table: str, where: str, parameters: Sequence[Any], /, **values: Any) -> int:
        """Update the rows that match; the answer is how many did."""
        plain = list(_plain(values).values())
        changes = ", ".join(f'"{name}" = ?' for name in values)
        cursor = self.db.execute(
            f"UPDATE {table} SET {changes} WHERE {where}", [*plain, *_plain_list(parameters)]
        )
        return cursor.rowcount

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows of a SELECT, as they are taken: none after the transaction."""
        cursor = self.db.conn.execute(sql, _plain_list(parameters))
        self._cursors.add(cursor)
        return self._taken(cursor, [column[0] for column in cursor.description])

    def _taken(self, cursor: sqlite3.Cursor, names: Sequence[str]) -> Iterator[Row]:
        try:
            for row in cursor:
                yield dict(zip(names, row, strict=True))
        finally:
            cursor.close()
            self._cursors.discard(cursor)

    def end(self) -> None:
        """Take no more rows. SQLite commits while a SELECT is not read to its end, and leaves the
        connection with the view of that moment: whoever reads over it next would not see what has
        been written since."""
        for cursor in self._cursors:
            cursor.close()

    def page(
        self,
        columns: str,
        source: str,
        parameters: Sequence[Any],
        *,
        order: str,
        limit: int,
        offset: int,
    ) -> Page[Row]:
        """A part of what ``SELECT columns FROM source`` finds, in an order, and how much it
        finds."""
        total = self.value(f"SELECT count(*) FROM {source}", parameters)
        if offset >= total:
            return Page([], total)
        part = f"SELECT {columns} FROM {source} ORDER BY {order} LIMIT ? OFFSET ?"
        return Page(list(self.rows(part, [*parameters, limit, offset])), total)

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        return next(self.rows(sql, parameters), None)

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first column of the first row, None without one."""
        found = self.row(sql, parameters)
        return next(iter(found.values())) if found else None

    def emit(
        self,
        kind: str,
        *,
        operation: int | None = None,
        service: int | None = None,
        project: int | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Append an event to the journal; subscribers see it once this transaction is durable."""
        values = {
            "type": kind,
            "at": self.now,
            "operation": self.operation if operation is None else operation,
            "service": service,
            "project": project,
        }
        number = self.insert("events", **values, data=msgspec.json.encode(data or {}).decode())
        self.events.append(msgspec.convert({"id": number, **values, "data": data or {}}, Event))


def convert(
    row: Row,
    kind: type[Record],
    secrets: Secrets,
    *,
    plain: Sequence[str] = (),
    sealed: Sequence[str] = (),
) -> Record:
    """A record from a row whose `plain` columns hold JSON and whose `sealed` ones hold sealed
    JSON."""
    for name in plain:
        row[name] = None if row[name] is None else msgspec.json.decode(row[name])
    for name in sealed:
        row[name] = None if row[name] is None else secrets.open(row[name])
    return msgspec.convert(row, kind, strict=False)


def matching(**columns: Any) -> tuple[str, list[Any]]:
    """A WHERE clause for the columns whose value is given, and its parameters: an index serves what
    is left of it."""
    given = {name: value for name, value in columns.items() if value is not None}
    return " AND ".join(f"{name} = ?" for name in given) or EVERY, list(given.values())


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in values.items()
    }


def _plain_list(values: Sequence[Any]) -> list[Any]:
    for value in values:
        if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
            raise NotFound(f"There is nothing with the number {value}.")
    return [value.isoformat() if isinstance(value, datetime) else value for value in values]


def utc_now() -> datetime:
    return datetime.now(UTC)


def find_unknown_migrations(migrations: Migrations, db: Database) -> list[str]:
    """The migrations that a database has walked and this version does not know."""
    known = {item.name for item in migrations.pending(Database(memory=True))}
    return [item.name for item in migrations.applied(db) if item.name not in known]


class Store:
    """The database of a state directory. `write` and `read` run a function of a `Tx` in a worker
    thread.

    `published` is called with the events of each transaction after it is durable, in the order of
    their numbers, before the next transaction may begin.
    """

    def __init__(
        self,
        state: Path,
        secrets: Secrets,
        migrations: Migrations,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._path = state / "purveyor.db"
        self._secrets = secrets
        self._migrations = migrations  # each database walks each of them once
        self._clock = clock
        self._writer: Database | None = None
        self._file = (0, 0)  # device and inode of the file that is open
        self._rescued: Path | None = None  # what was in it when it was found to be gone
        self._idle: list[Database] = []  # connections that read, made when they are first needed
        self._writing = anyio.Lock()
        self._reading = anyio.Semaphore(READERS)
        self._examining = anyio.Lock()
        self.published: Callable[[Sequence[Event]], None] = lambda events: None
        self.committed: Callable[[], None] = lambda: None  # after every transaction
        # with the rows of watched tables that a transaction has changed, before it is published
        self.changed: Callable[[Collection[rows.Row]], None] = lambda rows: None
        self.watched: frozenset[str] = frozenset()
        self._changed: set[rows.Row] = set()

    def open(self) -> None:
        """Open the file, bring its tables up to date, and check that the state's key is the right
        one.

        Raises `StateRefused` for one that is damaged, lost or of a newer version,
        `StateUnavailable` when the disk does not let it be opened.
        """
        try:
            with translate_faults(self._path):
                self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        seen = self._path.stat()
        self._file, self._rescued = (seen.st_dev, seen.st_ino), None
        new = self._path.stat().st_size == 0 or (self._path.parent / MARK).exists()
        self._writer = writer = self._connect()
        self._refuse_newer(writer)
        pending = self._migrations.pending(writer)
        if pending and not new:
            copies.copy(self._path, f"before-{pending[0].name}")
        writer.enable_wal()
        self._migrations.apply(writer)
        with writer.atomic():
            tx = Tx(writer, self._secrets, self._clock())
            seal = read_note(tx, "seal")
            if seal is not None:
                self._secrets.open(seal)
            elif new:
                tx.insert("meta", key="seal", value=self._secrets.seal("purveyor"))
                tx.insert("meta", key="installation", value=os.urandom(8).hex())
            else:
                raise describe_loss(self._path, "holds nothing", [str(self._path.parent / "key")])
            if read_note(tx, "version") != __version__:
                note(tx, "version", __version__)
        mark_begun(self._path.parent)

    def _connect_reader(self) -> Database:
        reader = self._connect()
        reader.execute("PRAGMA query_only = ON")
        reader.execute(f"PRAGMA cache_size = -{READER_CACHE}")
        return reader

    def _refuse_newer(self, db: Database) -> None:
        if not (names := find_unknown_migrations(self._migrations, db)):
            return
        row = next(db.query("SELECT value FROM meta WHERE key = 'version'"), None)
        theirs = f"Purveyor {row['value']}" if row else "a later Purveyor"
        raise StateRefused(
            f"The database {self._path} was last used by {theirs}, and this is Purveyor "
            f"{__version__}: "
            f"it does not know the changes {', '.join(names)}.",
            remedy=f"Nothing was touched. Install that version again, or a later one. What was there before each change is in "
            f"{self._path.parent / copies.FOLDER}.",
        )

    def watch(self, prepare: Callable[[sqlite3.Connection], None]) -> None:
        """Have the connection that writes prepared by somebody who wants to know what changes."""
        with translate_faults(self._path):
            prepare(self._opened(self._writer).conn)

    def watch_rows(self, tables: Mapping[str, Collection[str]]) -> None:
        """Have `changed` told of the rows of these tables, but for the columns that are named with
        them."""
        self.watch(lambda writer: rows.watch(writer, tables, self._changed.add))
        self.watched = frozenset(tables)

    @property
    def path(self) -> Path:
        return self._path

    def _connect(self) -> Database:
        # one that was taken away is not made anew, as an empty one
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        db = Database(sqlite3.connect(uri, uri=True, timeout=10, check_same_thread=False))
        # FULL: a committed intent survives the loss of power, not only the loss of the process.
        # recursive_triggers: what a REPLACE takes away is told as any other deletion.
        for pragma in (
            "foreign_keys = ON", "busy_timeout = 10000", "synchronous = FULL",
            "recursive_triggers = ON",
        ):  # fmt: skip
            db.execute(f"PRAGMA {pragma}")
        return db

    def close(self) -> None:
        for reader in self._idle:
            reader.close()
        self._idle.clear()
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    @property
    def secrets(self) -> Secrets:
        return self._secrets

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction of its own; when it raises, nothing has happened."""
        writer = self._opened(self._writer)

        def run() -> tuple[T, list[Event], frozenset[rows.Row]]:
            self._changed.clear()  # of one that was taken back
            if how := self._gone():
                self._rescue(writer)
                raise self._taken_away(how)
            tx = Tx(writer, self._secrets, self._clock())
            with self._told(), writer.atomic():
                try:
                    result = work(tx)
                finally:
                    tx.end()
            return result, tx.events, frozenset(self._changed)

        async with self._writing:
            # a committed transaction's events are published, come what may
            with anyio.CancelScope(shield=True):
                result, events, changed = await anyio.to_thread.run_sync(run)
            if changed:
                self.changed(changed)
            if events:
                self.published(events)
            self.committed()
        return result

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on one consistent view of the database; it cannot change anything. Some do so
        side by side."""
        self._opened(self._writer)

        def run() -> T:
            try:
                reader = self._idle.pop()
            except IndexError:
                reader = self._new_reader()
            try:
                return self._look(reader, work)
            finally:
                self._idle.append(reader)

        async with self._reading:
            with anyio.CancelScope(shield=True):
                result = await anyio.to_thread.run_sync(run)
        return result

    async def examine(self, work: Callable[[Tx], T]) -> T:
        """`read` for what takes long: one at a time, on a connection of its own, so that no other
        reader waits for it."""
        self._opened(self._writer)

        def run() -> T:
            reader = self._new_reader()
            try:
                return self._look(reader, work)
            finally:
                reader.close()

        async with self._examining:
            with anyio.CancelScope(shield=True):
                result = await anyio.to_thread.run_sync(run)
        return result

    def _new_reader(self) -> Database:
        if how := self._gone():
            raise self._taken_away(how)
        with self._told():
            return self._connect_reader()

    def _look(self, reader: Database, work: Callable[[Tx], T]) -> T:
        tx = Tx(reader, self._secrets, self._clock())
        with self._told(), reader.atomic():
            try:
                return work(tx)
            finally:
                tx.end()

    # ---------------------------------------------------------------- a file that is taken away

    def _gone(self) -> str:
        """What somebody has done to the file under us, "" while it is there."""
        try:
            seen = os.stat(self._path)
        except FileNotFoundError:
            return "was removed"
        except OSError:  # told by whoever needs it
            return ""
        if (seen.st_dev, seen.st_ino) != self._file:
            return "was replaced"
        return "" if seen.st_size else "was emptied"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of SQLite as `told` has them; those of a file that is not ours any more say so."""
        try:
            with translate_faults(self._path, (sqlite3.Error,)):
                yield
        except (sqlite3.Error, PurveyorError) as error:
            if isinstance(error.__cause__ or error, sqlite3.Error) and (how := self._gone()):
                raise self._taken_away(how) from error
            raise

    def _rescue(self, writer: Database) -> None:
        """Copy what is open and has no name any more to where copies are, once."""
        if self._rescued is None:
            try:
                self._rescued = copies.rescue(writer.conn, self._path)
            except (sqlite3.Error, PurveyorError):
                return  # there is nothing left of it, or no room: the next one tries again

    def _taken_away(self, how: str) -> StateRefused:
        kept = f"All that it held is in {self._rescued}. " if self._rescued else ""
        return StateRefused(
            f"The database {self._path} {how} while Purveyor used it: nothing is written any more.",
            remedy=f"What runs, runs on. {kept}{way_back(self._path)}",
        )

    @staticmethod
    def _opened(db: Database | None) -> Database:
        if db is None:
            raise RuntimeError("the store is not open")
        return db


def read_note(tx: Tx, name: str) -> str | None:
    """A fact about this installation that was noted with `note`."""
    found = tx.value("SELECT value FROM meta WHERE key = ?", [name])
    return None if found is None else str(found)


def note(tx: Tx, name: str, value: str) -> None:
    """Note a fact about this installation."""
    if not tx.update("meta", "key = ?", [name], value=value):
        tx.insert("meta", key=name, value=value)


def forget(tx: Tx, name: str) -> None:
    """Forget a fact that was noted with `note`."""
    tx.db.execute("DELETE FROM meta WHERE key = ?", [name])


def installation(tx: Tx) -> str:
    """The random id that marks everything of this installation on the engine."""
    return str(tx.value("SELECT value FROM meta WHERE key = 'installation'"))


def integrity(tx: Tx) -> str:
    """ "ok", or the first thing that SQLite finds wrong with the file."""
    return str(tx.value("SELECT integrity_check FROM pragma_integrity_check LIMIT 1"))
