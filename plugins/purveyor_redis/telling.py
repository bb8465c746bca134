"""What is in the keys of a backup, as digests: what a value is, and not how its server laid it out.

A server keeps small hashes, sets and sorted sets in one string and large ones in tables without an
order, by limits that can be set: all are told by their members. What has fields that expire is told
by those that do not.
"""

import struct
from collections.abc import Generator, Iterable
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
    VALKEY_9,
    DamagedRdb,
    Reader,
    Steps,
    unpack,
)
from purveyor_redis.server import OWN_KEYS
from purveyor_redis.snapshot import DATA, PROJECT

SIZE = 16  # bytes of a digest
MODULO = 1 << (8 * SIZE)
LONG = 1024 * 1024  # bytes; a longer string is told by its hash
MEMBER = 4096  # bytes; a longer compressed member is no member of a listpack, and told as it is
PACKED = 16 * 1024 * 1024  # bytes; a longer listpack is told as it is
SET, SORTED_SET_TEXT, HASH, SORTED_SET, LIST = 2, 3, 4, 5, 1
INTSET, HASH_PACKED, SORTED_SET_PACKED, LIST_PACKED, SET_PACKED = 11, 16, 17, 18, 20
NODE_PLAIN = 1
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
        if kind == HASHES_1 and self.version >= VALKEY_9:
            return (yield from self._fields(kind)), True
        if kind in (HASHES_1, HASHES_2) and self.version < VALKEY_9:
            return (yield from self._fields(kind)), True
        if kind in (LISTPACK_1, LISTPACK_2) and self.version < VALKEY_9:
            return (yield from self._packed_fields(kind)), True
        # strings, streams, modules, and what older servers wrote
        self._heard = blake2b(bytes((kind,)), digest_size=SIZE)
        yield from self._value(kind)
        heard, self._heard = self._heard, None
        return bytes(heard.digest()), False

    def _string(self, most: int) -> Generator[None, None, bytes]:
        """A string; of one that is longer than `most`, or long and compressed, a hash."""
        size, encoded = yield from self._size()
        if not encoded:
            if size <= most:
                return (yield from self._take(size))
            return (yield from self._hashed(size))
        if size < 3:
            return str(
                int.from_bytes((yield from self._take(1 << size)), "little", signed=True)
            ).encode()
        if size > 3:
            raise DamagedRdb("a string is encoded in an unknown way")
        packed, whole = (yield from self._length()), (yield from self._length())
        if max(packed, whole) > (most if most == PACKED else MEMBER):
            return (yield from self._hashed(packed))
        return unpack((yield from self._take(packed)), whole)

    def _hashed(self, size: int) -> Generator[None, None, bytes]:
        found = blake2b(str(size).encode())
        while size:
            piece = yield from self._take(min(size, LONG))
            found.update(piece)
            size -= len(piece)
        return found.digest()

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
            items = (
                [(yield from self._string(LONG))]
                if plain
                else listpack((yield from self._string(PACKED)))
            )
            for item in items:
                found.update(struct.pack("<Q", len(item)) + item)
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
