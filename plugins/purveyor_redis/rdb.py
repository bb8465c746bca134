"""Reads an RDB while it streams by: how many keys each database has, and which may go by
themselves.

The format is that of Redis up to 8.0 and of Valkey up to 9.0. Nothing is held but the bytes of one
head: strings are skipped by their lengths, so that no length, however hostile, makes it allocate. A
record that lies whole in what has just come takes the short way (`_fast`), one that does not, or is
rare, the long one (`_record`).
"""

from collections.abc import Collection, Generator
from typing import NamedTuple

import anycrc

# their value is one string
SINGLE = bytes(kind in (0, 9, 10, 11, 12, 13, 16, 17, 20) for kind in range(256))
HASHES_1, HASHES_2, LISTPACK_1, LISTPACK_2 = 22, 24, 23, 25  # whose fields may expire
STREAMS = (15, 19, 21)
MODULE = 7
VALKEY_9 = 80  # from this version of the format on, the types from 22 on are Valkey's own
TEXT, LENGTH, DECIMAL = -1, -2, -3  # in a layout; a positive number is so many bytes
LAYOUTS: dict[int, tuple[int, ...]] = {
    1: (TEXT,), 2: (TEXT,), 3: (TEXT, DECIMAL), 4: (TEXT, TEXT), 5: (TEXT, 8), 14: (TEXT,),
    18: (LENGTH, TEXT),
}  # fmt: skip
HEAD, SHARED, TAIL = -1, -2, -3  # where a stretch belongs that is no database's
LARGEST_DATABASE, MOST_DATABASES = 2**31 - 1, 65_536
LISTPACK_LIMIT = 1024 * 1024  # bytes; a larger compressed one is not looked into
LASTING_TAIL = b"\x00\x01\xff"  # the last field of a listpack with expiry times has none
MODULE_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Op:
    """What a record begins with that is no key's type."""

    SLOT_INFO, FUNCTION, MODULE_AUX, IDLE, FREQ, AUX, RESIZE = 244, 245, 247, 248, 249, 250, 251
    EXPIRES_MS, EXPIRES, SELECT, END = 252, 253, 254, 255


CHECKSUM = anycrc.Model("CRC64-REDIS")
Steps = Generator[None, None, None]


class DamagedRdb(ValueError):
    """It is cut off, or is not an RDB."""


