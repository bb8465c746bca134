"""What a database holds, counted: things by the catalogs, rows by whoever owns them, never by the
administrator.

Even planning a count runs what a table's owner has put into its indexes. So each owner's tables are
counted as a login that can do what this owner can. What does not answer in time, or hides rows, is
counted by a COPY, which runs nothing of theirs.
"""

import hashlib
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
import asyncpg
import msgspec

from purveyor_hooks import Access, Failed, Finding, Service
from purveyor_postgres.logins import PREFIX, Login, end_sessions, login, opened_as
from purveyor_postgres.record import COMES_AND_GOES, OF_EXTENSION, OWNER_ROLES, SYSTEM
from purveyor_postgres.server import connection
from purveyor_postgres.sql import literal, quote
from purveyor_postgres.tools import while_busy
from purveyor_postgres.walls import IS_LOGIN

PATIENCE, BYTES_A_SECOND = 10.0, 10_000_000  # of one count, before it is made otherwise
# behind somebody who waits to change the table, and waits for whoever holds it for us
LOCK_TIMEOUT = "2s"
MINE = OF_EXTENSION.format
OF_ITS_TABLE = MINE("pg_class").replace("o.oid", "i.indrelid")
# The size is the catalog's: to ask for it takes a lock, and may have to wait for one.
TABLES = f"""
SELECT n.nspname AS schema, o.relname AS name, pg_get_userbyid(o.relowner) AS owner,
    greatest(o.relpages, 0) * current_setting('block_size')::bigint AS size,
    coalesce(o.relforcerowsecurity OR (SELECT rolsuper FROM pg_roles WHERE oid = o.relowner)
    OR NOT has_table_privilege(o.relowner, o.oid, 'SELECT') OR NOT has_schema_privilege(o.relowner, n.oid, 'USAGE'),
    true) AS hidden
FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace
WHERE o.relkind = 'r' AND {SYSTEM} AND NOT {MINE("pg_class")} ORDER BY 3, 1, 2
"""
# What pg_dump locks, by its number and its name.
LOCKABLE = f"""
SELECT o.oid AS id, format('%I.%I', n.nspname, o.relname) AS name FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace
WHERE o.relkind IN ('r', 'p') AND {SYSTEM} AND NOT {MINE("pg_class")} ORDER BY o.oid
"""
# How many of these names mean something else by now.
ELSEWHERE = (
    "SELECT count(*) FROM unnest($1::oid[], $2::text[]) t(id, name) WHERE "
    "to_regclass(t.name)::oid IS DISTINCT FROM t.id"
)
OBJECTS = {
    "extensions": "SELECT count(*) FROM pg_extension",
    "schemas": f"SELECT count(*) FROM pg_namespace n WHERE {SYSTEM}",
    "relations": f"""SELECT count(*) FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace
        WHERE o.relkind IN ('r', 'p', 'v', 'm', 'S', 'i', 'I', 'f') AND {SYSTEM} AND NOT {MINE("pg_class")}
        AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indexrelid = o.oid AND NOT i.indisvalid)
        AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indexrelid = o.oid AND {OF_ITS_TABLE})""",
    "functions": f"""SELECT count(*) FROM pg_proc o JOIN pg_namespace n ON n.oid = o.pronamespace
        WHERE {SYSTEM} AND NOT {MINE("pg_proc")}""",
    "types": f"""SELECT count(*) FROM pg_type o JOIN pg_namespace n ON n.oid = o.typnamespace
        WHERE {SYSTEM} AND o.typtype IN ('e', 'd', 'r') AND NOT {MINE("pg_type")}""",
    "triggers": f"""SELECT count(*) FROM pg_trigger t WHERE NOT tgisinternal
        AND NOT {MINE("pg_class").replace("o.oid", "t.tgrelid")}""",
    "policies": "SELECT count(*) FROM pg_policy",
    "publications": "SELECT count(*) FROM pg_publication",
    "large objects": "SELECT count(*) FROM pg_largeobject_metadata",
}
# A sequence that begins again, or runs down, does not grow.
SEQUENCES = """
SELECT s.schemaname AS schema, s.sequencename AS name, coalesce(s.last_value, 0) AS value FROM pg_sequences s
WHERE s.increment_by > 0 AND NOT s.cycle
"""
# Names and what does not change when it is written down and read again; expressions do, once.
SCHEMA = f"""
SELECT line FROM (
    SELECT concat_ws(' ', 'relation', n.nspname, o.relname, o.relkind, o.relpersistence, o.relrowsecurity, o.relforcerowsecurity,
        o.relispartition) AS line
    FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace
    WHERE o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {SYSTEM} AND NOT {MINE("pg_class")}
    UNION ALL SELECT concat_ws(' ', 'column', n.nspname, o.relname, row_number() OVER (PARTITION BY o.oid ORDER BY a.attnum),
        a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.atthasdef)
    FROM pg_attribute a JOIN pg_class o ON o.oid = a.attrelid JOIN pg_namespace n ON n.oid = o.relnamespace
    WHERE a.attnum > 0 AND NOT a.attisdropped AND o.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND {SYSTEM}
    AND NOT {MINE("pg_class")}
    UNION ALL SELECT concat_ws(' ', 'index', n.nspname, t.relname, o.relname, m.amname, i.indisunique, i.indisprimary, i.indnatts,
        i.indkey IS NOT NULL, i.indpred IS NOT NULL)
    FROM pg_index i JOIN pg_class o ON o.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = o.relnamespace JOIN pg_am m ON m.oid = o.relam
    WHERE i.indisvalid AND {SYSTEM} AND NOT {OF_ITS_TABLE}
    UNION ALL SELECT concat_ws(' ', 'constraint', n.nspname, coalesce(t.relname, y.typname), o.conname, o.contype,
        o.condeferrable, o.condeferred, o.convalidated, o.confupdtype, o.confdeltype)
    FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace LEFT JOIN pg_class t ON t.oid = o.conrelid
    LEFT JOIN pg_type y ON y.oid = o.contypid
    WHERE o.contype <> 'n' AND {SYSTEM} AND NOT {MINE("pg_constraint")}
    UNION ALL SELECT 'function ' || pg_get_function_identity_arguments(o.oid) || concat_ws(' ', '', n.nspname, o.proname,
        md5(o.prosrc), o.prokind, o.provolatile, o.prosecdef, o.proisstrict, o.proconfig::text, l.lanname)
    FROM pg_proc o JOIN pg_namespace n ON n.oid = o.pronamespace JOIN pg_language l ON l.oid = o.prolang
    WHERE {SYSTEM} AND NOT {MINE("pg_proc")}
    UNION ALL SELECT concat_ws(' ', 'trigger', t.tgname, t.tgenabled, t.tgtype) FROM pg_trigger t WHERE NOT t.tgisinternal
    UNION ALL SELECT concat_ws(' ', 'policy', polname, polcmd, polpermissive) FROM pg_policy
    UNION ALL SELECT concat_ws(' ', 'label', n.nspname, o.typname,
        row_number() OVER (PARTITION BY o.oid ORDER BY e.enumsortorder), e.enumlabel)
    FROM pg_enum e JOIN pg_type o ON o.oid = e.enumtypid JOIN pg_namespace n ON n.oid = o.typnamespace
    WHERE {SYSTEM} AND NOT {MINE("pg_type")}
) lines ORDER BY line COLLATE "C"
"""
# What each publishes, apart: a condition that is lost publishes more than before.
PUBLICATIONS = """
SELECT line FROM (
    SELECT concat_ws(' ', 'publication', pubname, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot,
        coalesce(to_jsonb(p)->>'pubgencols', 'n')) AS line FROM pg_publication p
    UNION ALL SELECT concat_ws(' ', 'table', p.pubname, n.nspname, c.relname, r.prqual IS NOT NULL, array_length(r.prattrs, 1))
        FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
    UNION ALL SELECT concat_ws(' ', 'schema', p.pubname, n.nspname) FROM pg_publication_namespace s
        JOIN pg_publication p ON p.oid = s.pnpubid JOIN pg_namespace n ON n.oid = s.pnnspid
) lines ORDER BY line COLLATE "C"
"""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table with rows; `hidden`: its owner does not see them all, or is the administrator."""

    schema: str
    name: str
    owner: str
    size: int
    hidden: bool

    @property
    def quoted(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"


async def tables(opened: Any) -> list[Table]:
    return [msgspec.convert(dict(row), Table) for row in await opened.fetch(TABLES)]


async def lockable(opened: Any) -> dict[str, int]:
    """Every table that a dump locks, by its quoted name."""
    return {row["name"]: row["id"] for row in await opened.fetch(LOCKABLE)}


async def owners(opened: Any) -> list[str]:
    """Who owns something in a database, but for superusers and the server's own roles."""
    sql = (
        f"SELECT owner FROM ({OWNER_ROLES}) o JOIN pg_roles r ON r.rolname = o.owner WHERE NOT "
        "r.rolsuper AND owner !~ '^pg_'"
    )
    return [row["owner"] for row in await opened.fetch(sql)]


