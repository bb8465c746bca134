"""Packing and unpacking a stream: zstd, then AES-256-GCM when asked for, counted and hashed on the way."""

import hashlib
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from purveyor_hooks import BadInput

LEVEL, THREADS = 3, 2
BLOCK = 1024 * 1024  # bytes sealed at once
SIZE = struct.Struct("!I")
PREFIX = 8  # bytes of the nonce that are the stream's own; the other four count its blocks
LAST, MORE = b"last", b"more"
Write = Callable[[bytes], Awaitable[None]]


class Packer:
    """Takes plain bytes by `write`, hands packed ones on; `close` ends the stream.

    Counts and hashes what it hands on: `stored` bytes, `sha256`; and counts what came: `plain` bytes.
    """

    def __init__(self, hand_on: Write, key: bytes | None) -> None:
        self._hand_on = hand_on
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, threads=THREADS).compressobj()
        self._sealer = _Sealer(key) if key else None
        self._hash = hashlib.sha256()
        self.plain = 0
        self.stored = 0

    async def write(self, chunk: bytes) -> None:
        self.plain += len(chunk)
        await self._pass(self._compressor.compress(chunk))

    async def close(self) -> None:
        await self._pass(self._compressor.flush(), last=True)

    async def _pass(self, data: bytes, last: bool = False) -> None:
        if self._sealer:
            data = self._sealer.seal(data, last)
        if data:
            self._hash.update(data)
            self.stored += len(data)
            await self._hand_on(data)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class _Sealer:
    """Seals blocks: each says how long it is, which one it is and whether it is the last."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._prefix = os.urandom(PREFIX)
        self._number = 0
        self._buffer = bytearray()
        self._begun = False

    def seal(self, data: bytes, last: bool) -> bytes:
        self._buffer += data
        out = bytearray()
        if not self._begun:
            out += self._prefix
            self._begun = True
        while len(self._buffer) > BLOCK:
            out += self._block(bytes(self._buffer[:BLOCK]), MORE)
            del self._buffer[:BLOCK]
        if last:
            out += self._block(bytes(self._buffer), LAST)
        return bytes(out)

    def _block(self, data: bytes, kind: bytes) -> bytes:
        sealed = self._cipher.encrypt(self._prefix + SIZE.pack(self._number), data, kind)
        self._number += 1
        return SIZE.pack(len(sealed)) + sealed


async def unpacked(stored: AsyncIterator[bytes], key: bytes | None, sha256: str) -> AsyncIterator[bytes]:
    """The plain bytes of a packed stream, in chunks of at most 1 MiB. Raises `BadInput` when a single bit is not as it
    was, and for the wrong key; the hash is compared before the last bytes are handed out."""
    seen = hashlib.sha256()

    async def hashed() -> AsyncIterator[bytes]:
        async for chunk in stored:
            seen.update(chunk)
            yield chunk

    decompressor = zstandard.ZstdDecompressor().decompressobj()
    held = b""
    try:
        async for chunk in _opened(hashed(), key) if key else hashed():
            for start in range(0, len(chunk), BLOCK):
                plain = decompressor.decompress(chunk[start : start + BLOCK])
                for begin in range(0, len(plain), BLOCK):
                    if held:
                        yield held
                    held = plain[begin : begin + BLOCK]
    except zstandard.ZstdError:
        raise _damaged() from None
    if seen.hexdigest() != sha256 or not decompressor.eof:
        raise _damaged()
    if held:
        yield held


async def _opened(stored: AsyncIterator[bytes], key: bytes) -> AsyncIterator[bytes]:
    cipher = AESGCM(key)
    buffer = bytearray()
    prefix, number, ended = b"", 0, False
    async for chunk in stored:
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
    raise BadInput(
        "The backup cannot be opened: its data was altered, or the key is not the one that it was sealed with.",
        remedy="Put the right backup.key into the state directory. A backup whose key is lost cannot be opened by anybody.",
    )


def _damaged() -> BadInput:
    return BadInput(
        "The backup's data is not what was written: its checksum differs.", remedy="Nothing was restored. Choose another backup."
    )
