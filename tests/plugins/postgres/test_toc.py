"""The table of contents of a dump: read however it comes in pieces, refused where it is none."""

import struct

import pytest

from purveyor_hooks import BadInput
from purveyor_postgres.toc import Contents


def number(value: int) -> bytes:
    return struct.pack("<BI", value < 0, abs(value))


def text(value: str | None) -> bytes:
    return number(-1) if value is None else number(len(value.encode())) + value.encode()


def dump(
    *entries: tuple[str, str | None, str], minor: int = 16, declared: int | None = None
) -> bytes:
    """As pg_dump of a version writes it, up to where the data begins."""
    made = b"PGDMP" + bytes([1, minor, 0, 4, 8, 1]) + (b"\x01" if minor >= 15 else number(-1))
    made += b"".join(number(0) for _ in range(7)) + b"".join(text("x") for _ in range(3))
    made += number(len(entries) if declared is None else declared)
    for place, (kind, schema, tag) in enumerate(entries, 1):
        made += (
            number(place)
            + number(1)
            + text("1259")
            + text("16400")
            + text(tag)
            + text(kind)
            + number(2)
        )
        made += text("CREATE …") + text("") + text(None) + text(schema) + text("") + text("heap")
        made += (
            (number(114) if minor >= 16 else b"")
            + text("own er")
            + text("false")
            + text("4")
            + text(None)
            + bytes(9)
        )
    return made


THINGS = (
    ("TABLE DATA", "a b", "c d"),
    ("SCHEMA", None, "public stuff"),
    ("TABLE", "public", 'new\nline "ü'),
)


@pytest.mark.parametrize("minor", [14, 15, 16])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_names_are_told_apart_whatever_is_in_them(minor: int, size: int) -> None:
    data, contents = dump(*THINGS, minor=minor) + b"data", Contents()
    for start in range(0, len(data), size):
        contents.feed(data[start : start + size])
    found = contents.finish()
    assert [(item.number, item.kind, item.schema, item.tag) for item in found] == [
        (str(place), kind, schema or "", tag) for place, (kind, schema, tag) in enumerate(THINGS, 1)
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SELECT 1;",
        dump(*THINGS)[:-20],
        dump(*THINGS, declared=2**31),
        dump(minor=17),
        b"PGDMP" + bytes([1, 16, 0, 99, 8, 1]),
    ],
)
def test_what_is_no_dump_is_refused(data: bytes) -> None:
    contents = Contents()

    def read() -> None:
        for byte in data:
            contents.feed(bytes([byte]))
        contents.finish()

    with pytest.raises(BadInput, match="dump cannot be read"):
        read()
