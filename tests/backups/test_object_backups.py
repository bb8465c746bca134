"""Backups of S3: one of everything comes back beside a writer; what a server cannot hold is named,
nothing goes in silence."""

import io
import json
import tarfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.handlers import validate_ascii_metadata

import everything_s3 as everything
from purveyor_hooks import Address, Image, Inventory, NotFound, RestoreOptions, Service
from purveyor_hooks.parts import PartWriter
from purveyor_s3 import elsewhere, extraction, listing, refill, snapshot
from support import SEAWEEDFS, Stage

SECRET, ACCESS = "s" * 40, "administratorskey000"
SERVERS = [
    "rustfs",
    *(pytest.param(name, marks=pytest.mark.nightly) for name in ("seaweedfs", "minio")),
]


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


class Reach:
    """The `Access` of a service, from beside the core."""

    def __init__(self, port: int) -> None:
        self.port = port

    def address(self, container_port: int) -> Address:
        return Address(host="127.0.0.1", port=self.port)

    def beat(self) -> None:
        """Nobody watches."""


class Server:
    """A service, and the hooks called on it as the core would."""

    def __init__(self, stage: Stage, name: str, image: str) -> None:
        body = {
            "name": name,
            "service_type": "s3",
            "parameters": {"access_key": ACCESS, "secret_key": SECRET, "docker_image": image},
        }
        stage.call("POST", "/external-services", json=body)
        self.stage, self.name = stage, name
        self.flavour = image.partition("/")[2].partition(":")[0]
        port = stage.json("show", name)["service"]["port"]
        self.access: Any = Reach(port)
        values = {"access_key": ACCESS, "secret_key": SECRET, "flavour": self.flavour}
        self.service = Service(
            id=1,
            name=name,
            slug=name,
            service_type="s3",
            parameters=values,
            secrets={},
            image=Image(reference=image),
            host="h",
        )
        self.client = connect(port)

    def backup(self) -> tuple[Chunks, Inventory]:
        sink = Gathered()
        census = anyio.run(snapshot.backup, self.service, self.access, sink)
        return Chunks(bytes(sink.data)), census

    def restore(self, source: Any, **options: Any) -> set[str]:
        found = anyio.run(
            refill.restore, self.service, self.access, source, RestoreOptions(**options)
        )
        return {str(item) for item in found}

    def census(self) -> Inventory:
        return anyio.run(snapshot.census, self.service, self.access)


def connect(port: int, access_key: str = ACCESS, secret_key: str = SECRET) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            retries={"total_max_attempts": 1},
        ),
    )


class Servers:
    """Of each kind one with one of everything in it, and one with nothing; made when they are first
    needed."""

    def __init__(self, stage: Stage, image: Callable[[str], str]) -> None:
        self._stage, self._image = stage, image
        self._made: dict[str, Server] = {}

    def target(self, name: str, label: str = "target") -> Server:
        key = f"{name}-{label}"
        if key not in self._made:
            self._made[key] = Server(
                self._stage, key, SEAWEEDFS if name == "seaweedfs" else self._image(name)
            )
        return self._made[key]

    def store(self, name: str) -> Server:
        new = f"{name}-store" not in self._made
        made = self.target(name, "store")
        if new:
            refused = everything.fill(made.client)
            assert refused.keys() <= REFUSED[name], refused
        return made


REFUSED = {"rustfs": set(), "seaweedfs": {"website"}, "minio": {"website", "cors"}}


@pytest.fixture(scope="module")
def servers(house: Stage, request: pytest.FixtureRequest) -> Servers:
    return Servers(house, request.getfixturevalue)


@contextmanager
def writing(server: Server) -> Iterator[None]:
    """An app that goes on writing: new objects, new versions, deletions."""
    over, wrong = threading.Event(), []
    client = connect(server.access.port)
    if "live" not in {item["Name"] for item in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket="live")
        client.put_bucket_versioning(Bucket="live", VersioningConfiguration={"Status": "Enabled"})

    def write() -> None:
        number = 0
        while not over.wait(0.005):
            number += 1
            try:
                client.put_object(Bucket="live", Key=f"k{number % 40:02}", Body=b"x" * number)
                client.delete_object(Bucket="live", Key=f"k{number * 7 % 40:02}")
            except Exception as error:
                wrong.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not wrong, wrong[:3]


