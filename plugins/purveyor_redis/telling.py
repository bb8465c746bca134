"""What is in the keys of a backup, as digests: what a value is, and not how its server laid it out.

A server keeps small hashes, sets and sorted sets in one string and large ones in tables without an
order, by limits that can be set: all are told by their members. It packs texts or does not, and each
version writes streams down in its own way: told are the texts, the entries, and who has read what.
What has fields that expire is told by those that do not. A module's value is told as it is.
"""

import struct
from collections.abc import Callable, Generator, Iterable, Iterator
from hashlib import blake2b
from typing import Any

import anyio.to_thread

from purveyor_hooks import BadInput, Contents, Source
from purveyor_hooks.parts import read_parts
from purveyor_redis.rdb import (
    HASHES_1,
    HASHES_2,
    LISTPACK_1,
    LISTPACK_2,
    STREAMS,
    VALKEY_9,
    DamagedRdb,
    Reader,
    Steps,
)
from purveyor_redis.server import OWN_KEYS
from purveyor_redis.snapshot import DATA, PROJECT

SIZE = 16  # bytes of a digest
MODULO = 1 << (8 * SIZE)
LONG = 1024 * 1024  # bytes; a longer string is told by its hash
PIECE = 64 * 1024  # bytes of a packed string that are unpacked at once
PACKED = 16 * 1024 * 1024  # bytes; a longer listpack has one large member, and is told as it is
STRING, LIST, SET, SORTED_SET_TEXT, HASH, SORTED_SET = range(6)
INTSET, HASH_PACKED, SORTED_SET_PACKED, LIST_PACKED, SET_PACKED = 11, 16, 17, 18, 20
NODE_PLAIN = 1
DELETED, SAME_FIELDS = 1, 2  # flags of a stream's entry
NUMBERS = {253: "nan", 254: "inf", 255: "-inf"}
# a database's number, a key, the digest of its value, and whether it may go by itself
Told = tuple[int, bytes, bytes, bool]