async def objects(opened: Any, database: str, counts: dict[str, dict[str, int]]) -> None:
    """How much there is of everything but rows, as the catalogs have it."""
    counts.setdefault("databases", {})[database] = 1
    for kind, sql in OBJECTS.items():
        counts.setdefault(kind, {})[database] = await opened.fetchval(sql)


async def sequences(opened: Any, database: str) -> dict[str, int]:
    found = await opened.fetch(SEQUENCES)
    return {f"{database}.{row['schema']}.{row['name']}": row["value"] for row in found}


async def digests(opened: Any, database: str) -> dict[str, str]:
    """Of the schema, and of what is published: the same after a restore into the same version.
    Raises `Failed` when something in it went meanwhile."""
    version = int(await opened.fetchval("SELECT current_setting('server_version_num')")) // 10000
    kept = {f"{database}.schema, as PostgreSQL {version} has it": SCHEMA}
    if version >= 15:
        kept[f"{database}.publications"] = PUBLICATIONS
    return {name: await _digest(opened, sql) for name, sql in kept.items()}


async def _digest(opened: Any, sql: str) -> str:
    lines = [row["line"] for row in await opened.fetch(sql)]
    if None in lines:
        raise Failed(COMES_AND_GOES)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


async def roles(opened: Any) -> int:
    """Of people and of projects, not of the manager's: a project's logins come and go, and no copy
    has them."""
    sql = (
        f"SELECT count(*) FROM pg_roles r WHERE rolname !~ '^(pg_|purveyor_|{PREFIX})' AND NOT "
        f"{IS_LOGIN}"
    )
    return int(await opened.fetchval(sql))


