"""A restore into a Redis, hook by hook: some databases, hostile backups, one that was broken off,
what is not proven."""

import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest
import redis
import structlog

import everything_redis
from purveyor_hooks import (
    Address,
    BadInput,
    Command,
    ExecResult,
    Failed,
    File,
    Finding,
    Image,
    RestoreOptions,
    Service,
    certificates,
)
from purveyor_hooks.parts import PartWriter
from purveyor_redis import plugin, server
from purveyor_redis.beside import Beside
from purveyor_redis.rdb import CHECKSUM, Op, Reader
from purveyor_redis.snapshot import proof
from support import REDIS, Stage, docker, eventually, free_port

pytestmark = pytest.mark.fortnightly

PASSWORD = "hunter22"


class Process:
    def __init__(self, process: Any, what: str) -> None:
        self._process, self._what = process, what

    async def write(self, data: bytes) -> None:
        await self._process.stdin.send(data)

    async def end_input(self) -> None:
        await self._process.stdin.aclose()

    async def output(self) -> AsyncIterator[bytes]:
        async for chunk in self._process.stdout:
            yield chunk

    async def finish(self) -> None:
        async for _ in self.output():
            pass
        if await self._process.wait():
            raise Failed(f"{self._what} ended with {self._process.returncode}")


class Access:
    """`Access` to one container by the docker command line."""

    def __init__(self, container: str, port: int) -> None:
        self._container, self._port = container, port
        self.logger = structlog.get_logger()
        self.beats = 0

    def address(self, container_port: int) -> Address:
        return Address(host="127.0.0.1", port=self._port)

    inside = address

    def beat(self) -> None:
        self.beats += 1

    def _argv(self, command: Command) -> list[str]:
        given = [
            part
            for name, value in command.environment.items()
            for part in ("-e", f"{name}={value}")
        ]
        return ["docker", "exec", "-i", *given, self._container, *command.argv]

    async def exec(
        self, command: Command, *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        done = await anyio.run_process(self._argv(command), input=stdin, check=False)
        return ExecResult(
            exit_code=done.returncode, stdout=done.stdout.decode(), stderr=done.stderr.decode()
        )

    @asynccontextmanager
    async def process(self, command: Command) -> AsyncIterator[Process]:
        async with await anyio.open_process(
            self._argv(command), stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield Process(process, command.argv[0])
            finally:
                if process.returncode is None:
                    process.kill()


class Bytes:
    """A `Sink` that is a `Source` afterwards; of the source only so much comes as is said."""

    def __init__(self, found: bytes = b"") -> None:
        self.found = found

    async def write(self, chunk: bytes) -> None:
        self.found += chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.found), 100_000):
            yield self.found[start : start + 100_000]


class Place(msgspec.Struct):
    """A server as the plugin sees it."""

    service: Service
    access: Any

    def opened(self, database: int = 0) -> Any:
        return redis.Redis(
            port=self.access.address(0).port, password=PASSWORD, db=database, socket_timeout=10
        )

    def backup(self) -> tuple[Bytes, Any]:
        stream = Bytes()
        return stream, anyio.run(lambda: plugin.backup(self.service, self.access, stream, None))

    def restore(self, stream: Bytes, **options: Any) -> tuple[Finding, ...]:
        given = RestoreOptions(**options)
        return anyio.run(lambda: plugin.restore(self.service, self.access, stream, given))

    def census(self) -> Any:
        return anyio.run(lambda: plugin.census(self.service, self.access, None))


