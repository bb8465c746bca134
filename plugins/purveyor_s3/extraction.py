"""One bucket out of a backup, as a tar: its objects by their keys, and what a tar cannot say of
them beside."""

import json
import tarfile
import tempfile
from collections.abc import AsyncIterator
from typing import Any

from purveyor_hooks import NotFound, Sink, Source
from purveyor_hooks.parts import read_parts
from purveyor_s3.server import OWN_BUCKET
from purveyor_s3.snapshot import BROKEN, BUCKET, MARKER, OBJECT

SPOOLED, CHUNK = 4 * 1024 * 1024, 1024 * 1024


async def extract(source: Source, database: str, sink: Sink) -> None:
    """``BUCKET/KEY`` is an object's newest version, ``BUCKET.versions/N/KEY`` the N-th older one
    from the oldest on.

    ``BUCKET.json`` has the bucket's settings, ``BUCKET.objects.jsonl`` headers, tags and locks of
    each object in the order of the backup, with its name in the tar.
    """
    found, seen, last, number = False, [], "", 0
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED, mode="w+b") as about:
        async for part in read_parts(source):
            facts = part.facts
            if part.name == BUCKET and facts["bucket"] != OWN_BUCKET:
                seen.append(str(facts["bucket"]))
            if facts["bucket"] != database or database == OWN_BUCKET:
                continue
            if part.name == BUCKET:
                found = True
                await _whole(
                    sink,
                    f"{database}.json",
                    json.dumps(facts.get("settings", {}), indent=2).encode(),
                )
            elif part.name == OBJECT:
                if facts.get("latest", True):
                    name = f"{database}/{_safe(facts['key'])}"
                else:
                    last, number = facts["key"], number + 1 if last == facts["key"] else 1
                    name = f"{database}.versions/{number}/{_safe(last)}"
                await _stream(sink, name, int(facts["size"]), aiter(part))
                about.write(json.dumps({"name": name, **facts}).encode() + b"\n")
            elif part.name in (MARKER, BROKEN):
                about.write(json.dumps({part.name: True, **facts}).encode() + b"\n")
        if not found:
            raise NotFound(
                f"The backup has no bucket {database}.",
                remedy=f"It has {', '.join(seen) or 'none'}.",
            )
        size = about.tell()
        about.seek(0)
        await _stream(sink, f"{database}.objects.jsonl", size, _chunks(about))
    await sink.write(b"\0" * 1024)


def _safe(key: str) -> str:
    """A name that stays below the folder into which the tar is unpacked; a slash in the end is a
    folder's."""
    parts = [
        part.replace(".", "%2E") if part in (".", "..") else part or "%00"
        for part in key.rstrip("/").split("/")
    ]
    return "/".join(parts) + "/" * key.endswith("/")


async def _chunks(file: Any) -> AsyncIterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


async def _whole(sink: Sink, name: str, data: bytes) -> None:
    async def once() -> AsyncIterator[bytes]:
        yield data

    await _stream(sink, name, len(data), once())


async def _stream(sink: Sink, name: str, size: int, chunks: AsyncIterator[bytes]) -> None:
    """One file; a tar says its size beforehand, so what is short is filled up (and is named as
    broken)."""
    entry = tarfile.TarInfo(name.rstrip("/"))
    entry.size, entry.mode = size, 0o600
    if name.endswith("/") and not size:
        entry.type, entry.mode = tarfile.DIRTYPE, 0o700
    await sink.write(entry.tobuf(tarfile.PAX_FORMAT))
    written = 0
    async for chunk in chunks:
        await sink.write(chunk)
        written += len(chunk)
    await sink.write(b"\0" * (size - written + -size % tarfile.BLOCKSIZE))
