"""The reader of RDBs: exact on what real servers wrote, in constant memory and without a crash on
anything else."""

import contextlib
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purveyor_hooks import BadInput, NotFound
from purveyor_hooks.parts import PartWriter
from purveyor_redis import plugin as redis
from purveyor_redis.rdb import (
    CHECKSUM,
    HEAD,
    Alone,
    Chosen,
    DamagedRdb,
    Op,
    Reader,
    Stretches,
    unpack,
)

GOLDEN = Path(__file__).parents[2] / "data"
# lasting and fleeting keys of database 0
SERVERS = {"redis-7.0": (26, 3), "redis-8.0": (28, 5), "valkey-8.1": (26, 3)}
MARK = 40  # bytes that follow an RDB where a server sends one whose size it does not know
PREFIX = b"purveyor:"


def golden(server: str) -> bytes:
    return (GOLDEN / f"{server}.rdb").read_bytes()


def read(data: bytes, size: int = 65_536, own: int | None = 15) -> Reader:
    reader = Reader(own, PREFIX)
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    return reader


def rdb(*records: bytes, version: bytes = b"REDIS0011") -> bytes:
    body = version + b"".join(records) + bytes([Op.END])
    return body + CHECKSUM.calc(body).to_bytes(8, "little")


def text(value: bytes) -> bytes:
    return b"\x80" + len(value).to_bytes(4, "big") + value


SELECT_3 = bytes([Op.SELECT, 3])


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("size", [1, 7, 4096, 1_000_000])
def test_what_real_servers_write_is_counted_however_it_is_cut(server: str, size: int) -> None:
    data = golden(server)
    reader = read(data, size)
    reader.finish()
    assert (reader.lasting[0], reader.fleeting[0]) == SERVERS[server]
    assert (reader.lasting[5], reader.fleeting[5]) == (1, 1)
    assert (reader.lasting[15], reader.ours) == (1, 1)
    assert reader.functions == 1
    assert len(data) - reader.offset in (0, MARK)


@pytest.mark.parametrize("server", SERVERS)
def test_a_database_taken_out_is_an_rdb_of_its_own(server: str) -> None:
    data = golden(server)
    for shared in (False, True):
        chosen = Chosen((5,), shared=shared)
        taken = (
            b"".join(chosen.feed(data[start : start + 5000]) for start in range(0, len(data), 5000))
            + chosen.finish()
        )
        reader = read(taken)
        reader.finish()
        assert (reader.lasting, reader.fleeting, reader.functions) == ({5: 1}, {5: 1}, int(shared))
        assert reader.offset == len(taken)


@pytest.mark.parametrize("size", [1, 3, 64, 4096])
def test_it_is_taken_apart_by_databases_however_it_is_cut(size: int) -> None:
    """The number of a database may come in two pieces."""
    records = (
        SELECT_3,
        bytes([0, 1]) + b"a" + bytes([1]) + b"x",
        bytes([Op.SELECT, 0x42, 0x01]),
        bytes([0, 1]) + b"b\x01\xfe",
    )
    data, stretches = rdb(*records), Stretches(Reader(marking=True))
    alone: dict[int, Alone] = {}
    written: dict[int, bytes] = {}
    head = b""
    for start in range(0, len(data), size):
        for stretch in stretches.feed(data[start : start + size]):
            if stretch.where == HEAD:
                head += stretch.data
            elif stretch.where >= 0:
                one = alone.setdefault(stretch.where, Alone(head, stretches.reader.version))
                written[stretch.where] = written.get(stretch.where, b"") + one.take(stretch)
    assert set(written) == {3, 513}
    for number, text in written.items():
        reader = read(text + alone[number].end())
        reader.finish()
        assert reader.lasting == {0: 1}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_one_that_is_cut_off_is_never_taken_for_whole(data: st.DataObject) -> None:
    whole = golden("redis-8.0")[:-MARK]
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DamagedRdb, match=r"cut off|begin"):
        read(whole[:cut], 10_000).finish()


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_one_that_was_altered_is_refused_or_says_that_it_is_not_counted(
    data: st.DataObject,
) -> None:
    whole = bytearray(golden("valkey-8.1")[:-MARK])
    place = data.draw(st.integers(9, len(whole) - 9))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        reader = read(bytes(whole), 10_000)
        reader.finish()
    except DamagedRdb:
        return
    assert reader.unknown


@given(st.binary(max_size=3000))
@settings(max_examples=300, deadline=None)
def test_nothing_that_comes_makes_it_crash(junk: bytes) -> None:
    for begin in (b"", b"REDIS0012", b"VALKEY080", b"REDIS0012" + SELECT_3):
        try:
            read(begin + junk, 100).finish()
        except DamagedRdb:
            continue
        chosen = Chosen((3,), shared=True)
        with contextlib.suppress(DamagedRdb):
            chosen.feed(begin + junk)