@pytest.fixture(scope="module")
def place(make_stage: Callable[..., Stage]) -> Iterator[Callable[..., Place]]:
    """Makes servers with the plugin's own configuration."""
    stage = make_stage()
    made: list[str] = []

    def make(
        name: str,
        image: str = REDIS,
        maxmemory: str = "1gb",
        more: str = "",
        imported: bool = False,
    ) -> Place:
        port = free_port()
        given = {"password": PASSWORD, "maxmemory": maxmemory, "port": port}
        service = Service(
            id=1, name=name, slug=name, service_type="redis", parameters=given, secrets={},
            image=Image(reference=image),
            host="127.0.0.1", imported=imported,
        )  # fmt: skip
        spec = plugin.container(service)
        full = f"{stage.namespace}-{name}"
        docker("create", "--name", full, "-p", f"127.0.0.1:{port}:6379", image, *spec.command)
        made.append(full)
        root = stage.state / name
        assert spec.certificate is not None  # the core puts it there
        pair = File(
            path=spec.certificate.file,
            content="".join(certificates.self_signed(name, [name], days=1)),
        )
        for file in (*spec.files, pair):
            path = root / file.path[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.content + (more if file.path == server.CONFIG_FILE else ""))
            path.chmod(0o644)
        docker("cp", f"{root}/.", f"{full}:/")
        docker("start", full)
        found = Place(service=service, access=Access(full, port))

        def answers() -> bool:
            try:
                with found.opened() as client:
                    return bool(client.ping())
            except redis.RedisError:
                return False

        eventually(answers)
        if not imported:
            anyio.run(lambda: plugin.identity(service, found.access, True))
        return found

    yield make
    for full in made:
        docker("rm", "-f", "-v", full, check=False)


def mark(place: Place) -> str:
    return anyio.run(lambda: plugin.identity(place.service, place.access, False))


@pytest.fixture(scope="module")
def source(place: Callable[..., Place]) -> Place:
    made = place("source")
    for number in (1, 3):
        with made.opened(number) as client:
            everything_redis.fill(client, 1_000_000)
    with made.opened() as client:
        client.function_load(everything_redis.LIBRARY)
        client.config_set("slowlog-max-len", 77)
        client.config_set("maxmemory", 2**32)
    return made


@pytest.fixture(scope="module")
def target(place: Callable[..., Place]) -> Place:
    return place("target")


def test_everything_comes_and_what_does_not_is_named(source: Place, target: Place) -> None:
    stream, told = source.backup()
    own = mark(target)
    findings = target.restore(stream)
    assert [item.what for item in findings] == ["setting maxmemory"]
    assert told.differences(target.census()) == []
    assert mark(target) == own
    with source.opened(3) as one, target.opened(3) as other:
        assert everything_redis.contents(one) == everything_redis.contents(other)
        assert other.config_get("slowlog-max-len") == {"slowlog-max-len": "77"}
        assert other.config_get("maxmemory") == {"maxmemory": str(2**30)}
    assert target.access.beats


def test_only_some_databases(source: Place, target: Place) -> None:
    stream, told = source.backup()
    assert target.restore(stream, only=("db3",)) == ()
    assert told.only(["db3"]).differences(target.census()) == []
    with target.opened(1) as client:
        assert client.dbsize() == 0
    for names in (("db4",), ("shop",), ("db3", "3")):
        with pytest.raises(BadInput) as said:
            target.restore(stream, only=names)
        assert "database" in said.value.errors


