"""Backups of MongoDB: one of everything comes back beside a writer, what does not is named, and
nothing goes in silence."""

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import bson
import pymongo
import pytest

import everything_mongodb as everything
from purveyor.backups.codec import unpack_stream
from purveyor_hooks import Address, Image, Inventory, NotFound, RestoreOptions, Service
from purveyor_hooks.parts import PartWriter
from purveyor_mongodb import extraction, refill, snapshot
from support import MONGODB, Stage, docker, eventually, free_port

PASSWORD = "w" * 24
DATA = Path(everything.__file__).parent


@pytest.fixture(scope="module")
def docs(house: Stage) -> Stage:
    """A MongoDB with one of everything, and a project on it."""
    body = {"name": "docs", "service_type": "mongodb", "parameters": {"password": PASSWORD}}
    house.call("POST", "/external-services", json=body)
    house.furnish({}, ["shop"])
    house.call("POST", "/external-services/docs/projects", json={"project_id": "shop"})
    with administrator(house) as client:
        everything.fill(client)
        client.shop_production.orders.insert_many([{"_id": number} for number in range(100)])
    return house


@contextmanager
def administrator(stage: Stage, service: str = "docs") -> Iterator[Any]:
    port = stage.json("show", service)["service"]["port"]
    client: Any = pymongo.MongoClient(
        "127.0.0.1", port, username="admin", password=PASSWORD, directConnection=True
    )
    with client:
        yield client


def opened(url: str) -> Any:
    return pymongo.MongoClient(url, serverSelectionTimeoutMS=5000)


@contextmanager
def writing(stage: Stage) -> Iterator[None]:
    """An app that goes on writing: new documents, new collections, changes."""
    over, wrong = threading.Event(), []

    def write() -> None:
        number = 0
        with administrator(stage) as client:
            shop = client.shop_production
            while not over.wait(0.002):
                number += 1
                try:
                    shop.live.insert_one({"number": number})
                    shop.orders.update_one({"_id": number % 100}, {"$set": {"seen": number}})
                    if number % 50 == 0:
                        shop[f"live{number}"].insert_one({})
                        shop[f"live{number - 50}"].drop()
                except pymongo.errors.PyMongoError as error:
                    wrong.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not wrong, wrong[:3]


def told_of(stage: Stage, service: str) -> str:
    """What a copy holds, whose administrator's password nobody was told, without what the writer
    wrote."""
    code = (
        f"import sys; sys.path.insert(0, {str(DATA)!r}); import everything_mongodb as e, hashlib\n"
        "client.drop_database('shop_production')\nprint('told', "
        "hashlib.sha256(e.told(client).encode()).hexdigest())\n"
    )
    done = stage.run("connect", service, stdin=code)
    return next(line.split()[-1] for line in done.stdout.splitlines() if "told " in line)


def told_here(stage: Stage) -> str:
    with administrator(stage) as client:
        kept = [item for name in ("orders",) for item in client.shop_production[name].find()]
        client.drop_database("shop_production")
        said: str = hashlib.sha256(everything.told(client).encode()).hexdigest()
        client.shop_production.orders.insert_many(
            kept or [{"_id": number} for number in range(100)]
        )
        return said


def backed_up(stage: Stage) -> dict[str, Any]:
    made: dict[str, Any] = stage.call("POST", "/backups/external-services/docs/run", json={})
    assert made["state"] == "ok", made
    return made


def manifest(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(made["location"]) / "manifest.json").read_text())[
        "manifest"
    ]
    return found


class Gathered:
    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, chunk: bytes) -> None:
        self.data += chunk


class Chunks:
    def __init__(self, data: bytes) -> None:
        self.data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), 65536):
            yield self.data[start : start + 65536]


def stream_of(made: dict[str, Any]) -> Chunks:
    """What the hook wrote into a backup."""
    path = Path(made["location"])

    async def work() -> bytes:
        stored = aiter(Chunks((path / "data.zst").read_bytes()))
        return b"".join(
            [
                chunk
                async for chunk in unpack_stream(
                    stored, None, manifest(made)["sha256"], manifest(made)["plain_bytes"]
                )
            ]
        )

    return Chunks(anyio.run(work))