class Digests(Reader):
    """`told` grows with each key that was read."""

    def __init__(self, own: int | None, prefix: bytes) -> None:
        super().__init__(own, prefix)
        self.told: list[Told] = []
        self._heard: Any = None  # takes the bytes as they are

    def _fast(self) -> None:
        """Each value is looked at."""

    # ---------------------------------------------------------------- the bytes as they are

    def _byte(self) -> Generator[None, None, int]:
        found = yield from super()._byte()
        if self._heard is not None:
            self._heard.update(bytes((found,)))
        return found

    def _take(self, size: int) -> Generator[None, None, bytes]:
        found = yield from super()._take(size)
        if self._heard is not None:
            self._heard.update(found)
        return found

    def _skip(self, size: int) -> Steps:
        while size > LONG:
            yield from self._take(LONG)
            size -= LONG
        yield from self._take(size)

    def _whole_items(self, count: int, layout: tuple[int, ...]) -> int:
        begun = self._at
        left = super()._whole_items(count, layout)
        if self._heard is not None:
            self._heard.update(self._buffer[begun : self._at])
        return left

    # ---------------------------------------------------------------- keys and values

    def _key(self, kind: int, expires: bool) -> Steps:
        when = self._when
        key = yield from self._string(LONG)
        if self._database == self._own and key.startswith(self._prefix):
            yield from super()._value(kind)
            self.ours += 1
            return
        digest, changes = yield from self._digest(kind)
        self._count(not expires, expires)
        found = blake2b(when + digest, digest_size=SIZE).digest()
        self.told.append((self._database, key, found, expires or changes))

    def _digest(self, kind: int) -> Generator[None, None, tuple[bytes, bool]]:
        """Of a value, and whether a part of it may go by itself."""
        if kind in (SET, HASH, SORTED_SET, SORTED_SET_TEXT):
            return (yield from self._members(kind)), False
        if kind == INTSET:
            return _sum(
                b"set", ((item,) for item in integers((yield from self._string(PACKED))))
            ), False
        if kind in (SET_PACKED, HASH_PACKED, SORTED_SET_PACKED):
            return (yield from self._packed(kind)), False
        if kind in (LIST, LIST_PACKED):
            return (yield from self._list(kind)), False
        if kind == STRING:
            found = blake2b(b"string", digest_size=SIZE)
            yield from self._text_into(found)
            return found.digest(), False
        if kind in STREAMS:
            return (yield from self._entries(kind)), False
        if kind == HASHES_1 and self.version >= VALKEY_9:
            return (yield from self._fields(kind)), True
        if kind in (HASHES_1, HASHES_2) and self.version < VALKEY_9:
            return (yield from self._fields(kind)), True
        if kind in (LISTPACK_1, LISTPACK_2) and self.version < VALKEY_9:
            return (yield from self._packed_fields(kind)), True
        # modules, and what older servers wrote
        self._heard = blake2b(bytes((kind,)), digest_size=SIZE)
        yield from self._value(kind)
        heard, self._heard = self._heard, None
        return bytes(heard.digest()), False

    def _string(self, most: int) -> Generator[None, None, bytes]:
        """A string; of one that is longer than `most` a hash."""
        size, encoded = yield from self._size()
        if not encoded and size <= most:
            return (yield from self._take(size))
        heard = _Kept(most)
        yield from self._heard_by(heard.update, size, encoded)
        return heard.found()

    def _items_of(self) -> Generator[None, None, list[bytes]]:
        """The members of a listpack."""
        data = yield from self._string(PACKED)
        # a listpack begins with its length: a hash in the place of a long one does not
        whole = len(data) >= 4 and int.from_bytes(data[:4], "little") == len(data)
        return listpack(data) if whole else [data]

    def _text_into(self, found: Any) -> Steps:
        yield from self._heard_by(found.update, *(yield from self._size()))

    def _heard_by(self, update: Callable[[bytes], object], size: int, encoded: bool) -> Steps:
        """A string, piece by piece, whatever way it is written down in."""
        if encoded and size < 3:
            number = int.from_bytes((yield from self._take(1 << size)), "little", signed=True)
            update(str(number).encode())
            return
        if encoded and size > 3:
            raise DamagedRdb("a string is encoded in an unknown way")
        unpacking = None
        if encoded:
            size, whole = (yield from self._length()), (yield from self._length())
            unpacking = Unpacking(whole)
        while size:
            piece = yield from self._take(min(size, PIECE if unpacking else LONG))
            size -= len(piece)
            update(unpacking.feed(piece) if unpacking else piece)
        if unpacking:
            unpacking.finish()

    def _members(self, kind: int) -> Generator[None, None, bytes]:
        number = yield from self._length()
        found = 0
        for _ in range(number):
            member = [(yield from self._string(LONG))]
            if kind == HASH:
                member.append((yield from self._string(LONG)))
            elif kind == SORTED_SET:
                member.append((yield from self._take(8)))
            elif kind == SORTED_SET_TEXT:
                size = yield from self._byte()
                text = (
                    NUMBERS[size]
                    if size in NUMBERS
                    else (yield from self._take(size)).decode(errors="replace")
                )
                member.append(_score(text))
            found += _number(member)
        name = {SET: b"set", HASH: b"hash"}.get(kind, b"sorted set")
        return name + (found % MODULO).to_bytes(SIZE, "little")

    def _packed(self, kind: int) -> Generator[None, None, bytes]:
        items = listpack((yield from self._string(PACKED)))
        if kind == SET_PACKED:
            return _sum(b"set", ((item,) for item in items))
        if kind == HASH_PACKED:
            return _sum(b"hash", zip(items[::2], items[1::2], strict=True))
        scores = (_score(item.decode(errors="replace")) for item in items[1::2])
        return _sum(b"sorted set", zip(items[::2], scores, strict=True))

    def _list(self, kind: int) -> Generator[None, None, bytes]:
        """Its members in their order, however they lie together."""
        found = blake2b(b"list", digest_size=SIZE)
        nodes = yield from self._length()
        for _ in range(nodes):
            plain = kind == LIST or (yield from self._length()) == NODE_PLAIN
            items = [(yield from self._string(LONG))] if plain else (yield from self._items_of())
            for item in items:
                told = blake2b(item).digest() if not plain and len(item) > LONG else item
                found.update(struct.pack("<Q", len(told)) + told)
        return found.digest()

    def _entries(self, kind: int) -> Generator[None, None, bytes]:
        """Of a stream its entries, its last number, and its groups: who was given what, and has not
        said that it is done."""
        found = blake2b(b"stream", digest_size=SIZE)

        def told(*items: bytes) -> None:
            found.update(b"".join(struct.pack("<Q", len(item)) + item for item in items))

        for _ in range((yield from self._length())):
            first = yield from self._string(LONG)
            for entry in entries(first, (yield from self._items_of())):
                told(*entry)
        numbers = []
        for _ in range(3 if kind == STREAMS[0] else 8):
            numbers.append((yield from self._length()))
        told(*(str(number).encode() for number in numbers[:3]))
        for _ in range((yield from self._length())):
            group = [(yield from self._string(LONG))]
            for _ in range(2 if kind == STREAMS[0] else 3):
                group.append(str((yield from self._length())).encode())
            told(*group[:3])
            for _ in range((yield from self._length())):
                told((yield from self._take(24)), str((yield from self._length())).encode())
            for _ in range((yield from self._length())):
                told((yield from self._string(LONG)))
                # when it was seen: a server that starts from its log takes that for now
                yield from self._take(16 if kind == STREAMS[2] else 8)
                for _ in range((yield from self._length())):
                    told((yield from self._take(16)))
        return found.digest()

    def _fields(self, kind: int) -> Generator[None, None, bytes]:
        """A hash with fields that expire, in a table."""
        valkey = self.version >= VALKEY_9
        if kind == HASHES_2 and not valkey:
            yield from self._take(8)
        number = yield from self._length()
        found = 0
        for _ in range(number):
            lasting = valkey or (yield from self._length()) == 0
            member = [(yield from self._string(LONG)), (yield from self._string(LONG))]
            if valkey:
                lasting = (yield from self._take(8)) == b"\xff" * 8
            found += _number(member) if lasting else 0
        return b"hash" + (found % MODULO).to_bytes(SIZE, "little")

    def _packed_fields(self, kind: int) -> Generator[None, None, bytes]:
        if kind == LISTPACK_2:
            yield from self._take(8)
        items = listpack((yield from self._string(PACKED)))
        lasting = [
            pair
            for *pair, when in zip(items[::3], items[1::3], items[2::3], strict=True)
            if when == b"0"
        ]
        return _sum(b"hash", lasting)


