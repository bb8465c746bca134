"""Backups: tables and rows by the server's own dump, database by database, and what runs beside
them."""

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any

import msgspec

import purveyor_hooks as ph
from purveyor_hooks.parts import Part, PartWriter, read_parts

from . import code
from .server import (
    PORT,
    connected,
    databases,
    every_table_of,
    hashed,
    quoted,
    root,
    rows,
    value,
)

TABLES = """SELECT table_name FROM information_schema.tables
WHERE table_schema = %s AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')"""
VERSIONED = """SELECT table_name FROM information_schema.tables
WHERE table_schema = %s AND table_type = 'SYSTEM VERSIONED'"""
VIEWS = "SELECT table_name FROM information_schema.views WHERE table_schema = %s"
DUMP = (
    "mariadb-dump", "--force", "--single-transaction", "--skip-triggers", "--hex-blob",
    "--skip-extended-insert", "--skip-comments",
)  # fmt: skip
LOAD = ("mariadb", "--binary-mode", "--force")
CREATED = """SELECT concat('CHARACTER SET ', default_character_set_name, ' COLLATE ',
default_collation_name) FROM information_schema.schemata WHERE schema_name = %s"""
MARKED = "SELECT name, value FROM purveyor.marks WHERE name LIKE 'binding:%'"
OURS = "SELECT 1 FROM information_schema.tables WHERE table_schema = 'purveyor'"
LEFT_OVER = r"SELECT User FROM mysql.global_priv WHERE User LIKE 'purveyor\_load\_%'"


async def census(service: ph.Service, access: ph.Access) -> ph.Inventory:
    counts: dict[str, dict[str, int]] = {"databases": {}, "rows": {}, "code": {}}
    async with root(service, access) as cursor:
        for name in await databases(cursor):
            counts["databases"][name] = 1
            for (table,) in await rows(cursor, TABLES, name):
                number = await value(cursor, f"SELECT count(*) FROM {quoted(name, table)}")
                counts["rows"][f"{name}.{table}"] = int(number)
            things, _ = await code.read(cursor, name)
            counts["code"] |= {f"{name}.{thing.called}": 1 for thing in things}
    return ph.Inventory(counts=counts)


def tool(user: str, password: str, *argv: str) -> ph.Command:
    return ph.Command(
        argv=(argv[0], f"--user={user}", *argv[1:]), environment={"MYSQL_PWD": password}
    )


class Lines:
    """What is in the dump of a database, line by line, while it streams by.

    A row is a line of its own (``--skip-extended-insert``); a line break in a text is escaped, in a
    name it is not.
    """

    SAID = re.compile(rb"(INSERT INTO|CREATE TABLE) `((?:[^`]|``)+)`")
    SPECIAL = re.compile(rb"\\.|[`'\n]", re.DOTALL)
    ENOUGH = 1024  # bytes of a line that tell what it is

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []  # a table with a digest of a row, or "" with one
        self.tables: dict[str, int] = {}
        self._head, self._digest = b"", hashlib.blake2b(digest_size=16)
        self._rest, self._within = b"", b""

    def feed(self, chunk: bytes) -> None:
        data, begun, at = self._rest + chunk, 0, 0
        while found := self.SPECIAL.search(data, at):
            what, at = found[0], found.end()
            if what == b"\n" and not self._within:
                self._take(data[begun : found.start()])
                self._ended()
                begun = at
            elif what[0] == 0x5C:
                if self._within != b"'":  # it stands for itself
                    at = found.start() + 1
            elif what == self._within:
                self._within = b""
            elif not self._within:
                self._within = what
        end = len(data) - (data.endswith(b"\\") and at < len(data))
        self._take(data[begun:end])
        self._rest = data[end:]

    def _take(self, piece: bytes) -> None:
        self._head = (self._head + piece)[: self.ENOUGH]
        self._digest.update(piece)

    def _ended(self) -> None:
        line, digest = self._head, self._digest.digest()
        self._head, self._digest = b"", hashlib.blake2b(digest_size=16)
        table = ""
        if found := self.SAID.match(line):
            name = found[2].replace(b"``", b"`").decode()
            table = name if found[1] == b"INSERT INTO" else ""
            self.tables[name] = self.tables.get(name, 0) + bool(table)
        if line:
            self.heard.append((table, digest))


