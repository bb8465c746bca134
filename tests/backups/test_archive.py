"""How backups are packed: what comes out is what went in, and a changed bit or a missing end is
always found."""

import hashlib
import os
import random
import resource
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from purveyor.backups import manifest as manifests
from purveyor.backups import paper, sums
from purveyor.backups.codec import Packer, unpack_stream
from purveyor.backups.manifest import Manifest, OnRecord, Verified
from purveyor.backups.scheduler import following
from purveyor.kernel.watchdog import Heartbeat, run_with_stall_timeout
from purveyor_hooks import BadInput, DeadlineExceeded, Finding, Inventory
from purveyor_hooks.parts import PartWriter, read_parts

KEY = bytes(range(32))


async def pack(chunks: Sequence[bytes], key: bytes | None) -> tuple[bytes, str]:
    stored = bytearray()

    async def take(chunk: bytes) -> None:
        stored.extend(chunk)

    packer = Packer(take, key)
    for chunk in chunks:
        await packer.write(chunk)
    await packer.close()
    assert packer.stored == len(stored)
    assert packer.plain == sum(map(len, chunks))
    return bytes(stored), packer.sha256


async def pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def unpack(
    stored: bytes, key: bytes | None, sha256: str, size: int = 1000, most: int = 10_000_000
) -> bytes:
    return b"".join(
        [chunk async for chunk in unpack_stream(pieces(stored, size), key, sha256, most)]
    )


@settings(max_examples=60, deadline=None)
@given(
    chunks=st.lists(st.binary(max_size=3000), max_size=8),
    encrypt=st.booleans(),
    size=st.integers(1, 5000),
)
def test_what_is_packed_comes_out_again(chunks: list[bytes], encrypt: bool, size: int) -> None:
    key = KEY if encrypt else None

    async def work() -> None:
        stored, sha256 = await pack(chunks, key)
        assert await unpack(stored, key, sha256, size) == b"".join(chunks)

    anyio.run(work)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
def test_more_than_one_block_goes_through(key: bytes | None) -> None:
    content = random.Random(1).randbytes(5_000_000)

    async def work() -> None:
        stored, sha256 = await pack(
            [content[start : start + 70_000] for start in range(0, len(content), 70_000)], key
        )
        assert await unpack(stored, key, sha256, 100_000) == content

    anyio.run(work)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
def test_every_altered_byte_and_every_missing_end_is_found(key: bytes | None) -> None:
    async def work() -> None:
        stored, sha256 = await pack([b"something that is worth keeping " * 5], key)
        for position in range(len(stored)):
            altered = bytearray(stored)
            altered[position] ^= 0x40
            with pytest.raises(BadInput):
                await unpack(bytes(altered), key, sha256)
            with pytest.raises(BadInput):
                await unpack(stored[:position], key, sha256)
        with pytest.raises(BadInput):
            await unpack(stored + b"x", key, sha256)

    anyio.run(work)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
def test_a_gigabyte_of_nothing_goes_through_in_little_memory_and_a_bomb_is_refused(
    key: bytes | None,
) -> None:
    size, megabyte = 1024, bytes(1024 * 1024)

    async def work() -> None:
        stored, sha256 = await pack([megabyte] * size, key)
        assert len(stored) < 100_000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seen = 0
        async for chunk in unpack_stream(
            pieces(stored, len(stored)), key, sha256, size * len(megabyte)
        ):
            assert len(chunk) <= len(megabyte)
            seen += len(chunk)
        assert seen == size * len(megabyte)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "kilobytes"
        with pytest.raises(BadInput, match="more than"):
            await unpack(stored, key, sha256, most=2_000_000)

    anyio.run(work)


def test_a_stream_that_asks_for_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=27, enable_ldm=True)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    stored = packed.compress(random.Random(1).randbytes(100_000)) + packed.flush()

    async def work() -> None:
        with pytest.raises(BadInput):
            await unpack(stored, None, hashlib.sha256(stored).hexdigest())

    anyio.run(work)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
def test_the_event_loop_goes_on_while_much_is_packed_and_unpacked(key: bytes | None) -> None:
    content = [random.Random(number).randbytes(4_000_000) for number in range(4)] * 4

    async def work() -> None:
        stored, sha256 = await pack(content, key)
        async for _ in unpack_stream(pieces(stored, 1_000_000), key, sha256, 100_000_000):
            pass

    whole, own = time.process_time(), time.thread_time()
    anyio.run(work)
    whole, own = time.process_time() - whole, time.thread_time() - own
    assert own < whole / 2, "the loop's thread hands on, and others compute"


