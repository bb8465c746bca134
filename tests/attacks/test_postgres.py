"""A hostile project's database: whatever the manager does with it, the project is what it was, and
its rows are there.

The tenant puts code into everything that is evaluated when a table is planned, read, written,
loaded or maintained. The code tries to become what the session was before, and leaves a mark where
it runs with a superuser's power. Controls show that it does.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from purveyor_hooks import Binding, Conflict, Image, RestoreOptions, Scope
from purveyor_hooks.parts import PartWriter, read_parts
from purveyor_postgres import counting
from purveyor_postgres import plugin as postgres
from purveyor_postgres.record import Server as Record
from servers import Server, Stream, awaited
from support import docker

MARK = "/tmp/was-superuser"
# What the client makes of a session that was ended: the last where the server's word came before
# the next question.
ENDED = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncpg.InternalClientError)
HOSTILE = f"""
CREATE FUNCTION public.v() RETURNS void LANGUAGE plpgsql VOLATILE AS $$ BEGIN
    BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'COPY (SELECT 1) TO PROGRAM ''touch {MARK}'''; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'ALTER ROLE pv_evil SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'ALTER ROLE ' || session_user || ' PASSWORD ''mine'''; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'GRANT pg_read_all_data TO pv_evil'; EXCEPTION WHEN OTHERS THEN NULL; END;
END $$;
CREATE FUNCTION public.w(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM public.v(); RETURN i; END $$;
CREATE FUNCTION public.b(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM public.v(); RETURN true; END $$;
CREATE TABLE a (i int); CREATE INDEX ON a ((i + public.w(1))); CREATE INDEX ON a (i) WHERE i > public.w(0);
INSERT INTO a VALUES (1);
CREATE TABLE b (i int); CREATE STATISTICS bs ON (i + public.w(1)), i FROM b; INSERT INTO b VALUES (1), (2);
CREATE TABLE c (i int) PARTITION BY RANGE ((i + public.w(1))); CREATE TABLE c1 PARTITION OF c FOR VALUES FROM (0) TO (9);
INSERT INTO c VALUES (3);
CREATE TABLE d (i int, j int GENERATED ALWAYS AS (i + public.w(1)) STORED, CHECK (i > public.w(0))); INSERT INTO d VALUES (5);
CREATE TYPE ct AS (x int);
CREATE FUNCTION public.t(ct) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.v(); RETURN 'x'; END $$;
CREATE CAST (ct AS text) WITH FUNCTION public.t(ct); CREATE TABLE e (c ct); INSERT INTO e VALUES (ROW(1));
CREATE DOMAIN dom AS int CHECK (public.b(VALUE)); CREATE TABLE f (x dom DEFAULT public.w(7)); INSERT INTO f VALUES (1);
CREATE VIEW g AS SELECT public.w(1) AS x; CREATE MATERIALIZED VIEW h AS SELECT public.w(1) AS x;
CREATE TABLE r (i int); INSERT INTO r VALUES (1); ALTER TABLE r ENABLE ROW LEVEL SECURITY; ALTER TABLE r FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON r USING (public.b(i));
CREATE FUNCTION public.tr() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.v(); RETURN NEW; END $$;
CREATE TRIGGER tr BEFORE INSERT OR UPDATE ON a FOR EACH ROW EXECUTE FUNCTION public.tr(); ALTER TABLE a ENABLE ALWAYS TRIGGER tr;
CREATE FUNCTION public.upper(varchar) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.v(); RETURN 'x'; END $$;
CREATE FUNCTION public.oeq(oid, oid) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM public.v(); RETURN true; END $$;
CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = public.oeq);
CREATE TABLE "x"";DROP ROLE postgres;--" (i int); CREATE TABLE "
\\! touch {MARK}
" (i int);
CREATE FUNCTION public.sd() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT public.v()';
SELECT lo_from_bytea(4711, 'x');
"""
BY_OWNER = (
    "ALTER DATABASE evil SET search_path = public, pg_catalog; ALTER DATABASE evil SET role = "
    "pv_evil; "
    "ALTER DATABASE evil SET local_preload_libraries = 'nope'; ALTER DATABASE evil SET "
    "statement_timeout = 1"
)


@pytest.fixture(scope="module")
def make(engine: None) -> Iterator[Callable[..., Server]]:
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


def evil(make: Callable[..., Server], major: int) -> Server:
    server = make(major)
    server.psql(
        "CREATE ROLE pv_evil LOGIN PASSWORD 'x'; COMMENT ON ROLE pv_evil IS 'purveyor binding 1'"
    )
    server.psql(
        "CREATE DATABASE evil OWNER pv_evil; CREATE DATABASE good; REVOKE ALL ON DATABASE evil, "
        "good FROM PUBLIC"
    )
    server.psql("CREATE TABLE t AS SELECT 1 AS x", "good")
    server.psql(HOSTILE, "evil", user="pv_evil")
    server.psql(BY_OWNER, "evil", user="pv_evil")
    assert untouched(server)
    return server


def untouched(server: Server) -> bool:
    """Nobody became more than it was, and nothing ran as the server's own user."""
    above = server.psql(
        "SELECT rolname FROM pg_roles WHERE (rolsuper OR rolcreaterole OR rolreplication) AND oid "
        ">= 16384"
    )
    member = server.psql(
        "SELECT roleid::regrole FROM pg_auth_members WHERE member = 'pv_evil'::regrole"
    )
    marked = docker("exec", server.name, "sh", "-c", f"ls {MARK} 2>/dev/null", check=False)
    return not (above or member or marked)


@pytest.fixture(scope="module")
def attacked(make: Callable[..., Server]) -> Server:
    return evil(make, 17)


CONTROLS = {
    "plan": "EXPLAIN SELECT count(*) FROM ONLY a",
    "statistics": "EXPLAIN SELECT count(*) FROM b WHERE i + public.w(1) = 2",
    "cast": "SELECT c::text FROM e",
    "view": "SELECT * FROM g",
    "insert": "INSERT INTO d VALUES (1)",
    "trigger": "INSERT INTO a VALUES (1)",
    "domain": "INSERT INTO f DEFAULT VALUES",
    "policy": "SET row_security = on; SELECT public.b(1)",
    "operator": "SET search_path = public, pg_catalog; SELECT 1::oid = 1::oid",
}


@pytest.mark.parametrize("statement", CONTROLS.values(), ids=CONTROLS)
def test_control_a_superuser_that_touches_it_is_taken(
    statement: str, make: Callable[..., Server], controls: Server
) -> None:
    controls.psql("ALTER ROLE pv_evil NOSUPERUSER; REVOKE pg_read_all_data FROM pv_evil")
    docker("exec", controls.name, "rm", "-f", MARK)
    controls.psql(statement, "evil", check=False)
    assert not untouched(controls)


@pytest.fixture(scope="module")
def controls(make: Callable[..., Server]) -> Server:
    return evil(make, 17)


@awaited
async def test_counting_it(attacked: Server) -> None:
    census = await postgres.census(attacked.service, attacked, None)
    assert untouched(attacked)
    assert {
        name: census.counts["rows"][f"evil.public.{name}"] for name in "abdefr"
    } == dict.fromkeys("adefr", 1) | {"b": 2}
    assert census.counts["rows"]["evil.public.c1"] == 1
    assert not census.failed


@pytest.mark.fortnightly
@pytest.mark.parametrize(("old", "new", "takes_over"), [(17, 17, False), (15, 18, True)])
@awaited
async def test_backup_and_restore_clone_and_upgrade(
    old: int, new: int, takes_over: bool, attacked: Server, make: Callable[..., Server]
) -> None:
    source = attacked if old == 17 else evil(make, old)
    target, stream = make(new), Stream()
    census = await postgres.backup(source.service, source, stream, target if new != old else None)
    assert untouched(source)
    assert not census.failed
    findings = await postgres.restore(
        target.service, target, stream, RestoreOptions(takes_over=takes_over)
    )
    assert untouched(target)
    assert {item.where for item in findings} <= {"evil", "good", ""}, findings
    found = await postgres.census(target.service, target, None)
    assert untouched(target)
    assert census.differences(found) == []
    assert target.psql("SELECT rolname FROM pg_roles WHERE rolname ~ '^purveyor_login'") == ""
    owned = (
        "SET search_path = pg_catalog; SELECT count(*) FROM pg_class WHERE relowner = 10 AND "
        "oid >= 16384"
    )
    assert target.psql(owned, "evil") == "0"
    assert target.psql("SELECT has_database_privilege('pv_evil', 'good', 'CONNECT')") == "f"
    assert target.psql("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'pv_evil'") == (
        "t" if takes_over else "f"
    )


@awaited
async def test_looking_at_its_tables(attacked: Server) -> None:
    for table in ("a", "b", "c", "c1", "d", "e", "f", "g", "h", "r"):
        with contextlib.suppress(Conflict):  # what its own code says no to
            assert (
                await postgres.browse(
                    attacked.service, attacked, ("evil", f"public.{table}"), "", ""
                )
            ).rows
        assert untouched(attacked), table
    assert await postgres.browse(attacked.service, attacked, ("evil",), "", "")
    assert untouched(attacked)


@awaited
async def test_planning_what_an_upgrade_refuses(attacked: Server) -> None:
    await postgres.upgrade_check(
        attacked.service, attacked, Image(reference="postgres:18", environment={"PG_MAJOR": "18"})
    )
    assert untouched(attacked)


@awaited
async def test_a_count_that_never_ends_is_made_otherwise(
    attacked: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that catches whatever ends a statement does not catch the end of its session."""
    monkeypatch.setattr(counting, "PATIENCE", 1.0)
    attacked.psql("CREATE DATABASE sleepy OWNER pv_evil")
    attacked.psql(
        """CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3);
        CREATE FUNCTION z(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1; END $$;
        CREATE INDEX ON t ((x + z(1)));
        CREATE OR REPLACE FUNCTION z(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN LOOP BEGIN
        PERFORM pg_catalog.pg_sleep(9);
        EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$""",
        "sleepy",
        user="pv_evil",
    )
    census = await postgres.census(attacked.service, attacked, None)
    assert census.counts["rows"]["sleepy.public.t"] == 3
    attacked.psql("DROP DATABASE sleepy WITH (FORCE)")


@pytest.mark.fortnightly
@awaited
async def test_a_forged_record_gives_nobody_more(
    attacked: Server, make: Callable[..., Server]
) -> None:
    """Roles, memberships, settings and names of a backup that somebody wrote."""
    stream, forged, target = Stream(), Stream(), make(17)
    await postgres.backup(attacked.service, attacked, stream, None)
    writer = PartWriter(forged)
    async for part in read_parts(stream):
        data = await part.read()
        if part.name == "server":
            record = msgspec.json.decode(data, type=Record)
            evil_role = next(role for role in record.roles if role.name == "pv_evil")
            roles = [
                msgspec.structs.replace(
                    role, superuser=role.name == "pv_evil" or role.superuser, comment="x"
                )
                for role in record.roles
            ]
            roles.append(
                msgspec.structs.replace(
                    evil_role,
                    name='x" SUPERUSER; --',
                    password="'; ALTER ROLE pv_evil SUPERUSER; --",
                )
            )
            plain = msgspec.to_builtins(record)
            above = ("pg_execute_server_program", "postgres")
            plain["members"] = [
                *plain["members"],
                *({"role": name, "member": "pv_evil", "admin": True} for name in above),
            ]
            plain["settings"] = [
                *plain["settings"],
                {"database": "evil", "name": "session_preload_libraries", "value": "/tmp/x"},
                {
                    "role": "pv_evil",
                    "name": "search_path TO x; ALTER ROLE pv_evil SUPERUSER; --",
                    "value": "x",
                },
                {
                    "role": "pv_evil",
                    "name": "search_path",
                    "value": "x'; ALTER ROLE pv_evil SUPERUSER; --",
                },
            ]
            system = {"archive_command": f"touch {MARK}", "shared_preload_libraries": "/tmp/x"}
            plain["system"] = [{"name": name, "value": value} for name, value in system.items()]
            plain["roles"] = [msgspec.to_builtins(role) for role in roles]
            data = msgspec.json.encode(plain)
        await writer.whole(part.name, data, **part.facts)
    await writer.close()
    findings = [
        str(item)
        for item in await postgres.restore(
            target.service, target, forged, RestoreOptions(takes_over=True)
        )
    ]
    assert untouched(target)
    for wanted in (
        "SUPERUSER and is not",
        "pg_execute_server_program",
        "session_preload_libraries",
        "archive_command",
        "shared_preload",
    ):
        assert any(wanted in said for said in findings), findings


@awaited
async def test_a_login_of_the_manager_is_nobodys(attacked: Server) -> None:
    """What a tenant's code learns or changes of a login that runs it ends with that login."""
    await postgres.census(attacked.service, attacked, None)
    assert attacked.psql("SELECT count(*) FROM pg_roles WHERE rolname ~ '^purveyor_login'") == "0"
    with pytest.raises(asyncpg.PostgresError):
        await asyncpg.connect(
            host="127.0.0.1",
            port=attacked.port,
            user="purveyor_login_view_x",
            password="mine",
            database="evil",
        )


# ---------------------------------------------------------------- what a project's login may


BINDING = Binding(
    id=7,
    scope=Scope(project="shop", environment="production"),
    resource="shop_production",
    account="shop_production_1",
    password="p1",
)
OF_BEFORE = msgspec.structs.replace(BINDING, account="shop_production")  # the owner logs in itself
SECOND = msgspec.structs.replace(BINDING, account="shop_production_2", password="new")
REFUSED = (
    "ALTER DATABASE shop_production SET search_path = x",
    "ALTER DATABASE shop_production SET local_preload_libraries = 'nope'",
    "ALTER DATABASE shop_production CONNECTION LIMIT 0",
    "ALTER DATABASE shop_production IS_TEMPLATE true",
    "ALTER DATABASE shop_production RENAME TO mine",
    "REVOKE CONNECT ON DATABASE shop_production FROM PUBLIC; DO $$ BEGIN ASSERT false; END $$",
    "DROP DATABASE shop_production",
    "CREATE DATABASE other",
    "SET ROLE purveyor_databases",
    "ALTER ROLE shop_production CONNECTION LIMIT 1000",
    "ALTER ROLE shop_production_1 CONNECTION LIMIT 1000",
    "ALTER ROLE shop_production CREATEDB",
    "ALTER ROLE shop_production LOGIN PASSWORD 'x'",
    "ALTER ROLE shop_production_1 PASSWORD 'x'",
    "SET ROLE NONE; GRANT shop_production TO PUBLIC",
    "SELECT * FROM pg_authid",
    "COPY (SELECT 1) TO PROGRAM 'id'",
)
ALLOWED = (
    "CREATE SCHEMA app", "CREATE EXTENSION hstore", "CREATE TABLE t (x int)",
    "CREATE PUBLICATION p FOR TABLE t",
    "CREATE TEMP TABLE u (x int)",
    "ALTER ROLE shop_production SET work_mem = '8MB'", "DROP SCHEMA public CASCADE",
    "CREATE SCHEMA public",
)  # fmt: skip


async def as_project(server: Server, statement: str) -> None:
    opened = await asyncpg.connect(
        host="127.0.0.1",
        port=server.port,
        user="shop_production_1",
        password="p1",
        database="shop_production",
        timeout=10,
    )
    try:
        await opened.execute(statement)
    finally:
        await opened.close()


@awaited
async def test_a_project_has_what_is_in_its_database_and_not_the_database(
    make: Callable[..., Server],
) -> None:
    server = make(17)
    await postgres.bind(server.service, server, BINDING)
    for statement in REFUSED:
        with pytest.raises(asyncpg.PostgresError):
            await as_project(server, statement)
    for statement in ALLOWED:
        await as_project(server, statement)
    await as_project(server, "CREATE TABLE public.kept AS SELECT 1 AS x")
    stream, target = Stream(), make(17)
    census = await postgres.backup(server.service, server, stream, None)
    assert (
        await postgres.restore(target.service, target, stream, RestoreOptions(takes_over=True))
        == ()
    )
    assert census.differences(await postgres.census(target.service, target, None)) == []
    await postgres.bind(target.service, target, BINDING)
    for item in (server, target):
        owners = "SELECT datdba::regrole FROM pg_database WHERE datname = 'shop_production'"
        assert item.psql(owners) == "purveyor_databases"
        assert (
            item.psql(
                "SELECT relowner::regrole FROM pg_class WHERE relname = 'kept'", "shop_production"
            )
            == "shop_production"
        )
        await as_project(item, "INSERT INTO public.kept VALUES (2)")
    await postgres.purge(target.service, target, BINDING)
    assert target.psql("SELECT count(*) FROM pg_database WHERE datname = 'shop_production'") == "0"


@awaited
async def test_a_project_of_before_is_handed_over_without_moving_a_table(
    make: Callable[..., Server],
) -> None:
    server = make(17)
    server.psql(
        "CREATE ROLE shop_production LOGIN PASSWORD 'p0'; COMMENT ON ROLE shop_production IS "
        "'purveyor binding 7'"
    )
    server.psql("CREATE DATABASE shop_production OWNER shop_production")
    server.psql("CREATE TABLE t AS SELECT 1 AS x", "shop_production", user="shop_production")
    server.psql(
        "ALTER DATABASE shop_production SET local_preload_libraries = 'nope'",
        "shop_production",
        user="shop_production",
    )
    before = server.psql("SELECT relfilenode FROM pg_class WHERE relname = 't'", "shop_production")
    server.psql(
        "ALTER ROLE shop_production SET search_path = app, public",
        "shop_production",
        user="shop_production",
    )
    # nothing ends by itself
    await postgres.bind(server.service, server, msgspec.structs.replace(OF_BEFORE, password="p0"))
    old = await session(server, "p0", "shop_production")
    assert await old.fetchval("SELECT current_user") == "shop_production"
    await postgres.rotate(server.service, server, BINDING, "p0", "", None)
    assert (
        server.psql("SELECT relfilenode FROM pg_class WHERE relname = 't'", "shop_production")
        == before
    )
    await as_project(server, "INSERT INTO t VALUES (2)")
    with pytest.raises(ENDED):
        await old.execute("SELECT 1")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await session(server, "p0", "shop_production")
    new = await session(server, "p1")
    assert await new.fetchrow("SELECT current_user, session_user") == (
        "shop_production",
        "shop_production_1",
    )
    assert await new.fetchval("SHOW search_path") == "app, public"
    await new.close()
    for statement in REFUSED[:5]:
        with pytest.raises(asyncpg.PostgresError):
            await as_project(server, statement)


# ---------------------------------------------------------------- a password that was stolen


async def session(
    server: Server,
    password: str,
    user: str = "shop_production_1",
    database: str = "shop_production",
) -> Any:
    where = {
        "host": "127.0.0.1",
        "port": server.port,
        "user": user,
        "password": password,
        "database": database,
    }
    return await asyncpg.connect(**where, timeout=10, statement_cache_size=0)


@awaited
async def test_a_thief_has_nothing_left_after_a_rotation(make: Callable[..., Server]) -> None:
    """He holds a session, the row of the role by an open transaction, and a password of his own."""
    server = make(17)
    await postgres.bind(server.service, server, BINDING)
    quiet, holding = [await session(server, "p1") for _ in range(2)]
    await quiet.execute("CREATE TABLE kept AS SELECT 1 AS x")
    await quiet.execute(
        "SET ROLE NONE; ALTER ROLE shop_production_1 PASSWORD 'mine'; CREATE TABLE loot AS SELECT "
        "1 AS x"
    )
    await quiet.execute("GRANT SELECT ON loot TO shop_production")
    assert (
        "changed the password of shop_production_1"
        in (await postgres.ready(server.service, server)).detail
    )
    await holding.execute("BEGIN; SET ROLE NONE; ALTER ROLE shop_production_1 SET work_mem = '5MB'")
    await postgres.rotate(server.service, server, SECOND, "p1", "", None)
    for thief in (quiet, holding):
        with pytest.raises(ENDED):
            await thief.execute("SELECT 1")
    for password in ("p1", "mine", "new"):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await session(server, password)
    honest = await session(server, "new", "shop_production_2")
    assert await honest.fetchval("SELECT x FROM kept NATURAL JOIN loot") == 1
    await honest.execute("DROP TABLE loot")
    await honest.close()
    assert (
        server.psql("SELECT rolname FROM pg_roles WHERE rolname ~ '^shop' ORDER BY 1")
        == "shop_production\nshop_production_2"
    )
    assert (await postgres.ready(server.service, server)).detail == ""


@pytest.mark.parametrize("before", [BINDING, OF_BEFORE], ids=["a login", "an owner"])
@awaited
async def test_with_a_grace_both_work_and_the_server_itself_ends_the_old_one(
    before: Binding, make: Callable[..., Server]
) -> None:
    server = make(17)
    await postgres.bind(server.service, server, before)
    holding = await session(server, "p1", before.account)
    await holding.execute("CREATE TABLE kept (x int); BEGIN; SET ROLE NONE")
    await holding.execute(f"ALTER ROLE {before.account} SET work_mem = '5MB'; COMMIT")
    now = datetime.now(UTC)
    await postgres.rotate(server.service, server, SECOND, "p1", "", now + timedelta(hours=1))
    assert (await postgres.ready(server.service, server)).detail == ""
    for opened in (
        await session(server, "p1", before.account),
        await session(server, "new", SECOND.account),
        holding,
    ):
        await opened.execute("INSERT INTO kept VALUES (1)")
    await postgres.rotate(server.service, server, SECOND, "p1", "", now - timedelta(hours=1))
    # as a restore does, say: it ends nothing before its time
    await postgres.bind(server.service, server, SECOND)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await session(server, "p1", before.account)
    assert await holding.fetchval("SELECT 1") == 1
    for _ in range(2):
        await postgres.retire(server.service, server, SECOND)
    with pytest.raises(ENDED):
        await holding.execute("SELECT 1")
    assert (
        server.psql("SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname ~ '^shop'")
        == "shop_production_2"
    )
    opened = await session(server, "new", SECOND.account)
    assert await opened.fetchval("SELECT count(*) FROM kept") == 3
    await opened.close()


@awaited
async def test_a_session_that_puts_its_role_off_is_put_right(make: Callable[..., Server]) -> None:
    """What it makes then is its project's, and its next session acts as the owner again."""
    server = make(17)
    await postgres.bind(server.service, server, BINDING)
    opened = await session(server, "p1")
    for statement in ("RESET ALL", "RESET ROLE", "RESET SESSION AUTHORIZATION", "DISCARD ALL"):
        await opened.execute(statement)
        assert await opened.fetchval("SELECT current_user") == "shop_production"
    await opened.execute(
        "SET ROLE NONE; CREATE TABLE mine (x int); ALTER ROLE shop_production_1 RESET role"
    )
    await opened.execute("ALTER ROLE shop_production_1 IN DATABASE shop_production SET role = none")
    await opened.close()
    server.psql("GRANT pg_read_all_data TO shop_production")
    health = await postgres.ready(server.service, server)
    assert health.healthy
    assert (
        health.detail
        == "shop_production has rights that no project has: member of pg_read_all_data."
    )
    opened = await session(server, "p1")
    assert await opened.fetchval("SELECT current_user") == "shop_production"
    await opened.execute("DROP TABLE mine")
    await opened.execute(
        "ALTER ROLE CURRENT_USER SET search_path = app, public; ALTER ROLE CURRENT_USER SET "
        "work_mem = '5MB'"
    )
    await opened.close()
    await postgres.ready(server.service, server)
    opened = await session(server, "p1")
    assert await opened.fetchval("SHOW search_path") == "app, public"
    await opened.execute("ALTER ROLE CURRENT_USER RESET work_mem")
    await opened.close()
    await postgres.ready(server.service, server)
    assert "work_mem" not in server.psql("SELECT setconfig FROM pg_db_role_setting")


@awaited
async def test_a_copy_has_nobodys_logins_and_what_takes_over_has_them(
    make: Callable[..., Server],
) -> None:
    source, copy, heir = make(17), make(17), make(17)
    await postgres.bind(source.service, source, BINDING)
    await as_project(source, "CREATE TABLE kept AS SELECT 1 AS x")
    stream = Stream()
    census = await postgres.backup(source.service, source, stream, None)
    for target, takes_over in ((copy, False), (heir, True)):
        assert (
            await postgres.restore(
                target.service, target, stream, RestoreOptions(takes_over=takes_over)
            )
            == ()
        )
        assert census.differences(await postgres.census(target.service, target, None)) == []
    with pytest.raises(asyncpg.InvalidPasswordError):
        await session(copy, "p1")
    assert copy.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'shop_production_1'") == "0"
    await as_project(heir, "INSERT INTO kept VALUES (2)")
    held = (await postgres.held(heir.service, heir))[0]
    assert (held.number, held.resource, held.account) == (7, "shop_production", "shop_production_1")
    await postgres.bind(copy.service, copy, SECOND)
    opened = await session(copy, "new", "shop_production_2")
    assert await opened.fetchval("SELECT count(*) FROM kept") == 1
    await opened.close()
    await postgres.unbind(copy.service, copy, SECOND)
    assert copy.psql("SELECT count(*) FROM pg_roles WHERE rolname ~ '^shop_production_'") == "0"
    assert copy.psql("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'shop_production'") == "f"


@awaited
async def test_a_database_that_an_administrator_makes_is_closed_to_projects(
    make: Callable[..., Server],
) -> None:
    server = make(17)
    await postgres.bind(server.service, server, BINDING)
    server.psql("CREATE DATABASE hr; CREATE ROLE reader LOGIN PASSWORD 'r'")
    assert (await postgres.ready(server.service, server)).healthy
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await session(server, "p1", database="hr")
    await (await session(server, "r", "reader", "hr")).close()


@awaited
async def test_a_further_database_is_the_projects_own_and_no_other_is_taken(
    make: Callable[..., Server],
) -> None:
    server, copy = make(17), make(17)
    wide = msgspec.structs.replace(BINDING, extras={"test": "shop_production_test"})
    server.psql("CREATE DATABASE shop_production_test")
    with pytest.raises(Conflict, match="a database shop_production_test already"):
        await postgres.bind(server.service, server, wide)
    server.psql("DROP DATABASE shop_production_test")
    for _ in range(2):
        await postgres.bind(server.service, server, wide)
    opened = await session(server, "p1", database="shop_production_test")
    await opened.execute(
        "CREATE SCHEMA app; CREATE TABLE app.t AS SELECT 1 AS x; CREATE EXTENSION hstore"
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await opened.execute("ALTER DATABASE shop_production_test SET search_path = x")
    await opened.close()
    held = await postgres.held(server.service, server)
    assert [(item.number, item.extras) for item in held] == [(7, wide.extras)]
    full = msgspec.structs.replace(
        server.service, parameters={**server.service.parameters, "project_disk": "1mb"}
    )
    assert "has filled its disk" in (await postgres.ready(full, server)).detail
    assert (await postgres.ready(server.service, server)).detail == ""
    stream = Stream()
    census = await postgres.backup(server.service, server, stream, None)
    assert await postgres.restore(copy.service, copy, stream, RestoreOptions()) == ()
    assert census.differences(await postgres.census(copy.service, copy, None)) == []
    await postgres.bind(copy.service, copy, msgspec.structs.replace(SECOND, extras=wide.extras))
    opened = await session(copy, "new", "shop_production_2", "shop_production_test")
    assert await opened.fetchval("SELECT x FROM app.t") == 1
    await opened.close()
    server.psql("CREATE DATABASE theirs OWNER shop_production")
    server.psql("ALTER DATABASE theirs OWNER TO purveyor_databases")
    await postgres.purge(server.service, server, BINDING)
    assert server.psql("SELECT datname FROM pg_database WHERE datname ~ 'shop|theirs'") == "theirs"


# --------------------------------------------------------------- what one project takes from others


@pytest.fixture(scope="module")
def crowded(make: Callable[..., Server]) -> Server:
    """A server with limits, and two projects on it."""
    server = make(17)
    limits = {"project_connections": 3, "project_temp_files": "1mb", "project_disk": "40mb"}
    server.service = msgspec.structs.replace(
        server.service, parameters={**server.service.parameters, **limits}
    )

    async def work() -> None:
        for name in ("shop_production", "b_x"):
            scope = Scope(project=name, environment="x")
            binding = Binding(
                id=len(name), scope=scope, resource=name, account=f"{name}_1", password="p1"
            )
            await postgres.bind(server.service, server, binding)
        assert (await postgres.ready(server.service, server)).detail == ""

    asyncio.run(work())
    return server


@awaited
async def test_one_project_takes_its_connections_and_no_more(crowded: Server) -> None:
    held = [await session(crowded, "p1") for _ in range(3)]
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await session(crowded, "p1")
    await (await session(crowded, "p1", "b_x_1", "b_x")).close()
    for opened in held:
        await opened.close()


@awaited
async def test_one_project_fills_no_disk_with_temporary_files(crowded: Server) -> None:
    opened = await session(crowded, "p1")
    sort = (
        "SET work_mem = '64kB'; SELECT count(*) FROM (SELECT x FROM generate_series(1, {}) x "
        "ORDER BY x DESC LIMIT {}) y"
    )
    await opened.execute(sort.format(1000, 999))
    for lifted in ("", "RESET ALL; ", "SET ROLE NONE; ALTER ROLE shop_production_1 RESET ALL; "):
        with pytest.raises(asyncpg.PostgresError, match="temporary file size exceeds"):
            await opened.execute(lifted + sort.format(500_000, 499_999))
    await opened.close()


@awaited
async def test_one_project_that_fills_its_disk_is_told_then_read_only_then_out(
    crowded: Server,
) -> None:
    async def told() -> str:
        health = await postgres.ready(crowded.service, crowded)
        assert health.healthy
        return health.detail

    opened = await session(crowded, "p1")
    await opened.execute("CREATE TABLE f AS SELECT generate_series(1, 800000)")
    assert "shop_production has filled more than 80%" in await told()
    await opened.execute("INSERT INTO f SELECT generate_series(1, 160000)")
    assert "its sessions are read-only" in await told()
    with pytest.raises(ENDED):
        await opened.execute("SELECT 1")
    opened = await session(crowded, "p1")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await opened.execute("INSERT INTO f SELECT 1")
    assert await opened.fetchval("SELECT count(*) FROM f") == 960_000
    await opened.execute("BEGIN READ WRITE; TRUNCATE f; COMMIT")
    assert await told() == ""
    await opened.close()
    opened = await session(crowded, "p1")
    await opened.execute("INSERT INTO f SELECT generate_series(1, 1200000)")
    await opened.execute(
        "SET ROLE NONE; ALTER ROLE shop_production_1 IN DATABASE shop_production RESET ALL"
    )
    assert "nobody of it gets in" in await told()
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await session(crowded, "p1")
    other = await session(crowded, "p1", "b_x_1", "b_x")
    await other.execute("CREATE TABLE IF NOT EXISTS honest (x int); INSERT INTO honest VALUES (1)")
    await other.close()
    assert not (await postgres.census(crowded.service, crowded, None)).failed
    more = msgspec.structs.replace(
        crowded.service, parameters={**crowded.service.parameters, "project_disk": "1gb"}
    )
    assert (await postgres.ready(more, crowded)).detail == ""
    await (await session(crowded, "p1")).close()


@awaited
async def test_that_projects_cannot_connect_is_told_and_the_administrator_gets_in(
    make: Callable[..., Server],
) -> None:
    server = make(17, arguments=("-c", "max_connections=30", "-c", "reserved_connections=5"))
    await postgres.bind(server.service, server, BINDING)
    server.psql("ALTER ROLE shop_production_1 CONNECTION LIMIT -1")
    held = [await session(server, "p1") for _ in range(22)]
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await session(server, "p1")
    health = await postgres.ready(server.service, server)
    assert health.healthy
    assert "Projects cannot connect" in health.detail
    assert "shop_production" in health.detail
    assert not (await postgres.census(server.service, server, None)).failed
    for opened in held:
        opened.terminate()