@pytest.mark.fortnightly
@pytest.mark.parametrize("name", SERVERS)
def test_one_of_everything_comes_back_beside_a_writer_and_a_second_try_begins_anew(
    name: str, servers: Servers
) -> None:
    with writing(servers.store(name)):
        source, census = servers.store(name).backup()
    assert census.failed == ()
    for _ in range(2):  # the second finds what the first has made, as after a crash
        assert servers.target(name).restore(source) == set()
        assert census.differences(servers.target(name).census()) == []
    before, after = (
        everything.told(servers.store(name).client),
        everything.told(servers.target(name).client),
    )
    for part in before:
        assert after[part] == before[part], part
    assert after == before


@pytest.mark.fortnightly
@pytest.mark.parametrize(("origin", "name"), [
    ("seaweedfs", "rustfs"),
    pytest.param("rustfs", "minio", marks=pytest.mark.nightly),
    pytest.param("minio", "seaweedfs", marks=pytest.mark.nightly),
])  # fmt: skip
def test_from_one_server_to_another_all_comes_over_or_is_named(
    origin: str, name: str, servers: Servers
) -> None:
    source, census = servers.store(origin).backup()
    target = servers.target(name)
    said = target.restore(source)
    assert census.differences(target.census().only(tuple(census.counts["buckets"]))) == []
    settings = {"minio": {"cors", "website"}, "seaweedfs": {"website"}, "rustfs": set()}[
        name
    ] - REFUSED[origin]
    named = {f"plain: its {name}" for name in settings}
    if name == "rustfs":
        named.add("plain: rich: the server does not keep its Expires")
    assert {line.partition(": the server refused it")[0] for line in said} == named
    foreseen = {
        str(item).partition(": the server has no")[0] for item in census.elsewhere.get(name, ())
    }
    assert named <= foreseen
    before, after = (everything.told(server.client) for server in (servers.store(origin), target))
    for part in ("plain", "versions", "suspended", "locked"):
        assert after[part].keys() == before[part].keys()
        # SeaweedFS keeps no metadata of a folder's marker
        for key in before[part].keys() - {"folder/"}:
            assert comparable(after[part][key], name) == comparable(before[part][key], name), key


def comparable(versions: list[Any], name: str) -> list[Any]:
    """What there is of an object, without the header that RustFS forgets."""
    forgotten = {"Expires"} if name == "rustfs" else set()
    return [
        item
        if item == "deleted"
        else (
            item[0],
            {key: value for key, value in item[1].items() if key not in forgotten},
            *item[2:],
        )
        for item in versions
    ]


@pytest.mark.fortnightly
@pytest.mark.parametrize("name", SERVERS)
def test_counts_are_of_what_was_written(name: str, servers: Servers) -> None:
    _, census = servers.store(name).backup()
    assert census.counts["objects"]["versions"] == 2
    assert census.counts["older versions"]["versions"] == 4
    assert census.counts["delete markers"]["versions"] == 3
    assert census.counts["objects"]["plain"] == len(everything.KEYS) + 6
    assert "purveyor" not in census.counts["buckets"]
    assert {
        "plain.policy",
        "plain.lifecycle",
        "versions.versioning",
        "locked.object lock",
    } <= census.digests.keys()


@pytest.mark.fortnightly
@pytest.mark.parametrize("name", SERVERS)
def test_awkward_keys_are_named_or_come_back_and_overwrite_nothing(
    name: str, servers: Servers
) -> None:
    source = forged(
        [("bucket", {"bucket": "awkward"}, b"")]
        + [
            (
                "object",
                {"bucket": "awkward", "key": key, "size": size, "described": {}, "latest": True},
                b"k" * size,
            )
            for key, size, _ in sorted(
                [*everything.AWKWARD, ("lead", 4, set())], key=lambda item: item[0].encode()
            )
        ]
    )
    target = servers.target(name)
    said = target.restore(source)
    unheld = {key for key, _, servers in everything.AWKWARD if target.flavour in servers}
    assert {
        line.removeprefix("awkward: ").rpartition(": ")[0].partition(": it would be")[0]
        for line in said
    } == unheld
    held = {
        item["Key"]: item["Size"]
        for item in target.client.list_objects_v2(Bucket="awkward").get("Contents", [])
    }
    assert held == {key: size for key, size, _ in everything.AWKWARD if key not in unheld} | {
        "lead": 4
    }


