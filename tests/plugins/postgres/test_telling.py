"""What is in a dump's tables, told without a server: by rows and not by their order, however it
comes in pieces and is packed."""

import zlib

import pytest
import zstandard
from test_toc import THINGS, dump, number

from purveyor_hooks import BadInput
from purveyor_postgres.telling import Dump

ROWS = b"1\tone\n2\t\\\\.\n" + b"3\t" + b"x" * 100_000 + b"\n\\.\n\n\n"
PACKED = {
    b"\x00": lambda data: data,
    b"\x01": zlib.compress,
    b"\x03": zstandard.ZstdCompressor().compress,
}


def block(data: bytes, how: bytes = b"\x00", place: int = 1, piece: int = 4000) -> bytes:
    packed = PACKED[how](data)
    pieces = [packed[start : start + piece] for start in range(0, len(packed), piece)]
    return (
        b"\x01" + number(place) + b"".join(number(len(item)) + item for item in pieces) + number(0)
    )


def read(data: bytes, size: int = 1000, how: bytes = b"\x00") -> Dump:
    begun = dump(*THINGS, minor=15)
    begun = begun[:11] + how + begun[12:]
    told, whole = Dump(), begun + data
    for start in range(0, len(whole), size):
        told.feed(whole[start : start + size])
    told.finish()
    return told


def rows(data: bytes, **options: int) -> tuple[int, bytes]:
    (((schema, name), found),) = read(block(data), **options).tables
    assert (schema, name) == (b"a b", b"c d")
    return found.number, found.digest


@pytest.mark.parametrize("how", PACKED)
@pytest.mark.parametrize("size", [7, 1_000_000])
def test_rows_are_the_same_however_they_are_packed_and_come(how: bytes, size: int) -> None:
    ((_, found),) = read(block(ROWS, how), size, how).tables
    assert (found.number, found.digest) == rows(ROWS)
    assert found.number == 3


def test_the_order_of_rows_says_nothing_and_each_row_and_how_often_it_is_there_does() -> None:
    end = b"\\.\n\n\n"
    assert rows(b"a\nb\nc\n" + end) == rows(b"c\na\nb\n" + end)
    different = [b"a\nb\n", b"a\nb\nb\n", b"a\nc\n", b"ab\n\n", b"b\nb\n", b"\n\n", b"\n", b""]
    assert len({rows(data + end) for data in different}) == len(different)
    assert [rows(data + end)[0] for data in (b"\n\n", b"")] == [2, 0], (
        "rows without columns, and none"
    )


@pytest.mark.parametrize("end", [1, 10, 4_000, 100_000])
def test_what_is_cut_off_or_is_no_dump_is_refused(end: int) -> None:
    with pytest.raises(BadInput):
        read(block(ROWS)[:-end])
    with pytest.raises(BadInput):
        read(block(ROWS, place=9))
    with pytest.raises(BadInput):
        read(block(ROWS), how=b"\x03")
