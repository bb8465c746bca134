"""One of everything of each type, through the core and beside a writer: its backup is proven by its
contents, a copy holds the same, and one thing that is another is named although the numbers are the
same."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pymongo
import pytest
import zstandard
from test_object_backups import ACCESS, SECRET, connect

import everything_mongodb
import everything_redis
import everything_s3
from data import psql
from purveyor.backups.contents import Compared
from purveyor_hooks import Inventory
from purveyor_hooks.conformance import Bench
from support import Stage

EVERYTHING = (Path(__file__).parents[1] / "everything/postgres.sql").read_text()
PASSWORD = "hunter2hunter2"
GIVEN = {"s3": {"access_key": ACCESS, "secret_key": SECRET}}
NUMBER = 7  # of the Redis database that is filled


class Saved:
    """`Source` of a backup's file as it is on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._path.open("rb") as file:
            for chunk in zstandard.ZstdDecompressor().read_to_iter(file):
                yield chunk


class Subject:
    """A service of a type with one of everything in it."""

    def __init__(
        self,
        stage: Stage,
        kind: str,
        name: str = "",
        sets: "Sets | None" = None,
        writers: "Sets | None" = None,
        **given: str,
    ) -> None:
        self.stage, self.kind, self.name = stage, kind, name or kind
        self.writers = writers or WRITTEN
        parameters = GIVEN.get(kind, {"password": PASSWORD}) | given
        stage.call(
            "POST",
            "/external-services",
            json={"name": self.name, "service_type": kind, "parameters": parameters},
        )
        self.port = stage.json("show", self.name)["service"]["port"]
        with self.opened() as client:
            (sets or FILLED)[kind](self, client)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        if self.kind == "redis":
            with everything_redis.opened(
                "127.0.0.1", self.port, NUMBER, password=PASSWORD
            ) as client:
                yield client
        elif self.kind == "mongodb":
            with pymongo.MongoClient(
                "127.0.0.1", self.port, username="admin", password=PASSWORD, directConnection=True
            ) as client:
                yield client
        elif self.kind == "s3":
            yield connect(self.port)
        else:
            yield None

    def filled(self, text: str = EVERYTHING) -> None:
        done = self.stage.run(
            "connect",
            self.name,
            "--",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            "postgres",
            stdin=text,
        )
        assert done.returncode == 0, done.stderr

    def sql(self, statement: str, database: str = "postgres") -> None:
        psql(self.stage, self.name, statement, database)

    def backup(self) -> Any:
        return self.stage.call("POST", f"/backups/external-services/{self.name}/run")

    @contextmanager
    def written_to(self) -> Iterator[None]:
        over = threading.Event()
        wrong: list[Exception] = []

        def write() -> None:
            number = 0
            try:
                with self.opened() as client:
                    while not over.wait(0.01):
                        number += 1
                        self.writers[self.kind](self, client, number)
            except Exception as error:
                wrong.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            over.set()
            writer.join()
        assert not wrong, wrong

    def differences(self, one: Any, other: Any) -> list[str]:
        """Between the contents of two backups."""

        async def work() -> list[str]:
            compared, plugin = Compared(self.stage.state), Bench.plugin_of(self.kind)
            for side, made in ((compared.saved, one), (compared.restored, other)):
                await plugin.contents(source=Saved(Path(made["location"]) / "data.zst"), into=side)
            return await compared.differences(Inventory(counts={}))

        return anyio.run(work)


def _write_object(client: Any, number: int) -> None:
    client.put_object(Bucket="plain", Key=f"live{number % 40}", Body=b"x" * number)


def _lay_out_otherwise(client: Any) -> None:
    """What was small goes into tables, and lists into shorter pieces."""
    for name in (
        "hash-max-listpack-entries",
        "set-max-listpack-entries",
        "zset-max-listpack-entries",
        "set-max-intset-entries",
    ):
        client.config_set(name, 1)
    client.config_set("list-max-listpack-size", 3)
    client.config_set("rdbcompression", "no")
    held = (
        client.hgetall("hash:small"),
        client.zrange("zset:small", 0, -1, withscores=True),
        client.lrange("list", 0, -1),
    )
    sets = {name: client.smembers(name) for name in ("set:small", "set:numbers")}
    client.delete("hash:small", "zset:small", "list", *sets)
    client.hset("hash:small", mapping=held[0])
    client.zadd("zset:small", dict(held[1]))
    client.rpush("list", *held[2])
    for name, members in sets.items():
        client.sadd(name, *members)