class Reader:
    """Counts what is fed to it. `own` is the number of the database that holds keys of our own,
    which begin with `prefix` and are counted as `ours` alone.

    `lasting` and `fleeting` are keys by database; `functions` is how many libraries there are,
    `modules` whose data is in it, `unknown` what was met that has no known shape: nothing is
    counted from there on. `ended` means that it came whole and, where it carries a checksum,
    unaltered; what comes after its end is no part of it.
    """

    def __init__(
        self, own: int | None = None, prefix: bytes = b"", *, marking: bool = False
    ) -> None:
        self.lasting: dict[int, int] = {}
        self.fleeting: dict[int, int] = {}
        self.ours = 0
        self.functions = 0
        self.modules: set[str] = set()
        self.version = 0
        self.unknown = ""
        self.unknown_in = 0
        self.ended = False
        self.marks: list[tuple[int, int]] = []  # where each stretch begins, and whose it is
        self._own, self._prefix, self._marking = own, prefix, marking
        self._database = 0
        self._where = HEAD
        self._when = b""  # the key that is being read ends
        self._open = -1  # where a record begins of which it is not known yet whose it is
        self._buffer, self._at, self._base = b"", 0, 0
        self._checksum, self._body = 0, -1
        self._steps = self._run()

    @property
    def offset(self) -> int:
        """How many bytes are understood."""
        return self._base + self._at

    @property
    def settled(self) -> int:
        """Up to where it is known whose it is."""
        return self._open if self._open >= 0 else self.offset

    @property
    def total(self) -> int:
        return sum(self.lasting.values()) + sum(self.fleeting.values())

    def feed(self, chunk: bytes) -> None:
        """Raises `DamagedRdb`."""
        if self.ended:
            return
        begun = self._base + len(self._buffer)
        self._base += self._at
        self._buffer = self._buffer[self._at :] + chunk if self._at < len(self._buffer) else chunk
        self._at = 0
        try:
            next(self._steps)
        except StopIteration:
            self.ended = True
        body = chunk if self._body < 0 else chunk[: max(self._body - begun, 0)]
        self._checksum = CHECKSUM.calc(body, self._checksum)
        if self.ended:
            said = (
                int.from_bytes(self._buffer[self._at - 8 : self._at], "little")
                if self.version >= 5
                else 0
            )
            if said not in (0, self._checksum):
                raise DamagedRdb("its checksum is another one")

    def finish(self) -> None:
        """Raises `DamagedRdb` for one that is cut off."""
        if not self.ended and not self.unknown:
            raise DamagedRdb("it is cut off")

    # ---------------------------------------------------------------- pieces

    def _need(self, size: int) -> Steps:
        while len(self._buffer) - self._at < size:
            yield

    def _byte(self) -> Generator[None, None, int]:
        yield from self._need(1)
        self._at += 1
        return self._buffer[self._at - 1]

    def _take(self, size: int) -> Generator[None, None, bytes]:
        yield from self._need(size)
        self._at += size
        return self._buffer[self._at - size : self._at]

    def _skip(self, size: int) -> Steps:
        left = size
        while left > (there := len(self._buffer) - self._at):
            left -= there
            self._at = len(self._buffer)
            yield
        self._at += left

    def _length(self) -> Generator[None, None, int]:
        size, encoded = yield from self._size()
        if encoded:
            raise DamagedRdb("a length is none")
        return size

    def _size(self) -> Generator[None, None, tuple[int, bool]]:
        """A length, or how a string is encoded."""
        first = yield from self._byte()
        if first < 0x40:
            return first, False
        if first < 0x80:
            return (first & 0x3F) << 8 | (yield from self._byte()), False
        if first in (0x80, 0x81):
            return int.from_bytes((yield from self._take(4 if first == 0x80 else 8)), "big"), False
        if first >= 0xC0:
            return first & 0x3F, True
        raise DamagedRdb("a length is none")

    def _text(self) -> Steps:
        size, encoded = yield from self._size()
        if encoded:
            size = yield from self._encoded(size)
        yield from self._skip(size)

    def _encoded(self, kind: int) -> Generator[None, None, int]:
        """How many bytes of an encoded string are to come."""
        if kind < 3:
            return 1 << kind
        if kind > 3:
            raise DamagedRdb("a string is encoded in an unknown way")
        packed = yield from self._length()
        yield from self._length()
        return packed

    def _beginning(self, size: int) -> Generator[None, None, bytes]:
        """The first bytes of a string; none of one that is encoded."""
        length, encoded = yield from self._size()
        if encoded:
            yield from self._skip((yield from self._encoded(length)))
            return b""
        found = yield from self._take(min(size, length))
        yield from self._skip(length - len(found))
        return found

    # ---------------------------------------------------------------- records

    def _run(self) -> Steps:
        yield from self._need(9)
        magic = self._buffer[self._at : self._at + 9]
        number = (
            magic[5:]
            if magic.startswith(b"REDIS")
            else magic[6:]
            if magic.startswith(b"VALKEY")
            else b""
        )
        if not number.isdigit():
            raise DamagedRdb("it does not begin as one")
        self.version = int(number)
        self._at += 9
        self._mark(0, HEAD)
        while True:
            if self._where >= 0 and self._where != self._own:
                self._fast()
            if (yield from self._record()):
                return

    def _mark(self, offset: int, where: int) -> None:
        if self._marking and (where != self._where or not offset):
            self.marks.append((offset, where))
        self._where = where
        self._open = -1

    def _count(self, lasting: int, fleeting: int) -> None:
        for counted, number in ((self.lasting, lasting), (self.fleeting, fleeting)):
            if number:
                counted[self._database] = counted.get(self._database, 0) + number
                if len(counted) > MOST_DATABASES:
                    raise DamagedRdb("it names too many databases")

    def _fast(self) -> None:
        """Count the keys that lie whole in the buffer, as long as their values are single
        strings."""
        buffer, at, end = self._buffer, self._at, len(self._buffer)
        lasting = fleeting = 0
        single, expiring, freq, idle, place = SINGLE, Op.EXPIRES_MS, Op.FREQ, Op.IDLE, at
        try:
            while True:
                kind = buffer[at]
                at += 1
                expires = kind == expiring
                if expires:
                    kind = buffer[at + 8]
                    at += 9
                if kind == freq:
                    kind = buffer[at + 1]
                    at += 2
                elif kind == idle:
                    at = _length_at(buffer, at)[1]
                    kind = buffer[at]
                    at += 1
                if not single[kind]:
                    break
                size = buffer[at]
                at = at + 1 + size if size < 0x40 else _text_end(buffer, at)
                size = buffer[at]
                at = at + 1 + size if size < 0x40 else _text_end(buffer, at)
                if at > end:
                    break
                place = at
                if expires:
                    fleeting += 1
                else:
                    lasting += 1
        except IndexError:
            pass
        self._at = place
        self._count(lasting, fleeting)

    def _record(self) -> Generator[None, None, bool]:
        """One record, however long; true after the last."""
        begun = self._open = self.offset
        expires, self._when = False, b""
        while (kind := (yield from self._byte())) in (Op.EXPIRES_MS, Op.EXPIRES, Op.FREQ, Op.IDLE):
            if kind == Op.IDLE:
                yield from self._length()
            elif kind == Op.FREQ:
                yield from self._skip(1)
            else:
                self._when = yield from self._take(8 if kind == Op.EXPIRES_MS else 4)
                expires = True
        match kind:
            case Op.END:
                self._mark(begun, TAIL)
                self._body = self.offset
                if self.version >= 5:
                    yield from self._take(8)
                return True
            case Op.SELECT:
                number = yield from self._length()
                if number > LARGEST_DATABASE:
                    raise DamagedRdb("it names a database that cannot be")
                self._database = number
                self._mark(begun, number)
            case Op.RESIZE | Op.SLOT_INFO:
                self._open = -1
                for _ in range(2 if kind == Op.RESIZE else 3):
                    yield from self._length()
            case Op.AUX:
                self._mark(begun, HEAD)
                yield from self._text()
                yield from self._text()
            case Op.FUNCTION:
                self._mark(begun, SHARED)
                yield from self._text()
                self.functions += 1
            case Op.MODULE_AUX:
                self._mark(begun, SHARED)
                yield from self._module()
            case _:
                self._mark(begun, self._database)
                yield from self._key(kind, expires)
        return False

    def _key(self, kind: int, expires: bool) -> Steps:
        ours = False
        if self._database == self._own:
            ours = (yield from self._beginning(len(self._prefix))) == self._prefix
        else:
            yield from self._text()
        expires |= yield from self._value(kind)
        if ours:
            self.ours += 1
        else:
            self._count(not expires, expires)

    def _value(self, kind: int) -> Generator[None, None, bool]:
        """Whether all of it may expire."""
        if SINGLE[kind]:
            yield from self._text()
        elif kind in LAYOUTS:
            yield from self._items((yield from self._length()), LAYOUTS[kind])
        elif kind in STREAMS:
            yield from self._stream(kind)
        elif kind == MODULE:
            yield from self._module()
        elif kind == HASHES_1 and self.version >= VALKEY_9:
            return (yield from self._valkey_hash())
        elif kind in (HASHES_1, HASHES_2) and self.version < VALKEY_9:
            return (yield from self._hash(kind))
        elif kind in (LISTPACK_1, LISTPACK_2) and self.version < VALKEY_9:
            return (yield from self._listpack(kind))
        else:
            self.unknown, self.unknown_in = (
                f"it holds a value of the unknown type {kind}",
                self._database,
            )
            while True:
                self._at = len(self._buffer)
                yield
        return False

    def _items(self, count: int, layout: tuple[int, ...]) -> Steps:
        while count:
            count = self._whole_items(count, layout)
            if count:
                for part in layout:
                    if part == TEXT:
                        yield from self._text()
                    elif part == LENGTH:
                        yield from self._length()
                    elif part == DECIMAL:
                        size = yield from self._byte()
                        # the others are not a number and the infinite
                        yield from self._skip(size if size < 253 else 0)
                    else:
                        yield from self._skip(part)
                count -= 1

    def _whole_items(self, count: int, layout: tuple[int, ...]) -> int:
        """Skip the items that lie whole in the buffer; how many are left."""
        buffer, at, end = self._buffer, self._at, len(self._buffer)
        place = at
        try:
            while count:
                for part in layout:
                    if part > 0:
                        at += part
                    elif part == TEXT:
                        size = buffer[at]
                        at = at + 1 + size if size < 0x40 else _text_end(buffer, at)
                    elif part == LENGTH:
                        at = _length_at(buffer, at)[1]
                    else:
                        size = buffer[at]
                        at += 1 + (size if size < 253 else 0)
                if at > end:
                    break
                place = at
                count -= 1
        except IndexError:
            pass
        self._at = place
        return count

    def _stream(self, kind: int) -> Steps:
        yield from self._items((yield from self._length()), (TEXT, TEXT))
        for _ in range(3 if kind == STREAMS[0] else 8):
            yield from self._length()
        groups = yield from self._length()
        while groups:
            groups -= 1
            yield from self._text()
            for _ in range(2 if kind == STREAMS[0] else 3):
                yield from self._length()
            yield from self._items((yield from self._length()), (16, 8, LENGTH))
            consumers = yield from self._length()
            while consumers:
                consumers -= 1
                yield from self._text()
                yield from self._skip(16 if kind == STREAMS[2] else 8)
                yield from self._items((yield from self._length()), (16,))

    def _module(self) -> Steps:
        number = yield from self._length()
        name = "".join(MODULE_LETTERS[number >> shift & 63] for shift in range(58, 9, -6))
        if len(self.modules) < 100:
            self.modules.add(name.rstrip("-"))
        while what := (yield from self._length()):
            match what:
                case 1 | 2:
                    yield from self._length()
                case 3 | 4:
                    yield from self._skip(4 if what == 3 else 8)
                case 5:
                    yield from self._text()
                case _:
                    raise DamagedRdb("the data of a module is not marked as it must be")

    def _hash(self, kind: int) -> Generator[None, None, bool]:
        if kind == HASHES_2:
            yield from self._skip(8)
        fields, lasting = (yield from self._length()), False
        while fields:
            fields -= 1
            lasting |= (yield from self._length()) == 0
            yield from self._text()
            yield from self._text()
        return not lasting

    def _valkey_hash(self) -> Generator[None, None, bool]:
        fields, lasting = (yield from self._length()), False
        while fields:
            fields -= 1
            yield from self._text()
            yield from self._text()
            lasting |= (yield from self._take(8)) == b"\xff" * 8
        return not lasting

    def _listpack(self, kind: int) -> Generator[None, None, bool]:
        """Fields without an expiry time come last."""
        if kind == LISTPACK_2:
            yield from self._skip(8)
        size, encoded = yield from self._size()
        if not encoded:
            yield from self._skip(max(size - 3, 0))
            return (yield from self._take(min(size, 3))) != LASTING_TAIL
        if size != 3:
            yield from self._skip((yield from self._encoded(size)))
            return True
        packed, whole = (yield from self._length()), (yield from self._length())
        if max(packed, whole) > LISTPACK_LIMIT:
            yield from self._skip(packed)
            return True
        return not unpack((yield from self._take(packed)), whole).endswith(LASTING_TAIL)


