"""Logins of the manager's own, each made for one use with a random password, and dropped
afterwards.

*dump* reads whatever it must and runs nothing but COPY and pg_dump, which run no tenant's code.
*view* looks with the rights of one owner. *load* fills one database. So what a tenant has built
into its tables never runs with more power than the tenant has. A login that could not be dropped is
dropped by the next `sweep`: at the latest when the server is next asked whether it serves.
"""

import json
import os
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec

from purveyor_hooks import Access, Service
from purveyor_postgres import limits, walls
from purveyor_postgres.server import (
    LOGIN_TRIGGERS_SINCE,
    RESERVES_SINCE,
    connection,
    end_session,
    maintenance,
    major,
    pins,
    session,
)
from purveyor_postgres.sql import literal, quote, verifier

PREFIX = "purveyor_login_"
HOURS = 24  # after a crash
ROUNDS, PAUSE = 100, 0.1
TIDYING = 3.0  # seconds: less than a look at the server may take
ALL_DATA = "pg_read_all_data"
RESERVED_ROLE = "pg_use_reserved_connections"


_held: set[str] = set()  # the names of those that this process uses now


class Login(msgspec.Struct, frozen=True):
    """Who to log in as, and where."""

    name: str
    password: str
    database: str


@asynccontextmanager
async def login(
    service: Service,
    access: Access,
    database: str,
    kind: str,
    members: Collection[str] = (),
    *,
    all_data: bool = False,
    bypass: bool = False,
    opens: bool = False,
    becomes: str = "",
) -> AsyncIterator[Login]:
    """A login for one use in a database, a member of these roles. `opens`: the database takes no
    connections; it does for as long as the login is there, and its comment says so, for whoever
    finds it after a crash."""
    made = Login(
        name=f"{PREFIX}{kind}_{secrets.token_hex(6)}",
        password=secrets.token_urlsafe(24),
        database=database,
    )
    _held.add(made.name)
    try:
        await _make(
            service,
            access,
            made,
            kind,
            members,
            all_data=all_data,
            bypass=bypass,
            opens=opens,
            becomes=becomes,
        )
        yield made
    finally:
        try:
            with anyio.CancelScope(shield=True):
                await drop(service, access, made.name, database, closes=opens)
        finally:
            _held.discard(made.name)


async def _make(
    service: Service,
    access: Access,
    made: Login,
    kind: str,
    members: Collection[str],
    *,
    all_data: bool,
    bypass: bool,
    opens: bool,
    becomes: str,
) -> None:
    role, database = quote(made.name), made.database
    async with maintenance(service, access) as opened:
        await sweep(service, access, opened)
        # not of every imported server
        full = await opened.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = session_user")
        rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 8"
        if full:
            rights += " BYPASSRLS" if bypass else " NOBYPASSRLS"
        async with opened.transaction():
            await opened.execute(
                f"CREATE ROLE {role} {rights} PASSWORD '{verifier(made.password)}'"
            )
            note = json.dumps({"database": database, "opened": opens, "by": _process(os.getpid())})
            await opened.execute(f"COMMENT ON ROLE {role} IS {literal(note)}")
            until = await opened.fetchval(f"SELECT (now() + interval '{HOURS} hours')::text")
            await opened.execute(f"ALTER ROLE {role} VALID UNTIL {literal(until)}")
            for name in members:
                await opened.execute(f"GRANT {quote(name)} TO {role}")
            if all_data:
                await opened.execute(f"GRANT {ALL_DATA} TO {role}")
            if full and major(service) >= RESERVES_SINCE:  # projects may have taken all others
                await opened.execute(f"GRANT {RESERVED_ROLE} TO {role}")
            if full and kind == "view":
                await opened.execute(f"ALTER ROLE {role} SET temp_file_limit = '1GB'")
            if full and major(service) >= LOGIN_TRIGGERS_SINCE:  # they may write, and be slow
                await opened.execute(f"ALTER ROLE {role} SET event_triggers = off")
            if full and bypass:  # large objects of whomever
                await opened.execute(f"ALTER ROLE {role} SET lo_compat_privileges = on")
            if becomes:
                await opened.execute(f"ALTER ROLE {role} SET role = {literal(becomes)}")
            await opened.execute(f"GRANT CONNECT ON DATABASE {quote(database)} TO {role}")
        if opens:
            await opened.execute(f"ALTER DATABASE {quote(database)} ALLOW_CONNECTIONS true")


