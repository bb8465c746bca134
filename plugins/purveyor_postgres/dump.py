"""Backups as logical dumps: roles, then each database as its own server's pg_dump writes it, as portable SQL.

What is counted is what is dumped: the counting and pg_dump share one snapshot of each database.
"""

from collections.abc import AsyncIterator
from typing import Any

from purveyor_hooks import Access, Census, Command, Service, Sink, Source
from purveyor_hooks.parts import Part, PartWriter, read_parts
from purveyor_postgres.accounts import quoted
from purveyor_postgres.server import connection

GATHERED = 128 * 1024  # bytes
ROLES, DATABASE = "roles", "database"
SHARED = ("postgres", "template1")  # every server has them: their contents are carried over, not they themselves
SYSTEM = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"
OF_EXTENSION = "EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e')"
TABLES = f"""
SELECT n.nspname AS schema, o.relname AS name FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace
WHERE o.relkind IN ('r', 'm') AND {SYSTEM} AND NOT {OF_EXTENSION} AND (o.relkind = 'r' OR o.relispopulated) ORDER BY 1, 2
"""
OBJECTS = {
    "extensions": "SELECT count(*) FROM pg_extension",
    "schemas": f"SELECT count(*) FROM pg_namespace n WHERE {SYSTEM}",
    "relations": f"""SELECT count(*) FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace
                     WHERE o.relkind IN ('r', 'p', 'v', 'm', 'S', 'i', 'I', 'f') AND {SYSTEM} AND NOT {OF_EXTENSION}""",
    "functions": f"""SELECT count(*) FROM pg_proc o JOIN pg_namespace n ON n.oid = o.pronamespace
                     WHERE {SYSTEM} AND NOT {OF_EXTENSION}""",
    "types": f"""SELECT count(*) FROM pg_type o JOIN pg_namespace n ON n.oid = o.typnamespace
                 WHERE {SYSTEM} AND o.typtype IN ('e', 'd', 'r') AND NOT {OF_EXTENSION}""",
    "triggers": "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal",
    "policies": "SELECT count(*) FROM pg_policy",
    "large objects": "SELECT count(*) FROM pg_largeobject_metadata",
}
SEQUENCES = "SELECT schemaname AS schema, sequencename AS name, coalesce(last_value, 0) AS value FROM pg_sequences"


def _command(service: Service, *argv: str) -> Command:
    """A program of the container, as the administrator over the container's own socket."""
    login = ("--username", str(service.parameters["username"]))
    return Command(argv=(argv[0], *login, *argv[1:]), environment={"PGPASSWORD": str(service.parameters["password"])})


async def _databases(service: Service, access: Access) -> list[str]:
    async with connection(service, access) as opened:
        rows = await opened.fetch("SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname")
    return [row["datname"] for row in rows]


async def census(service: Service, access: Access) -> Census:
    """Databases, rows of every table, values of sequences, and how many there are of everything else."""
    counts: dict[str, dict[str, int]] = {}
    for database in await _databases(service, access):
        async with (
            connection(service, access, database) as opened,
            opened.transaction(isolation="repeatable_read", readonly=True),
        ):
            await _count(opened, database, counts)
    await _count_roles(service, access, counts)
    return Census(counts=counts)


async def _count(opened: Any, database: str, counts: dict[str, dict[str, int]]) -> None:
    counts.setdefault("databases", {})[database] = 1
    for kind, sql in OBJECTS.items():
        counts.setdefault(kind, {})[database] = await opened.fetchval(sql)
    for row in await opened.fetch(TABLES):
        name = f"{database}.{row['schema']}.{row['name']}"
        table = f"{quoted(row['schema'])}.{quoted(row['name'])}"
        counts.setdefault("rows", {})[name] = await opened.fetchval(f"SELECT count(*) FROM ONLY {table}")
    for row in await opened.fetch(SEQUENCES):
        counts.setdefault("sequences", {})[f"{database}.{row['schema']}.{row['name']}"] = row["value"]


async def _count_roles(service: Service, access: Access, counts: dict[str, dict[str, int]]) -> None:
    async with connection(service, access) as opened:
        counts["roles"] = {"": await opened.fetchval("SELECT count(*) FROM pg_roles WHERE rolname !~ '^pg_'")}


async def backup(service: Service, access: Access, sink: Sink) -> Census:
    counts: dict[str, dict[str, int]] = {}
    writer = PartWriter(sink)
    await writer.begin(ROLES)
    await _pour(access, _command(service, "pg_dumpall", "--roles-only", "--database", "postgres"), writer)
    await writer.end()
    await _count_roles(service, access, counts)
    for database in await _databases(service, access):
        async with (
            connection(service, access, database) as opened,
            opened.transaction(isolation="repeatable_read", readonly=True),
        ):
            snapshot = await opened.fetchval("SELECT pg_export_snapshot()")
            create = () if database in SHARED else ("--create",)
            await writer.begin(DATABASE, database=database)
            dump = _command(service, "pg_dump", *create, "--no-tablespaces", f"--snapshot={snapshot}", "--dbname", database)
            await _pour(access, dump, writer)
            await writer.end()
            await _count(opened, database, counts)
    await writer.close()
    return Census(counts=counts)


async def _pour(access: Access, command: Command, writer: PartWriter) -> None:
    """The engine hands output on in small pieces: gathered, each costs less on its way."""
    gathered = bytearray()
    async with access.process(command) as process:
        async for chunk in process.output():
            gathered += chunk
            if len(gathered) >= GATHERED:
                await writer.write(gathered)
                gathered.clear()
        await process.finish()
    await writer.write(gathered)


async def restore(service: Service, access: Access, source: Source) -> None:
    """Into a server that has only what initdb makes. A database that is there from an earlier try is made anew."""
    administrator = str(service.parameters["username"])
    async for part in read_parts(source):
        if part.name == ROLES:
            await _feed(service, access, "postgres", _roles(part, administrator))
        elif part.name == DATABASE:
            name = str(part.facts["database"])
            if name == service.parameters["database"] and name not in SHARED:
                await _drop(service, access, name)
            await _feed(service, access, name if name in SHARED else "postgres", _with_statistics(part))


async def _drop(service: Service, access: Access, database: str) -> None:
    """The administrator's own database that the image has made, empty; the dump creates it as it was."""
    async with connection(service, access, "postgres") as opened:
        await opened.execute(f"DROP DATABASE IF EXISTS {quoted(database)}")


async def _roles(part: Part, administrator: str) -> AsyncIterator[bytes]:
    """The statements on roles, but for the administrator's own: it is there, with the password that is recorded."""
    own = {administrator, quoted(administrator)}
    begins = tuple(f"{verb} ROLE {name}{end}" for verb in ("CREATE", "ALTER") for name in own for end in (";", " WITH "))
    text = (await part.read()).decode()
    kept = [line for line in text.splitlines(keepends=True) if not line.startswith(begins)]
    yield "".join(kept).encode()


async def _with_statistics(part: Part) -> AsyncIterator[bytes]:
    async for chunk in part:
        yield chunk
    yield b"\nANALYZE;\n"


async def _feed(service: Service, access: Access, database: str, statements: AsyncIterator[bytes]) -> None:
    """psql stops at the first error, and so does the restore."""
    flags = ("--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1", "--dbname", database)
    async with access.process(_command(service, "psql", *flags)) as process:
        async for chunk in statements:
            await process.write(chunk)
        await process.end_input()
        await process.finish()
