"""What a PostgreSQL holds, to be looked at: databases, tables, rows. Nothing can be changed on the
way."""

from typing import Any

import anyio
import asyncpg

from purveyor_hooks import Access, Conflict, Listing, NotFound, Service
from purveyor_postgres.logins import login, opened_as
from purveyor_postgres.server import connection, reason
from purveyor_postgres.sql import quote

PAGE, LONGEST, LIMIT = 50, 300, 6.0
DATABASES = """
SELECT datname, pg_size_pretty(pg_database_size(oid)), pg_get_userbyid(datdba) FROM pg_database WHERE datallowconn
AND datname <> 'template1' ORDER BY 1
"""
TABLES = """
SELECT n.nspname || '.' || c.relname, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'table' END,
       greatest(c.reltuples, 0)::bigint::text, pg_size_pretty(pg_total_relation_size(c.oid))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm')
AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast' ORDER BY 1
"""
FIND = """
SELECT n.nspname, c.relname, c.relkind::text AS relkind, pg_get_userbyid(c.relowner) AS owner,
    (SELECT rolsuper FROM pg_roles WHERE oid = c.relowner) OR pg_get_userbyid(c.relowner) ~ '^pg_' AS by_administrator,
    EXISTS (SELECT 1 FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid >= 16384 AND (d.objid = c.oid
        OR d.objid IN (SELECT indexrelid FROM pg_index WHERE indrelid = c.oid)
        OR d.objid IN (SELECT oid FROM pg_statistic_ext WHERE stxrelid = c.oid)
        OR d.objid IN (SELECT oid FROM pg_policy WHERE polrelid = c.oid)))
    OR EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.atttypid >= 16384) AS shaped
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname || '.' || c.relname = $1 AND c.relkind IN ('r', 'p', 'v', 'm')
"""
COLUMNS = (
    "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND "
    "NOT attisdropped ORDER BY attnum"
)


async def browse(
    service: Service, access: Access, path: tuple[str, ...], cursor: str, order: str
) -> Listing:
    database = path[0] if path else None
    try:
        async with (
            connection(service, access, database) as opened,
            opened.transaction(readonly=True),
        ):
            await opened.execute("SET LOCAL statement_timeout = '5s'")
            if not path:
                found = await opened.fetch(DATABASES)
                return Listing(columns=("database", "size", "owner"), rows=_rows(found), opens=True)
            if len(path) == 1:
                found = await opened.fetch(TABLES)
                return Listing(
                    columns=("table", "kind", "rows, estimated", "size"),
                    rows=_rows(found),
                    opens=True,
                )
            row = await opened.fetchrow(FIND, path[1])
            if row is None:
                raise NotFound(f"There is no table {path[1]!r}.")
            table = f"{quote(row['nspname'])}.{quote(row['relname'])}"
            columns = [item["attname"] for item in await opened.fetch(COLUMNS, table)]
    except asyncpg.InvalidCatalogNameError:
        raise NotFound(f"There is no database {database!r}.") from None
    return await _looked_at(service, access, path[0], table, columns, row, int(cursor or 0), order)


async def _looked_at(
    service: Service,
    access: Access,
    database: str,
    table: str,
    columns: list[str],
    row: Any,
    offset: int,
    order: str,
) -> Listing:
    """Rows, as a login that can do what the table's owner can: reading a table runs what its owner
    built into it. What an administrator owns is shown to one who can read everything, unless that
    would be a view, which runs whatever it names."""
    kind: dict[str, Any] = {"members": [row["owner"]]}
    if row["by_administrator"]:
        if row["relkind"] not in ("r", "p") or row["shaped"]:
            raise Conflict(
                "It belongs to the administrator and runs functions when it is read; the dashboard "
                "does not run them.",
                remedy="Look at it with: purveyor connect",
            )
        kind = {"all_data": True}
    async with login(service, access, database, "view", **kind) as who:
        try:
            with anyio.fail_after(LIMIT):
                settings = {
                    "default_transaction_read_only": "on",
                    "statement_timeout": "5s",
                    "row_security": "on",
                }
                async with opened_as(service, access, who, **settings) as opened:
                    return await _page(opened, table, columns, offset, order)
        except TimeoutError:
            raise Conflict(
                "The table does not answer in time.", remedy="Look at it with: purveyor connect"
            ) from None
        except asyncpg.PostgresError as error:
            raise Conflict(f"The table cannot be read: {reason(error)}") from None


async def _page(opened: Any, table: str, columns: list[str], offset: int, order: str) -> Listing:
    field, descending = order.removeprefix("-"), order.startswith("-")
    sort = f"ORDER BY {quote(field)} {'DESC' if descending else 'ASC'}" if field in columns else ""
    shown = ", ".join(f"left({quote(column)}::text, {LONGEST})" for column in columns) or "1"
    found = await opened.fetch(
        f"SELECT {shown} FROM {table} {sort} LIMIT {PAGE + 1} OFFSET {offset}"
    )
    more = str(offset + PAGE) if len(found) > PAGE else ""
    return Listing(columns=tuple(columns), rows=_rows(found[:PAGE]), cursor=more, sortable=True)


def _rows(found: Any) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple("∅" if value is None else str(value) for value in row.values()) for row in found
    )