@pytest.mark.parametrize("record", [
    b"\x00\x01k\x81" + b"\xff" * 8,  # a string of 2^64 bytes
    b"\x00\x81" + b"\xff" * 8,  # a key of that length
    b"\x00\x01k\xc3\x81" + b"\xff" * 8 + b"\x01",  # a compressed one
    b"\x02\x01k\x81" + b"\xff" * 8,  # a set of 2^64 members
    b"\x0f\x01k\x81" + b"\xff" * 8,  # a stream
    b"\x18\x01k" + bytes(8) + b"\x81" + b"\xff" * 8,  # a hash whose fields expire
    # a listpack that claims to become large
    b"\x19\x01k" + bytes(8) + b"\xc3\x80\x00\x10\x00\x00\x81" + b"\xff" * 8,
    bytes([Op.FUNCTION]) + b"\x81" + b"\xff" * 8,
], ids=range(8))  # fmt: skip
def test_hostile_lengths_make_it_hold_nothing(record: bytes) -> None:
    reader = Reader()
    reader.feed(b"REDIS0012" + SELECT_3 + record)
    tracemalloc.start()
    try:
        for _ in range(20):
            reader.feed(b"\x00" * 10_000)
        assert tracemalloc.get_traced_memory()[1] < 300_000
    except DamagedRdb:
        pass
    finally:
        tracemalloc.stop()
    with pytest.raises(DamagedRdb):
        reader.finish() if not reader.ended else read(b"")


def test_endless_databases_are_refused() -> None:
    records = [
        bytes([Op.SELECT]) + b"\x80" + number.to_bytes(4, "big") + b"\x00\x01k\x01v"
        for number in range(70_000)
    ]
    with pytest.raises(DamagedRdb, match="too many"):
        read(rdb(*records))
    with pytest.raises(DamagedRdb, match="cannot be"):
        read(rdb(bytes([Op.SELECT]) + b"\x80\xff\xff\xff\xff"))


def test_an_unknown_type_ends_the_count_and_no_more() -> None:
    reader = read(rdb(SELECT_3, b"\x00\x01k\x01v", b"\x63\x01k\x01v", b"\x00\x01l\x01v"))
    reader.finish()
    assert reader.lasting == {3: 1}
    assert (reader.unknown_in, "type 99" in reader.unknown) == (3, True)
    with pytest.raises(DamagedRdb, match="type 99"):
        Chosen((3,), shared=False).feed(rdb(SELECT_3, b"\x63\x01k\x01v"))


def test_a_wrong_checksum_is_seen_and_none_is_accepted() -> None:
    whole = rdb(SELECT_3, b"\x00\x01k\x01v")
    with pytest.raises(DamagedRdb, match="checksum"):
        read(whole[:-1] + bytes([whole[-1] ^ 1]))
    reader = read(whole[:-8] + bytes(8))
    assert reader.ended
    assert CHECKSUM.calc(b"123456789") == 0xE9C6D914C4B8D9CA


def test_the_data_of_modules_is_named_and_skipped() -> None:
    number = 0
    for letter in "ReJSON-RL":
        number = (
            number << 6
            | "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(letter)
        )
    identity = b"\x81" + (number << 10 | 3).to_bytes(8, "big")
    values = b"\x02\x07" + b"\x05" + text(b"{}") + b"\x04" + bytes(8) + b"\x03" + bytes(4) + b"\x00"
    aux = bytes([Op.MODULE_AUX]) + identity + b"\x02\x01" + values
    reader = read(rdb(aux, SELECT_3, b"\x07\x01k" + identity + values, b"\x00\x01k\x01v"))
    assert reader.ended
    assert reader.modules == {"ReJSON-RL"}
    assert reader.lasting == {3: 2}


def test_hashes_of_valkey_9_whose_fields_expire() -> None:
    lasting = (
        b"\x16\x01k\x02"
        + text(b"f")
        + text(b"v")
        + b"\xff" * 8
        + text(b"g")
        + text(b"v")
        + bytes(8)
    )
    assert read(rdb(SELECT_3, lasting, version=b"VALKEY080")).lasting == {3: 1}
    fleeting = b"\x16\x01k\x01" + text(b"f") + text(b"v") + bytes(8)
    assert read(rdb(SELECT_3, fleeting, version=b"VALKEY080")).fleeting == {3: 1}


def test_compressed_text() -> None:
    assert unpack(b"\x02abc\xe0\x00\x02", 12) == b"abcabcabcabc"
    assert unpack(b"\xff\xff\xff", 10) == b""


class Bytes:
    def __init__(self) -> None:
        self.found = b""

    async def write(self, chunk: bytes) -> None:
        self.found += chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.found


async def _backup(data: bytes) -> Bytes:
    stream = Bytes()
    writer = PartWriter(stream)
    await writer.whole("users", b"user default on")
    await writer.begin("rdb", databases=16, own=15)
    for start in range(0, len(data), 10_000):
        await writer.write(data[start : start + 10_000])
    await writer.end()
    await writer.close()
    return stream


def test_one_database_is_extracted_and_others_are_not_found() -> None:
    async def work() -> None:
        stream, found = await _backup(golden("redis-7.0")[:-MARK]), Bytes()
        await redis.extract(stream, "db5", found)
        assert read(found.found).lasting == {5: 1}
        for name in ("db9", "nothing", "", "db99999999999999"):
            with pytest.raises(NotFound):
                await redis.extract(stream, name, Bytes())
        with pytest.raises(BadInput, match="cut off"):
            await redis.extract(await _backup(golden("redis-7.0")[:30_000]), "db0", Bytes())

    anyio.run(work)
