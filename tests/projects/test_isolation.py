"""Attacks: with project alpha's variables, everything is tried to reach beta's data."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest
import redis

from support import Stage, docker

BETA = "beta_production"

POSTGRES_ATTACKS = {
    "read a file of the server": "SELECT pg_read_file('/etc/passwd')",
    "list the server's files": "SELECT pg_ls_dir('/')",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'id'",
    "write a file": "COPY (SELECT 1) TO '/tmp/x'",
    "become beta": f"SET ROLE {BETA}",
    "become the administrator": "SET SESSION AUTHORIZATION postgres",
    "grant itself beta": f"GRANT {BETA} TO alpha_production",
    "make a role": "CREATE ROLE mallory SUPERUSER LOGIN",
    "make itself superuser": "ALTER ROLE alpha_production SUPERUSER",
    "take beta's password": f"ALTER ROLE {BETA} PASSWORD 'x'",
    "make a database": "CREATE DATABASE loot",
    "drop beta's database": f"DROP DATABASE {BETA}",
    "copy beta's database": f"CREATE DATABASE loot TEMPLATE {BETA}",
    "read the passwords": "SELECT rolpassword FROM pg_authid",
    "reach out of the database": "CREATE EXTENSION dblink",
    "mount another server": "CREATE EXTENSION postgres_fdw",
    "change the server": "ALTER SYSTEM SET log_statement = 'all'",
    "load a library": "LOAD '/tmp/evil.so'",
    "run untrusted code": "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '/tmp/evil', 'f'",
    "end others' sessions": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
}

REDIS_ATTACKS = {
    "select beta's database": ("SELECT", "{beta}"),
    "select our own database": ("SELECT", "16"),
    "copy a key into beta's": ("COPY", "mine", "stolen", "DB", "{beta}"),
    "move a key into beta's": ("MOVE", "mine", "{beta}"),
    "swap databases": ("SWAPDB", "{alpha}", "{beta}"),
    "empty everything": ("FLUSHALL",),
    "read users": ("ACL", "LIST"),
    "make a user": ("ACL", "SETUSER", "mallory", "on", "nopass", "~*", "+@all"),
    "widen itself": ("ACL", "SETUSER", "alpha_production", "+@all"),
    "read the configuration": ("CONFIG", "GET", "*"),
    "change the configuration": ("CONFIG", "SET", "dir", "/tmp"),
    "watch others": ("MONITOR",),
    "debug": ("DEBUG", "SLEEP", "0"),
    "replicate away": ("REPLICAOF", "127.0.0.1", "1"),
    "save at will": ("SAVE",),
    "stop the server": ("SHUTDOWN",),
    "end others' connections": ("CLIENT", "KILL", "TYPE", "normal"),
    "load a module": ("MODULE", "LOAD", "/tmp/evil.so"),
    "migrate keys": ("MIGRATE", "127.0.0.1", "1", "mine", "{beta}", "1000"),
    "select from a script": ("EVAL", "return redis.call('SELECT', '{beta}')", "0"),
    "copy from a script": ("EVAL", "return redis.call('COPY', 'mine', 'x', 'DB', '{beta}')", "0"),
    "leave a function for others": (
        "FUNCTION",
        "LOAD",
        "#!lua name=evil\nredis.register_function('f', function() end)",
    ),
    "drop others' functions": ("FUNCTION", "FLUSH"),
    "listen to beta's channels": ("SUBSCRIBE", "beta_production:news"),
    "listen to all channels": ("PSUBSCRIBE", "*"),
    "speak on beta's channels": ("PUBLISH", "beta_production:news", "hello"),
    "list others' channels": ("PUBSUB", "CHANNELS"),
}


@asynccontextmanager
async def postgres(variables: dict[str, str], **changes: Any) -> AsyncIterator[Any]:
    values = {
        "host": variables["POSTGRES_HOST"],
        "port": int(variables["POSTGRES_PORT"]),
        "user": variables["POSTGRES_USER"],
        "password": variables["POSTGRES_PASSWORD"],
        "database": variables["POSTGRES_DATABASE"],
    }
    connection = await asyncpg.connect(**{**values, **changes}, timeout=60)
    try:
        yield connection
    finally:
        await connection.close()


def run(work: Any) -> Any:
    return asyncio.run(work)


@pytest.mark.parametrize("attack", POSTGRES_ATTACKS)
def test_postgres_refuses_to(attack: str, shops: Stage) -> None:
    async def work() -> None:
        async with postgres(shops.variables("alpha")) as connection:
            with pytest.raises(asyncpg.PostgresError):
                await connection.fetch(POSTGRES_ATTACKS[attack])
            assert await connection.fetchval("SELECT current_user") == "alpha_production"

    run(work())


@pytest.mark.parametrize("database", [BETA, "postgres", "template1"])
def test_postgres_lets_a_project_into_no_other_database(database: str, shops: Stage) -> None:
    async def work() -> None:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with postgres(shops.variables("alpha"), database=database):
                pass

    run(work())


def test_postgres_gives_a_project_all_of_its_own(shops: Stage) -> None:
    async def work() -> None:
        async with postgres(shops.variables("alpha")) as connection:
            await connection.execute(
                "CREATE TABLE notes (id int PRIMARY KEY); INSERT INTO notes VALUES (1)"
            )
            await connection.execute("CREATE SCHEMA app; CREATE TABLE app.things (x text)")
            await connection.execute("CREATE EXTENSION IF NOT EXISTS pgcrypto")
            assert await connection.fetchval("SELECT count(*) FROM notes") == 1
            seen = await connection.fetch(
                "SELECT query FROM pg_stat_activity WHERE usename = 'postgres'"
            )
            assert all(row["query"] in (None, "", "<insufficient privilege>") for row in seen)

    run(work())


def redis_client(variables: dict[str, str], patience: float = 60) -> Any:
    return redis.from_url(variables["REDIS_URL"], decode_responses=True, socket_timeout=patience)


PAIRS = {"a server for each": ("alpha", "beta"), "one server for all": ("gamma", "delta")}


@pytest.fixture(scope="module")
def pairs(shops: Stage) -> Stage:
    """Two more projects, on a Redis with one server for all."""
    shops.cli("create", "redis", "one", "-p", "channels=divided")
    for project in PAIRS["one server for all"]:
        shops.cli("project", "create", project)
        shops.cli("link", "one", project)
    return shops


@pytest.mark.parametrize("attack", REDIS_ATTACKS)
def test_redis_refuses_to(attack: str, pairs: Stage) -> None:
    alpha, beta = pairs.variables("gamma"), pairs.variables("delta")
    with redis_client(beta) as client:
        client.set("secret", "beta's")
    words = [
        word.format(alpha=alpha["REDIS_DATABASE"], beta=beta["REDIS_DATABASE"])
        for word in REDIS_ATTACKS[attack]
    ]
    with redis_client(alpha) as client:
        client.set("mine", "alpha's")
        with pytest.raises(
            (redis.ResponseError, redis.exceptions.NoPermissionError),
            match=r"(?i)perm|can't run|script|not allowed",
        ):
            client.execute_command(*words)
    with redis_client(beta) as client:
        assert client.get("secret") == "beta's"
        assert client.keys("*") == ["secret"]


@pytest.mark.parametrize("attack", REDIS_ATTACKS)
def test_with_a_redis_server_for_each_it_is_refused_or_reaches_the_own_alone(
    attack: str, shops: Stage
) -> None:
    """The numbers are its own there: beta's 1 is not alpha's 1."""
    alpha, beta = shops.variables("alpha"), shops.variables("beta")
    words = [
        word.format(alpha=0, beta=1).replace("beta_production", "*")
        for word in REDIS_ATTACKS[attack]
    ]
    with redis_client(beta) as client:
        client.set("secret", "beta's")
        client.select(1)
        client.set("further", "beta's")
        before = client.info("server")["run_id"], client.function_list()
    listens = words[0].endswith("SUBSCRIBE")  # the driver waits for an answer of another kind
    with redis_client(alpha, 1 if listens else 60) as client:
        client.set("mine", "alpha's")
        with suppress(redis.RedisError):
            said = str(client.execute_command(*words))
            assert "further" not in said
            assert "purveyor" not in said
    with redis_client(alpha) as client:
        client.flushall()
        client.function_flush()
    with redis_client(beta) as client:
        assert client.keys("*") == ["secret"]
        client.select(1)
        assert (client.keys("*"), client.get("further")) == (["further"], "beta's")
        assert (client.info("server")["run_id"], client.function_list()) == before


@pytest.mark.parametrize("pair", PAIRS)
def test_redis_gives_a_project_all_of_its_own(pair: str, pairs: Stage) -> None:
    name = PAIRS[pair][0]
    with redis_client(pairs.variables(name)) as client:
        client.mset({"a": 1, "b": 2})
        assert client.eval("return redis.call('GET', KEYS[1])", 1, "a") == "1"
        assert client.rename("b", "c")
        assert client.publish(f"{name}_production:news", "x") == 0
        assert client.info("server")["redis_version"]
        assert {"a", "c"} <= set(client.keys("*"))
        client.flushdb()
        assert client.dbsize() == 0


def test_database_0_of_one_server_for_all_belongs_to_no_project(pairs: Stage) -> None:
    slots = {int(pairs.variables(project)["REDIS_DATABASE"]) for project in ("gamma", "delta")}
    assert len(slots) == 2
    assert 0 not in slots


def test_when_no_number_is_left_a_link_says_what_to_do(shops: Stage) -> None:
    shops.cli("create", "redis", "small", "-p", "channels=divided")
    shops.cli("project", "create", "crowd")
    shops.cli("link", "small", "crowd")
    for number in range(14):
        shops.variables("crowd", f"e{number}")
    said = shops.cli("project", "add-environment", "crowd", "one-more", code=5)
    assert "All 15 numbers of small are in use" in said
    assert "purveyor create redis" in said
    used = {int(shops.variables("crowd", f"e{number}")["REDIS_DATABASE"]) for number in range(14)}
    assert len(used) == 14


def test_a_foreign_role_of_the_same_name_is_not_taken_over(shops: Stage) -> None:
    shops.cli("connect", "main", "--", "-c", "CREATE ROLE intruder_production LOGIN")
    shops.cli("project", "create", "intruder")
    said = shops.cli("link", "main", "intruder", code=5)
    assert "not Purveyor's" in said
    assert shops.json("project", "show", "intruder")["links"] == []
    assert "intruder_production" in shops.cli(
        "connect", "main", "--", "-Atc", "SELECT rolname FROM pg_roles"
    )


def test_unlinking_ends_access_and_keeps_the_data_and_linking_again_brings_it_back(
    shops: Stage,
) -> None:
    shops.cli("project", "create", "back")
    shops.cli("link", "main", "back")
    shops.cli("link", "cache", "back")
    before = shops.variables("back")

    async def write() -> None:
        async with postgres(before) as connection:
            await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")

    run(write())
    with redis_client(before) as client:
        client.set("kept", "42")
    shops.cli("unlink", "main", "back")
    shops.cli("unlink", "cache", "back")

    async def refused() -> None:
        with pytest.raises(asyncpg.PostgresError):
            async with postgres(before):
                pass

    run(refused())
    with redis_client(before) as client, pytest.raises(redis.exceptions.AuthenticationError):
        client.get("kept")

    shops.cli("link", "main", "back")
    shops.cli("link", "cache", "back")
    after = shops.variables("back")
    assert after["POSTGRES_PASSWORD"] != before["POSTGRES_PASSWORD"]

    async def read() -> int:
        async with postgres(after) as connection:
            return int(await connection.fetchval("SELECT answer FROM kept"))

    assert run(read()) == 42
    with redis_client(after) as client:
        assert client.get("kept") == "42"

    shops.cli("unlink", "main", "back", "--purge")
    shops.cli("unlink", "cache", "back", "--purge")
    assert "back_production" not in shops.cli(
        "connect", "main", "--", "-Atc", "SELECT datname FROM pg_database"
    )
    said = docker("exec", f"{shops.namespace}-cache", "redis-launcher", "accounts")
    assert "alpha_production" in said
    assert "back_production" not in said


def test_a_new_project_never_gets_the_data_of_an_old_one_of_its_name(shops: Stage) -> None:
    shops.cli("project", "create", "phoenix")
    shops.cli("link", "main", "phoenix")
    first = shops.variables("phoenix")["POSTGRES_DATABASE"]
    shops.cli("unlink", "main", "phoenix")
    shops.cli("project", "delete", "phoenix")
    shops.cli("project", "create", "phoenix")
    shops.cli("link", "main", "phoenix")
    assert shops.variables("phoenix")["POSTGRES_DATABASE"] != first
