"""Backups of PostgreSQL by the plugin's own hooks: what was there is there again, beside a writer,
and what is not is named."""

import asyncio
import re
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from purveyor_hooks import Failed, Image, Inventory, NotFound, RestoreOptions
from purveyor_hooks.parts import PartWriter
from purveyor_postgres import counting, dump, logins
from purveyor_postgres import plugin as postgres
from purveyor_postgres.record import read_inside
from purveyor_postgres.server import connection
from servers import Server, Stream, awaited
from support import docker

EVERYTHING = (Path(__file__).parents[2] / "everything/postgres.sql").read_text()
DATABASES = [
    "a=b",
    "archive2024",
    "bare",
    "bytes",
    'it\'s "odd"',
    "mould",
    "postgres",
    "shop",
    "template1",
]
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
    opened = await asyncpg.connect(
        host="127.0.0.1",
        port=server.port,
        user="postgres",
        password=server.password,
        database="shop",
    )

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


async def save(server: Server, stream: Stream, tools: Server | None = None) -> Inventory:
    return await postgres.backup(server.service, server, stream, tools)


async def fill(server: Server, stream: Stream, **options: Any) -> list[str]:
    return [
        str(item)
        for item in await postgres.restore(
            server.service, server, stream, RestoreOptions(**options)
        )
    ]


async def count(server: Server) -> Inventory:
    return await postgres.census(server.service, server, None)


SHARED = """
SELECT 'role ' || r.rolname || concat_ws(' ', r.rolcanlogin, r.rolcreatedb, r.rolinherit, r.rolconnlimit, r.rolvaliduntil,
    a.rolpassword, shobj_description(r.oid, 'pg_authid')) FROM pg_roles r JOIN pg_authid a USING (oid)
    WHERE r.rolname !~ '^(pg_|purveyor_|postgres$)'
UNION ALL SELECT 'member ' || roleid::regrole || ' ' || member::regrole || admin_option FROM pg_auth_members WHERE member >= 16384
UNION ALL SELECT 'database ' || concat_ws(' ', datname, pg_get_userbyid(datdba), datconnlimit, datistemplate, datallowconn,
    pg_encoding_to_char(encoding), datcollate, to_jsonb(d)->>'datlocprovider',
    coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), shobj_description(oid, 'pg_database'))
    FROM pg_database d WHERE datname <> 'template0'
UNION ALL SELECT 'right ' || concat_ws(' ', datname, a.grantee::regrole, a.privilege_type)
    FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a WHERE datname <> 'template0'
UNION ALL SELECT 'setting ' || concat_ws(' ', datname, setrole::regrole, setconfig) FROM pg_db_role_setting s
    LEFT JOIN pg_database d ON d.oid = s.setdatabase
UNION ALL SELECT 'system ' || name || setting FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf' ORDER BY 1
"""


def shared(server: Server) -> list[str]:
    return server.psql(SHARED).splitlines()


