"""Backups: what the databases share, and of each database a record and what pg_dump writes, counted
in one snapshot.

A stream of parts: ``server``; then for each database ``record``, ``dump`` (pg_dump's custom format)
and ``state``, which says whether the dump is whole. A database that is there twice was tried twice:
the later one counts.
"""

import itertools
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import asyncpg
import msgspec

from purveyor_hooks import (
    Access,
    Failed,
    Finding,
    Inventory,
    NotFound,
    PurveyorError,
    Service,
    Sink,
    Source,
)
from purveyor_hooks.parts import PartWriter, read_parts
from purveyor_postgres import counting
from purveyor_postgres.counting import first_line
from purveyor_postgres.logins import Login, login, opened_as, sweep
from purveyor_postgres.record import COMES_AND_GOES, Database, Server, read_inside, read_server
from purveyor_postgres.server import PORT, connection, maintenance
from purveyor_postgres.sql import literal
from purveyor_postgres.tools import as_nobody, compression, environment, while_busy, within

SERVER, RECORD, DUMP, STATE = "server", "record", "dump", "state"
GATHERED = 128 * 1024  # bytes
# How often a database that fails is tried at least, and for how many seconds while nothing of it
# could be written: something in it is being dropped or changed at that moment.
TRIES, TRYING = 2, 45.0
LOOKS, PAUSE = 20, 0.2  # for a moment at which no table comes or goes; seconds between two at most
LOCKS_AT_ONCE = 500
# Seconds for a lock. What changes a table waits for ours, and whoever comes then waits behind that:
# pg_dump, which comes a moment after the locks that hold the snapshot's tables, would never get its
# own. So it gives up soon, and all begins anew.
LOCK_PATIENCE, DUMP_PATIENCE = 10, 2
GONE_MEANWHILE = (
    asyncpg.UndefinedTableError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.WrongObjectTypeError,
)
GONE = -2  # datconnlimit of what an interrupted DROP DATABASE left


class Counted(msgspec.Struct):
    """A census that grows."""

    counts: dict[str, dict[str, int]] = {}
    growing: dict[str, dict[str, int]] = {}
    digests: dict[str, str] = {}
    left_out: list[Finding] = []
    failed: list[Finding] = []
    begun: bool = False  # what is counted has begun to be written

    def census(self) -> Inventory:
        return Inventory(
            counts=self.counts,
            growing=self.growing,
            digests=self.digests,
            left_out=tuple(self.left_out),
            failed=tuple(self.failed),
        )

    def add(self, other: "Counted") -> None:
        for mine, theirs in ((self.counts, other.counts), (self.growing, other.growing)):
            for kind, found in theirs.items():
                mine.setdefault(kind, {}).update(found)
        self.digests |= other.digests
        self.left_out += other.left_out