class Stretch(NamedTuple):
    """A piece of an RDB, and the database that it is of: `HEAD` and `TAIL` are the beginning and
    the end of the file, `SHARED` what is no database's. `first`: it does not go on with the piece
    before it."""

    where: int
    data: bytes
    first: bool


class Stretches:
    """An RDB that streams by, taken apart."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._held, self._base, self._where, self._first = b"", 0, HEAD, True

    def feed(self, chunk: bytes) -> list[Stretch]:
        """As much as is known. Raises `DamagedRdb`."""
        if not self.reader.ended:
            self.reader.feed(chunk)
            self._held += chunk
        found, place = [], 0
        for offset, where in [*self.reader.marks, (self.reader.settled, None)]:
            if piece := self._held[place : offset - self._base]:
                found.append(Stretch(self._where, piece, self._first))
                self._first = False
            place = offset - self._base
            if where is not None:
                self._where, self._first = where, True
        self._held, self._base = self._held[place:], self.reader.settled
        self.reader.marks.clear()
        if self.reader.unknown:
            raise DamagedRdb(f"{self.reader.unknown}, so it cannot be taken apart")
        return found


class Alone:
    """One database as an RDB of its own, in which it is the first: written from the stretches that
    are its."""

    def __init__(self, head: bytes, version: int) -> None:
        self._head, self._version, self._checksum = head, version, 0

    def take(self, stretch: Stretch) -> bytes:
        data = stretch.data
        if stretch.first and data[0] == Op.SELECT:
            data = bytes([Op.SELECT, 0]) + data[_length_at(data, 1)[1] :]
        return self._counted(data)

    def end(self) -> bytes:
        data = self._counted(bytes([Op.END]))
        return data + (self._checksum.to_bytes(8, "little") if self._version >= 5 else b"")

    def _counted(self, data: bytes) -> bytes:
        data, self._head = self._head + data, b""
        self._checksum = CHECKSUM.calc(data, self._checksum)
        return data


class Chosen:
    """Of an RDB that streams by, some databases as an RDB of their own. `shared`: with functions
    and data of modules."""

    def __init__(
        self,
        databases: Collection[int],
        own: int | None = None,
        prefix: bytes = b"",
        *,
        shared: bool,
    ) -> None:
        self.own = own
        self.reader = Reader(own, prefix, marking=True)
        self._stretches = Stretches(self.reader)
        self._databases, self._shared = databases, shared
        self._checksum = 0

    def feed(self, chunk: bytes) -> bytes:
        """What of it is chosen, as far as that is known. Raises `DamagedRdb`."""
        found = []
        for where, data, _ in self._stretches.feed(chunk):
            if where == HEAD or where in self._databases or (where == SHARED and self._shared):
                found.append(data)
        return self._counted(b"".join(found))

    def finish(self) -> bytes:
        """Its end. Raises `DamagedRdb` for one that is cut off."""
        self.reader.finish()
        self._counted(bytes([Op.END]))
        return bytes([Op.END]) + (
            self._checksum.to_bytes(8, "little") if self.reader.version >= 5 else b""
        )

    def _counted(self, data: bytes) -> bytes:
        self._checksum = CHECKSUM.calc(data, self._checksum)
        return data


def _length_at(buffer: bytes, at: int) -> tuple[int, int]:
    """A length that begins here, and where it ends. Raises `IndexError` when it is not whole, or is
    none."""
    first = buffer[at]
    if first < 0x40:
        return first, at + 1
    if first < 0x80:
        return (first & 0x3F) << 8 | buffer[at + 1], at + 2
    if first not in (0x80, 0x81):
        raise IndexError  # the long way says what is wrong
    end = at + (5 if first == 0x80 else 9)
    buffer[end - 1]
    return int.from_bytes(buffer[at + 1 : end], "big"), end


def _text_end(buffer: bytes, at: int) -> int:
    """Where a string ends that begins here, perhaps beyond the buffer. Raises `IndexError` as
    `_length_at` does."""
    kind = buffer[at] - 0xC0
    if kind == 3:
        packed, at = _length_at(buffer, at + 1)
        return _length_at(buffer, at)[1] + packed
    if 0 <= kind < 3:
        return at + 1 + (1 << kind)
    size, at = _length_at(buffer, at)
    return at + size


def unpack(packed: bytes, size: int) -> bytes:
    """LZF. What does not come to `size` bytes is answered as far as it goes."""
    found, at = bytearray(), 0
    try:
        while at < len(packed) and len(found) < size:
            first = packed[at]
            at += 1
            if first < 0x20:
                found += packed[at : at + first + 1]
                at += first + 1
                continue
            length = first >> 5
            if length == 7:
                length += packed[at]
                at += 1
            back = len(found) - ((first & 0x1F) << 8 | packed[at]) - 1
            at += 1
            if back < 0:
                break
            for place in range(back, back + length + 2):
                found.append(found[place])
    except IndexError:
        pass
    return bytes(found[:size])