@contextmanager
def opened(server: Server, database: str) -> Iterator[None]:
    closed = (
        server.psql(f"SELECT NOT datallowconn FROM pg_database WHERE datname = $q${database}$q$")
        == "t"
    )
    if closed:
        server.psql(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
    yield
    if closed:
        server.psql(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')


def different(new: Server, old: Server, database: str) -> list[str]:
    """What is not the same in a database as the newer server's pg_dump writes it, rows and all, of
    both."""
    less = ("-T", "app.busy", "--no-subscriptions")
    with opened(new, database), opened(old, database):
        one, other = (new.dumped(database, of=server, less=less) for server in (old, new))
    # a check is written down in other words once, and a sequence goes on while somebody writes;
    # views of 15 say whose a column is, and MAINTAIN came with 17
    drop = re.compile(
        r"busy_id_seq|OWNER TO (postgres|purveyor_heir);|customers_status_check|ON TABLE "
        r"app.revoked"
    )
    left, right = (
        [line.replace("orders.", "") for line in lines if not drop.search(line)]
        for lines in (one, other)
    )
    return sorted({*left} ^ {*right}) if sorted(left) != sorted(right) else []


PAIRS = [
    (15, 18),
    *(pytest.param(*pair, marks=pytest.mark.nightly) for pair in [(15, 15), (18, 18), (17, 18)]),
]


@pytest.mark.parametrize(("old", "new"), PAIRS)
@awaited
async def test_one_of_everything_comes_back_beside_a_writer(
    old: int, new: int, sources: Callable[[int], Server], make: Make
) -> None:
    source, target, stream = sources(old), make(new), Stream()
    async with written_to(source) as rounds:
        census = await save(source, stream, target if new != old else None)
        began = rounds[0]
    assert began > 0
    assert not census.failed
    assert sorted(census.counts["databases"]) == DATABASES
    assert await fill(target, stream, takes_over=True) == []
    assert census.differences(await count(target)) == []
    assert census.counts["rows"]["shop.app.secrets"] == 2
    assert census.counts["rows"]["shop.app.revoked"] == 3
    less = "SELECT count(*) FROM pg_extension WHERE extname = 'plpgsql'"
    assert (target.psql(less, "bare"), target.psql(less, "shop")) == ("0", "1")
    wrong = [line for database in DATABASES for line in different(target, source, database)]
    assert not wrong, "\n".join(wrong)
    assert shared(target) == shared(source)


# ---------------------------------------------------------------- lines of data.md


def one(server: Server, database: str, *statements: str, owner: str = "shop") -> None:
    """A database of a project's."""
    server.psql(
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{owner}') THEN CREATE "
        f"ROLE {owner} LOGIN; "
        f"COMMENT ON ROLE {owner} IS 'purveyor binding 1'; END IF; END $$"
    )
    server.psql(f"CREATE DATABASE {database} OWNER {owner}")
    server.psql(f"SET SESSION AUTHORIZATION {owner};" + ";".join(statements), database)


@pytest.fixture(scope="module")
def plain(make: Make) -> Server:
    """A PostgreSQL 17 to which tests add databases of their own."""
    return make(17)


@pytest.mark.fortnightly
@awaited
async def test_what_a_subscription_or_a_mapping_may_no_longer_is_named(make: Make) -> None:
    """`password_required = false` opens what only an administrator may open: it is not made by
    itself. A setting of every role comes along."""
    source, target, stream = make(18), make(18), Stream()
    source.psql(
        "ALTER ROLE ALL SET vacuum_cost_limit = '321'; CREATE ROLE keeper LOGIN; "
        "GRANT pg_create_subscription TO keeper; CREATE DATABASE fed; GRANT CREATE ON DATABASE fed "
        "TO keeper"
    )
    source.psql(
        "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; "
        "CREATE USER MAPPING FOR keeper SERVER far OPTIONS (user 'x', password_required 'false'); "
        "CREATE SUBSCRIPTION feed CONNECTION 'host=nowhere dbname=x' PUBLICATION p WITH (connect = "
        "false, password_required = false, run_as_owner = true, slot_name = NONE, enabled = false, "
        "create_slot = false); ALTER SUBSCRIPTION feed OWNER TO keeper; "
        "CREATE SUBSCRIPTION plain CONNECTION 'host=nowhere dbname=x' PUBLICATION p WITH (connect = "
        "false, slot_name = NONE, enabled = false, create_slot = false)",
        "fed",
    )
    await save(source, stream)
    for takes_over in (True, False):
        said = await fill(target, stream, takes_over=takes_over)
        (withheld,) = [item for item in said if "ALTER SUBSCRIPTION … OWNER" in item]
        assert withheld.startswith("fed: subscription feed: ")
        assert withheld.endswith(
            'OWNER TO "keeper", SET (password_required = false), SET (run_as_owner = true)'
        )
        assert [item for item in said if "user mapping of keeper for far" in item]
        made = "SELECT subname, subpasswordrequired, subrunasowner FROM pg_subscription ORDER BY 1"
        assert target.psql(made, "fed").splitlines() == ["feed|t|f", "plain|t|f"]
        every = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase = 0"
        assert target.psql(every) == "{vacuum_cost_limit=321}"


@pytest.mark.nightly
@awaited
async def test_three_thousand_tables_come_back(plain: Server, make: Make) -> None:
    target, stream = make(17), Stream()
    one(
        plain,
        "wide",
        "CREATE TABLE hub (id int PRIMARY KEY)",
        "INSERT INTO hub VALUES (1)",
    )
    for start in range(0, 3000, 500):  # each table takes locks, and a transaction has not so many
        plain.psql(
            "SET SESSION AUTHORIZATION shop; DO $$ BEGIN FOR n IN "
            f"{start + 1}..{start + 500} LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, "
            "hub int REFERENCES hub DEFAULT 1); INSERT INTO t%s SELECT %s', n, n, n); END LOOP; "
            "END $$",
            "wide",
        )
    census = await save(plain, stream)
    assert census.failed == ()
    assert sum(name.startswith("wide.public.t") for name in census.counts["rows"]) == 3000
    assert not [item for item in await fill(target, stream) if item.startswith("wide")]
    assert census.only(["wide"]).differences((await count(target)).only(["wide"])) == []
    total = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'"
    assert target.psql(total, "wide") == "3000"


@pytest.mark.fortnightly
@awaited
async def test_what_a_live_database_does_in_between_is_no_difference(
    plain: Server, make: Make
) -> None:
    """A sequence moves on while it is dumped: later it is at least so far."""
    one(
        plain,
        "live",
        "CREATE TABLE o (id serial PRIMARY KEY, x int)",
        "INSERT INTO o (x) SELECT 1 FROM generate_series(1, 1000)",
    )
    stream = Stream()
    census = await save(plain, stream)
    plain.psql("SELECT nextval('o_id_seq')", "live")
    assert census.growing["sequences"]["live.public.o_id_seq"] == 1000
    assert "sequences" not in census.counts
    assert census.only(["live"]).differences((await count(plain)).only(["live"])) == []


CHANGES = (
    "CREATE TABLE passing AS SELECT 1 AS x", "DROP TABLE passing",
    "SELECT lo_unlink(l) FROM lo_create(0) l",
    "CREATE FUNCTION passes() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION passes()",
    "ALTER TABLE kept RENAME TO other", "SELECT pg_sleep(0.1)", "ALTER TABLE other RENAME TO kept",
    "CREATE TEMP TABLE t AS SELECT 1", "DROP TABLE t", "ALTER TABLE big ADD COLUMN y int",
    "ALTER TABLE big DROP COLUMN y",
)  # fmt: skip


@pytest.mark.fortnightly
@awaited
async def test_a_project_that_makes_drops_and_renames_all_the_time_is_backed_up(
    plain: Server, make: Make
) -> None:
    """As a migration does. What it owns is not the database's owner's: large objects, too, whatever
    their number."""
    plain.psql("CREATE ROLE mover LOGIN PASSWORD 'secret'")
    one(
        plain,
        "moving",
        "GRANT CREATE ON SCHEMA public TO mover",
        "CREATE TABLE fixed AS SELECT generate_series(1, 7) AS x",
    )
    opened = await asyncpg.connect(
        host="127.0.0.1", port=plain.port, user="mover", password="secret", database="moving"
    )
    rounds = 0

    async def move() -> None:
        nonlocal rounds
        await opened.execute(
            "CREATE TABLE kept AS SELECT generate_series(1, 100) AS x; CREATE TABLE big AS TABLE "
            "kept"
        )
        await opened.execute("SELECT lo_from_bytea(4711, 'one'), lo_from_bytea(0, 'another')")
        while True:
            for statement in CHANGES:
                await opened.execute(statement)
            rounds += 1
            await asyncio.sleep(0.5)

    task = asyncio.create_task(move())
    try:
        await asyncio.sleep(1)
        for _ in range(3):
            stream, before = Stream(), rounds
            census = await save(plain, stream)
            assert census.failed == ()
            assert rounds > before
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await opened.close()
    target = make(17)
    findings = await fill(target, stream)
    assert census.only(["moving"]).differences((await count(target)).only(["moving"])) == [], (
        findings
    )
    assert target.psql("SELECT count(*) FROM fixed", "moving") == "7"
    assert target.psql("SELECT convert_from(lo_get(4711), 'UTF8')", "moving") == "one"
    assert (
        target.psql("SELECT DISTINCT lomowner::regrole FROM pg_largeobject_metadata", "moving")
        == "mover"
    )
    plain.psql("DROP DATABASE moving")
    plain.psql("DROP ROLE mover")


class Meddled:
    """A session before whose statements something happens, once each."""

    def __init__(self, opened: Any, happens: dict[str, Callable[[], object]]) -> None:
        self._opened, self._happens = opened, happens

    async def execute(self, statement: str) -> Any:
        self._meddle(statement)
        return await self._opened.execute(statement)

    async def fetchval(self, statement: str) -> Any:
        self._meddle(statement)
        return await self._opened.fetchval(statement)

    async def fetch(self, statement: str) -> Any:
        return await self._opened.fetch(statement)

    def _meddle(self, statement: str) -> None:
        for begin in [begin for begin in self._happens if statement.startswith(begin)]:
            self._happens.pop(begin)()


@awaited
async def test_no_table_of_the_snapshot_goes_any_more_whatever_came_and_went_before(
    plain: Server,
) -> None:
    parts = "CREATE TABLE parts (x int) PARTITION BY LIST (x)"
    one(plain, "hasty", "CREATE TABLE stays (x int)", "CREATE TABLE goes (x int)", parts)
    happens: dict[str, Callable[[], object]] = {
        "LOCK TABLE": lambda: plain.psql("DROP TABLE goes", "hasty"),
        "SELECT pg_export_snapshot": lambda: plain.psql("CREATE TABLE comes (x int)", "hasty"),
    }
    try:
        async with (
            connection(plain.service, plain, "hasty") as inside,
            connection(plain.service, plain, "hasty") as opened,
        ):
            snapshot = await dump._held(inside, Meddled(opened, happens))
            locked = {row[0] for row in await opened.fetch(
                "SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid() AND relation >= 16384")}  # fmt: skip
            assert happens == {}
            assert locked == {"public.stays", "public.comes", "public.parts"}
            async with inside.transaction(isolation="repeatable_read", readonly=True):
                await inside.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
                assert {table.name for table in await counting.tables(inside)} == {"stays", "comes"}
    finally:
        plain.psql("DROP DATABASE hasty WITH (FORCE)")


@awaited
async def test_what_was_dropped_since_the_snapshot_means_another_look(plain: Server) -> None:
    one(
        plain,
        "brief",
        "CREATE FUNCTION went() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        owner="brief",
    )
    plain.psql("ALTER DATABASE brief OWNER TO postgres")
    try:
        async with (
            connection(plain.service, plain, "brief") as inside,
            inside.transaction(isolation="repeatable_read"),
        ):
            assert await inside.fetchval("SELECT count(*) FROM pg_proc WHERE proname = 'went'") == 1
            plain.psql("DROP FUNCTION went", "brief")
            with pytest.raises(Failed, match="comes and goes"):
                await read_inside(inside, "brief")
            with pytest.raises(Failed, match="comes and goes"):
                await counting.digests(inside, "brief")
    finally:
        plain.psql("DROP DATABASE brief WITH (FORCE)")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that cannot be read is given up after a moment."""
    monkeypatch.setattr(dump, "TRYING", 2.0)
    monkeypatch.setattr(dump, "LOCK_PATIENCE", 2)


@pytest.mark.fortnightly
@awaited
async def test_a_table_that_somebody_locks_holds_up_its_own_database_alone(
    plain: Server, hasty: None
) -> None:
    one(plain, "locked", "CREATE TABLE t AS SELECT 1 AS x")
    one(plain, "open", "CREATE TABLE t AS SELECT 1 AS x")
    rival = await asyncpg.connect(
        host="127.0.0.1",
        port=plain.port,
        user="postgres",
        password=plain.password,
        database="locked",
    )
    async with rival.transaction():
        await rival.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        census = await save(plain, Stream())
        assert time.monotonic() - begun < 120
    await rival.close()
    assert [item.where for item in census.failed] == ["locked"]
    assert census.counts["rows"]["open.public.t"] == 1
    plain.psql("DROP DATABASE locked")


@pytest.mark.fortnightly
@awaited
async def test_one_database_that_cannot_be_read_is_named_and_the_others_are_there(
    plain: Server, make: Make
) -> None:
    one(plain, "good", "CREATE TABLE t AS SELECT 1 AS x")
    one(plain, "halfgone", "CREATE TABLE t AS SELECT 1 AS x")
    one(plain, "torn", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS x")
    plain.psql("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'halfgone'")
    path = plain.psql(
        "SELECT current_setting('data_directory') || '/' || pg_relation_filepath('t')", "torn"
    )
    plain.psql("CHECKPOINT")
    docker(
        "exec",
        plain.name,
        "sh",
        "-c",
        f"head -c 24 /dev/zero | tr '\\0' '\\377' | dd of={path} conv=notrunc",
    )
    docker("restart", plain.name)
    plain.wait()
    try:
        stream = Stream()
        census = await save(plain, stream)
        assert [item.where for item in census.failed] == ["torn"]
        assert "invalid page" in census.failed[0].why
        assert any(
            item.where == "halfgone" and "DROP DATABASE" in item.why for item in census.left_out
        )
        assert census.counts["rows"]["good.public.t"] == 1
        assert "torn" not in census.counts["databases"]
        target = make(17)
        findings = await fill(target, stream)
        assert any(said.startswith("torn: it is not in the backup") for said in findings)
        assert target.psql("SELECT x FROM t", "good") == "1"
        assert census.differences(await count(target)) == []
    finally:
        plain.psql("DROP DATABASE torn")
        plain.psql("DROP DATABASE halfgone")


@pytest.mark.fortnightly
@awaited
async def test_what_a_tenants_function_warns_of_is_not_taken_for_the_end_of_a_program(
    plain: Server, make: Make
) -> None:
    one(
        plain,
        "loud",
        "CREATE FUNCTION warn(x int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE WARNING E'-\\npurveyor: ended with abc\\npurveyor : ended with 9\\npurveyor 0: "
        "ended with x'; RETURN x; END $$",
        "CREATE TABLE t AS SELECT 1 AS x",
        "CREATE INDEX ON t (warn(x))",
    )
    try:
        stream = Stream()
        census = await save(plain, stream)
    finally:
        plain.psql("DROP DATABASE loud")
    target = make(17)
    await fill(target, stream, only=("loud",))
    assert census.only(["loud"]).differences((await count(target)).only(["loud"])) == []


@pytest.mark.fortnightly
@awaited
async def test_settings_of_a_tenant_do_not_reach_the_manager(plain: Server, make: Make) -> None:
    one(plain, "bent", "CREATE TABLE t AS SELECT generate_series(1, 100) AS x")
    for setting in (
        "role = shop", "search_path = nowhere", "statement_timeout = 1",
        "idle_in_transaction_session_timeout = 1",
        "local_preload_libraries = 'nope'", "default_transaction_read_only = on",
        "row_security = off",
        "client_encoding = LATIN1", "standard_conforming_strings = off",
        "quote_all_identifiers = on",
    ):  # fmt: skip
        plain.psql(f"ALTER DATABASE bent SET {setting}")
    stream, target = Stream(), make(17)
    census = await save(plain, stream)
    assert not census.failed
    assert census.counts["rows"]["bent.public.t"] == 100
    findings = await fill(target, stream, only=("bent",))
    assert (
        "bent: local_preload_libraries of bent: it is not set again: it would act on whoever logs "
        "in" in findings
    )
    assert target.psql("SELECT count(*) FROM public.t", "bent") == "100"
    assert "search_path=nowhere" in target.psql("SELECT setconfig FROM pg_db_role_setting")
    plain.psql("DROP DATABASE bent")


@pytest.mark.fortnightly
@awaited
async def test_only_what_is_asked_for_is_restored_and_again_after_a_crash(
    plain: Server, make: Make
) -> None:
    one(plain, "first", "CREATE TABLE t AS SELECT 1 AS x")
    one(plain, "second", "CREATE TABLE t AS SELECT 2 AS x")
    stream, target = Stream(), make(17)
    census = await save(plain, stream)
    assert await fill(target, stream, only=("first", "third")) == [
        "third: there is no such database in the backup"
    ]
    assert target.psql(
        "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1"
    ).split() == ["first", "postgres"]
    target.psql("CREATE TABLE junk (x int)", "first")
    target.psql("CREATE TABLE junk (x int)")
    assert await fill(target, stream) == []
    assert census.differences(await count(target)) == []
    out = Stream()
    await postgres.extract(stream, "second", out)
    assert bytes(out.data[:5]) == b"PGDMP"
    with pytest.raises(NotFound):
        await postgres.extract(stream, "third", Stream())
    plain.psql("DROP DATABASE first")
    plain.psql("DROP DATABASE second")


@pytest.mark.fortnightly
@awaited
async def test_what_cannot_be_restored_is_named_and_the_rest_is_there(
    plain: Server, make: Make
) -> None:
    """A check that reads another table loads at the second try; one that says no does not."""
    one(
        plain, "stubborn", "CREATE TABLE zref AS SELECT 1 AS x",
        "CREATE FUNCTION refers(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.zref)'",
        "CREATE TABLE a_later (x int CHECK (refers(x)))", "INSERT INTO a_later VALUES (1)",
        "CREATE FUNCTION says() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'",
        "CREATE TABLE never (x int CHECK (says() > 0))",
        "INSERT INTO never VALUES (1)",
        "CREATE OR REPLACE FUNCTION says() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0'",
    )  # fmt: skip
    stream, target = Stream(), make(17)
    await save(plain, stream)
    (said,) = await fill(target, stream, only=("stubborn",))
    assert re.match(r"stubborn: TABLE DATA public never: .*violates check constraint", said), said
    assert target.psql("SELECT count(*) FROM a_later", "stubborn") == "1"
    plain.psql("DROP DATABASE stubborn")


@pytest.mark.fortnightly
@awaited
async def test_what_is_left_out_is_named(plain: Server, make: Make) -> None:
    one(
        plain, "odd", "CREATE EXTENSION hstore", "CREATE TABLE hidden (x int)",
        "ALTER EXTENSION hstore ADD TABLE hidden",
        "CREATE TABLE t (x int)",
    )  # fmt: skip
    plain.psql(
        "CREATE FUNCTION ev() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; "
        "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION ev(); CREATE FUNCTION su() RETURNS int LANGUAGE sql "
        "SECURITY DEFINER AS 'SELECT 1'; INSERT INTO t VALUES (1), (1)", "odd",
    )  # fmt: skip
    plain.psql("CREATE UNIQUE INDEX CONCURRENTLY broken ON t (x)", "odd", check=False)
    stream, target = Stream(), make(17)
    census = await save(plain, stream)
    said = {f"{item.where}: {item.what}" for item in census.left_out}
    assert {
        "odd: event trigger watch",
        "odd: table public.hidden",
        "odd: index public.broken",
    } <= said
    findings = await fill(target, stream, only=("odd",))
    assert any(
        "function public.su()" in item and "ran with the administrator's rights" in item
        for item in findings
    )
    assert any(
        "belonged to the administrator, and belongs to shop now" in item for item in findings
    )
    assert target.psql("SELECT count(*) FROM pg_event_trigger", "odd") == "0"
    assert (
        target.psql("SELECT proowner::regrole FROM pg_proc WHERE proname = 'su'", "odd") == "shop"
    )
    assert census.only(["odd"]).differences((await count(target)).only(["odd"])) == []
    plain.psql("DROP DATABASE odd")


@pytest.mark.fortnightly
@awaited
async def test_what_is_written_at_each_login_is_counted_as_it_was_dumped(
    plain: Server, make: Make
) -> None:
    one(plain, "watched", "CREATE TABLE audit (who text)")
    plain.psql(
        "CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN "
        "INSERT INTO public.audit VALUES (session_user); END'; "
        "CREATE EVENT TRIGGER noted ON login EXECUTE FUNCTION noted()",
        "watched",
    )
    stream, target = Stream(), make(17)
    try:
        census = await save(plain, stream)
        ours = "SELECT count(*) FROM audit WHERE who = 'postgres'"
        assert plain.psql(ours, "watched") == "1", "who asks, and nobody of the manager's"
    finally:
        plain.psql("DROP DATABASE watched WITH (FORCE)")
    assert "watched: event trigger noted" in {f"{it.where}: {it.what}" for it in census.left_out}
    await fill(target, stream, only=("watched",))
    assert census.only(["watched"]).differences((await count(target)).only(["watched"])) == []


@pytest.mark.fortnightly
@awaited
async def test_a_transaction_that_waits_for_its_second_phase_is_named(make: Make) -> None:
    source = make(17, arguments=("-c", "max_prepared_transactions=4"))
    one(
        source, "halfway", "CREATE TABLE t AS SELECT 1 AS x", "BEGIN",
        "INSERT INTO t VALUES (2)", "PREPARE TRANSACTION 'later'",
    )  # fmt: skip
    census = await save(source, Stream())
    assert not census.failed
    assert census.counts["rows"]["halfway.public.t"] == 1
    assert "halfway: later: a prepared transaction is not carried" in map(str, census.left_out)


@pytest.mark.nightly
@awaited
async def test_a_row_of_a_quarter_of_a_gigabyte_comes_back(plain: Server, make: Make) -> None:
    one(
        plain, "heavy", "CREATE TABLE t (x bytea)", "ALTER TABLE t ALTER x SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT decode(repeat('00ff10ab', 64000000), 'hex')",
    )  # fmt: skip
    stream, target = Stream(), make(17)
    digest = "SELECT length(x), sha256(x) FROM t"
    before = plain.psql(digest, "heavy")
    try:
        census = await save(plain, stream)
    finally:
        plain.psql("DROP DATABASE heavy")
    assert before.startswith("256000000|")
    assert await fill(target, stream, only=("heavy",)) == []
    assert census.only(["heavy"]).differences((await count(target)).only(["heavy"])) == []
    assert target.psql(digest, "heavy") == before


ADMINISTRATORS_OWN = """
CREATE PUBLICATION mixed FOR TABLES IN SCHEMA a, TABLE public.two WHERE (id > 5); COMMENT ON PUBLICATION mixed IS 'of some';
CREATE PUBLICATION "all of it" FOR ALL TABLES{}; COMMENT ON PUBLICATION "all of it" IS 'of all';
CREATE EXTENSION hstore; COMMENT ON EXTENSION hstore IS 'ours'; CREATE LANGUAGE mine HANDLER plpgsql_call_handler;
CREATE SUBSCRIPTION twice CONNECTION 'host=nowhere dbname=x' PUBLICATION p WITH (connect = false, two_phase = true);
INSERT INTO pg_seclabel VALUES ('public.two'::regclass, 'pg_class'::regclass, 0, 'sealed', 'secret');
INSERT INTO pg_shseclabel SELECT oid, 'pg_authid'::regclass, 'sealed', 'x' FROM pg_authid WHERE rolname = 'shop';
GRANT SET ON PARAMETER log_min_duration_statement TO watcher WITH GRANT OPTION;
GRANT SET ON PARAMETER dynamic_library_path TO watcher; GRANT SET ON PARAMETER log_min_duration_statement TO shop;
"""


@pytest.mark.fortnightly
@pytest.mark.parametrize("old", [pytest.param(15, marks=pytest.mark.nightly), 18])
@awaited
async def test_what_only_an_administrator_makes_comes_back_whole_or_is_named(
    old: int, make: Make
) -> None:
    """A publication without its condition publishes more than before; names with blanks are not
    taken for others."""
    source, target, stream = make(old), make(18), Stream()
    docker("exec", source.name, "sh", "-c", "mkdir -p /fast && chown postgres /fast")
    source.psql("CREATE TABLESPACE fast LOCATION '/fast'")
    source.psql("GRANT CREATE ON TABLESPACE fast TO PUBLIC; CREATE ROLE watcher")
    one(
        source, "odd", 'CREATE SCHEMA "public stuff"',
        'CREATE TABLE "public stuff".t AS SELECT 1 AS x',
        'CREATE TABLE "hstore hstore" (x int)', "CREATE SCHEMA a",
        "CREATE TABLE a.one (id int PRIMARY KEY)",
        "CREATE TABLE two (id int PRIMARY KEY)", "CREATE TABLE three (id int) TABLESPACE fast",
        "CREATE INDEX quick ON two (id) TABLESPACE fast",
    )  # fmt: skip
    source.psql("CREATE DATABASE elsewhere TABLESPACE fast")
    source.psql(
        ADMINISTRATORS_OWN.format(
            " WITH (publish_generated_columns = stored)" if old == 18 else ""
        ),
        "odd",
    )
    census = await save(source, stream, target if old != 18 else None)
    placed, remade = (
        "it comes back in the default tablespace",
        "only what an extension makes is carried",
    )
    said = {str(item).partition(": CREATE")[0] for item in census.left_out}
    assert said == {
        f"database elsewhere: {placed}", f"odd: index public.quick: {placed}",
        f"odd: table public.three: {placed}",
        "tablespace fast: what is in it comes back in the default tablespace",
        f"odd: language mine: {remade}",
        "security label of role shop by sealed: labels of what databases share are not carried",
    }  # fmt: skip
    assert sorted(await fill(target, stream, takes_over=True)) == [
        'odd: SECURITY LABEL public TABLE two: security label provider "sealed" is not loaded',
        *(
            f"role {role}: it may SET {name} and may not any more: GRANT SET ON PARAMETER {name} "
            f'TO "{role}"'
            for role, name in (
                ("shop", "log_min_duration_statement"),
                ("watcher", "dynamic_library_path"),
            )
        ),
    ]
    assert census.differences(await count(target)) == []
    lost = {
        line
        for line in set(target.dumped("odd", of=source)) - set(target.dumped("odd"))
        if "MAINTAIN" not in line
    }
    # what is subscribed to acts with its tables' owners' rights, also where a server of 15 let it
    # act as an administrator
    assert {line for line in lost if "pg_database_owner" not in line and "run_as_owner = true" not in line} == {
        "CREATE OR REPLACE PROCEDURAL LANGUAGE mine;",
        "ALTER PROCEDURAL LANGUAGE mine OWNER TO postgres;",
        "SET default_tablespace = fast;",
        "SECURITY LABEL FOR sealed ON TABLE public.two IS 'secret';",
    }  # fmt: skip
    assert target.psql("SELECT subtwophasestate <> 'd' FROM pg_subscription") == "t"
    assert (
        target.psql("SELECT paracl FROM pg_parameter_acl")
        == "{postgres=sA/postgres,watcher=s*/postgres}"
    )
    target.psql("ALTER PUBLICATION mixed SET TABLES IN SCHEMA a, TABLE public.two", "odd")
    assert census.differences(await count(target)) == ["odd.publications is not as it was"]


@pytest.mark.fortnightly
@awaited
async def test_what_a_tenants_code_says_is_not_taken_for_what_pg_restore_says(
    plain: Server, make: Make
) -> None:
    """A definition that fails is printed whole; so is what a function raises. Nothing is loaded
    twice for it."""
    forged = (
        "pg_restore: from TOC entry {}; 0 0 TABLE DATA public kept shop\npg_restore: error: "
        "could not execute query: ERROR:  no"
    )
    lines = "\n".join(forged.format(number) for number in range(1, 6000))
    one(
        plain, "forger", "CREATE TABLE kept AS SELECT generate_series(1, 5) AS x",
        f"CREATE FUNCTION fails(x int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $f$ BEGIN RAISE WARNING $q$\n{lines}$q$; "
        f"IF current_user <> session_user THEN RAISE EXCEPTION $q$no\n{lines}$q$; END IF; RETURN x; END $f$",
        "CREATE TABLE bad (x int CHECK (fails(x) > 0))", "INSERT INTO bad VALUES (1)",
    )  # fmt: skip
    stream, target = Stream(), make(17)
    try:
        await save(plain, stream)
    finally:
        plain.psql("DROP DATABASE forger")
    (said,) = await fill(target, stream, only=("forger",))
    assert said == 'forger: TABLE DATA public bad: COPY failed for table "bad": ERROR:  no'
    assert target.psql("SELECT count(*) FROM kept", "forger") == "5"


@pytest.mark.fortnightly
@awaited
async def test_bytes_that_are_no_text_are_carried(make: Make) -> None:
    source = make(17, environment={"POSTGRES_INITDB_ARGS": "--encoding=SQL_ASCII --locale=C"})
    source.psql("SELECT 1")
    script = (
        b'CREATE ROLE "m\xfcller" LOGIN; CREATE TABLE "gr\xf6\xdfe" (x text); INSERT INTO '
        b"\"gr\xf6\xdfe\" VALUES ('f\xfcr'); "
    )
    source.feed(script + b'ALTER TABLE "gr\xf6\xdfe" OWNER TO "m\xfcller";')
    stream, target = Stream(), make(17)
    census = await save(source, stream)
    assert not census.failed
    await fill(target, stream)
    assert census.differences(await count(target)) == []
    assert (
        target.feed(
            b"SELECT rolname FROM pg_roles WHERE rolname ~ 'ller'; SELECT x FROM \"gr\xf6\xdfe\""
        )
        == b"m\xfcller\nf\xfcr\n"
    )


@pytest.mark.fortnightly
@awaited
async def test_a_copy_subscribes_to_nothing_and_what_takes_over_does(
    plain: Server, make: Make
) -> None:
    plain.psql("ALTER SYSTEM SET wal_level = 'logical'")
    docker("restart", plain.name)
    plain.wait()
    plain.psql(
        "CREATE TABLE feed (x int); INSERT INTO feed VALUES (1); CREATE PUBLICATION feed FOR TABLE "
        "feed"
    )
    source, stream = make(18), Stream()
    one(source, "reader", "CREATE TABLE feed (x int)")
    where = f"host={plain.name} user=postgres password={plain.password} dbname=postgres"
    source.psql(f"CREATE SUBSCRIPTION feedsub CONNECTION '{where}' PUBLICATION feed", "reader")
    census = await save(source, stream)
    copy, heir = make(18), make(18, slug="main.next")
    (said,) = await fill(copy, stream)
    assert "subscription feedsub: it is off in a copy" in said
    assert copy.psql("SELECT subenabled, subslotname IS NULL FROM pg_subscription") == "f|t"
    assert await fill(heir, stream, takes_over=True) == []
    assert heir.psql("SELECT subenabled, subslotname FROM pg_subscription") == "t|feedsub"
    assert census.failed == ()
    # a moment of the past: in place it goes on, a new service lets the original have what it
    # subscribes to
    assert (
        "max_logical_replication_workers = 0"
        in postgres.recovery(source.service, None).finish.argv[-1]
    )
    assert await postgres.recover(heir.service, heir) == ""
    assert heir.psql("SELECT subenabled, subslotname FROM pg_subscription") == "t|feedsub"
    assert await postgres.recover(copy.service, heir) == ""
    assert heir.psql("SELECT subenabled, subslotname IS NULL FROM pg_subscription") == "f|t"
    source.psql("ALTER SUBSCRIPTION feedsub DISABLE; DROP SUBSCRIPTION feedsub", "reader")


@awaited
async def test_logins_of_a_crash_are_swept_and_a_database_that_was_opened_is_closed(
    plain: Server,
) -> None:
    one(plain, "shut", "CREATE TABLE t (x int)")
    note = '{"database": "shut", "opened": true, "by": "1.1"}'
    plain.psql(
        "CREATE ROLE purveyor_login_dump_0123456789ab LOGIN; COMMENT ON ROLE "
        f"purveyor_login_dump_0123456789ab IS '{note}'"
    )
    plain.psql("CREATE ROLE purveyor_login_of_somebody LOGIN")
    await count(plain)
    assert (
        plain.psql("SELECT rolname FROM pg_roles WHERE rolname ~ '^purveyor_login'")
        == "purveyor_login_of_somebody"
    )
    assert plain.psql("SELECT datallowconn FROM pg_database WHERE datname = 'shut'") == "f"
    plain.psql("DROP ROLE purveyor_login_of_somebody")
    plain.psql("DROP DATABASE shut")


@pytest.mark.fortnightly
@awaited
async def test_a_login_that_could_not_be_dropped_goes_when_the_server_serves_again(
    plain: Server,
) -> None:
    one(plain, "cut", "CREATE TABLE t (x int)")

    def left() -> str:
        return plain.psql("SELECT count(*) FROM pg_roles WHERE rolname ~ '^purveyor_login'")

    made = AsyncExitStack()
    await made.enter_async_context(logins.login(plain.service, plain, "cut", "dump", all_data=True))
    assert (await postgres.ready(plain.service, plain)).healthy
    assert left() == "1"  # it is in use
    docker("kill", plain.name)
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        await made.aclose()
    docker("start", plain.name)
    for _ in range(100):
        if (await postgres.ready(plain.service, plain)).healthy:
            break
        await asyncio.sleep(0.1)
    assert left() == "0"
    plain.psql("DROP DATABASE cut")


@pytest.mark.fortnightly
@awaited
async def test_a_server_that_is_tidied_for_too_long_is_healthy_all_the_same(plain: Server) -> None:
    """A tenant may hold what the manager wants to change: it is left for the next time, whatever
    the driver makes of that."""
    plain.psql("CREATE DATABASE held")
    async with connection(plain.service, plain) as opened, opened.transaction():
        await opened.execute("GRANT TEMPORARY ON DATABASE held TO pg_monitor")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(logins, "TIDYING", 0.3)
            assert (await postgres.ready(plain.service, plain)).healthy
    assert (await postgres.ready(plain.service, plain)).healthy
    public = (
        "SELECT count(*) FROM pg_database, aclexplode(datacl) WHERE datname = 'held' AND "
        "grantee = 0"
    )
    assert plain.psql(public) == "0"
    plain.psql("DROP DATABASE held")


@pytest.mark.fortnightly
@awaited
async def test_long_work_that_moves_no_byte_beats(plain: Server, make: Make) -> None:
    """An index whose function takes its time."""
    one(
        plain, "slow",
        "CREATE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END'",
        "CREATE TABLE t AS SELECT generate_series(1, 24) AS x", "CREATE INDEX ON t (slow(x))",
        "CREATE OR REPLACE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql IMMUTABLE "
        "AS 'BEGIN PERFORM pg_catalog.pg_sleep(0.3); RETURN $1; END'",
    )  # fmt: skip
    stream, target = Stream(), make(17)
    await save(plain, stream)
    target.longest, target.last = 0.0, time.monotonic()
    assert await fill(target, stream, only=("slow",)) == []
    target.beat()
    assert target.longest < 6
    plain.psql("DROP DATABASE slow")


@pytest.mark.fortnightly
@awaited
async def test_the_plan_of_an_upgrade_knows_what_the_new_version_refuses(make: Make) -> None:
    source = make(15)
    one(source, "old", "CREATE TABLE docs (x int)",
        "CREATE FUNCTION rate(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'",
        "CREATE TABLE t (x int)", "CREATE INDEX rated ON t (rate(x))",
        "CREATE OR REPLACE FUNCTION rate(int) RETURNS int LANGUAGE sql IMMUTABLE AS "
        "'SELECT count(*)::int FROM docs'",
        "CREATE FUNCTION held() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM docs'",
        "CREATE MATERIALIZED VIEW holds AS SELECT held() AS n",
        "CREATE FUNCTION two() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.rate(2)'",
        "CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT two() * $1'",
        "CREATE TABLE made (x int, y int GENERATED ALWAYS AS (twice(x)) STORED, CHECK (two() > -1))"
        )  # fmt: skip
    source.psql("DROP EXTENSION plpgsql", "old")
    source.psql(
        "CREATE ROLE chef CREATEROLE; CREATE ROLE team; CREATE ROLE anna; SET ROLE chef; GRANT "
        "team TO anna"
    )
    source.psql("CREATE ROLE legacy; ALTER ROLE legacy SET force_parallel_mode = 'off'; CREATE EXTENSION adminpack; "
                "ALTER SYSTEM SET old_snapshot_threshold = '1h'")  # fmt: skip
    image = Image(reference="purveyor-test/postgres:18", environment={"PG_MAJOR": "18"})
    found = [str(item) for item in await postgres.upgrade_check(source.service, source, image)]
    for wanted in (
        "force_parallel_mode of legacy", "old: function public.rate(integer)",
        "postgres: extension adminpack",
        "old_snapshot_threshold", "old: function public.held()",
    ):  # fmt: skip
        assert any(wanted in said for said in found), found
    stream, target = Stream(), make(18)
    await save(source, stream, target)
    said = await fill(target, stream, takes_over=True)
    twice = next(said for said in found if "function public.twice(integer)" in said)
    assert "it is used in the generated column of public.made" in twice
    assert not any("function public.two()" in said for said in found), "its own names are whole"
    for wanted in (
        "force_parallel_mode of legacy: PostgreSQL 18 has no such setting",
        "extension adminpack",
        "INDEX public rated",
        "MATERIALIZED VIEW DATA public holds",
    ):
        assert any(wanted in item for item in said), said
    assert target.psql("SELECT pg_has_role('anna', 'team', 'MEMBER')") == "t", "whoever granted it"
    assert target.psql("SELECT count(*) FROM pg_extension", "old") == "0"
    again = await fill(target, stream, takes_over=True, skip_settings=("force_parallel_mode",))
    assert not any("force_parallel_mode" in item for item in again), again
    assert target.psql("SELECT count(*) FROM pg_class WHERE relname = 't'", "old") == "1"


@pytest.mark.fortnightly
@awaited
async def test_a_tool_that_dies_ends_the_wait_with_its_reason(plain: Server, hasty: None) -> None:
    there = docker("exec", plain.name, "sh", "-c", "readlink -f $(command -v pg_dump)")
    docker("exec", plain.name, "mv", there, f"{there}.real")
    docker(
        "exec",
        plain.name,
        "sh",
        "-c",
        f"printf '#!/bin/sh\nkill -9 $$\n' > {there} && chmod 755 {there}",
    )
    try:
        with pytest.raises(Failed, match="pg_dump ended with 137"):
            await save(plain, Stream())
    finally:
        docker("exec", plain.name, "mv", f"{there}.real", there)


@pytest.mark.fortnightly
@awaited
async def test_a_backup_of_an_older_purveyor_is_still_read(plain: Server, make: Make) -> None:
    """Roles and databases as SQL; what is in it for psql itself is not obeyed."""
    one(
        plain,
        "before",
        "CREATE TABLE t (x text)",
        "INSERT INTO t VALUES (E'\\restrict x'), (E'\r'), ('\\!')",
    )

    def program(*argv: str) -> bytes:
        return subprocess.run(
            ["docker", "exec", plain.name, *argv], capture_output=True, check=True
        ).stdout

    stream, target = Stream(), make(17)
    writer = PartWriter(stream)
    await writer.whole("roles", program("pg_dumpall", "-U", "postgres", "--roles-only"))
    for name in ("before", "postgres"):
        create = ("--create",) if name == "before" else ()
        dump = program("pg_dump", "-U", "postgres", *create, "-d", name)
        await writer.whole("database", dump, database=name)
    await writer.close()
    assert await fill(target, stream) == []
    assert target.psql("SELECT count(*) FROM t", "before") == "3"
    out = Stream()
    await postgres.extract(stream, "before", out)
    assert b"CREATE TABLE public.t" in out.data
    hostile = Stream()
    writer = PartWriter(hostile)
    await writer.whole("database", b"\\! touch /tmp/was-obeyed\n", database="postgres")
    await writer.close()
    with pytest.raises(Failed):
        await fill(make(17), hostile)
    assert (
        docker("exec", target.name, "sh", "-c", "ls /tmp/was-obeyed 2>/dev/null", check=False) == ""
    )
    plain.psql("DROP DATABASE before")