def test_one_that_was_broken_off_begins_anew(source: Place, target: Place) -> None:
    stream, told = source.backup()
    own = mark(target)

    async def break_off(seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await plugin.restore(target.service, target.access, stream, RestoreOptions())

    for seconds in (0.2, 0.5, 0.8):
        anyio.run(break_off, seconds)
    target.restore(stream)
    assert told.differences(target.census()) == []
    assert mark(target) == own
    assert (
        docker(
            "exec", target.access._container, "sh", "-c", "ls /data /tmp | grep -c restore || true"
        )
        == "0"
    )
    zombies = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"
    assert docker("exec", target.access._container, "sh", "-c", zombies) == "0"


def made_up(records: bytes, **parts: bytes) -> Bytes:
    body = b"REDIS0011" + records + bytes([Op.END])
    stream = Bytes()

    async def work() -> None:
        writer = PartWriter(stream)
        for name, content in parts.items():
            await writer.whole(name, content)
        await writer.begin("rdb", databases=16, own=16)
        await writer.write(body + CHECKSUM.calc(body).to_bytes(8, "little"))
        await writer.end()
        await writer.close()

    anyio.run(work)
    return stream


def test_a_hostile_backup_sets_nothing_but_what_is_safe(target: Place) -> None:
    users = (
        b"user default on nopass ~* &* +@all\nuser x on nopass ~* +get\nnonsense\nuser\nuser y "
        b"+no-such-command\n"
    )
    settings = (
        b'{"dir":"/tmp","dbfilename":"x","requirepass":"","slowlog-max-len":"5","timeout":"a\\nrequirepass '
        b'x"}'
    )
    findings = target.restore(
        made_up(bytes([Op.SELECT, 2]) + b"\x00\x01k\x01v", users=users, settings=settings)
    )
    assert sorted(item.what for item in findings) == ["setting timeout", "user y"]
    with target.opened(2) as client:
        assert client.get("k") == b"v"
        assert client.config_get("dir") == {"dir": "/data"}
        assert client.config_get("slowlog-max-len") == {"slowlog-max-len": "5"}
        names = [line.split()[1] for line in client.acl_list()]
        assert sorted(names)[:2] == ["default", "x"]
    docker("restart", target.access._container)
    eventually(
        lambda: (
            docker(
                "exec", target.access._container, "redis-cli", "-a", PASSWORD, "PING", check=False
            )
            == "PONG"
        )
    )
    with target.opened(2) as client:
        assert client.get("k") == b"v"
        assert client.config_get("slowlog-max-len") == {"slowlog-max-len": "5"}


HOSTILE = {
    "a listpack that lies": (
        b"\x10\x01k\x0b\xff\x00\x00\x00\x02\x00\x81a\x02\x01\xff",
        "reads the backup ended",
    ),
    "a string without end": (b"\x00\x01k\x81" + b"\x7f" * 8, "cut off"),
    "a function that is none": (bytes([Op.FUNCTION]) + b"\x05hello", "reads the backup ended"),
    "no database at all": (
        bytes([Op.SELECT]) + b"\x80\x7f\xff\xff\xff\x00\x01k\x01v",
        "database 2147483647",
    ),
    "data of an unknown module": (
        b"\x07\x01k\x81" + b"\x77" * 8 + b"\x00",
        "reads the backup ended",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_backup_is_refused_with_the_reason_and_the_service_goes_on(
    what: str, target: Place
) -> None:
    records, says = HOSTILE[what]
    begun = time.monotonic()
    with pytest.raises((Failed, BadInput)) as said:
        target.restore(
            made_up(records if what.startswith("no ") else bytes([Op.SELECT, 2]) + records)
        )
    assert says in str(said.value)
    assert time.monotonic() - begun < 15
    with target.opened() as client:
        assert client.info("replication")["role"] == "master"
        assert client.set("goes", "on")


def test_keys_that_ended_meanwhile_are_no_loss_and_an_empty_restore_is(target: Place) -> None:
    ended = bytes([Op.EXPIRES_MS]) + (1).to_bytes(8, "little") + b"\x00\x01k\x01v"
    lives = bytes([Op.EXPIRES_MS]) + (2**41).to_bytes(8, "little") + b"\x00\x01l\x01v"
    assert target.restore(made_up(bytes([Op.SELECT, 2]) + ended + lives)) == ()
    reader, beside = Reader(), Beside(target.service, target.access, 16)
    reader.fleeting = {2: 2}
    assert "holds 2 keys; 0 were read" in str(proof(reader, beside, {}, None)[0])
    beside.loaded, beside.expired = 1, 1
    assert [str(item) for item in proof(reader, beside, {2: (0, 1)}, None)] == [
        "db2: keys: 0 of 1 came over"
    ]


def test_one_whose_owner_took_config_away_is_backed_up_all_the_same(
    place: Callable[..., Place], target: Place
) -> None:
    theirs = place("theirs", more='rename-command CONFIG ""\n', imported=True)
    with theirs.opened(7) as client:
        client.set("k", "v", ex=1000)
    stream, told = theirs.backup()
    assert [item.what for item in told.left_out] == ["settings"]
    assert target.restore(stream) == ()
    assert told.fleeting == target.census().fleeting == {"keys": {"db7": 1}}


def test_more_than_the_limit_of_memory_is_said(source: Place, place: Callable[..., Place]) -> None:
    small = place("small", maxmemory="8mb")
    with source.opened(1) as client:
        client.set("much", b"x" * 8_000_000)
    stream, told = source.backup()
    findings = small.restore(stream)
    assert "maxmemory" in [item.what for item in findings]
    assert told.differences(small.census()) == []
    assert anyio.run(lambda: server.ready(small.service, small.access)).healthy
