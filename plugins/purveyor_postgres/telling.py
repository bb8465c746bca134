"""What is in the tables of a backup, as digests: the data of a dump is what COPY wrote, and reads
without a server.

The order of rows says nothing: a table's digest is the sum of its rows'. What is computed anew at a
restore, materialized views and indexes, is in no dump and not told.
"""

import codecs
import zlib
from collections.abc import Generator
from hashlib import blake2b
from typing import Any, Protocol

import anyio.to_thread
import msgspec
import zstandard

from purveyor_hooks import BadInput, Contents, Source
from purveyor_hooks.parts import Part, read_parts
from purveyor_postgres.dump import DUMP, SERVER, STATE
from purveyor_postgres.record import Server
from purveyor_postgres.toc import Contents as Toc

SIZE = 16  # bytes of a digest
MODULO = 1 << (8 * SIZE)
DATA, LARGE_OBJECTS = 1, 3
# bytes of what is compressed, unpacked at once: what is hostile unpacks to a hundred thousand times
# as much
SLICE = 1024
LARGEST = 64 * 1024 * 1024  # bytes of one piece
END = b"\\."
Steps = Generator[None, None, None]


class _Unpacker(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


class _Plain:
    def decompress(self, data: bytes, /) -> bytes:
        return data


class Rows:
    """The rows of one table, as they come."""

    def __init__(self) -> None:
        self.number = 0
        self._sum = 0
        self._ended = False
        self._begun = self._new()
        self._start = b""  # of the row that has begun

    @staticmethod
    def _new() -> Any:
        return blake2b(digest_size=SIZE)

    @property
    def digest(self) -> bytes:
        return self._sum.to_bytes(SIZE, "little")

    def feed(self, data: bytes) -> None:
        if self._ended:
            return
        first, *lines = data.split(b"\n")
        self._go_on(first)
        if not lines:
            return
        self._close()
        last = lines.pop()
        if not self._ended:
            if END in lines:
                del lines[lines.index(END) :]
                self._ended = True
            found = self._sum
            for line in lines:
                found += int.from_bytes(blake2b(line, digest_size=SIZE).digest(), "little")
            self._sum = found % MODULO
            self.number += len(lines)
        self._go_on(last)

    def finish(self) -> None:
        if self._start:
            self._close()

    def _go_on(self, piece: bytes) -> None:
        self._begun.update(piece)
        self._start = (self._start + piece[:3])[:3]

    def _close(self) -> None:
        if self._start == END:
            self._ended = True
        elif not self._ended:
            self._sum = (self._sum + int.from_bytes(self._begun.digest(), "little")) % MODULO
            self.number += 1
        self._begun, self._start = self._new(), b""


class Dump:
    """Reads a dump of pg_dump's custom format as it comes: `tables` by schema and name, `objects`
    by number.

    Raises `BadInput`."""

    def __init__(self) -> None:
        self.tables: list[tuple[tuple[bytes, bytes], Rows]] = []
        self.objects: dict[int, bytes] = {}
        self._toc = Toc()
        self._buffer = bytearray()
        self._steps: Steps | None = None
        self._between = True  # two blocks: where it may end

    def feed(self, chunk: bytes) -> None:
        if self._steps is None:
            self._toc.feed(chunk)
            self._begin()
        else:
            self._buffer += chunk
            next(self._steps)

    def finish(self) -> None:
        if self._steps is None:
            self._toc.finish()
            self._begin()
        if self._buffer or not self._between:
            raise _damaged("it is cut off")

    def _begin(self) -> None:
        if self._toc.entries is None:
            return
        self._named = {entry.number: entry for entry in self._toc.entries}
        self._buffer += self._toc.rest
        self._toc.rest = b""
        self._steps = self._run()
        next(self._steps)

    # ---------------------------------------------------------------- pieces

    def _take(self, size: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < size:
            yield
        found = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return found

    def _int(self) -> Generator[None, None, int]:
        sign, *rest = yield from self._take(1 + self._toc.wide)
        number = int.from_bytes(bytes(rest), "little")
        return -number if sign else number

    def _unpacker(self) -> _Unpacker:
        match self._toc.packed:
            case "":
                return _Plain()
            case "gzip":
                return zlib.decompressobj()
            case "zstd":
                return zstandard.ZstdDecompressor().decompressobj()
        raise _damaged("it is compressed in an unknown way")

    def _pieces(self, take: Any) -> Steps:
        """The data of one thing, unpacked."""
        unpacker = self._unpacker()
        try:
            while size := (yield from self._int()):
                if not 0 < size <= LARGEST:
                    raise _damaged("a length in it is none")
                packed = yield from self._take(size)
                for start in range(0, size, SLICE):
                    take(unpacker.decompress(packed[start : start + SLICE]))
            take(getattr(unpacker, "flush", bytes)() or b"")
        except (zlib.error, zstandard.ZstdError):
            raise _damaged("what is compressed in it does not unpack") from None

    # ---------------------------------------------------------------- blocks

    def _run(self) -> Steps:
        while True:
            self._between = True
            (kind,) = yield from self._take(1)
            self._between = False
            entry = self._named.get(str((yield from self._int())))
            if entry is None or kind not in (DATA, LARGE_OBJECTS):
                raise _damaged("it holds what its table of contents does not name")
            if kind == DATA:
                rows = Rows()
                yield from self._pieces(rows.feed)
                rows.finish()
                self.tables.append((entry.raw, rows))
                continue
            while number := (yield from self._int()):
                found = blake2b(digest_size=SIZE)
                yield from self._pieces(found.update)
                self.objects[number] = found.digest()


def _damaged(why: str) -> BadInput:
    return BadInput(f"The backup's dump cannot be read: {why}.", remedy="Choose another backup.")


async def contents(source: Source, into: Contents) -> None:
    """Each table's rows, and each large object. A database that is there twice was tried twice:
    what is not whole is not told."""
    read: dict[str, Dump] = {}
    encodings: dict[str, str] = {}
    async for part in read_parts(source):
        database = str(part.facts.get("database", ""))
        if part.name == SERVER:
            held = msgspec.json.decode(await part.read(), type=Server)
            encodings = {item.name: item.encoding for item in held.databases}
        elif part.name == DUMP:
            read[database] = await _read(part)
        elif part.name == STATE:
            found = read.pop(database, None)
            if found is not None and part.facts["whole"]:
                await _tell(database, found, codec(encodings.get(database, "")), into)
        elif part.name == "database":
            raise BadInput(
                "The backup is one of an older Purveyor, and its contents cannot be compared.",
                remedy="Verify it without --deep.",
            )


async def _read(part: Part) -> Dump:
    """A dump that was cut off says so in its state."""
    dump = Dump()
    async for chunk in part:
        await anyio.to_thread.run_sync(dump.feed, chunk)
    return dump


async def _tell(database: str, dump: Dump, codec: str, into: Contents) -> None:
    dump.finish()
    for raw, rows in dump.tables:
        schema, name = (part.decode(codec, errors="replace") for part in raw)
        await into.put("rows", f"{database}.{schema}.{name}", "", rows.digest, number=rows.number)
    for number, digest in dump.objects.items():
        await into.put("large objects", database, str(number), digest)


def codec(encoding: str) -> str:
    """Python's name for an encoding of the server's; UTF-8 for what it has not, as the census reads
    it."""
    named = encoding.lower().replace("_", "-")
    for name in (named, named.replace("win", "cp"), named.replace("koi8", "koi8-")):
        try:
            return codecs.lookup(name).name
        except LookupError:
            continue
    return "utf-8"