def test_what_another_server_would_not_take_is_known_before_it_is_asked() -> None:
    held = {"website": {"IndexDocument": {"Suffix": "index.html"}}}
    seen = elsewhere.Elsewhere(("rustfs", "seaweedfs", "minio"))
    seen.bucket("awkward", held)
    for key, size, _ in sorted(everything.AWKWARD, key=lambda item: item[0].encode()):
        seen.object("awkward", key, size, {}, [])
    seen.object("awkward", "rich", 1, {"Expires": "2030-01-01"}, [["team", "r&d"]])
    found = {name: {item.what for item in listed} for name, listed in seen.found().items()}
    for name in ("rustfs", "seaweedfs", "minio"):
        keys = {key for key, _, servers in everything.AWKWARD if name in servers}
        extra = {
            "rustfs": {"rich"},
            "minio": {"rich", "its website"},
            "seaweedfs": {"its website"},
        }[name]
        assert found[name] == keys | extra
    for number in range(100):
        seen.key("awkward", f"/{number}", 1)
    assert len(seen.found()["rustfs"]) == elsewhere.MOST + 1
    assert "more would not come over" in str(seen.found()["rustfs"][-1])


@pytest.mark.fortnightly
def test_a_copy_or_restore_that_would_lose_something_is_refused_before_anything_is_made(
    house: Stage, servers: Servers, rustfs: str
) -> None:
    store, target = servers.target("seaweedfs"), servers.target("rustfs")
    store.client.create_bucket(Bucket="lines")
    target.client.create_bucket(Bucket="stays")
    try:
        for key in ("nl\nx", "plain"):
            store.client.put_object(Bucket="lines", Key=key, Body=b"1")
        before = house.world()
        copy = ("clone", store.name, "moved", "--image", rustfs)
        for command in (copy, (*copy, "--plan")):
            said = house.cli(*command, code=5)
            assert "no line breaks" in said
            assert "--keep-going" in said
        assert "no line breaks" in house.cli(*copy, "--keep-going", "--plan")
        made = house.call("POST", f"/backups/external-services/{store.name}/run", json={})
        place = ("backup", "restore", str(made["id"]), "--in-place", target.name)
        assert "no line breaks" in house.cli(*place, code=5)
        assert house.world() == before
        assert "no line breaks" in house.cli(*place, "--keep-going", "--plan")
        house.cli(*copy, "--keep-going")
        moved = connect(house.json("show", "moved")["service"]["port"], *keys(house, "moved"))
        assert [item["Key"] for item in moved.list_objects_v2(Bucket="lines")["Contents"]] == [
            "plain"
        ]
    finally:
        for key in ("nl\nx", "plain"):
            store.client.delete_object(Bucket="lines", Key=key)
        store.client.delete_bucket(Bucket="lines")


def keys(stage: Stage, service: str) -> tuple[str, str]:
    found = stage.call("GET", f"/external-services/{service}/client")["client"]["environment"]
    return found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]


def forged(parts: list[tuple[str, dict[str, Any], bytes]]) -> Chunks:
    sink = Gathered()

    async def forge() -> None:
        writer = PartWriter(sink)
        for name, facts, data in parts:
            await writer.whole(name, data, **facts)
        await writer.close()

    anyio.run(forge)
    return Chunks(bytes(sink.data))


@pytest.mark.fortnightly
@pytest.mark.parametrize("name", SERVERS)
def test_settings_that_a_copy_must_not_have_and_those_that_are_refused_are_named(
    name: str, servers: Servers
) -> None:
    queue = {
        "QueueConfigurations": [
            {"QueueArn": "arn:minio:sqs::1:webhook", "Events": ["s3:ObjectCreated:*"]}
        ]
    }
    source = forged([("bucket", {"bucket": "settings", "settings": {"notifications": queue}}, b"")])
    copied, taken = (
        servers.target(name).restore(source),
        servers.target(name).restore(source, takes_over=True),
    )
    assert copied == {"settings: its notifications: they are switched off in a copy"}
    (line,) = taken
    assert line.startswith("settings: its notifications: the server refused it: ")