Sets = dict[str, Callable[..., Any]]
FILLED: Sets = {
    "postgres": lambda subject, _: subject.filled(),
    "redis": lambda _, client: everything_redis.fill(client),
    "mongodb": lambda _, client: everything_mongodb.fill(client),
    "s3": lambda _, client: everything_s3.fill(client),
}
WRITTEN: Sets = {
    "postgres": lambda subject, _, number: subject.sql(
        "INSERT INTO app.busy (x) SELECT generate_series(1, 20); DELETE FROM app.busy WHERE id IN "
        "(SELECT min(id) FROM app.busy)",
        "shop",
    ),
    "redis": lambda _, client, number: client.set(f"live{number}", number),
    "mongodb": lambda _, client, number: client.kinds.live.insert_one({"number": number}),
    "s3": lambda _, client, number: _write_object(client, number),
}
# the same as before, laid out otherwise
MOVED: dict[str, Callable[[Subject, Any], Any]] = {
    "postgres": lambda subject, _: subject.sql("UPDATE t SET x = x WHERE x = 1", "dbname='a=b'"),
    "redis": lambda _, client: _lay_out_otherwise(client),
    "mongodb": lambda _, client: (
        client.kinds.clustered.delete_one({"_id": 3}),
        client.kinds.clustered.insert_one({"_id": 3}),
    ),
    "s3": lambda _, client: client.put_object(Bucket="plain", Key="a", Body=b"a"),
}
CHANGED: dict[str, tuple[Callable[[Subject, Any], Any], str]] = {
    "postgres": (
        lambda subject, _: subject.sql("UPDATE t SET x = 3 WHERE x = 2", "dbname='a=b'"),
        "rows of a=b.public.t: what came back is not what the backup holds",
    ),
    "redis": (
        lambda _, client: client.hset("hash:large", "f7", "another"),
        f"keys of own/db{NUMBER}: hash:large is not as it was",
    ),
    "mongodb": (
        lambda _, client: client.kinds.indexed.update_one({"_id": 3}, {"$set": {"b": "another"}}),
        "documents of kinds.indexed: 3 is not as it was",
    ),
    "s3": (
        lambda _,
        client: client.put_object(Bucket="plain", Key="a", Body=b"a", Metadata={"another": "one"}),
        "objects of plain: a is not as it was",
    ),
}  # fmt: skip
WHOLE = ("redis", "s3")  # of which nothing is named that is not carried


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.fortnightly] * (kind != "redis")) for kind in FILLED],
)
def test_one_of_everything_is_proven_by_its_contents_and_one_change_is_named(
    kind: str, house: Stage, rustfs: str
) -> None:
    subject = Subject(house, kind)
    with subject.written_to():
        made = subject.backup()
        house.call("POST", f"/external-services/{kind}/clone", json={"name": f"{kind}-copy"})
    assert made["state"] == "ok", made
    house.call("POST", f"/backups/{made['id']}/verify?deep=true")
    newest = [
        item
        for item in house.call("GET", "/operations?limit=2")
        if item["verb"] in ("clone", "verify-backup")
    ]
    assert [item["outcome"].get("differences") for item in newest] == [None, None], newest
    if kind in WHOLE:
        assert house.call("GET", f"/backups/{made['id']}")["metadata"]["deep"]
    before = subject.backup()
    with subject.opened() as client:
        MOVED[kind](subject, client)
        assert subject.differences(before, subject.backup()) == []
        change, said = CHANGED[kind]
        change(subject, client)
        assert subject.differences(before, subject.backup()) == [said]
    # what a server does not take of it is named, and told by its type's own tests
    house.call(
        "POST", f"/backups/{before['id']}/restore", json={"service_id": kind, "keep_going": True}
    )
    assert subject.differences(before, subject.backup()) == []
    assert list(house.state.glob("contents-*")) == []


@pytest.mark.nightly
def test_a_redis_of_another_version_tells_the_same(house: Stage) -> None:
    subject = Subject(house, "redis", "from7to8", docker_image="purveyor-test/redis:7.0")
    before = subject.backup()
    house.call(
        "POST",
        f"/external-services/{subject.name}/upgrade",
        json={"docker_image": "purveyor-test/redis:8.0"},
    )
    after = subject.backup()
    assert subject.differences(before, after) == []
    house.call("POST", f"/backups/{before['id']}/verify?deep=true")
    assert house.call("GET", f"/backups/{before['id']}")["metadata"]["deep"]


@pytest.mark.nightly
@pytest.mark.parametrize(("old", "new"), [(15, 17), (15, 18), (17, 18)])
def test_an_upgrade_that_was_rehearsed_beside_a_writer_keeps_one_of_everything(
    old: int, new: int, house: Stage
) -> None:
    """And what was backed up before comes back in place, on the new version."""
    name = f"from{old}to{new}"
    subject = Subject(house, "postgres", name, docker_image=f"purveyor-test/postgres:{old}")
    wanted = {"docker_image": f"purveyor-test/postgres:{new}", "keep_going": True}
    with subject.written_to():
        house.call("POST", f"/external-services/{name}/upgrade", json={**wanted, "rehearse": True})
    before = subject.backup()
    house.call("POST", f"/external-services/{name}/upgrade", json=wanted)
    assert subject.differences(before, subject.backup()) == []
    subject.sql("DROP TABLE app.rooms", "shop")
    house.call(
        "POST", f"/backups/{before['id']}/restore", json={"service_id": name, "keep_going": True}
    )
    assert subject.differences(before, subject.backup()) == []
    newest = [
        item
        for item in house.call("GET", "/operations?limit=20")
        if item["verb"] in ("upgrade", "restore")
    ][:3]
    assert [item["outcome"].get("differences") for item in newest] == [None] * 3, newest
