"""The table of contents of a dump in pg_dump's custom format, read as it streams by.

What `pg_restore --list` prints cannot be told apart again: names of a tenant's may hold blanks. The
format is that of pg_dump 12 to 18 (1.14 to 1.16; src/bin/pg_dump/pg_backup_archiver.c, ReadHead and
ReadToc).
"""

import msgspec

from purveyor_hooks import BadInput

LARGEST = 512 * 1024 * 1024  # bytes; of a longer one, or of no known format, nothing is read
# the versions that say how it is compressed, and what kind of relation it is
COMPRESSED_BY, WITH_KIND = (1, 15), (1, 16)
COMPRESSIONS = {0: "", 1: "gzip", 2: "lz4", 3: "zstd"}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in a dump: `kind` as TABLE DATA, its schema ("" for none), its name as the dump
    tags it; `raw` are these two in the database's encoding."""

    number: str
    kind: str
    schema: str
    tag: str
    raw: tuple[bytes, bytes] = (b"", b"")

    def __str__(self) -> str:
        return f"{self.kind} {self.schema or '-'} {self.tag}"


class _More(Exception):
    """The table of contents goes on beyond what has come."""


class Contents:
    """Gathers a dump's beginning until its table of contents is there. Raises `BadInput` for what
    is no such dump.

    `packed` is how its data is compressed, `wide` how many bytes a number has; `rest` what came of
    the data with the table's end.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] | None = None
        self.packed = ""
        self.wide = 4
        self.rest = b""
        self._data = bytearray()
        self._next = 1

    def feed(self, chunk: bytes) -> None:
        if self.entries is not None:
            return
        self._data += chunk
        if len(self._data) < self._next:
            return
        try:
            reader = _Reader(bytes(self._data))
            self.entries = reader.entries()
            self.packed, self.wide, self.rest = reader.packed, reader.wide, reader.rest
            self._data.clear()
        except _More:
            if len(self._data) > LARGEST:
                raise _no_dump("its table of contents has no end") from None
            self._next = 2 * len(self._data)

    def finish(self) -> list[Entry]:
        if self.entries is None:
            self._next = 0
            self.feed(b"")
        if self.entries is None:
            raise _no_dump("it is cut off")
        return self.entries


def _no_dump(why: str) -> BadInput:
    return BadInput(f"The backup's dump cannot be read: {why}.", remedy="Choose another backup.")


class _Reader:
    """Reads from the beginning of what has come so far."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.wide = 4
        self.packed = ""

    @property
    def rest(self) -> bytes:
        return self._data[self._at :]

    def entries(self) -> list[Entry]:
        if not self._data.startswith(b"PGDMP"[: len(self._data)]):
            raise _no_dump("it is none of pg_dump's custom format")
        self._at = 5
        major, minor, _, self.wide, offset, kind = self._take(6)
        version = major, minor
        if kind != 1 or not (1, 14) <= version <= WITH_KIND or self.wide > 8 or offset > 8:
            raise _no_dump(f"its format {major}.{minor} is not known")
        if version >= COMPRESSED_BY:
            self.packed = COMPRESSIONS.get(self._take(1)[0], "unknown")
        elif self._int():
            self.packed = "gzip"
        for _ in range(7):  # when it was made
            self._int()
        for _ in range(3):  # its database, and the versions of the server and of pg_dump
            self._text()
        return [self._entry(version, offset) for _ in range(self._int())]

    def _entry(self, version: tuple[int, int], offset: int) -> Entry:
        number, _ = self._int(), self._int()
        self._text(), self._text()  # the numbers of its catalog and of itself
        tag, kind = self._bytes(), self._text()
        self._int()  # section
        self._text(), self._text(), self._text()  # how it is made, dropped, copied
        schema = self._bytes()
        self._text(), self._text()  # tablespace, access method
        if version >= WITH_KIND:
            self._int()
        self._text(), self._text()  # owner, and whether it has numbers of its own
        while self._text() is not None:  # what it depends on
            pass
        self._take(1 + offset)
        texts = [raw.decode(errors="replace") for raw in (schema, tag)]
        return Entry(
            number=str(number), kind=kind or "", schema=texts[0], tag=texts[1], raw=(schema, tag)
        )

    def _take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise _More
        self._at += size
        return self._data[self._at - size : self._at]

    def _int(self) -> int:
        sign, *rest = self._take(1 + self.wide)
        number = int.from_bytes(bytes(rest), "little")
        return -number if sign else number

    def _text(self) -> str | None:
        size = self._int()
        return None if size < 0 else self._take(size).decode(errors="replace")

    def _bytes(self) -> bytes:
        return self._take(max(self._int(), 0))
