"""Sealed backups: what age opens without Purveyor, what an older Purveyor sealed, and threads that
end."""

import base64
import gc
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pyrage
import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from purveyor.backups import age
from purveyor.backups.codec import Packer, unpack_stream
from purveyor_hooks import BadInput
from purveyor_hooks.parts import PartWriter

pytestmark = pytest.mark.anyio
KEY = bytes(range(32))
UNPACK = Path(__file__).resolve().parents[2] / "contrib/unpack-backup"
# Of b"worth keeping " * 3, written by version 0.2.0.
BEFORE = "+JNIvIax/9gAAAAt1MTNCfuJgvvtwPJLAXu5jsojWnoaC0CzlPLhm4mu2AQvrOuPcN2sK40/mqx5"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def opened(stored: bytes, key: bytes = KEY, size: int = 100_000) -> bytes:
    found = unpack_stream(
        pieces(stored, size), key, hashlib.sha256(stored).hexdigest(), 100_000_000
    )
    return b"".join([chunk async for chunk in found])


@pytest.fixture
async def sealed(tmp_path: Path) -> Path:
    """A backup of two parts: a dump, and one whose name is no file's."""
    path = tmp_path / "data.zst"
    with path.open("wb") as file:

        async def take(data: bytes) -> None:
            file.write(data)

        packer = Packer(take, KEY)
        writer = PartWriter(packer)
        await writer.whole("dump", b"PGDMP" + bytes(300_000), database="shop")
        await writer.whole("object", b"", key="../../etc/passwd")
        await writer.close()
        await packer.close()
    return path


async def test_age_zstd_and_a_script_open_a_backup_without_purveyor(
    sealed: Path, tmp_path: Path
) -> None:
    if not shutil.which("age"):
        pytest.skip("age is not here: contrib/prepare dev")
    identity = tmp_path / "key.txt"
    identity.write_text(age.identity(KEY) + "\n")
    pipe = (
        f"age --decrypt --identity {identity} {sealed} | zstd --decompress | {sys.executable} "
        f"-I {UNPACK} {tmp_path / 'parts'}"
    )
    said = await anyio.run_process(["bash", "-o", "pipefail", "-c", pipe])
    paths, facts = zip(
        *(line.split(" ", 1) for line in said.stdout.decode().splitlines()), strict=True
    )
    assert [json.loads(fact)["name"] for fact in facts] == ["dump", "object"]
    assert Path(paths[0]).read_bytes() == b"PGDMP" + bytes(300_000)
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["000001", "000002"]


async def test_any_age_library_opens_a_backup_with_the_identity_that_is_printed(
    sealed: Path,
) -> None:
    plain = pyrage.decrypt(
        sealed.read_bytes(), [pyrage.x25519.Identity.from_str(age.identity(KEY))]
    )
    assert b"PGDMP" in zstandard.ZstdDecompressor().decompressobj().decompress(plain)
    assert age.identity(KEY) != age.identity(bytes(32))


def test_a_stream_that_was_cut_off_is_not_taken_apart_in_silence(tmp_path: Path) -> None:
    head = json.dumps({"name": "dump"}).encode()
    cut = struct.pack("!cI", b"P", len(head)) + head + struct.pack("!cI", b"D", 3) + b"abc"
    ended = subprocess.run(
        [sys.executable, UNPACK, tmp_path / "parts"], input=cut, capture_output=True, check=False
    )
    assert ended.returncode
    assert b"cut off" in ended.stderr


def in_blocks(plain: bytes, block: int) -> bytes:
    """As older versions sealed, after zstd."""
    packed, prefix, cipher = zstandard.ZstdCompressor().compress(plain), os.urandom(8), AESGCM(KEY)
    parts = [packed[start : start + block] for start in range(0, len(packed), block)]
    stored = prefix
    for number, part in enumerate(parts):
        sealed = cipher.encrypt(
            prefix + struct.pack("!I", number),
            part,
            b"last" if number == len(parts) - 1 else b"more",
        )
        stored += struct.pack("!I", len(sealed)) + sealed
    return stored


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_what_an_older_version_sealed_is_opened(size: int) -> None:
    assert await opened(base64.b64decode(BEFORE), size=size) == b"worth keeping " * 3
    content = os.urandom(50_000)
    stored = in_blocks(content, 9_000)
    assert await opened(stored, size=max(size, 5)) == content
    for wrong in (
        stored[:-1],
        stored[:30_000],
        stored + b"x",
        stored[:20_000] + b"x" + stored[20_001:],
    ):
        with pytest.raises(BadInput):
            await opened(wrong)
    with pytest.raises(BadInput, match="key is not the one"):
        await opened(stored, key=bytes(32))


@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_the_last_block_is_whole_at_every_border_and_nothing_may_follow_it(
    blocks: int, more: int
) -> None:
    plain = os.urandom(max(0, blocks * 65_536 + more))
    stored = age.Sealer(KEY).seal(plain, last=True)
    assert b"".join(age.decrypt(iter(pieces_of(stored)), KEY)) == plain
    for wrong in ([*pieces_of(stored), b"x"], pieces_of(stored[:-1])):
        with pytest.raises(age.Wrong):
            list(age.decrypt(iter(wrong), KEY))


def pieces_of(stored: bytes) -> list[bytes]:
    return [stored[start : start + 30_000] for start in range(0, len(stored), 30_000)]


async def test_a_backup_that_is_given_up_ends_its_thread() -> None:
    async def take(data: bytes) -> None:
        """Nobody wants it."""

    packer = Packer(take, KEY)
    await packer.write(os.urandom(1_000_000))
    reading = age.decrypt(
        iter(pieces_of(age.Sealer(KEY).seal(os.urandom(500_000), last=True))), KEY
    )
    assert next(reading)
    assert "age" in [thread.name for thread in threading.enumerate()]
    del packer, reading
    gc.collect()
    assert "age" not in [thread.name for thread in threading.enumerate()]


def test_a_process_that_ends_meanwhile_ends_well() -> None:
    program = (
        "from purveyor.backups import age; sealer = age.Sealer(bytes(32)); "
        "sealer.seal(bytes(200_000), last=False)"
    )
    for line in (program, f"import sys; {program}; sys.exit(0)"):
        assert (
            subprocess.run(
                [sys.executable, "-c", line], capture_output=True, check=False
            ).returncode
            == 0
        )