def test_a_restore_that_is_given_up_ends_its_thread() -> None:
    async def work() -> None:
        stored, sha256 = await pack([random.Random(1).randbytes(50_000)], None)

        async def never() -> AsyncIterator[bytes]:
            yield stored[:30_000]
            await anyio.sleep(60)

        with anyio.move_on_after(0.2) as scope:
            await anext(unpack_stream(never(), None, sha256, 100_000))
        assert scope.cancelled_caught

    begun = time.monotonic()
    anyio.run(work)
    assert time.monotonic() - begun < 10


def test_another_key_opens_nothing() -> None:
    async def work() -> None:
        stored, sha256 = await pack([b"secret"], KEY)
        with pytest.raises(BadInput, match="key is not the one"):
            await unpack(stored, bytes(32), sha256)

    anyio.run(work)


def _manifest() -> Manifest:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    return Manifest(
        backup_id="b", installation="i", service="main", service_type="postgres", image="x:1",
        major="17", server_version="17.1",
        parameters={"port": 1}, backup_type="manual", started_at=now, completed_at=now, state="ok",
        data="data.zst",
        size_bytes=1, plain_bytes=2, sha256="00", counts={"rows": {"a": 1}},
    )  # fmt: skip


def test_a_manifest_says_so_when_any_byte_of_it_was_altered() -> None:
    made, key = _manifest(), bytes(range(32))
    keys = {manifests.key_id(key): key}
    content, mac = manifests.encode(made, "main/b", key)
    found = manifests.verify(content, "main/b", keys)
    assert (found.manifest, found.signed, found.mac) == (made, True, mac)
    for position in range(len(content) - 1):
        altered = bytearray(content)
        altered[position] ^= 1
        with pytest.raises(BadInput):
            manifests.verify(bytes(altered), "main/b", keys)
    for folder, ours, known in (
        ("main/c", keys, None),  # put beside another backup's data
        ("main/b", {}, None),  # the key is not here
        ("main/b", {manifests.key_id(bytes(32)): bytes(32)}, None),
        ("main/b", keys, OnRecord(mac="00")),  # an older one in its place
    ):
        with pytest.raises(BadInput):
            manifests.verify(content, folder, ours, known=known)
    with pytest.raises(TypeError):
        Verified(made, mac, token=object())


def test_a_manifest_of_the_first_version_is_ours_by_what_is_on_record() -> None:
    text = msgspec.json.encode(_manifest())
    content = (
        b'{"manifest":' + text + b',"sha256":"' + hashlib.sha256(text).hexdigest().encode() + b'"}'
    )
    known = OnRecord(checksum="sha256:00", image="x:1", counts={"rows": {"a": 1}})
    assert not manifests.verify(content, "main/b", {}, known=known).signed
    assert not manifests.verify(content, "main/b", {}, accept_unsigned=True).signed
    for other in (
        None,
        OnRecord(),
        msgspec.structs.replace(known, image="y:1"),
        msgspec.structs.replace(known, mac="00"),
    ):
        with pytest.raises(BadInput):
            manifests.verify(content, "main/b", {}, known=other)


@pytest.mark.parametrize("size", [0, 1, sums.CHUNK - 1, sums.CHUNK, 2 * sums.CHUNK + 7])
def test_no_part_is_handed_on_before_it_was_checked(size: int) -> None:
    async def work() -> None:
        content = os.urandom(size)
        written = bytearray()

        async def hand_on(chunk: bytes) -> None:
            written.extend(chunk)

        async def stored(data: bytes) -> AsyncIterator[bytes]:
            for start in range(0, len(data), 1_000_003):
                yield data[start : start + 1_000_003]

        summing = sums.Summing(hand_on)
        async for chunk in stored(content):
            await summing.write(chunk)
        hashes = await summing.close()
        assert bytes(written) == content
        assert (
            b"".join(
                [chunk async for chunk in sums.check_parts(stored(content), hashes, sums.CHUNK)]
            )
            == content
        )
        for wrong in (
            content[:-1],
            content + b"x",
            content[:-1] + bytes([content[-1] ^ 1]) if content else b"x",
        ):
            passed = bytearray()

            async def read(wrong: bytes = wrong, passed: bytearray = passed) -> None:
                async for chunk in sums.check_parts(stored(wrong), hashes, sums.CHUNK):
                    passed.extend(chunk)

            if wrong != content:
                with pytest.raises(BadInput):
                    await read()
                assert content.startswith(bytes(passed))

    anyio.run(work)