async def empower(opened: Any, who: Login, members: Iterable[str]) -> None:
    """Let a *dump* login read all that there is: as a member of the owners; where that is not
    enough, because an owner took its own rights away or an administrator owns it, by the role that
    reads everything."""
    for name in members:
        await opened.execute(f"GRANT {quote(name)} TO {quote(who.name)}")
    if await opened.fetchval(UNREADABLE, who.name):
        await opened.execute(f"GRANT pg_read_all_data TO {quote(who.name)}")


UNREADABLE = """
SELECT count(*) FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace
WHERE o.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
AND n.nspname !~ '^pg_(toast|temp)' AND (NOT has_schema_privilege($1, n.oid, 'USAGE')
OR NOT CASE WHEN o.relkind = 'S' THEN has_sequence_privilege($1, o.oid, 'SELECT')
    ELSE has_table_privilege($1, o.oid, 'SELECT') END)
"""


async def rows(
    service: Service,
    access: Access,
    database: str,
    who: Login,
    listed: list[Table],
    held: tuple[str, Any] | None,
) -> tuple[dict[str, int], list[Finding]]:
    """The rows of every table; `who` is a *dump* login that may read them all. `held` is a snapshot
    to count at, and the session of this login that holds it, and a lock on each of these tables."""
    found: dict[str, int] = {}
    findings: list[Finding] = []
    left = [table for table in listed if table.hidden]
    for owner in dict.fromkeys(table.owner for table in listed if not table.hidden):
        own = [table for table in listed if table.owner == owner and not table.hidden]
        left += await _as_owner(
            service, access, database, owner, own, held[0] if held else None, found
        )
    if not left:
        return found, findings
    async with AsyncExitStack() as stack:
        if held is None:
            settings = {
                "default_transaction_read_only": "on",
                "statement_timeout": "0",
                "lock_timeout": LOCK_TIMEOUT,
            }
            opened = await stack.enter_async_context(opened_as(service, access, who, **settings))
            await _begin(opened, None)
        else:  # whoever has the lock never waits behind one who wants to change the table
            opened = held[1]
        for table in left:
            await opened.execute("SAVEPOINT one")
            try:
                copied = partial(_copied, opened, table)
                found[f"{database}.{table.schema}.{table.name}"] = await while_busy(
                    service, access, who.name, copied
                )
            except asyncpg.PostgresError as error:
                await opened.execute("ROLLBACK TO SAVEPOINT one")
                why = f"it could not be counted: {first_line(error)}"
                findings.append(
                    Finding(where=database, what=f"table {table.schema}.{table.name}", why=why)
                )
            await opened.execute("RELEASE SAVEPOINT one")
            access.beat()
    return found, findings


async def _as_owner(
    service: Service,
    access: Access,
    database: str,
    owner: str,
    own: list[Table],
    snapshot: str | None,
    found: dict[str, int],
) -> list[Table]:
    """Count an owner's tables as a login that can do no more than this owner; the answer is what it
    did not get from them."""
    left: list[Table] = []
    async with login(service, access, database, "view", [owner]) as who, AsyncExitStack() as stack:
        opened: Any = None
        for table in own:
            number = None
            try:
                if opened is None:
                    settings = {
                        "default_transaction_read_only": "on",
                        "row_security": "off",
                        "lock_timeout": LOCK_TIMEOUT,
                    }
                    opened = await stack.enter_async_context(
                        opened_as(service, access, who, **settings)
                    )
                with anyio.move_on_after(PATIENCE + table.size / BYTES_A_SECOND):
                    await _begin(opened, snapshot)
                    number = await opened.fetchval(
                        f"SELECT pg_catalog.count(*) FROM ONLY {table.quoted}"
                    )
                    await opened.execute("ROLLBACK")
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                number = None
            if isinstance(number, int):
                found[f"{database}.{table.schema}.{table.name}"] = number
            else:
                left.append(table)
                opened = None
                async with connection(service, access) as administrator:
                    await end_sessions(administrator, who.name)
            access.beat()
    return left


async def _begin(opened: Any, snapshot: str | None) -> None:
    await opened.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    if snapshot:
        await opened.execute(f"SET TRANSACTION SNAPSHOT {literal(snapshot)}")


async def _copied(opened: Any, table: Table) -> int:
    """The server's own count of what it copied."""

    async def nowhere(data: bytes) -> None:
        pass

    said = await opened.copy_from_table(table.name, schema_name=table.schema, output=nowhere)
    return int(said.rpartition(" ")[2])


def first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
