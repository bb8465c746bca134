"""What is in the objects of a backup, as digests: bytes, headers and tags. No server is needed.

How long an object is locked, and how its server keeps it, is not among it: both are the server's to
say.
"""

from hashlib import blake2b

import msgspec

from purveyor_hooks import Contents, Source
from purveyor_hooks.parts import Part, read_parts
from purveyor_s3.server import OWN_BUCKET
from purveyor_s3.snapshot import BROKEN, MARKER, OBJECT

SIZE = 16  # bytes of a digest
OF_THE_SERVER = ("ServerSideEncryption", "StorageClass")


async def contents(source: Source, into: Contents) -> None:
    """An object that was not read to its end is told right after it, and is not told here."""
    waits: tuple[str, str, str, bytes] | None = None
    async for part in read_parts(source):
        if waits is not None and part.name != BROKEN:
            await into.put(*waits)
        waits = None
        bucket, key = str(part.facts.get("bucket", "")), str(part.facts.get("key", ""))
        if bucket == OWN_BUCKET:
            continue
        if part.name == OBJECT:
            waits = (
                "objects" if part.facts.get("latest", True) else "older versions",
                bucket,
                key,
                await _digest(part),
            )
        elif part.name == MARKER:
            await into.put("delete markers", bucket, key, b"")
    if waits is not None:
        await into.put(*waits)


async def _digest(part: Part) -> bytes:
    headers = {
        name: value
        for name, value in part.facts.get("described", {}).items()
        if name not in OF_THE_SERVER
    }
    about = [headers, sorted(part.facts.get("tags", []))]
    found = blake2b(msgspec.json.encode(about, order="sorted"), digest_size=SIZE)
    async for chunk in part:
        found.update(chunk)
    return found.digest()
