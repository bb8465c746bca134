"""Packing and unpacking a stream: zstd, then age when asked for, counted and hashed on the way.

What older versions sealed, in blocks of AES-256-GCM, is opened as well.
"""

import hashlib
import itertools
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import IO, cast

import anyio
import anyio.from_thread
import anyio.to_thread
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from purveyor.backups import age
from purveyor_hooks import BadInput

LEVEL, THREADS = 3, 2
PART = (
    2 * 1024 * 1024
)  # plain bytes that a thread takes at once: with the library's own 8 MiB, 40 MB more are held
BLOCK = 1024 * 1024  # bytes handed out at once
GATHERED = 256 * 1024  # plain bytes that are worth a thread
WINDOW = 8 * 1024 * 1024  # bytes that a decompressor may look back; level 3 needs 2 MiB
PARAMETERS = zstandard.ZstdCompressionParameters.from_level(LEVEL, threads=THREADS, job_size=PART)
SIZE = struct.Struct("!I")
PREFIX = 8  # bytes of the nonce that are the stream's own; the other four count its blocks
LAST, MORE = b"last", b"more"
Write = Callable[[bytes], Awaitable[None]]


class Packer:
    """Takes plain bytes by `write`, hands packed ones on; `close` ends the stream. The computing is
    done in a thread.

    Counts and hashes what it hands on: `stored` bytes, `sha256`; and counts what came: `plain`
    bytes.
    """

    def __init__(self, hand_on: Write, key: bytes | None) -> None:
        self._hand_on = hand_on
        self._compressor = zstandard.ZstdCompressor(compression_params=PARAMETERS).compressobj()
        self._sealer = age.Sealer(key) if key else None
        self._hash = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._gathered = 0
        # one of its own: whoever waits for a thread of the many waits for no backup
        self._thread = anyio.CapacityLimiter(1)
        self._turn = anyio.Lock()
        self.plain = 0
        self.stored = 0

    async def write(self, chunk: bytes) -> None:
        self.plain += len(chunk)
        self._waiting.append(chunk)
        self._gathered += len(chunk)
        if self._gathered >= GATHERED:
            await self._pass()

    async def close(self) -> None:
        await self._pass(last=True)

    async def _pass(self, last: bool = False) -> None:
        async with self._turn:
            chunks, self._waiting, self._gathered = self._waiting, [], 0
            data = await anyio.to_thread.run_sync(self._pack, chunks, last, limiter=self._thread)
            if data:
                await self._hand_on(data)

    def _pack(self, chunks: list[bytes], last: bool) -> bytes:
        data = b"".join([self._compressor.compress(chunk) for chunk in chunks])
        if last:
            data += self._compressor.flush()
        if self._sealer:
            data = self._sealer.seal(data, last)
        self._hash.update(data)
        self.stored += len(data)
        return data

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


async def unpack_stream(
    stored: AsyncIterator[bytes], key: bytes | None, sha256: str, most: int
) -> AsyncIterator[bytes]:
    """The plain bytes of a packed stream, in chunks of at most 1 MiB, in constant memory; the
    computing is done in a thread.

    Raises `BadInput` when a single bit is not as it was, for the wrong key, and for more than
    `most` plain bytes; the hash is compared before the last bytes are handed out.
    """
    thread = anyio.CapacityLimiter(1)
    plain = _unpacked(_pulled(stored), key, sha256, most)
    while (chunk := await anyio.to_thread.run_sync(next, plain, None, limiter=thread)) is not None:
        yield chunk


def _pulled(stored: AsyncIterator[bytes]) -> Iterator[bytes]:
    """An asynchronous stream, read from a thread."""

    async def following() -> bytes | None:
        return await anext(stored, None)

    while (chunk := anyio.from_thread.run(following)) is not None:
        yield chunk


def _unpacked(
    stored: Iterator[bytes], key: bytes | None, sha256: str, most: int
) -> Iterator[bytes]:
    seen = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for chunk in stored:
            seen.update(chunk)
            yield chunk

    packed = _opened(hashed(), key) if key else hashed()
    reader = zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(
        cast(IO[bytes], _Feed(packed)), read_size=BLOCK
    )
    held, size = b"", 0
    try:
        while plain := reader.read(BLOCK):
            size += len(plain)
            if size > most:
                raise BadInput(
                    f"The backup's data is more than the {most} bytes that it says.",
                    remedy="Nothing was restored that counts. Choose another backup.",
                )
            if held:
                yield held
            held = plain
        for _ in packed:  # what comes after the end counts for the hash
            pass
    except zstandard.ZstdError:
        raise _damaged() from None
    if seen.hexdigest() != sha256:
        raise _damaged()
    if held:
        yield held


class _Feed:
    """Chunks as a file that is read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def read(self, size: int) -> bytes:
        data = self._left or next(self._chunks, b"")
        self._left = data[size:]
        return data[:size]


def _opened(stored: Iterator[bytes], key: bytes) -> Iterator[bytes]:
    """What was sealed. Its first bytes say how: those of the older format are chance."""
    begun = b""
    while len(begun) < len(age.BEGINNING) and (chunk := next(stored, None)) is not None:
        begun += chunk
    whole = itertools.chain([begun], stored)
    if not begun.startswith(age.BEGINNING):
        yield from _opened_blocks(whole, key)
        return
    try:
        yield from age.decrypt(whole, key)
    except age.Wrong:
        raise _closed() from None


def _opened_blocks(stored: Iterator[bytes], key: bytes) -> Iterator[bytes]:
    """The older format: each block says how long it is, which one it is and whether it is the
    last."""
    cipher = AESGCM(key)
    buffer = bytearray()
    prefix, number, ended = b"", 0, False
    for chunk in stored:
        buffer += chunk
        if not prefix:
            if len(buffer) < PREFIX:
                continue
            prefix = bytes(buffer[:PREFIX])
            del buffer[:PREFIX]
        while len(buffer) >= SIZE.size and not ended:
            (size,) = SIZE.unpack_from(buffer)
            if size > BLOCK + 64:
                raise _damaged()
            if len(buffer) < SIZE.size + size:
                break
            sealed = bytes(buffer[SIZE.size : SIZE.size + size])
            del buffer[: SIZE.size + size]
            plain, ended = _open(cipher, prefix + SIZE.pack(number), sealed)
            number += 1
            yield plain
    if buffer or not ended:
        raise _damaged()


def _open(cipher: AESGCM, nonce: bytes, sealed: bytes) -> tuple[bytes, bool]:
    for kind in (MORE, LAST):
        try:
            return cipher.decrypt(nonce, sealed, kind), kind == LAST
        except InvalidTag:
            continue
    raise _closed()


def _closed() -> BadInput:
    return BadInput(
        "The backup cannot be opened: its data was altered, or the key is not the one that it was "
        "sealed with.",
        remedy=(
            "Put the right backup.key into the state directory. A backup whose key is lost "
            "cannot be opened by anybody."
        ),
    )


def _damaged() -> BadInput:
    return BadInput(
        "The backup's data is not what was written: its checksum differs.",
        remedy="Nothing was restored. Choose another backup.",
    )
