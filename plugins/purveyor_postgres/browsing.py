"""What a PostgreSQL holds, to be looked at: databases, tables, rows. Nothing can be changed on the way."""

from typing import Any

from purveyor_hooks import Access, Listing, NotFound, Service
from purveyor_postgres.accounts import quoted
from purveyor_postgres.server import connection

PAGE, LONGEST = 50, 300
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
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname || '.' || c.relname = $1 AND c.relkind IN ('r', 'p', 'v', 'm')
"""
COLUMNS = (
    "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)


async def browse(service: Service, access: Access, path: tuple[str, ...], cursor: str, order: str) -> Listing:
    database = path[0] if path else None
    async with connection(service, access, database) as opened, opened.transaction(readonly=True):
        await opened.execute("SET LOCAL statement_timeout = '5s'")
        if not path:
            found = await opened.fetch(DATABASES)
            return Listing(columns=("database", "size", "owner"), rows=_rows(found), opens=True)
        if len(path) == 1:
            found = await opened.fetch(TABLES)
            return Listing(columns=("table", "kind", "rows, estimated", "size"), rows=_rows(found), opens=True)
        return await _table(opened, path[1], int(cursor or 0), order)


async def _table(opened: Any, name: str, offset: int, order: str) -> Listing:
    row = await opened.fetchrow(FIND, name)
    if row is None:
        raise NotFound(f"There is no table {name!r}.")
    table = f"{quoted(row['nspname'])}.{quoted(row['relname'])}"
    columns = [item["attname"] for item in await opened.fetch(COLUMNS, table)]
    field, descending = order.removeprefix("-"), order.startswith("-")
    sort = f"ORDER BY {quoted(field)} {'DESC' if descending else 'ASC'}" if field in columns else ""
    shown = ", ".join(f"left({quoted(column)}::text, {LONGEST})" for column in columns) or "1"
    found = await opened.fetch(f"SELECT {shown} FROM {table} {sort} LIMIT {PAGE + 1} OFFSET {offset}")
    more = str(offset + PAGE) if len(found) > PAGE else ""
    return Listing(columns=tuple(columns), rows=_rows(found[:PAGE]), cursor=more, sortable=True)


def _rows(found: Any) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple("∅" if value is None else str(value) for value in row.values()) for row in found)
