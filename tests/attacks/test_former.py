"""Somebody with credentials that a rotation has replaced, and left working for a while, on real
servers: whatever happens meanwhile, they end in their time, with all that they opened."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pymongo
import pytest
import redis
from botocore.exceptions import ClientError
from pymongo.errors import PyMongoError

from attacks.told import attack
from plugins.s3.test_objects import connect
from support import Stage, docker, eventually

pytestmark = pytest.mark.fortnightly
Variables = dict[str, str]
SERVICES = {"main": "postgres", "cache": "redis", "docs": "mongodb", "store": "s3"}
REFUSED = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a connection that ends between two words
    redis.RedisError,
    PyMongoError,
    ClientError,
    OSError,
)


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    with make_stage("health-interval = 1").serving() as made:
        made.furnish(SERVICES, ["alpha"])
        made.cli("kv", "enable")
        made.cli("link", "kv", "alpha")
        yield made


# ---------------------------------------------------------------- how each is used


async def opened(v: Variables, port: int = 0) -> Any:
    return await asyncpg.connect(
        host="127.0.0.1" if port else v["POSTGRES_HOST"], port=port or int(v["POSTGRES_PORT"]),
        user=v["POSTGRES_USER"], password=v["POSTGRES_PASSWORD"], database=v["POSTGRES_DATABASE"],
        timeout=10,
    )  # fmt: skip


def postgres(v: Variables, port: int = 0) -> None:
    async def work() -> None:
        await (await opened(v, port)).close()

    asyncio.run(work())


def cached(v: Variables, port: int = 0, host: str = "") -> None:
    with redis.Redis(
        host or v["REDIS_HOST"], int(v["REDIS_PORT"]), username=v["REDIS_USERNAME"],
        password=v["REDIS_PASSWORD"], socket_timeout=10,
    ) as client:  # fmt: skip
        client.ping()


def mongo(v: Variables, port: int = 0) -> pymongo.MongoClient[Any]:
    there = f"{v['MONGODB_HOST']}:{v['MONGODB_PORT']}"
    url = v["MONGODB_URL"].replace(there, f"127.0.0.1:{port}") if port else v["MONGODB_URL"]
    return pymongo.MongoClient(url, serverSelectionTimeoutMS=5000)


def documents(v: Variables, port: int = 0) -> None:
    with mongo(v, port) as client:
        client[v["MONGODB_DATABASE"]].notes.count_documents({})


def objects(v: Variables, port: int = 0) -> None:
    at = {"S3_ENDPOINT": f"http://127.0.0.1:{port}"} if port else {}
    connect(v | at).list_objects_v2(Bucket=v["S3_BUCKET"])


def kv(v: Variables, port: int = 0) -> None:
    with redis.from_url(v["KV_URL"], socket_timeout=10) as client:
        client.ping()


USES: dict[str, Callable[..., None]] = {
    "main": postgres,
    "cache": cached,
    "docs": documents,
    "store": objects,
    "kv": kv,
}


def works(name: str, v: Variables, **where: Any) -> bool:
    try:
        USES[name](v, **where)
    except REFUSED:
        return False
    return True


def all_of(v: Variables) -> dict[str, bool]:
    return {name: works(name, v) for name in USES}


NONE, EACH = dict.fromkeys(USES, False), dict.fromkeys(USES, True)


def rotated(stage: Stage, grace: int = 3600) -> tuple[Variables, Variables]:
    """What an app has that was not deployed since, and what the next one gets."""
    stage.cli("rotate", "alpha")
    before = stage.variables("alpha")
    path = "/projects/alpha/environments/production/rotate"
    stage.call("POST", path, params={"grace": grace})
    after = stage.variables("alpha")
    return before, after


def awaited(stage: Stage) -> list[Any]:
    return [
        item
        for name in SERVICES
        for item in stage.call("GET", f"/external-services/{name}")["endings"]
    ]


# ---------------------------------------------------------------- what it opened


class Thief:
    """Holds with the old credentials whatever a server lets one hold."""

    def __init__(self, v: Variables) -> None:
        self.v = v
        self.ended: dict[str, bool] = {}
        self.threads = [
            threading.Thread(target=run, args=(name,))
            for name, run in (
                ("a query without end", self.asleep),
                ("its own row, held", self.holding),
                ("a command that waits", self.blocked),
            )
        ]
        url = v["REDIS_URL"]
        self.many = redis.from_url(url, single_connection_client=True, retry=None, socket_timeout=5)
        self.many.execute_command("MULTI")
        self.ears = redis.from_url(url, retry=None).pubsub()
        self.ears.subscribe("news")
        self.client = mongo(v)
        notes = self.client[v["MONGODB_DATABASE"]].notes
        if notes.count_documents({}) < 10:
            notes.insert_many([{"n": number} for number in range(10)])
        self.cursor = notes.find(batch_size=2)
        next(self.cursor)
        self.s3 = connect(v)
        self.begun = self.s3.create_multipart_upload(Bucket=v["S3_BUCKET"], Key="later")["UploadId"]
        named = {"Bucket": v["S3_BUCKET"], "Key": "signed"}
        self.signed = self.s3.generate_presigned_url("put_object", Params=named, ExpiresIn=3600)
        for thread in self.threads:
            thread.start()

    def asleep(self, name: str) -> None:
        async def work() -> None:
            await (await opened(self.v)).execute("SELECT pg_sleep(300)")

        self._until_it_ends(name, lambda: asyncio.run(work()))

    def holding(self, name: str) -> None:
        async def work() -> None:
            held = await opened(self.v)
            await held.execute("DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 9)")
            await held.execute("LISTEN news; SELECT pg_advisory_lock(1); SET ROLE NONE; BEGIN")
            await held.execute(f"ALTER ROLE {self.v['POSTGRES_USER']} PASSWORD 'thief'")
            while True:
                await held.execute("SELECT 1")
                await asyncio.sleep(0.2)

        self._until_it_ends(name, lambda: asyncio.run(work()))

    def blocked(self, name: str) -> None:
        with redis.from_url(self.v["REDIS_URL"], retry=None, socket_timeout=300) as client:
            self._until_it_ends(name, lambda: client.blpop("nothing", 290))

    def _until_it_ends(self, name: str, work: Callable[[], Any]) -> None:
        try:
            work()
        except REFUSED:
            self.ended[name] = True

    def rearm(self) -> None:
        """What it may try with its own account while that works."""

        async def work() -> None:
            user = self.v["POSTGRES_USER"]
            for statement in (
                f"ALTER ROLE {user} VALID UNTIL 'infinity'",
                f"ALTER ROLE {self.v['POSTGRES_DATABASE']} LOGIN PASSWORD 'thief'",
                f"ALTER ROLE {user} RENAME TO later",
                f"GRANT {self.v['POSTGRES_DATABASE']} TO CURRENT_USER WITH ADMIN OPTION",
                "CREATE ROLE later LOGIN PASSWORD 'thief'",
            ):
                for role in ("NONE", self.v["POSTGRES_DATABASE"]):
                    held = await opened(self.v)
                    await held.execute(f"SET ROLE {role}")
                    with pytest.raises(asyncpg.PostgresError):
                        await held.execute(statement)
                    held.terminate()

        asyncio.run(work())
        with redis.from_url(self.v["REDIS_URL"]) as client:
            for words in (
                ("ACL", "SETUSER", self.v["REDIS_USERNAME"], ">thief"),
                ("ACL", "SETUSER", "later", "on", ">thief", "+@all"),
                ("CONFIG", "SET", "requirepass", "thief"),
            ):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*words)
        database = self.client[self.v["MONGODB_DATABASE"]]
        with pytest.raises(PyMongoError):
            database.command("updateUser", self.v["MONGODB_USERNAME"], pwd="thief")
        with pytest.raises(PyMongoError):
            database.command("createUser", "later", pwd="thief", roles=["readWrite"])

    def holds(self) -> list[str]:
        """What of it goes on."""
        left = [thread.name for thread in self.threads if thread.is_alive()]
        for name, use in (
            ("a transaction", lambda: self.many.execute_command("EXEC")),
            ("a subscription", lambda: self._heard()),
            ("an upload", lambda: self._uploads()),
            ("a signed address", lambda: self._signs()),
        ):
            with suppress(*REFUSED):
                use()
                left.append(name)
        return left

    def _heard(self) -> None:
        for _ in range(3):
            self.ears.get_message(timeout=0.2)
        self.ears.ping()
        assert self.ears.get_message(timeout=5)

    def _uploads(self) -> None:
        where = {"Bucket": self.v["S3_BUCKET"], "Key": "later", "UploadId": self.begun}
        self.s3.upload_part(**where, PartNumber=1, Body=b"x")

    def _signs(self) -> None:
        if httpx.put(self.signed, content=b"x").is_error:
            raise OSError("refused")

    def close(self) -> None:
        self.client.close()
        self.many.close()
        self.ears.close()


@contextmanager
def thief(v: Variables) -> Iterator[Thief]:
    made = Thief(v)
    try:
        yield made
    finally:
        made.close()


@attack(
    "rotation",
    "hold a query, a cursor, a lock on one's own role, a command that waits, a transaction, a "
    "subscription, an upload or a signed address past the time",
    "set another password, another end, another name or another login beforehand",
    honest="works until then, and the next deploy's credentials all the time",
)
def test_all_that_it_holds_ends_with_its_time(stage: Stage) -> None:
    before, after = rotated(stage, 15)
    with thief(before) as held:
        held.rearm()
        assert all_of(after) == EACH
        eventually(lambda: awaited(stage) == [], 90)
        for thread in held.threads:
            thread.join(60)
        assert held.holds() == []
        assert len(held.ended) == len(held.threads)
    assert all_of(before) == NONE
    assert all_of(after) == EACH
    with pytest.raises(asyncpg.PostgresError):
        postgres(before | {"POSTGRES_PASSWORD": "thief"})


@attack(
    "rotation",
    "have the daemon killed and started late",
    "have a server restarted meanwhile",
    honest="works across a restart until its time is over",
)
def test_it_ends_although_nobody_was_there_in_time(stage: Stage) -> None:
    before, after = rotated(stage)
    for name in SERVICES:
        stage.cli("restart", name)
    assert eventually(lambda: all_of(before) == EACH)
    stage.cli("rotate", "alpha")
    assert all_of(before) == all_of(after) == NONE
    before, after = rotated(stage, 5)
    with thief(before) as held:
        os.kill(stage.daemon, signal.SIGKILL)
        until = datetime.now(UTC)
        while (datetime.now(UTC) - until).total_seconds() < 6:
            threading.Event().wait(0.5)
        assert not works("main", before)  # the server itself keeps the time of a login
        with stage.serving():
            eventually(lambda: awaited(stage) == [], 90)
            for thread in held.threads:
                thread.join(60)
            assert held.holds() == []
            assert all_of(before) == NONE
            assert all_of(after) == EACH


# ---------------------------------------------------------------- data that goes elsewhere, or comes back


def copied(stage: Stage, v: Variables, name: str, copy: str) -> bool:
    """Whether somebody gets into a copy of a service with these."""
    if name == "cache":
        address = docker(
            "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
            f"{stage.namespace}-{copy}",
        )  # fmt: skip
        return works(name, v, host=address)
    return works(name, v, port=stage.json("show", copy)["service"]["port"])


@pytest.mark.parametrize("name", SERVICES)
@attack(
    "rotation",
    "log in to a clone with credentials that were over soon",
    "to what a backup of then was restored into",
    "to the service itself after a restore in place, or with data of before put back",
    honest="the next deploy's credentials work there, and in a copy as soon as it is linked",
)
def test_it_lives_in_no_copy_and_comes_back_with_no_data(name: str, stage: Stage) -> None:
    before, after = rotated(stage)
    stage.cli("clone", name, f"{name}-copy")
    stage.cli("backup", "run", name)
    number = str(stage.json("backup", "list")[0]["id"])
    stage.cli("backup", "restore", number, "--new", f"{name}-new")
    for copy in (f"{name}-copy", f"{name}-new"):
        assert not copied(stage, before, name, copy)
        assert not copied(stage, after, name, copy)
    plan = stage.json("backup", "restore", number, "--in-place", name, "--plan")
    assert "which were to work until" in str(plan["warnings"])
    stage.cli("backup", "restore", number, "--in-place", name)
    assert not works(name, before)
    assert works(name, after)
    eventually(lambda: stage.call("GET", f"/external-services/{name}")["endings"] == [])
    kept = [item for item in stage.json("volumes") if item["state"] == "kept"]
    volume = next(item["id"] for item in kept if item["origin"] == name)
    stage.cli("volume", "attach", volume, name, "--yes")
    assert not works(name, before)
    assert works(name, after)
