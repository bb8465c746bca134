"""Backups of PostgreSQL by the plugin's own hooks: what was there is there again, beside a writer, and what is not is named."""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import purveyor_postgres as postgres
from purveyor_hooks import Census, Failed, Finding, Image, NotFound, RestoreOptions
from servers import Server, Stream, awaited
from support import docker

EVERYTHING = (Path(__file__).parent.parent / "everything/postgres.sql").read_text()
DATABASES = ["a=b", "archive2024", "bare", "bytes", "it's \"odd\"", "mould", "postgres", "shop", "template1"]
Make = Callable[..., Server]


@pytest.fixture(scope="module")
def make(engine: None) -> Iterator[Make]:
    """Makes servers on a network of the module's own."""
    network = f"pvt-{secrets.token_hex(4)}"
    docker("network", "create", network)
    made: list[Server] = []

    def work(major: int, **options: Any) -> Server:
        made.append(Server(major, network, **options))
        return made[-1]

    yield work
    for server in made:
        server.remove()
    docker("network", "rm", network)


def rich(make: Make, major: int) -> Server:
    server = make(major)
    server.psql(EVERYTHING)
    return server


SOURCES: dict[int, Server] = {}


@pytest.fixture(scope="module")
def sources(make: Make) -> Callable[[int], Server]:
    """A server of a major that holds one of everything; tests leave it as it is."""
    found: dict[int, Server] = {}

    def get(major: int) -> Server:
        if major not in found:
            found[major] = rich(make, major)
        return found[major]

    return get


@asynccontextmanager
async def written_to(server: Server) -> AsyncIterator[list[int]]:
    """A writer that inserts and deletes all the time; it answers how often it did."""
    rounds = [0]
    opened = await asyncpg.connect(host="127.0.0.1", port=server.port, user="postgres", password=server.password, database="shop")

    async def write() -> None:
        while True:
            await opened.execute("INSERT INTO app.busy (x) SELECT g FROM generate_series(1, 20) g")
            await opened.execute("DELETE FROM app.busy WHERE id IN (SELECT min(id) FROM app.busy)")
            rounds[0] += 1
            await asyncio.sleep(0.02)

    task = asyncio.create_task(write())
    try:
        yield rounds
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await opened.close()


async def save(server: Server, stream: Stream, tools: Server | None = None) -> Census:
    return await postgres.backup(server.service, server, stream, tools)


async def fill(server: Server, stream: Stream, **options: Any) -> list[str]:
    return [str(item) for item in await postgres.restore(server.service, server, stream, RestoreOptions(**options))]


async def count(server: Server) -> Census:
    return await postgres.census(server.service, server, None)


SHARED = """
SELECT 'role ' || r.rolname || concat_ws(' ', r.rolcanlogin, r.rolcreatedb, r.rolinherit, r.rolconnlimit, r.rolvaliduntil, a.rolpassword,
    shobj_description(r.oid, 'pg_authid')) FROM pg_roles r JOIN pg_authid a USING (oid) WHERE r.rolname !~ '^(pg_|purveyor_|postgres$)'
UNION ALL SELECT 'member ' || roleid::regrole || ' ' || member::regrole || admin_option FROM pg_auth_members WHERE member >= 16384
UNION ALL SELECT 'database ' || concat_ws(' ', datname, pg_get_userbyid(datdba), datconnlimit, datistemplate, datallowconn,
    pg_encoding_to_char(encoding), datcollate, shobj_description(oid, 'pg_database')) FROM pg_database WHERE datname <> 'template0'
UNION ALL SELECT 'right ' || concat_ws(' ', datname, a.grantee::regrole, a.privilege_type) FROM pg_database, aclexplode(coalesce(datacl,
    acldefault('d', datdba))) a WHERE datname <> 'template0'
UNION ALL SELECT 'setting ' || concat_ws(' ', datname, setrole::regrole, setconfig) FROM pg_db_role_setting s
    LEFT JOIN pg_database d ON d.oid = s.setdatabase
UNION ALL SELECT 'system ' || name || setting FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf' ORDER BY 1
"""


def shared(server: Server) -> list[str]:
    return server.psql(SHARED).splitlines()


@contextmanager
def opened(server: Server, database: str) -> Iterator[None]:
    closed = server.psql(f"SELECT NOT datallowconn FROM pg_database WHERE datname = $q${database}$q$") == "t"
    if closed:
        server.psql(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
    yield
    if closed:
        server.psql(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')


def different(new: Server, old: Server, database: str) -> list[str]:
    """What is not the same in a database as the newer server's pg_dump writes it, rows and all, of both."""
    less = ("-T", "app.busy", "--no-subscriptions")
    with opened(new, database), opened(old, database):
        one, other = (new.dumped(database, of=server, less=less) for server in (old, new))
    # a check is written down in other words once, and a sequence goes on while somebody writes
    drop = re.compile(r"busy_id_seq|OWNER TO (postgres|purveyor_databases);|CONSTRAINT customers_status_check")
    left, right = ([line for line in lines if not drop.search(line)] for lines in (one, other))
    return sorted({*left} ^ {*right}) if sorted(left) != sorted(right) else []


PAIRS = [(15, 15), (18, 18), (15, 18), (17, 18)]


@pytest.mark.parametrize(("old", "new"), PAIRS)
@awaited
async def test_one_of_everything_comes_back_beside_a_writer(old: int, new: int, sources: Callable[[int], Server], make: Make) -> None:
    source, target, stream = sources(old), make(new), Stream()
    async with written_to(source) as rounds:
        census = await save(source, stream, target if new != old else None)
        began = rounds[0]
    assert began > 0
    assert not census.failed
    assert sorted(census.counts["databases"]) == DATABASES
    print("T", time.monotonic())
    findings = await fill(target, stream, takes_over=True)
    print("T", time.monotonic())
    print("\n".join(findings), census.left_out)
    assert census.differences(await count(target)) == []
    assert census.counts["rows"]["shop.app.secrets"] == 2
    assert census.counts["rows"]["shop.app.revoked"] == 3
    wrong = [line for database in DATABASES for line in different(target, source, database)]
    assert not wrong, "\n".join(wrong)
    assert shared(target) == shared(source)
    print("\n".join(findings))
    print(census.left_out)