async def backup(service: ph.Service, access: ph.Access, sink: ph.Sink) -> ph.Inventory:
    """Each database of one moment, counted as it passes. What cannot be read is named, and the rest
    is written."""
    parts = PartWriter(sink)
    counts: dict[str, dict[str, int]] = {"databases": {}, "rows": {}, "code": {}}
    failed: list[ph.Finding] = []
    async with root(service, access) as cursor:
        marks = await rows(cursor, MARKED) if await value(cursor, OURS) else ()
        left = await code.others(cursor, accounts_of(marks))
        names = await databases(cursor)
    await parts.whole("marks", msgspec.json.encode(marks))
    for name in names:
        async with root(service, access) as cursor:  # the one before may have taken hours
            made = await value(cursor, CREATED, name)
            views = [view for (view,) in await rows(cursor, VIEWS, name)]
            things, not_carried = await code.read(cursor, name)
            left += [
                ph.Finding(
                    where=name, what=f"history of {table}", why="only rows of now are dumped"
                )
                for (table,) in await rows(cursor, VERSIONED, name)
            ]
        left += not_carried
        await parts.begin("database", database=name, made=made)
        lines = Lines()
        ignored = [f"--ignore-table={name}.{view}" for view in views]
        command = tool("root", service.parameters["password"], *DUMP, *ignored, "--", name)
        async with access.process(command) as process:
            async for chunk in process.output():
                lines.feed(chunk)
                lines.heard.clear()
                await parts.write(chunk)
            try:
                await process.finish()
            except ph.Failed as error:
                failed.append(ph.Finding(where=name, what="", why=last_line(error)))
        await parts.end()
        await parts.whole("code", msgspec.json.encode(things), database=name)
        counts["databases"][name] = 1
        counts["rows"] |= {f"{name}.{table}": number for table, number in lines.tables.items()}
        counts["code"] |= {f"{name}.{thing.called}": 1 for thing in things}
    await parts.close()
    return ph.Inventory(counts=counts, left_out=tuple(left), failed=tuple(failed))


def accounts_of(marks: Any) -> set[str]:
    """The projects' users, by what is kept of their bindings."""
    return {str(name).partition(":")[2] for name, _ in marks}


def last_line(error: ph.Failed) -> str:
    return (error.detail.strip().splitlines() or [str(error)])[-1]


async def contents(source: ph.Source, into: ph.Contents) -> None:
    """Rows by table, views and routines one by one, and whatever else is in a dump by database."""
    async for part in read_parts(source):
        name = str(part.facts.get("database", ""))
        if part.name == "database":
            lines = Lines()
            async for chunk in part:
                lines.feed(chunk)
                for table, digest in lines.heard:
                    kind, where = ("rows", f"{name}.{table}") if table else ("statements", name)
                    await into.put(kind, where, "", digest)
                lines.heard.clear()
        elif part.name == "code":
            for thing in msgspec.json.decode(await part.read(), type=list[code.Thing]):
                await into.put("code", f"{name}.{thing.called}", "", thing.digest)


async def restore(
    service: ph.Service, access: ph.Access, source: ph.Source, options: ph.RestoreOptions
) -> tuple[ph.Finding, ...]:
    """Each database by a login that ends with it and has no rights on another: what is in a dump is
    a tenant's. One that fails does not end the others."""
    found: list[ph.Finding] = []
    accounts: set[str] = set()
    async with root(service, access) as cursor:
        for (user,) in await rows(cursor, LEFT_OVER):
            await cursor.execute(f"DROP USER {quoted(user)}@`%`")
    async for part in read_parts(source):
        name = str(part.facts.get("database", ""))
        wanted = not options.only or name in options.only
        async with root(service, access) as cursor:
            if part.name == "marks":  # whose each database is
                marks = msgspec.json.decode(await part.read(), type=list[tuple[str, str]])
                accounts = accounts_of(marks)
                for mark in marks if not options.only else ():
                    await cursor.execute("REPLACE INTO purveyor.marks VALUES (%s, %s)", mark)
            elif part.name == "database" and wanted:
                found += await _load(service, access, cursor, part, name)
            elif part.name == "code" and wanted:
                things = msgspec.json.decode(await part.read(), type=list[code.Thing])
                address = access.address(PORT)
                # whom it runs as is said in its text; nothing of it runs now
                async with (
                    loading(cursor, name, "SET USER") as login,
                    connected(address.host, address.port, *login, name) as own,
                ):
                    found += await code.make(
                        cursor, own, name, things, accounts, takes_over=options.takes_over
                    )
    return tuple(found)


async def _load(
    service: ph.Service, access: ph.Access, cursor: Any, part: Part, name: str
) -> list[ph.Finding]:
    made = str(part.facts["made"])
    made = made if re.fullmatch(r"CHARACTER SET \w+ COLLATE \w+", made) else ""
    await cursor.execute(f"DROP DATABASE IF EXISTS {quoted(name)}")
    await cursor.execute(f"CREATE DATABASE {quoted(name)} {made}")
    async with (
        loading(cursor, name) as login,
        access.process(tool(*login, *LOAD, "--", name)) as process,
    ):
        async for chunk in part:
            await process.write(chunk)
        await process.end_input()
        try:
            await process.finish()
        except ph.Failed as error:
            return [ph.Finding(where=name, what="", why=last_line(error))]
    return []


@asynccontextmanager
async def loading(cursor: Any, database: str, *powers: str) -> AsyncIterator[tuple[str, str]]:
    user, password = f"purveyor_load_{token_hex(6)}", token_hex(16)
    login = f"{quoted(user)}@`%`"
    await cursor.execute(f"CREATE USER {login} IDENTIFIED BY PASSWORD '{hashed(password)}'")
    try:
        await cursor.execute(f"GRANT ALL ON {every_table_of(database)} TO {login}")
        for power in powers:
            await cursor.execute(f"GRANT {power} ON *.* TO {login}")
        yield user, password
    finally:
        await cursor.execute(f"DROP USER {login}")