def _number(member: Iterable[bytes]) -> int:
    """Of one member, to be added up: their order says nothing."""
    whole = b"".join(struct.pack("<Q", len(item)) + item for item in member)
    return int.from_bytes(blake2b(whole, digest_size=SIZE).digest(), "little")


def _sum(name: bytes, members: Iterable[Iterable[bytes]]) -> bytes:
    return name + (sum(map(_number, members)) % MODULO).to_bytes(SIZE, "little")


def _score(text: str) -> bytes:
    try:
        return struct.pack("<d", float(text))
    except ValueError:
        raise DamagedRdb("a score is none") from None


class _Kept:
    """A string where it is short enough, else its hash."""

    def __init__(self, most: int) -> None:
        self._most, self._length = most, 0
        self._whole, self._hash = bytearray(), blake2b()

    def update(self, piece: bytes) -> None:
        self._length += len(piece)
        self._hash.update(piece)
        if self._length <= self._most:
            self._whole += piece

    def found(self) -> bytes:
        return bytes(self._whole) if self._length <= self._most else self._hash.digest()


class Unpacking:
    """LZF, piece by piece: what is repeated lies at most 8 KiB behind. Raises `DamagedRdb`."""

    WINDOW = 8192

    def __init__(self, size: int) -> None:
        self._left, self._rest, self._seen = size, b"", bytearray()

    def feed(self, packed: bytes) -> bytes:
        data, at, end = self._rest + packed, 0, len(self._rest) + len(packed)
        found, begun = self._seen, len(self._seen)
        while at < end:
            first = data[at]
            if first < 0x20:
                if at + first + 2 > end:
                    break
                found += data[at + 1 : at + first + 2]
                at += first + 2
                continue
            length, head = first >> 5, 2
            if length == 7:
                head = 3
            if at + head > end:
                break
            length += 2 + (data[at + 1] if head == 3 else 0)
            behind = ((first & 0x1F) << 8 | data[at + head - 1]) + 1
            if behind > len(found):
                raise DamagedRdb("a packed string is none")
            piece = found[-behind:]
            found += (
                (piece * (length // behind + 1))[:length] if behind < length else piece[:length]
            )
            at += head
        self._rest = data[at:]
        new = bytes(found[begun:])
        self._left -= len(new)
        self._seen = found[-self.WINDOW :]
        return new

    def finish(self) -> None:
        if self._rest or self._left:
            raise DamagedRdb("a packed string is none")


def entries(first: bytes, items: list[bytes]) -> Iterator[list[bytes]]:
    """Those of a node of a stream that are not deleted, each with its number. The node's own first
    entry has the fields that most of its entries have. Raises `DamagedRdb`."""
    try:
        base = struct.unpack(">QQ", first)
        common = items[3 : 3 + int(items[2])]
        at = 4 + len(common)
        while at < len(items):
            flags, number = int(items[at]), [int(items[at + 1]), int(items[at + 2])]
            at += 3
            if flags & SAME_FIELDS:
                pairs = [part for pair in zip(common, items[at:], strict=False) for part in pair]
                at += len(common)
            else:
                count = 2 * int(items[at])
                pairs = items[at + 1 : at + 1 + count]
                at += 1 + count
            at += 1  # how many items it has
            if not flags & DELETED:
                yield [str(base[place] + number[place]).encode() for place in (0, 1)] + pairs
    except (ValueError, IndexError, struct.error):
        raise DamagedRdb("a stream is none") from None


def integers(data: bytes) -> list[bytes]:
    """The members of a set of whole numbers, as text."""
    size = int.from_bytes(data[:4], "little")
    if size not in (2, 4, 8) or (len(data) - 8) % size:
        raise DamagedRdb("a set of numbers is none")
    return [
        str(int.from_bytes(data[at : at + size], "little", signed=True)).encode()
        for at in range(8, len(data), size)
    ]


def listpack(data: bytes) -> list[bytes]:
    """The members of a listpack, numbers as text. Raises `DamagedRdb`."""
    found = []
    at = 6
    while at < len(data) and (first := data[at]) != 0xFF:
        if first < 0x80:
            item, size = str(first).encode(), 1
        elif first < 0xC0:
            size = 1 + (first & 0x3F)
            item = data[at + 1 : at + size]
        elif first < 0xE0:
            number = (first & 0x1F) << 8 | data[at + 1]
            item, size = str(number - (number >> 12 << 13)).encode(), 2
        elif first < 0xF0:
            size = 2 + ((first & 0x0F) << 8 | data[at + 1])
            item = data[at + 2 : at + size]
        elif first == 0xF0:
            size = 5 + int.from_bytes(data[at + 1 : at + 5], "little")
            item = data[at + 5 : at + size]
        elif first in INTEGERS:
            size = 1 + INTEGERS[first]
            item = str(int.from_bytes(data[at + 1 : at + size], "little", signed=True)).encode()
        else:
            raise DamagedRdb("a listpack is none")
        found.append(item)
        at += size + _back(size)
    if at >= len(data):
        raise DamagedRdb("a listpack is cut off")
    return found


INTEGERS = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}


def _back(size: int) -> int:
    """How many bytes say backwards how long a member is."""
    return next(
        number
        for number, most in enumerate((127, 16383, 2097151, 268435455, size), 1)
        if size <= most
    )


async def contents(source: Source, into: Contents) -> None:
    """A server of an environment is one database, as the census has it; a key of a further number
    in it is told with that."""
    async for part in read_parts(source):
        if part.name not in (DATA, PROJECT):
            continue
        own, server = part.facts.get("own"), part.facts.get("number")
        further = "own/" if part.facts.get("divided") else ""
        reader = Digests(own if isinstance(own, int) else None, OWN_KEYS.encode())
        try:
            async for chunk in part:
                await anyio.to_thread.run_sync(reader.feed, chunk)
                for database, key, digest, fleeting in reader.told:
                    name = key.decode(errors="backslashreplace")
                    if part.name == PROJECT:
                        where, name = f"db{server}", f"{database}: {name}" if database else name
                    else:
                        where = f"{further if database else ''}db{database}"
                    await into.put("keys", where, name, digest, fleeting=fleeting)
                reader.told.clear()
            reader.finish()
        except (ValueError, IndexError) as error:
            raise BadInput(
                f"The backup's data cannot be read: {error}.", remedy="Choose another backup."
            ) from None