@pytest.mark.fortnightly
@pytest.mark.parametrize("name", SERVERS)
def test_one_bucket_alone_and_part_of_an_object_is_no_object(name: str, servers: Servers) -> None:
    described = {"described": {}, "latest": True, "size": 4}
    target = servers.target(name)
    source = forged(
        [
            ("bucket", {"bucket": "purveyor"}, b""),
            ("object", {"bucket": "purveyor", "key": "identity", **described}, b"mine"),
            ("object", {"bucket": "purveyor", "key": "bindings/901", **described}, b"chosen"),
            ("object", {"bucket": "purveyor", "key": "bindings/902", **described}, b"other"),
            ("bucket", {"bucket": "other"}, b""),
            ("bucket", {"bucket": "chosen"}, b""),
            ("object", {"bucket": "chosen", "key": "whole", **described}, b"1234"),
            ("object", {"bucket": "chosen", "key": "part", **described}, b"12"),
            ("broken", {"bucket": "chosen", "key": "part"}, b""),
        ]
    )
    assert target.restore(source, only=("chosen",)) == {
        "chosen: part: the backup has a part of it only"
    }
    assert [item["Key"] for item in target.client.list_objects_v2(Bucket="chosen")["Contents"]] == [
        "whole"
    ]
    assert "other" not in {item["Name"] for item in target.client.list_buckets()["Buckets"]}
    marks = {item["Key"] for item in target.client.list_objects_v2(Bucket="purveyor")["Contents"]}
    assert "bindings/901" in marks
    assert "bindings/902" not in marks
    assert target.client.get_object(Bucket="purveyor", Key="identity")["Body"].read() != b"mine"


@pytest.mark.fortnightly
@pytest.mark.parametrize("name", SERVERS)
def test_headers_that_are_not_ascii_come_back(name: str, servers: Servers) -> None:
    store, target = servers.target(name), servers.target(name, "store")
    store.client.create_bucket(Bucket="foreign")
    writer = connect(store.access.port)
    writer.meta.events.unregister("before-parameter-build.s3.PutObject", validate_ascii_metadata)
    described = (
        {"ContentDisposition": 'attachment; filename="\u00fc.txt"'} if name == "seaweedfs" else {}
    )
    writer.put_object(
        Bucket="foreign", Key="k", Body=b"x", Metadata={"who": "\u00fcn\u00ef"}, **described
    )
    try:
        source, census = store.backup()
        assert census.failed == ()
        assert target.restore(source, only=("foreign",)) == set()
        one, other = (
            server.client.head_object(Bucket="foreign", Key="k") for server in (store, target)
        )
        assert one["Metadata"] == other["Metadata"]
        assert one.get("ContentDisposition") == other.get("ContentDisposition")
    finally:
        for server in (store, target):
            server.client.delete_object(Bucket="foreign", Key="k")
            server.client.delete_bucket(Bucket="foreign")


@pytest.mark.fortnightly
def test_an_object_whose_headers_cannot_be_read_is_named_and_the_others_are_there(
    servers: Servers,
) -> None:
    store = servers.target("seaweedfs")
    store.client.create_bucket(Bucket="odd")
    try:
        for key in ("a", "b", "c"):
            url = store.client.generate_presigned_url(
                "put_object", Params={"Bucket": "odd", "Key": key}
            )
            headers = [(b"cache-control", b"max-age=1, \xff")] if key == "b" else []
            assert httpx.put(url, content=b"x", headers=headers).is_success
        _, census = store.backup()
        assert [(item.where, item.what) for item in census.failed] == [("odd", "b")]
        assert census.counts["objects"]["odd"] == 2
    finally:
        for key in ("a", "b", "c"):
            store.client.delete_object(Bucket="odd", Key=key)
        store.client.delete_bucket(Bucket="odd")


