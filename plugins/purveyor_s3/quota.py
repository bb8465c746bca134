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
SHARE = 5  # calls of a bucket's objects, and of its uploads, before the next bucket has its turn
EVERY = 5.0  # seconds at least between two
PAGE, UPLOADS = 1000, 10
KNOWN = 2000  # uploads of a bucket that are remembered


class Seen(msgspec.Struct):
    """A bucket: the bytes of its objects and of parts of uploads, each when they were last listed to
    their end, and whether it is refused more; and the uploads that were under way then, their keys
    by their numbers: MinIO lists those alone that were begun since it was started."""

    size: int = 0
    parts: int = 0
    full: bool = False
    uploads: dict[str, str] = {}


class Walk(msgspec.Struct):
    """A bucket's objects, or its uploads, that are being listed: how far, and the bytes
    until there. Then `rest` are uploads that were under way before and are not listed."""

    size: int = 0
    key: str = ""
    number: str = ""
    met: dict[str, str] = {}
    rest: list[str] | None = None


class Usage(msgspec.Struct):
    """What was seen, when, and where the next look goes on: at which bucket, and how far it came in
    the objects and in the uploads of each."""

    buckets: dict[str, Seen] = {}
    at: float = 0.0
    next: str = ""
    objects: dict[str, Walk] = {}
    begun: dict[str, Walk] = {}


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


async def uploads(client: Any, bucket: str) -> dict[str, str]:
    """The keys of uploads that were under way, by their numbers, where the bucket is measured."""
    seen = (await noted(client)).buckets.get(bucket)
    return seen.uploads if seen is not None else {}


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
        elif limit and seen.size + seen.parts >= quotas.WARNED * limit:
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
    """Some calls for each bucket, from the one that the last look ended before, so that one with
    very much in it keeps none of the others waiting."""
    for walks in (usage.objects, usage.begun):
        for name in walks.keys() - set(listed):
            del walks[name]
    left, until = CALLS, anyio.current_time() + TIME
    first = usage.next
    order = [name for name in listed if name >= first] + [name for name in listed if name < first]
    waiting = list(order)
    while waiting and left > 0 and anyio.current_time() < until:
        bucket = waiting.pop(0)
        place = order.index(bucket) + 1
        usage.next = order[place % len(order)]
        ended, calls = await _visit(client, usage, bucket, limit)
        left -= calls
        if not ended:
            waiting.append(bucket)
        await _decide(service, access, usage, bucket, limit)


async def _visit(client: Any, usage: Usage, bucket: str, limit: int) -> tuple[bool, int]:
    """Go on with the objects of a bucket, and with its uploads: whether both came to their end, and
    the calls that it took."""
    seen, calls, both = usage.buckets.setdefault(bucket, Seen()), 0, True
    for walks, step in ((usage.objects, _objects), (usage.begun, _begun)):
        walk = walks.setdefault(bucket, Walk())
        ended, took = False, 0
        while not ended and took < SHARE:
            try:
                ended, more = await step(client, bucket, walk, seen)
            except ClientError as error:
                if code(error) not in MISSING:
                    raise
                ended, more = True, 1  # it was removed meanwhile
            took += more
        calls += took
        both &= ended
        if ended:
            del walks[bucket]
    return both, calls


async def _decide(service: Service, access: Access, usage: Usage, bucket: str, limit: int) -> None:
    """Refuse more as soon as what is known is too much; allow it when all was listed."""
    seen = usage.buckets[bucket]
    objects, begun = usage.objects.get(bucket), usage.begun.get(bucket)
    used = max(seen.size, objects.size if objects else 0)
    if begun is None or seen.full:
        used += max(seen.parts, begun.size if begun else 0)
    else:  # what was an upload when the last listing ended may be an object by now
        used += begun.size
    full = bool(limit) and quotas.is_full(used / limit, was_full=seen.full)
    if full != seen.full:
        await keys.of(service, access).allow(bucket, writes=not full)
        seen.full = full


async def _objects(client: Any, bucket: str, walk: Walk, seen: Seen) -> tuple[bool, int]:
    """One page more. Whether that was the last one, and the calls that it took."""
    where = {"KeyMarker": walk.key} if walk.key else {}
    if walk.number:
        where["VersionIdMarker"] = walk.number
    found = await client.list_object_versions(Bucket=bucket, MaxKeys=PAGE, **where)
    walk.size += sum(item.get("Size", 0) for item in found.get("Versions", []))
    ended = not _goes_on(walk, found, "NextVersionIdMarker")
    if ended:
        seen.size = walk.size
    return ended, 1


async def _begun(client: Any, bucket: str, walk: Walk, seen: Seen) -> tuple[bool, int]:
    """The same for uploads that are under way."""
    if walk.rest is not None:
        some, walk.rest = walk.rest[:UPLOADS], walk.rest[UPLOADS:]
        for number in some:
            await _count(client, bucket, walk, seen.uploads[number], number)
        calls = len(some)
    else:
        where = {"KeyMarker": walk.key, "UploadIdMarker": walk.number} if walk.key else {}
        found = await client.list_multipart_uploads(Bucket=bucket, MaxUploads=UPLOADS, **where)
        begun = found.get("Uploads", [])
        for item in begun:
            await _count(client, bucket, walk, item["Key"], item["UploadId"])
        if not _goes_on(walk, found, "NextUploadIdMarker"):
            walk.rest = [number for number in seen.uploads if number not in walk.met]
        calls = 1 + len(begun)
    if walk.rest == []:
        seen.parts, seen.uploads = walk.size, walk.met
    return walk.rest == [], calls


async def _count(client: Any, bucket: str, walk: Walk, key: str, number: str) -> None:
    if (size := await _parts(client, bucket, key, number)) is not None:
        walk.size += size
        if len(walk.met) < KNOWN:
            walk.met[number] = key


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


async def _parts(client: Any, bucket: str, key: str, number: str) -> int | None:
    """The bytes of an upload, None when it is over."""
    where = {"Bucket": bucket, "Key": key, "UploadId": number}
    size = marker = 0
    while True:
        try:
            found = await client.list_parts(**where, PartNumberMarker=marker, MaxParts=PAGE)
        except ClientError as error:
            if code(error) in (*MISSING, "NoSuchUpload"):  # it was ended meanwhile
                return None
            raise
        size += sum(int(part.get("Size", 0)) for part in found.get("Parts", []))
        if not found.get("IsTruncated") or not found.get("Parts"):
            return size
        marker = found["Parts"][-1]["PartNumber"]
