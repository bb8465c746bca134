"""What a Redis holds is told by its values: not by the version that wrote it, nor by how it packed
it."""

import struct
from pathlib import Path

import pytest

from purveyor_redis.rdb import CHECKSUM, DamagedRdb, Op
from purveyor_redis.telling import Digests, Unpacking, entries

GOLDEN = Path(__file__).parents[2] / "data"
PREFIX = b"purveyor:"


def told(data: bytes, size: int = 65_536) -> dict[bytes, bytes]:
    """Digests of the keys that last."""
    reader = Digests(15, PREFIX)
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    reader.finish()
    return {key: digest for _, key, digest, fleeting in reader.told if not fleeting}


def rdb(*records: bytes) -> bytes:
    body = b"REDIS0011" + bytes([Op.SELECT, 0]) + b"".join(records) + bytes([Op.END])
    return body + CHECKSUM.calc(body).to_bytes(8, "little")


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize("server", ["redis-8.0", "valkey-8.1"])
def test_another_version_and_another_server_tell_the_same(server: str, size: int) -> None:
    one, other = (
        told((GOLDEN / f"{name}.rdb").read_bytes(), size) for name in ("redis-7.0", server)
    )
    # when a stream's entries were given to its readers is of each server's own day
    assert {key for key in one if other.get(key) != one[key]} == {b"stream"}
    assert len(one) == 28


def test_a_text_is_told_whether_it_is_packed_or_not() -> None:
    plain = told(rdb(b"\x00\x01k\x0cabcabcabcabc"))
    assert told(rdb(b"\x00\x01k\xc3\x07\x0c\x02abc\xe0\x00\x02")) == plain
    assert told(rdb(b"\x00\x01k\x0cabcabcabcabd")) != plain
    assert told(rdb(b"\x00\x01k\xc0\x07")) == told(rdb(b"\x00\x01k\x017"))


@pytest.mark.parametrize("packed", [b"\xff\xff\xff", b"\x02abc\xe0", b"\x02ab"])
def test_what_is_packed_wrongly_is_damaged(packed: bytes) -> None:
    def unpack() -> None:
        unpacking = Unpacking(12)
        unpacking.feed(packed)
        unpacking.finish()

    with pytest.raises(DamagedRdb):
        unpack()


def test_a_streams_entries_are_told_without_those_that_are_deleted() -> None:
    first = struct.pack(">QQ", 5, 1)
    head = [b"2", b"1", b"1", b"field", b"0"]
    same, deleted, other = (
        [b"2", b"0", b"0", b"one", b"5"],
        [b"3", b"0", b"1", b"gone", b"5"],
        [b"0", b"2", b"0", b"1", b"a", b"b", b"6"],
    )
    assert list(entries(first, [*head, *same, *deleted, *other])) == [
        [b"5", b"1", b"field", b"one"],
        [b"7", b"1", b"a", b"b"],
    ]
    with pytest.raises(DamagedRdb):
        list(entries(first, [b"x"]))