def test_versions_of_a_key_stay_in_order_in_whatever_order_a_server_lists_keys() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)

    def version(key: str, number: int) -> dict[str, Any]:
        moment = at + timedelta(seconds=number)
        return {
            "Key": key,
            "VersionId": str(number),
            "IsLatest": number == 3,
            "LastModified": moment,
            "Size": 1,
        }

    pages = [[version("b", 3), version("a", 3), version("a", 2)], [version("a", 1)]]

    class Client:
        def get_paginator(self, _: str) -> "Client":
            return self

        async def paginate(self, **_: Any) -> AsyncIterator[dict[str, Any]]:
            for page in pages:
                yield {"Versions": page, listing.ORDER: [b"Version"] * len(page)}

    async def listed() -> list[tuple[str, str]]:
        return [
            (item.key, item.version) async for item in listing.items(Client(), "x", versioned=True)
        ]

    assert anyio.run(listed) == [("b", "3"), ("a", "1"), ("a", "2"), ("a", "3")]


@pytest.mark.fortnightly
def test_a_bucket_comes_out_as_a_tar(servers: Servers) -> None:
    source, _ = servers.store("seaweedfs").backup()
    with tarfile.open(fileobj=io.BytesIO(extracted(source, "versions"))) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert files["versions/thrice"] == b"xxx"
    assert files["versions.versions/1/thrice"] == b"x"
    assert files["versions.versions/2/thrice"] == b"xx"
    assert json.loads(files["versions.json"])["versioning"] == {"Status": "Enabled"}
    lines = [json.loads(line) for line in files["versions.objects.jsonl"].splitlines()]
    assert [line["tags"] for line in lines if line.get("key") == "thrice"] == [
        [["n", "1"]],
        [["n", "2"]],
        [["n", "3"]],
    ]
    with tarfile.open(fileobj=io.BytesIO(extracted(source, "plain"))) as tar:
        names = set(tar.getnames())
    assert {"plain/folder", "plain/folder/in", "plain/ü/ö", "plain/parts"} <= names
    with pytest.raises(NotFound, match=r"It has .*versions"):
        extracted(source, "nowhere")


def test_nothing_in_a_tar_leaves_its_folder() -> None:
    hostile = ["../x", "/etc/x", "a/../../x", "..", "./x", "a//b"]
    about = {"described": {}, "latest": True, "size": 0}
    parts = [("object", {"bucket": "b", "key": key, **about}, b"") for key in hostile]
    with tarfile.open(
        fileobj=io.BytesIO(extracted(forged([("bucket", {"bucket": "b"}, b""), *parts]), "b"))
    ) as tar:
        for member in tar:
            assert not member.name.startswith("/")
            assert not {"..", ".", ""} & {*member.name.split("/")}, member.name
            tarfile.data_filter(member, "/somewhere")


def extracted(source: Any, bucket: str) -> bytes:
    sink = Gathered()
    anyio.run(extraction.extract, source, bucket, sink)
    return bytes(sink.data)


def test_through_the_core_it_comes_back_in_place_and_a_copy_lets_no_project_in(
    house: Stage,
) -> None:
    house.furnish({"store": "s3"}, ["shop"])
    variables = house.variables("shop")
    account = variables["S3_ACCESS_KEY"], variables["S3_SECRET_KEY"]
    own = connect(house.json("show", "store")["service"]["port"], *account)
    own.put_object(Bucket="shop-production", Key="folder/", Body=b"")
    own.put_object(Bucket="shop-production", Key="tagged", Body=b"1", Tagging="a=b")
    made = house.call("POST", "/backups/external-services/store/run", json={})
    assert made["state"] == "ok"
    own.delete_object(Bucket="shop-production", Key="folder/")
    house.call("POST", f"/backups/{made['id']}/restore", json={"service_id": "store"})
    assert own.head_object(Bucket="shop-production", Key="folder/")["ContentLength"] == 0
    assert own.get_object_tagging(Bucket="shop-production", Key="tagged")["TagSet"] == [
        {"Key": "a", "Value": "b"}
    ]
    house.cli("clone", "store", "copy")
    elsewhere = connect(house.json("show", "copy")["service"]["port"], *account)
    with pytest.raises(ClientError):
        elsewhere.list_objects_v2(Bucket="shop-production")