class Reach:
    """The `Access` of a server that no service stands for."""

    def __init__(self, port: int) -> None:
        self.port, self.beats = port, 0

    def address(self, container_port: int) -> Address:
        return Address(host="127.0.0.1", port=self.port)

    def beat(self) -> None:
        self.beats += 1


class Bare:
    """A server with nothing in it, and the hook that fills it."""

    def __init__(self, port: int) -> None:
        self.access: Any = Reach(port)
        values = {"username": "admin", "password": PASSWORD}
        image = Image(reference="bare:8.0")
        self.service = Service(
            id=1,
            name="bare",
            slug="bare",
            service_type="mongodb",
            parameters=values,
            secrets={},
            image=image,
            host="bare",
        )

    def restore(self, source: Any, **options: Any) -> set[str]:
        found = anyio.run(
            refill.restore, self.service, self.access, source, RestoreOptions(**options)
        )
        return {str(item) for item in found}

    def backup(self, sink: Gathered | None = None) -> tuple[Chunks, Inventory]:
        sink = sink or Gathered()
        census = anyio.run(snapshot.backup, self.service, self.access, sink)
        return Chunks(bytes(sink.data)), census

    def census(self) -> Inventory:
        return anyio.run(snapshot.census, self.service, self.access)

    def client(self) -> Any:
        port = self.access.port
        return pymongo.MongoClient(
            "127.0.0.1", port, username="admin", password=PASSWORD, directConnection=True
        )


@pytest.fixture(scope="module")
def bare(docs: Stage) -> Iterator[Bare]:
    name, port = f"{docs.namespace}-bare", free_port()
    account = (
        "-e",
        "MONGO_INITDB_ROOT_USERNAME=admin",
        "-e",
        f"MONGO_INITDB_ROOT_PASSWORD={PASSWORD}",
    )
    docker(
        "run",
        "-d",
        "--rm",
        "--name",
        name,
        *account,
        "-p",
        f"127.0.0.1:{port}:27017",
        MONGODB,
        "mongod",
    )
    made = Bare(port)
    eventually(lambda: answers(made))
    yield made
    docker("rm", "-f", "-v", name)


def answers(bare: Bare) -> bool:
    try:
        with bare.client() as client:
            return bool(client.admin.command("ping"))
    except pymongo.errors.PyMongoError:
        return False


@pytest.mark.fortnightly
def test_what_cannot_come_back_as_it_was_is_named_and_a_second_try_begins_anew(
    docs: Stage, bare: Bare
) -> None:
    made = backed_up(docs)
    hashed = "this server takes no hashed password: give it a new one (db.changeUserPassword)"
    for _ in range(2):  # the second finds what the first has made, as after a crash
        assert bare.restore(stream_of(made), only=("kinds", "people")) == {
            f"people: the user report: {hashed}"
        }
        with bare.client() as client:
            assert set(client.list_database_names()) - {*everything.UNREAD} == {"kinds"}
    expected = Inventory(
        counts=made["metadata"]["counts"], fleeting=made["metadata"]["fleeting"]
    ).only(("kinds", "people"))
    assert expected.differences(bare.census().only(("kinds", "people"))) == []


@pytest.mark.fortnightly
def test_an_index_that_cannot_be_built_leaves_the_documents_and_is_named(bare: Bare) -> None:
    with bare.client() as client:
        client.twice.things.insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": 2}])
        client.twice.things.create_index("a", unique=True, name="once")
    source, census = bare.backup()
    source.data = source.data.replace(
        bson.encode({"_id": 2, "a": 2}), bson.encode({"_id": 2, "a": 1})
    )
    (said,) = bare.restore(source, only=("twice",))
    assert said.startswith("twice: things: the index once: it could not be built: ")
    with bare.client() as client:
        assert client.twice.things.count_documents({}) == 2
    wrong = census.only(("twice",)).differences(bare.census().only(("twice",)))
    assert wrong == [
        "indexes of twice.things: 2 before, 1 after",
        "twice.things's definition is not as it was",
    ]


class Meddling(Gathered):
    """A sink that does something once, when it is told a word."""

    def __init__(self, word: bytes, meddle: Callable[[], None]) -> None:
        super().__init__()
        self._word, self._meddle = word, meddle

    async def write(self, chunk: bytes) -> None:
        if self._word in chunk and self._word not in self.data:
            self._meddle()
        await super().write(chunk)


