"""Every attack of the matrix, made with what one project was given on servers of one installation;
and its counterpart after it.

S3 is attacked on each of its servers, in `tests/plugins/s3/test_objects.py`, and a Redis with a
server for each environment in `test_redis_servers.py`; here it is one server for all.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import httpx
import pymongo
import pytest
import redis
from pymongo.errors import OperationFailure

from attacks.matrix import B1, BLOB, KV, MONGODB, POSTGRES, REDIS, A, Attack, B, Matrix
from support import Stage, eventually

UNAUTHORIZED = (13, 18)  # MongoDB's codes


def of(matrix: Matrix) -> Any:
    return pytest.mark.parametrize("attack", matrix.attacks, ids=matrix.ids())


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    """One of each for two projects; beta has something in each of them."""
    with make_stage().serving() as made:
        made.cli("create", "redis", "cache", "-p", "channels=divided")
        made.furnish({"main": "postgres", "docs": "mongodb"}, ["alpha", "beta"])
        for project in ("alpha", "beta"):
            made.cli("link", "cache", project)
        for kind in ("kv", "blob"):
            made.cli(kind, "enable")
            for project in ("alpha", "beta"):
                made.cli("link", kind, project)
        beta = made.variables("beta")
        with redis.from_url(beta["REDIS_URL"]) as client:
            client.set("secret", "beta's")
        with mongo(beta) as client:
            client[B].secrets.insert_one({"_id": 1, "secret": "beta's"})
        with made.http(beta["PURVEYOR_TOKEN"]) as client:
            assert client.post("/api/kv/set", json={"key": "secret", "value": "beta's"}).is_success
            assert client.post("/api/blob?pathname=secret", content=b"beta's").is_success
        yield made


@pytest.fixture(scope="module")
def alpha(stage: Stage) -> dict[str, str]:
    return stage.variables("alpha")


@pytest.fixture(scope="module")
def beta(stage: Stage) -> dict[str, str]:
    return stage.variables("beta")


# ---------------------------------------------------------------- PostgreSQL


async def sql(variables: dict[str, str], statement: str = "SELECT 1", **other: Any) -> None:
    """Log in with a project's variables, or with some of them exchanged, and run it."""
    login = {
        "user": variables["POSTGRES_USER"],
        "password": variables["POSTGRES_PASSWORD"],
        "database": variables["POSTGRES_DATABASE"],
    }
    where = {
        "host": variables["POSTGRES_HOST"],
        "port": int(variables["POSTGRES_PORT"]),
        "timeout": 20,
    }
    opened = await asyncpg.connect(**where, **login | other)
    try:
        if "TO STDOUT" in statement:
            await opened.copy_from_query("SELECT 1", output=lambda _: asyncio.sleep(0))
        else:
            await opened.execute(statement)
    finally:
        opened.terminate()


async def attacked(variables: dict[str, str], what: Any) -> None:
    if isinstance(what, str):
        await sql(variables, what)
    else:
        await sql(variables, **what)


@pytest.fixture(scope="module")
def working(stage: Stage, alpha: dict[str, str], beta: dict[str, str]) -> Iterator[None]:
    """Beta has a session that works."""
    thread = threading.Thread(target=lambda: asyncio.run(asleep(beta)))
    thread.start()
    eventually(lambda: asyncio.run(seen(alpha)))
    yield
    stage.sql(
        "main", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{B1}'"
    )
    thread.join()


async def asleep(beta: dict[str, str]) -> None:
    """Until the administrator ends it."""
    with contextlib.suppress(asyncpg.PostgresError, OSError):
        await sql(beta, "SELECT pg_sleep(3600)")


async def seen(alpha: dict[str, str]) -> bool:
    """Whether beta is in: its row is there for everybody, without what it asks."""
    try:
        await sql(alpha, f"SELECT 1 / count(*) FROM pg_stat_activity WHERE usename = '{B1}'")
    except asyncpg.DivisionByZeroError:
        return False
    return True


@of(POSTGRES)
def test_postgresql(attack: Attack, alpha: dict[str, str], working: None) -> None:
    async def work() -> None:
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as refused:
            await attacked(alpha, attack.do)
        assert not isinstance(refused.value, asyncpg.PostgresSyntaxError), refused.value
        assert await seen(alpha)
        await attacked(alpha, POSTGRES.honest[attack.honest])

    asyncio.run(work())


# ---------------------------------------------------------------- Redis


@of(REDIS)
def test_redis(attack: Attack, alpha: dict[str, str], beta: dict[str, str]) -> None:
    with redis.from_url(alpha["REDIS_URL"], socket_timeout=20) as client:
        with pytest.raises(redis.exceptions.RedisError) as refused:
            client.execute_command(*attack.do)
        assert "unknown" not in str(refused.value).lower(), refused.value
    with redis.from_url(alpha["REDIS_URL"], socket_timeout=20) as client:
        client.execute_command(*REDIS.honest[attack.honest])
    with redis.from_url(beta["REDIS_URL"]) as client:
        assert client.get("secret") == b"beta's"


# ---------------------------------------------------------------- MongoDB


def mongo(variables: dict[str, str]) -> pymongo.MongoClient[Any]:
    return pymongo.MongoClient(variables["MONGODB_URL"], serverSelectionTimeoutMS=5000)


@of(MONGODB)
def test_mongodb(attack: Attack, alpha: dict[str, str], beta: dict[str, str]) -> None:
    with mongo(alpha) as client:
        with pytest.raises(OperationFailure) as refused:
            attack.do(client)
        assert refused.value.code in UNAUTHORIZED, refused.value
        client[A].notes.drop_indexes()
        MONGODB.honest[attack.honest](client)
    with mongo(beta) as client:
        assert [document["secret"] for document in client[B].secrets.find()] == ["beta's"]
        assert client[B].list_collection_names() == ["secrets"]


# ---------------------------------------------------------------- KV and Blob


def asked(client: httpx.Client, request: tuple[str, str, Any], number: str) -> httpx.Response:
    """Ask; BETA stands for the number of beta."""
    method, path, body = request
    if isinstance(body, bytes | None):
        return client.request(method, path.replace("BETA", number), content=body)
    if isinstance(body, dict):
        body = {name: number if value == "BETA" else value for name, value in body.items()}
    return client.request(method, path.replace("BETA", number), json=body)


def over_http(
    attack: Attack, matrix: Matrix, stage: Stage, alpha: dict[str, str], beta: dict[str, str]
) -> None:
    number = beta["PURVEYOR_PROJECT_ID"]
    with stage.http(alpha["PURVEYOR_TOKEN"]) as client:
        refused = asked(client, attack.do, number)
        assert refused.status_code in (400, 401, 403, 404, 413), refused.text
        assert "beta's" not in refused.text
        assert "X-Evil" not in refused.headers
        honest = asked(client, matrix.honest[attack.honest], number)
        assert honest.is_success, honest.text
    with stage.http(beta["PURVEYOR_TOKEN"]) as client:
        assert client.post("/api/kv/get", json={"key": "secret"}).json() == {"value": "beta's"}
        assert client.get("/api/blob/secret").text == "beta's"


@of(KV)
def test_kv(attack: Attack, stage: Stage, alpha: dict[str, str], beta: dict[str, str]) -> None:
    over_http(attack, KV, stage, alpha, beta)


@of(BLOB)
def test_blob(attack: Attack, stage: Stage, alpha: dict[str, str], beta: dict[str, str]) -> None:
    over_http(attack, BLOB, stage, alpha, beta)
