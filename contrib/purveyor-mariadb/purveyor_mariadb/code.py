"""What a database runs by itself or for others: views, routines, triggers and events. A dump's
client can be led on by what stands in their bodies, so that they are carried beside the dump and
made one statement at a time, by the server's own parser."""

import hashlib
import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import aiomysql
import msgspec

from purveyor_hooks import Finding

from .server import account, every_table_of, quoted, rows, value

# in the order of making: what the later ones need may be among the earlier ones
LISTED = """SELECT routine_type AS kind, routine_name AS name, definer, '' AS enabled
FROM information_schema.routines WHERE routine_schema = %(database)s
UNION ALL SELECT 'VIEW', table_name, definer, '' FROM information_schema.views
WHERE table_schema = %(database)s
UNION ALL SELECT 'TRIGGER', trigger_name, definer, '' FROM
(SELECT * FROM information_schema.triggers WHERE trigger_schema = %(database)s
 ORDER BY event_object_table, event_manipulation, action_timing, action_order LIMIT 1000000) t
UNION ALL SELECT 'EVENT', event_name, definer, status FROM information_schema.events
WHERE event_schema = %(database)s"""
BROKEN = 1356  # what the server warns of: a view of what is not there
MADE = {
    "VIEW": "Create View",
    "TRIGGER": "SQL Original Statement",
    "EVENT": "Create Event",
    "PROCEDURE": "Create Procedure",
    "FUNCTION": "Create Function",
    "PACKAGE": "Create Package",
    "PACKAGE BODY": "Create Package Body",
}
NAME = "`(?:[^`]|``)*`"
ENABLED = re.compile(
    f"(CREATE DEFINER={NAME}@{NAME} EVENT {NAME} ON SCHEDULE .*? ON COMPLETION (?:NOT )?PRESERVE) "
    "(?:ENABLE|DISABLE ON SLAVE|DISABLE)",
    re.DOTALL,
)
OTHERS = """SELECT concat(User, '@', Host) FROM mysql.global_priv
WHERE User NOT IN ('root', 'mariadb.sys', 'mysql', 'healthcheck', 'PUBLIC', '')"""


class Thing(msgspec.Struct, frozen=True):
    """One of them, as the server writes it down, and what its text is to be read with."""

    kind: str
    name: str
    definer: str
    statement: str
    mode: str | None = None
    collation: str | None = None
    time_zone: str | None = None
    enabled: bool = False

    @property
    def called(self) -> str:
        return f"{self.kind.lower()} {self.name}"

    @property
    def digest(self) -> bytes:
        told = msgspec.structs.replace(self, enabled=False)  # a copy's come up switched off
        return hashlib.blake2b(msgspec.json.encode(told), digest_size=16).digest()


async def read(cursor: Any, database: str) -> tuple[list[Thing], list[Finding]]:
    """What there is, and what of it cannot be carried."""
    found, left = [], []
    await cursor.execute(LISTED, {"database": database})
    for kind, name, definer, status in await cursor.fetchall():
        try:
            row = await _made(cursor, kind, database, name)
            statement = row[MADE[kind]]
        except (aiomysql.Error, KeyError) as error:  # dropped meanwhile, for example
            left.append(Finding(where=database, what=f"{kind.lower()} {name}", why=str(error)))
            continue
        if BROKEN in [number for _, number, _ in await rows(cursor, "SHOW WARNINGS")]:
            why = "it is of what is no longer there, or runs as who is no longer"
            gone = Finding(where=database, what=f"view {name}", why=why, notice=True)
            left.append(gone)  # nobody has it as it is
            continue
        if kind == "EVENT":
            statement = ENABLED.sub(r"\1 DISABLE", statement, count=1)
        found.append(
            Thing(
                kind, name, definer, statement, row.get("sql_mode"),
                row.get("collation_connection"), row.get("time_zone"), status == "ENABLED",
            )
        )  # fmt: skip
    order = ("PACKAGE", "PACKAGE BODY", "FUNCTION", "PROCEDURE", "VIEW", "TRIGGER", "EVENT")
    return sorted(found, key=lambda thing: order.index(thing.kind)), left


async def _made(cursor: Any, kind: str, database: str, name: str) -> dict[str, Any]:
    await cursor.execute(f"SHOW CREATE {kind} {quoted(database, name)}")
    names = [column[0] for column in cursor.description]
    row = dict(zip(names, await cursor.fetchone() or (), strict=False))
    return {key: item.decode() if isinstance(item, bytes) else item for key, item in row.items()}


async def others(cursor: Any, accounts: Collection[str]) -> list[Finding]:
    """Users that are not a project's: they are in no backup."""
    found = [name for (name,) in await rows(cursor, OTHERS)]
    return [
        Finding(
            where="", what=f"user {name}", why="users that Purveyor did not make do not go along"
        )
        for name in sorted(found)
        if name.rpartition("@")[0] not in accounts
    ]


async def make(
    root: Any, cursor: Any, database: str, things: list[Thing], accounts: Collection[str],
    *, takes_over: bool,
) -> list[Finding]:  # fmt: skip
    """Make them by a login that has rights on this database alone. One that needs another is tried
    again after that."""
    said: dict[str, str] = {}
    async with standing_in(root, database, {thing.definer for thing in things}, accounts):
        waiting = things
        while waiting:
            again = []
            for thing in waiting:
                try:
                    await _run(cursor, thing)
                except aiomysql.Error as error:
                    said[thing.called] = str(error.args[-1])
                    again.append(thing)
            if len(again) == len(waiting):
                break
            waiting = again
        failed = {thing.called for thing in waiting}
        findings = [
            Finding(where=database, what=called, why=f"the server does not take it: {why}")
            for called, why in said.items()
            if called in failed
        ]
        for thing in things:
            if thing.enabled and thing.called not in failed:
                if takes_over:
                    await cursor.execute(
                        f"ALTER DEFINER={account(thing.definer)} EVENT {quoted(thing.name)} ENABLE"
                    )
                else:
                    why = "it comes up switched off"
                    off = Finding(where=database, what=thing.called, why=why, notice=True)
                    findings.append(off)
    return findings


async def _run(cursor: Any, thing: Thing) -> None:
    """As one statement, whatever its text says: the server prepares no second one."""
    for name, kept in (
        ("sql_mode", thing.mode),
        ("collation_connection", thing.collation),
        ("time_zone", thing.time_zone),
    ):
        if kept is not None:
            await cursor.execute(f"SET {name} = %s", (kept,))
    text = thing.statement.encode().hex()
    await cursor.execute(f"EXECUTE IMMEDIATE CONVERT(X'{text}' USING utf8mb4)")


@asynccontextmanager
async def standing_in(
    cursor: Any, database: str, definers: Collection[str], accounts: Collection[str]
) -> AsyncIterator[None]:
    """Projects' users that are not here yet: a view over another is refused without whose they are.
    Nobody can log in as one."""
    made = []
    try:
        for name in sorted(definers):
            user, _, host = name.rpartition("@")
            there = "SELECT 1 FROM mysql.global_priv WHERE User = %s AND Host = %s"
            if user in accounts and not await value(cursor, there, user, host):
                await cursor.execute(f"CREATE USER {account(name)} ACCOUNT LOCK")
                made.append(name)
                await cursor.execute(f"GRANT ALL ON {every_table_of(database)} TO {account(name)}")
        yield
    finally:
        for name in made:
            await cursor.execute(f"DROP USER {account(name)}")