class _Guarded:
    """A sink that remembers its own failure: that is none of the database's."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.error: Exception | None = None

    async def write(self, chunk: bytes) -> None:
        try:
            await self._sink.write(chunk)
        except Exception as error:
            self.error = error
            raise


# ---------------------------------------------------------------- counting alone


async def census(service: Service, access: Access) -> Inventory:
    """Databases, rows of every table, how far sequences are, and how many there are of everything
    else."""
    counted = Counted()
    async with maintenance(service, access) as opened:
        await sweep(service, access, opened)
        server, _ = await read_server(opened)
        counted.counts["roles"] = {"": await counting.roles(opened)}
    for database in _there(server, counted):
        try:
            async with _reader(service, access, database) as (who, inside):
                async with inside.transaction(isolation="repeatable_read", readonly=True):
                    listed = await _things(inside, database.name, counted)
                found, findings = await counting.rows(
                    service, access, database.name, who, listed, None
                )
                counted.counts.setdefault("rows", {}).update(found)
                counted.left_out += findings
        except Exception as error:  # whatever one database does, the others are counted
            counted.failed.append(Finding(where=database.name, what="", why=why(error)))
    return counted.census()


def _there(server: Server, counted: Counted) -> list[Database]:
    found = []
    for database in server.databases:
        if database.limit == GONE:
            reason = "a DROP DATABASE of it was interrupted; nobody can read it: drop it"
            counted.left_out.append(Finding(where=database.name, what="", why=reason))
        else:
            found.append(database)
    return found


@asynccontextmanager
async def _reader(
    service: Service, access: Access, database: Database
) -> AsyncIterator[tuple[Login, Any]]:
    """A *dump* login that can read all of a database, and the administrator's session in it, for
    catalogs."""
    async with AsyncExitStack() as stack:
        who = await stack.enter_async_context(
            login(service, access, database.name, "dump", bypass=True, opens=not database.allowed)
        )
        inside = await stack.enter_async_context(connection(service, access, database.name))
        await counting.empower(inside, who, await counting.owners(inside))
        yield who, inside


async def _things(inside: Any, database: str, counted: Counted) -> list[counting.Table]:
    await counting.objects(inside, database, counted.counts)
    counted.growing.setdefault("sequences", {}).update(await counting.sequences(inside, database))
    counted.digests |= await counting.digests(inside, database)
    return await counting.tables(inside)


def why(error: BaseException) -> str:
    """A failure in one sentence."""
    if isinstance(error, PurveyorError):
        return error.detail
    if isinstance(error, UnicodeError):
        return "names in it are no text in the server's encoding"
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | OSError):
        return first_line(error)
    return f"a fault of the plugin ({type(error).__name__})"


# ---------------------------------------------------------------- backing up


async def backup(service: Service, access: Access, sink: Sink, tools: Access | None) -> Inventory:
    """All of it. A database that cannot be read is named, and the others go on."""
    counted = Counted()
    guarded = _Guarded(sink)
    writer = PartWriter(guarded)
    async with maintenance(service, access) as opened:
        await sweep(service, access, opened)
        server, counted.left_out = await read_server(opened)
        counted.counts["roles"] = {"": await counting.roles(opened)}
    await writer.whole(SERVER, msgspec.json.encode(server))
    packed = await compression(tools or access)
    there = _there(server, counted)
    for database in there:
        first = anyio.current_time()
        for tried in itertools.count(1):
            one = Counted()
            try:
                await _write(service, access, tools, database, packed, writer, one)
            except Exception as error:  # whatever one database does, the others are written
                if guarded.error is not None:
                    raise guarded.error from None
                access.logger.warning(
                    "postgres.backup", database=database.name, error=type(error).__name__
                )
                await writer.whole(STATE, b"", database=database.name, whole=False, why=why(error))
                over = tried >= TRIES and (one.begun or anyio.current_time() - first > TRYING)
                if over or await _is_gone(service, access, database.name):
                    counted.failed.append(Finding(where=database.name, what="", why=why(error)))
                    break
            else:
                counted.add(one)
                break
    await writer.close()
    if there and len(counted.failed) == len(there):
        raise Failed(
            f"No database could be read. {counted.failed[0]}.",
            remedy=f"See: purveyor logs {service.slug}",
        )
    return counted.census()


async def _is_gone(service: Service, access: Access, database: str) -> bool:
    async with maintenance(service, access) as opened:
        return not await opened.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database)


async def _write(
    service: Service,
    access: Access,
    tools: Access | None,
    database: Database,
    packed: str,
    writer: PartWriter,
    counted: Counted,
) -> None:
    name = database.name
    quick = {
        "lock_timeout": f"{LOCK_PATIENCE}s",
        "default_transaction_read_only": "on",
        "statement_timeout": "0",
    }
    async with (
        _reader(service, access, database) as (who, inside),
        opened_as(service, access, who, **quick) as holder,
    ):
        await inside.execute(f"SET lock_timeout = '{LOCK_PATIENCE}s'")
        snapshot = await _held(inside, holder)
        async with inside.transaction(isolation="repeatable_read", readonly=True):
            await inside.execute(f"SET TRANSACTION SNAPSHOT {literal(snapshot)}")
            record, counted.left_out = await read_inside(inside, name)
            listed = await _things(inside, name, counted)
        await writer.whole(RECORD, msgspec.json.encode(record), database=name)
        where = tools and access.inside(PORT)
        argv = ["pg_dump", "-Fc", "-Z", packed, "--no-subscriptions", f"--snapshot={snapshot}"]
        # the names in it are of that
        argv += [f"--lock-wait-timeout={DUMP_PATIENCE}s", f"--encoding={database.encoding}"]
        command = as_nobody(
            *argv, environment=environment(service, where or within(service), who, TimeZone="UTC")
        )
        await while_busy(
            service,
            access,
            who.name,
            lambda: _pour(tools or access, command, writer, name, counted),
        )
        found, findings = await counting.rows(
            service, access, name, who, listed, (snapshot, holder)
        )
        counted.counts.setdefault("rows", {}).update(found)
        counted.left_out += findings
    await writer.whole(STATE, b"", database=name, whole=True, why="")


async def _held(inside: Any, holder: Any) -> str:
    """A snapshot, held by a session that does nothing else, and every table in it locked: none of
    them can be dropped, renamed or emptied by an exchange of its file until all is dumped and
    counted. Tables that go meanwhile mean another look."""
    for left in reversed(range(LOOKS)):
        await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            await _lock(holder, await counting.lockable(inside))
            snapshot = str(await holder.fetchval("SELECT pg_export_snapshot()"))
            # as the snapshot has it: some may have been made since
            there = await counting.lockable(holder)
            await _lock(holder, there)
            if not await inside.fetchval(counting.ELSEWHERE, list(there.values()), list(there)):
                return snapshot
        except GONE_MEANWHILE:
            if not left:
                raise
        await holder.execute("ROLLBACK")
        await anyio.sleep(random.uniform(0, PAUSE))
    raise Failed(COMES_AND_GOES)


async def _lock(holder: Any, tables: Iterable[str]) -> None:
    listed = list(tables)
    for start in range(0, len(listed), LOCKS_AT_ONCE):
        names = ", ".join(f"ONLY {name}" for name in listed[start : start + LOCKS_AT_ONCE])
        await holder.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE")


async def _pour(
    tools: Access, command: Any, writer: PartWriter, database: str, counted: Counted
) -> None:
    """The engine hands output on in small pieces: gathered, each costs less on its way."""
    gathered = bytearray()
    async with tools.process(command) as process:
        try:
            async for chunk in process.output():
                gathered += chunk
                if not counted.begun:
                    await writer.begin(DUMP, database=database)
                    counted.begun = True
                if len(gathered) >= GATHERED:
                    await writer.write(gathered)
                    gathered.clear()
            await writer.write(gathered)
        finally:
            if counted.begun:
                await writer.end()
        try:
            await process.finish()
        except Failed as error:  # the shell that makes it nobody is not what anybody knows
            raise Failed(error.detail.replace("sh ended", "pg_dump ended", 1)) from None


# ---------------------------------------------------------------- taking one out


async def extract(source: Source, database: str, sink: Sink) -> None:
    """A database's dump as pg_restore reads it. A backup of an older Purveyor has it as SQL, for
    psql."""
    found = False
    async for part in read_parts(source):
        named = part.facts.get("database") == database
        if named and part.name in (DUMP, "database"):
            found = True
            async for chunk in part:
                await sink.write(chunk)
        elif named and part.name == STATE and not part.facts["whole"] and found:
            raise Failed(
                f"The dump of {database} is not whole: {part.facts['why']}.",
                remedy="Take it out of another backup.",
            )
    if not found:
        raise NotFound(
            f"There is no database {database} in the backup.",
            remedy="See what is in it: purveyor backup show",
        )
