"""Asking the server."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiomysql

import purveyor_hooks as ph

PORT = 3306
DATABASES = """SELECT schema_name FROM information_schema.schemata
WHERE schema_name NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')"""


@asynccontextmanager
async def connected(
    host: str, port: int, user: str, password: str, database: str | None = None
) -> AsyncIterator[Any]:
    """A cursor; each statement is a transaction of its own."""
    options = {
        "db": database,
        "autocommit": True,
        "connect_timeout": 5,
        "init_command": "SET sql_notes = 0",
    }
    opened = await aiomysql.connect(host=host, port=port, user=user, password=password, **options)
    try:
        async with opened.cursor() as cursor:
            yield cursor
    finally:
        opened.close()


def root(service: ph.Service, access: ph.Access) -> AbstractAsyncContextManager[Any]:
    address = access.address(PORT)
    return connected(address.host, address.port, "root", service.parameters["password"])


async def rows(cursor: Any, statement: str, *arguments: Any) -> Any:
    await cursor.execute(statement, arguments or None)
    return await cursor.fetchall()


async def value(cursor: Any, statement: str, *arguments: Any) -> Any:
    """The first column of the first row, None without one."""
    return next((row[0] for row in await rows(cursor, statement, *arguments)), None)


async def databases(cursor: Any) -> list[str]:
    return sorted(name for (name,) in await rows(cursor, DATABASES) if name != "purveyor")


def quoted(*names: str) -> str:
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def account(name: str) -> str:
    """``user@host`` as the catalog has it, for a statement."""
    user, _, host = name.rpartition("@")
    return f"{quoted(user)}@{quoted(host)}"


def every_table_of(database: str) -> str:
    """For a GRANT: "_" and "%" stand for any character in the name that rights are given for."""
    escaped = database.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
    return f"{quoted(escaped)}.*"


def hashed(password: str) -> str:
    """What the server keeps of a password: sent instead of it, so that no log of the server's can
    show it."""
    return "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()
