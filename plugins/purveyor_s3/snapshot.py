"""Backups as objects: every bucket, every object in its newest version, with its type and metadata."""

from collections.abc import AsyncIterator
from typing import Any

from purveyor_hooks import Access, Census, Service, Sink, Source
from purveyor_hooks.parts import Part, PartWriter, read_parts
from purveyor_s3 import transfer
from purveyor_s3.driver import config, session
from purveyor_s3.flavours import PORT, REGION
from purveyor_s3.server import HEALTH, IDENTITY, OWN_BUCKET, ensure_bucket

BUCKET, OBJECT = "bucket", "object"
CHUNK = 1024 * 1024
TIMEOUT = 120.0
KEPT = ("ContentType", "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "Metadata")


def _client(service: Service, access: Access) -> Any:
    """The administrator's client, for calls that take long."""
    address = access.address(PORT)
    return session().client(
        "s3",
        endpoint_url=f"http://{address.host}:{address.port}",
        region_name=REGION,
        aws_access_key_id=service.parameters["access_key"],
        aws_secret_access_key=service.parameters["secret_key"],
        config=config(TIMEOUT, pool=16),
    )


async def _objects(client: Any, bucket: str) -> AsyncIterator[dict[str, Any]]:
    async for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            own = bucket == OWN_BUCKET and item["Key"] in (HEALTH, IDENTITY)
            if not own and not (item["Key"].endswith("/") and not item["Size"]):
                yield item


async def _buckets(client: Any) -> list[str]:
    return sorted(bucket["Name"] for bucket in (await client.list_buckets()).get("Buckets", []))


async def census(service: Service, access: Access) -> Census:
    """Objects and bytes of each bucket; our own marks are left out."""
    counts: dict[str, dict[str, int]] = {"buckets": {}, "objects": {}, "bytes": {}}
    async with _client(service, access) as client:
        for bucket in await _buckets(client):
            if bucket != OWN_BUCKET:
                _begin(counts, bucket)
                async for item in _objects(client, bucket):
                    _add(counts, bucket, item["Size"])
    return Census(counts=counts)


def _begin(counts: dict[str, dict[str, int]], bucket: str) -> None:
    counts["buckets"][bucket] = 1
    counts["objects"][bucket] = counts["bytes"][bucket] = 0


def _add(counts: dict[str, dict[str, int]], bucket: str, size: int) -> None:
    counts["objects"][bucket] += 1
    counts["bytes"][bucket] += size


async def backup(service: Service, access: Access, sink: Sink) -> Census:
    counts: dict[str, dict[str, int]] = {"buckets": {}, "objects": {}, "bytes": {}}
    writer = PartWriter(sink)
    async with _client(service, access) as client:
        for bucket in await _buckets(client):
            await writer.whole(BUCKET, b"", bucket=bucket)
            if bucket != OWN_BUCKET:
                _begin(counts, bucket)
            async for item in _objects(client, bucket):
                size = await _write(client, writer, bucket, item["Key"])
                if size is not None and bucket != OWN_BUCKET:
                    _add(counts, bucket, size)
    await writer.close()
    return Census(counts=counts)


async def _write(client: Any, writer: PartWriter, bucket: str, key: str) -> int | None:
    """One object; None for one that was deleted since it was listed."""
    try:
        found = await client.get_object(Bucket=bucket, Key=key)
    except client.exceptions.NoSuchKey:
        return None
    described = {name: found[name] for name in KEPT if found.get(name)}
    await writer.begin(OBJECT, bucket=bucket, key=key, described=described)
    size = 0
    body = found["Body"]
    async with body:
        async for chunk in body.iter_chunks(CHUNK):
            size += len(chunk)
            await writer.write(chunk)
    await writer.end()
    return size


async def restore(service: Service, access: Access, source: Source) -> None:
    async with _client(service, access) as client:
        async for part in read_parts(source):
            if part.name == BUCKET:
                await ensure_bucket(client, str(part.facts["bucket"]))
            elif part.name == OBJECT:
                await _put(client, part)


async def _put(client: Any, part: Part) -> None:
    facts = part.facts
    await transfer.upload(client, facts["bucket"], facts["key"], aiter(part), facts["described"])