class Memory:
    """A sink, and a source of what was written, in pieces of a size."""

    def __init__(self, size: int = 7) -> None:
        self.content = b""
        self.size = size

    async def write(self, chunk: bytes) -> None:
        self.content += chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in pieces(self.content, self.size):
            yield piece


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.text(max_size=8), st.lists(st.binary(max_size=300), max_size=4)), max_size=5
    ),
    size=st.integers(1, 400),
)
def test_parts_come_back_in_order_and_a_cut_stream_is_never_whole(
    parts: list[Any], size: int
) -> None:
    async def work() -> None:
        memory = Memory(size)
        writer = PartWriter(memory)
        for name, chunks in parts:
            await writer.begin(name, about=[name])
            for chunk in chunks:
                await writer.write(chunk)
            await writer.end()
        await writer.close()
        found = [(part.name, part.facts, await part.read()) async for part in read_parts(memory)]
        assert found == [(name, {"about": [name]}, b"".join(chunks)) for name, chunks in parts]
        skipped = [part.name async for part in read_parts(memory)]
        assert skipped == [name for name, _ in parts]
        memory.content = memory.content[:-1]
        with pytest.raises(BadInput):
            [await part.read() async for part in read_parts(memory)]

    anyio.run(work)


def test_work_that_goes_on_is_never_ended_and_work_that_hangs_is() -> None:
    async def slow(pulse: Heartbeat) -> str:
        for _ in range(10):
            await anyio.sleep(0.03)
            pulse.beat(1)
        return "done"

    async def hung(pulse: Heartbeat) -> None:
        pulse.beat(1)
        await anyio.sleep(30)

    async def work() -> None:
        assert await run_with_stall_timeout(slow, 0.2, "It") == "done"
        with pytest.raises(DeadlineExceeded, match="made no progress"):
            await run_with_stall_timeout(hung, 0.2, "It")

    anyio.run(work)


def test_a_census_tells_what_is_missing_and_lets_go_what_expires() -> None:
    before = Inventory(counts={"rows": {"a": 3, "b": 1}}, fleeting={"keys": {"db1": 5}})
    assert (
        before.differences(
            Inventory(counts={"rows": {"a": 3, "b": 1}}, fleeting={"keys": {"db1": 2}})
        )
        == []
    )
    said = before.differences(
        Inventory(counts={"rows": {"a": 2, "c": 1}}, fleeting={"keys": {"db1": 6}})
    )
    assert said == ["rows of a: 3 before, 2 after", "rows of b: 1 before, 0 after",
        "rows of c: 0 before, 1 after",
                    "keys of db1: 5 before, 6 after"]  # fmt: skip


def test_a_cron_line_comes_when_it_should() -> None:
    after = datetime(2026, 2, 28, 23, 59, tzinfo=UTC)
    assert following("0 3 * * *", after) == datetime(2026, 3, 1, 3, tzinfo=UTC)
    assert following("*/15 * * * 1", after) == datetime(2026, 3, 2, tzinfo=UTC)
    for line in ("", "daily", "* * * *", "99 * * * *", "* * * * * *", "a b c d e"):
        with pytest.raises(BadInput):
            following(line, after)


@given(st.binary(min_size=32, max_size=32), st.randoms())
def test_a_key_comes_back_from_paper_and_a_slip_is_found_in_its_line(
    key: bytes, chance: random.Random
) -> None:
    lines = paper.render_lines(key)
    assert paper.read([line.lower().replace(" ", "-") for line in lines]) == key
    number, (one, two) = chance.randrange(4), chance.sample(range(16), 2)
    text = list(lines[number].replace(" ", ""))
    exchanged, mistyped = text[:], text[:]
    exchanged[one], exchanged[two] = text[two], text[one]
    mistyped[one], mistyped[two] = chance.choice(paper.ALPHABET), chance.choice(paper.ALPHABET)
    for slip in (exchanged, mistyped, list(lines[number - 1].replace(" ", ""))):
        if slip != text:
            with pytest.raises(BadInput, match=f"Line {number + 1} "):
                paper.read([*lines[:number], "".join(slip), *lines[number + 1 :]])
    with pytest.raises(BadInput):
        paper.read(lines[:3])
    other = paper.render_lines(bytes(32))
    if lines[0] != other[0]:
        with pytest.raises(BadInput):
            paper.read([lines[0], *other[1:]])


def test_a_database_that_failed_is_told_as_that_and_not_counted() -> None:
    failed = (Finding(where="b", what="", why="it is closed"),)
    before = Inventory(
        counts={"databases": {"a": 1}, "rows": {"a.t": 3, "b.t": 1}, "roles": {"": 2}},
        failed=failed,
    )
    assert (
        before.differences(
            Inventory(counts={"databases": {"a": 1}, "rows": {"a.t": 3}, "roles": {"": 2}})
        )
        == []
    )
    assert before.differences(
        Inventory(counts={"databases": {"a": 1}, "rows": {"a.t": 2}, "roles": {"": 2}})
    ) == ["rows of a.t: 3 before, 2 after"]
    assert (
        before.differences(
            Inventory(counts={"databases": {"a": 1}, "rows": {"a.t": 3}, "roles": {"": 1}})
        )
        != []
    )