@pytest.mark.fortnightly
def test_a_collection_that_is_renamed_or_exchanged_while_others_are_read_is_not_lost(
    bare: Bare,
) -> None:
    with bare.client() as client:
        for name in ("first", "second", "third", "zero"):
            client.moving[name].insert_many([{"a": number} for number in range(10)])

        def meddle() -> None:
            client.moving.second.rename("moved")
            client.moving.third.rename("first", dropTarget=True)
            client.moving.first.insert_one({"a": 10})

        try:
            source, census = bare.backup(Meddling(b'"collection":"second"', meddle))
            assert census.failed == ()
            client.drop_database("moving")
            assert bare.restore(source, only=("moving",)) == set()
            held = {
                name: client.moving[name].count_documents({})
                for name in client.moving.list_collection_names()
            }
            assert held == {"first": 11, "second": 0, "third": 0, "zero": 10, "moved": 10}
            assert census.only(("moving",)).differences(bare.census().only(("moving",))) == []
        finally:
            client.drop_database("moving")


@pytest.mark.fortnightly
def test_one_that_was_broken_off_and_read_again_is_whole_after_a_restore(bare: Bare) -> None:
    sink = Gathered()

    async def torn() -> None:
        writer = PartWriter(sink)
        about = bson.encode({"kind": "collection", "options": {}, "indexes": []}).hex()
        for number in (3, 10):
            await writer.begin("collection", database="torn", collection="report", about=about)
            for item in range(number):
                await writer.write(bson.encode({"_id": item}))
            await writer.end()
            if number == 3:
                await writer.whole(
                    "broken",
                    b"",
                    database="torn",
                    collection="report",
                    why="another one came into its place",
                )
        await writer.close()

    anyio.run(torn)
    with bare.client() as client:
        try:
            assert bare.restore(Chunks(bytes(sink.data)), only=("torn",)) == set()
            assert client.torn.report.count_documents({}) == 10
        finally:
            client.drop_database("torn")


@pytest.mark.fortnightly
def test_a_stream_that_was_forged_writes_neither_accounts_nor_our_marks(bare: Bare) -> None:
    sink = Gathered()

    async def forge() -> None:
        writer = PartWriter(sink)
        about = bson.encode({"kind": "collection", "options": {}, "indexes": []}).hex()
        for database, name in (
            ("admin", "system.users"),
            ("purveyor", "identity"),
            ("local", "oplog.rs"),
            ("config", "x"),
        ):
            await writer.begin("collection", database=database, collection=name, about=about)
            await writer.write(bson.encode({"_id": "identity", "mark": "forged"}))
            await writer.end()
        forged = {"user": "admin", "db": "admin", "roles": []}
        await writer.whole("users", bson.encode(forged))
        await writer.close()

    anyio.run(forge)
    bare.restore(Chunks(bytes(sink.data)))
    with bare.client() as client:
        assert client.admin.command("usersInfo", "admin")["users"][0]["roles"] == [
            {"role": "root", "db": "admin"}
        ]
        assert client.purveyor.identity.find_one() is None
        assert "x" not in client.config.list_collection_names()


@pytest.mark.fortnightly
def test_a_backup_beside_a_writer_makes_a_service_that_holds_the_same(docs: Stage) -> None:
    with writing(docs):
        made = backed_up(docs)
    docs.call("POST", f"/backups/{made['id']}/restore", json={"new_name": "again"})
    try:
        assert told_of(docs, "again") == told_here(docs)
    finally:
        docs.cli("delete", "again", "--purge", "--yes")


@pytest.mark.fortnightly
def test_a_clone_beside_a_writer_holds_the_same_and_lets_no_project_in(docs: Stage) -> None:
    with writing(docs):
        docs.cli("clone", "docs", "copy")
    variables = docs.variables("shop")
    port = docs.json("show", "copy")["service"]["port"]
    url = variables["MONGODB_URL"].replace(f":{variables['MONGODB_PORT']}/", f":{port}/")
    try:
        with opened(url) as client, pytest.raises(pymongo.errors.OperationFailure):
            client.shop_production.orders.find_one()
        assert told_of(docs, "copy") == told_here(docs)
    finally:
        docs.cli("delete", "copy", "--purge", "--yes")


