"""What one environment may store: measured, told before it is full, then refused until it is less.

The servers' own quotas go by what a scan found minutes or hours ago, if there are any. Here the
buckets are listed: versions and parts of uploads take room as objects do. A look goes on where the
one before it ended, so that it costs no more than `CALLS` however many objects there are. What was
seen stands in an object of our own bucket.
"""

import time
from collections.abc import Iterator
from typing import Any

import anyio
import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from purveyor_hooks import Access, Service, quotas
from purveyor_s3 import keys
from purveyor_s3.driver import code
from purveyor_s3.flavours import STORAGE
from purveyor_s3.server import MISSING, OWN_BUCKET, USAGE, connection

CALLS, TIME, LONGEST = 30, 3.0, 6.0  # of one look; seconds, to begin calls, and in all
EVERY = 5.0  # seconds at least between two
PAGE, UPLOADS = 1000, 10


class Seen(msgspec.Struct):
    """A bucket: its bytes when it was last listed to its end, and whether it is refused more."""

    size: int = 0
    full: bool = False


class Walk(msgspec.Struct):
    """A bucket that is being listed: how far, and the bytes until there."""

    bucket: str
    size: int = 0
    uploads: bool = False
    key: str = ""
    number: str = ""


class Usage(msgspec.Struct):
    """What was seen, when, and where the next look goes on."""

    buckets: dict[str, Seen] = {}
    at: float = 0.0
    walk: Walk | None = None


async def noted(client: Any) -> Usage:
    """What was seen so far."""
    try:
        found = await client.get_object(Bucket=OWN_BUCKET, Key=USAGE)
        async with found["Body"] as body:
            usage: Usage = msgspec.json.decode(await body.read(), type=Usage)
            return usage
    except ClientError as error:
        if code(error) in MISSING:
            return Usage()
        raise
    except msgspec.MsgspecError:  # another version wrote it
        return Usage()


async def is_full(client: Any, bucket: str) -> bool:
    """Whether a bucket is refused more."""
    seen = (await noted(client)).buckets.get(bucket)
    return seen is not None and seen.full


async def put_in_force(service: Service, access: Access) -> str:
    """Measure a part of the buckets, and refuse or allow what has changed. The answer is what a
    person should know, the same while nothing changes."""
    limit = quotas.size(service, STORAGE)
    why = "the server is too slow"
    try:
        with anyio.move_on_after(LONGEST):
            async with connection(service, access) as client:
                usage = await noted(client)
                if limit or any(seen.full for seen in usage.buckets.values()):
                    await _look(service, access, client, usage, limit)
            return " ".join(_told(service, usage, limit))
    except (ClientError, BotoCoreError, OSError, keys.KeysFailed) as error:
        why = str(error)
    return f"What projects store cannot be measured: {why}."


def _told(service: Service, usage: Usage, limit: int) -> Iterator[str]:
    text = service.parameters.get(STORAGE.name, STORAGE.default)
    for name, seen in sorted(usage.buckets.items()):
        if seen.full:
            yield f"{name} has filled its storage ({text}): writes are refused."
        elif limit and seen.size >= quotas.WARNED * limit:
            yield f"{name} has filled more than {quotas.WARNED:.0%} of its storage ({text})."


async def _look(service: Service, access: Access, client: Any, usage: Usage, limit: int) -> None:
    now = time.time()
    if 0 <= now - usage.at < EVERY:
        return
    listed = sorted(
        bucket["Name"]
        for bucket in (await client.list_buckets()).get("Buckets", [])
        if bucket["Name"] != OWN_BUCKET
    )
    usage.at = now
    usage.buckets = {name: usage.buckets[name] for name in listed if name in usage.buckets}
    try:
        await _measure(service, access, client, usage, listed, limit)
    finally:
        with anyio.CancelScope(shield=True):
            await client.put_object(Bucket=OWN_BUCKET, Key=USAGE, Body=msgspec.json.encode(usage))


async def _measure(
    service: Service, access: Access, client: Any, usage: Usage, listed: list[str], limit: int
) -> None:
    """Bucket after bucket, from where the last look ended; each at most once."""
    left, until = CALLS, anyio.current_time() + TIME
    begun = usage.walk.bucket if usage.walk else ""
    order = [name for name in listed if name >= begun] + [name for name in listed if name < begun]
    for bucket in order:
        walk = usage.walk
        if walk is None or walk.bucket != bucket:
            walk = usage.walk = Walk(bucket)
        ended = False
        while not ended and left > 0 and anyio.current_time() < until:
            try:
                ended, calls = await _step(client, walk)
            except ClientError as error:
                if code(error) not in MISSING:
                    raise
                ended, calls = True, 1  # it was removed meanwhile
            left -= calls
        if not ended:
            return
        seen = usage.buckets.setdefault(bucket, Seen())
        seen.size = walk.size
        full = bool(limit) and quotas.is_full(seen.size / limit, was_full=seen.full)
        if full != seen.full:
            await keys.of(service, access).allow(bucket, writes=not full)
            seen.full = full
        place = order.index(bucket) + 1
        usage.walk = Walk(order[place]) if place < len(order) else None


async def _step(client: Any, walk: Walk) -> tuple[bool, int]:
    """One page more. Whether that was the last one, and the calls that it took."""
    if not walk.uploads:
        where = {"KeyMarker": walk.key} if walk.key else {}
        if walk.number:
            where["VersionIdMarker"] = walk.number
        found = await client.list_object_versions(Bucket=walk.bucket, MaxKeys=PAGE, **where)
        walk.size += sum(item.get("Size", 0) for item in found.get("Versions", []))
        walk.uploads = not _goes_on(walk, found, "NextVersionIdMarker")
        return False, 1
    where = {"KeyMarker": walk.key, "UploadIdMarker": walk.number} if walk.key else {}
    found = await client.list_multipart_uploads(Bucket=walk.bucket, MaxUploads=UPLOADS, **where)
    begun = found.get("Uploads", [])
    for item in begun:
        walk.size += await _parts(client, walk.bucket, item)
    return not _goes_on(walk, found, "NextUploadIdMarker"), 1 + len(begun)


def _goes_on(walk: Walk, found: dict[str, Any], number: str) -> bool:
    """Whether there is a page more, which begins where none has begun before."""
    before = walk.key, walk.number
    walk.key = walk.number = ""
    if not found.get("IsTruncated"):
        return False
    there = str(found.get("NextKeyMarker") or ""), str(found.get(number) or "")
    if there in (before, ("", "")):
        return False
    walk.key, walk.number = there
    return True


async def _parts(client: Any, bucket: str, upload: dict[str, Any]) -> int:
    where = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
    size = marker = 0
    while True:
        try:
            found = await client.list_parts(**where, PartNumberMarker=marker, MaxParts=PAGE)
        except ClientError as error:
            if code(error) in (*MISSING, "NoSuchUpload"):  # it was ended meanwhile
                return 0
            raise
        size += sum(int(part.get("Size", 0)) for part in found.get("Parts", []))
        if not found.get("IsTruncated") or not found.get("Parts"):
            return size
        marker = found["Parts"][-1]["PartNumber"]