@asynccontextmanager
async def opened_as(
    service: Service, access: Access, who: Login, **settings: str
) -> AsyncIterator[Any]:
    """A session of such a login."""
    made = await session(
        service, access, who.name, who.password, who.database, pins(major(service), **settings)
    )
    try:
        yield made
    finally:
        await end_session(made)


async def end_sessions(opened: Any, role: str) -> None:
    """From the outside, which no function of a tenant's can catch."""
    for _ in range(ROUNDS):
        if not await opened.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role
        ):
            return
        await anyio.sleep(PAUSE)


async def drop(service: Service, access: Access, role: str, database: str, *, closes: bool) -> None:
    """End its sessions, and drop it with what it owns."""
    async with maintenance(service, access) as opened:
        name = quote(role)
        if not await opened.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
            return
        await opened.execute(f"ALTER ROLE {name} NOLOGIN")
        await end_sessions(opened, role)
        there = await opened.fetchrow(
            "SELECT datconnlimit AS limit FROM pg_database WHERE datname = $1", database
        )
        if there and there["limit"] != -2:
            await opened.execute(f"REVOKE ALL ON DATABASE {quote(database)} FROM {name}")
            # made by a tenant's code during a look, or a grant of ours
            if await opened.fetchval(OWNS, role, database):
                async with connection(service, access, database) as inside:
                    await inside.execute(f"DROP OWNED BY {name} CASCADE")
            if closes:
                await opened.execute(f"ALTER DATABASE {quote(database)} ALLOW_CONNECTIONS false")
        await opened.execute(f"DROP ROLE IF EXISTS {name}")


OWNS = """
SELECT count(*) FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = (SELECT oid FROM pg_roles WHERE rolname = $1) AND d.datname = $2
"""
LEFT_OVER = f"""
SELECT r.rolname AS name, shobj_description(r.oid, 'pg_authid') AS note FROM pg_roles r
WHERE starts_with(r.rolname, '{PREFIX}')
AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.usename = r.rolname)
"""


async def sweep(service: Service, access: Access, opened: Any) -> None:
    """Drop what was left: logins that nobody uses, of a process that is no more or of one that
    could not drop them then."""
    for row in await opened.fetch(LEFT_OVER):
        try:
            note = json.loads(row["note"] or "{}")
        except ValueError:
            continue  # not ours
        if (
            isinstance(note, dict)
            and "database" in note
            and not _in_use(row["name"], str(note.get("by")))
        ):
            await drop(
                service, access, row["name"], str(note["database"]), closes=bool(note.get("opened"))
            )


async def tidy(service: Service, access: Access, opened: Any) -> str:
    """`sweep`, closing to projects what has come since the last link, and their limits: beside
    something that this must not hold up or fail. The answer is what a person should know."""
    import asyncpg

    said: list[str] = []
    # a transaction that cannot be rolled back, for its statement is just being stopped
    stopped = asyncpg.InternalClientError
    lost = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, stopped)
    with suppress(*lost), anyio.move_on_after(TIDYING):
        if not service.imported:
            await walls.close_to_projects(opened)
        said.append(await limits.put_in_force(service, opened))
        said += await walls.keep(service, access, opened)
        await sweep(service, access, opened)
    return " ".join(text for text in said if text)


def _in_use(name: str, by: str) -> bool:
    number = by.partition(".")[0]
    if by == _process(os.getpid()):
        return name in _held
    return number.isdecimal() and by == _process(int(number))


def _process(number: int) -> str:
    """This process and no other: numbers come again, the time of a start does not."""
    try:
        begun = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        begun = ""
    return f"{number}.{begun}"