def test_in_place_all_of_it_comes_back_and_the_project_still_gets_in(docs: Stage) -> None:
    before, made = told_here(docs), backed_up(docs)
    with administrator(docs) as client:
        for name in ("kinds", "people"):
            client.drop_database(name)
        client.admin.customers.drop()
        client.people.command("dropUser", "report")
    assert told_here(docs) != before
    docs.call(
        "POST", f"/backups/{made['id']}/restore", json={"service_id": "docs", "keep_going": True}
    )
    assert told_here(docs) == before
    with opened(docs.variables("shop")["MONGODB_URL"]) as client:
        assert client.shop_production.orders.count_documents({}) == 100


@pytest.mark.fortnightly
def test_the_manifest_counts_all_and_names_what_is_not_carried(docs: Stage) -> None:
    with administrator(docs) as client:
        client.local.notes.insert_one({"what": "a person's"})
        client.config.mine.insert_one({"what": "a person's"})
    found = manifest(backed_up(docs))
    assert found["counts"]["documents"]["admin.customers"] == 3
    assert found["counts"]["documents"]["kinds.sensors"] == 10
    assert found["counts"]["users"] == {"admin": 1, "people": 1}
    assert found["counts"]["roles"] == {"people": 1}
    assert found["fleeting"]["documents"] == {"kinds.expiring": 4, "kinds.capped": 5}
    assert "purveyor" not in found["counts"]["databases"]
    left = {(item["where"], item["what"]) for item in found["left_out"]}
    assert {("local", "notes"), ("config", "mine")} == left
    assert "kinds.indexed's definition" in found["digests"]


@pytest.mark.fortnightly
def test_one_database_comes_out_as_mongorestore_reads_it(docs: Stage) -> None:
    made = backed_up(docs)
    with tarfile.open(fileobj=io.BytesIO(extracted(made, "kinds"))) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert [item["_id"] for item in bson.decode_all(files["kinds/indexed.bson"])] == list(range(20))
    about = json.loads(files["kinds/indexed.metadata.json"])
    assert about["collectionName"] == "indexed"
    assert {index["name"] for index in about["indexes"]} == {
        "_id_",
        "both ways",
        "some",
        "hidden",
        "wild",
    }
    assert json.loads(files["kinds/capped.metadata.json"])["options"]["max"] == {"$numberInt": "5"}
    assert (
        json.loads(files["kinds/odd.name%20%25%20%C3%BCnd.metadata.json"])["collectionName"]
        == "odd.name % ünd"
    )
    assert json.loads(files["kinds/adults.metadata.json"])["type"] == "view"
    assert "kinds/adults.bson" not in files
    assert len(files["kinds/large.bson"]) > 12_000_000
    with pytest.raises(NotFound, match="It has admin"):
        extracted(made, "nowhere")


def extracted(made: dict[str, Any], database: str) -> bytes:
    sink = Gathered()
    anyio.run(extraction.extract, stream_of(made), database, sink)
    return bytes(sink.data)


@pytest.mark.fortnightly
def test_documents_past_their_time_make_no_difference(docs: Stage) -> None:
    """The server deletes them whenever it looks: a proof neither waits for it nor fails on it."""
    with administrator(docs) as client:
        client.shop_production.late.insert_many(
            [{"_id": number, "at": everything.LONG_AGO} for number in range(50)]
        )
        client.shop_production.late.create_index("at", expireAfterSeconds=1)
    made = backed_up(docs)
    docs.call("POST", f"/backups/{made['id']}/verify")
    (last,) = docs.call("GET", "/operations?limit=1")
    assert last["verb"] == "verify-backup"
    # the stand-in takes no hashed passwords, which is told of its users
    assert last["outcome"].get("differences", []) == []


@pytest.mark.fortnightly
def test_a_server_that_goes_while_it_is_read_is_named_with_its_remedy(docs: Stage) -> None:
    with docs.local() as client:
        begun = client.post(
            "/api/backups/external-services/docs/run", json={}, headers={"Prefer": "respond-async"}
        ).json()["operation_id"]
        docker("kill", f"{docs.namespace}-docs")
        while (operation := client.get(f"/api/operations/{begun}").json())["state"] == "running":
            pass
    docs.cli("start", "docs")
    if operation["state"] != "succeeded":
        assert "pymongo" not in json.dumps(operation)
        assert "failed in its hook" not in json.dumps(operation)
