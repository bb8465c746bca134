"""What an S3 server holds, listed without a filter: buckets, and every version of every object,
oldest first."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import validate_ascii_metadata

from purveyor_hooks import Access, Service
from purveyor_s3.driver import administrator, code, config
from purveyor_s3.server import HEALTH, IDENTITY, OWN_BUCKET, USAGE

TIMEOUT = 120.0
ORDER = "PurveyorOrder"


class Item(NamedTuple):
    """One version of an object, or a mark that it was deleted."""

    key: str
    version: str  # "" in a bucket that never had versions
    size: int
    latest: bool
    marker: bool
    modified: datetime
    storage_class: str


@asynccontextmanager
async def connect(service: Service, access: Access) -> AsyncIterator[Any]:
    """The administrator's client, for calls that take long."""
    async with administrator(service, access, config(TIMEOUT, pool=16)) as client:
        client.meta.events.register("before-parse.s3.ListObjectVersions", _note_order)
        # servers keep what is not ASCII, and it comes back as it is
        for operation in ("PutObject", "CreateMultipartUpload"):
            client.meta.events.unregister(
                f"before-parameter-build.s3.{operation}", validate_ascii_metadata
            )
        yield client


def _note_order(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """The driver sorts versions and delete markers apart; times of a second do not tell which came
    first."""
    customized_response_dict[ORDER] = re.findall(
        rb"<(Version|DeleteMarker)>", response_dict["body"]
    )


async def buckets(client: Any) -> list[str]:
    return sorted(bucket["Name"] for bucket in (await client.list_buckets()).get("Buckets", []))


def is_own(bucket: str, key: str) -> bool:
    """What each service has for itself."""
    return bucket == OWN_BUCKET and key in (HEALTH, IDENTITY, USAGE)


async def items(client: Any, bucket: str, *, versioned: bool) -> AsyncIterator[Item]:
    """All of a bucket, by key; of one key the oldest first."""
    if not versioned:
        async for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", []):
                if not is_own(bucket, found["Key"]):
                    yield _item(found, latest=True)
        return
    held: dict[str, list[Item]] = {}
    last = ""
    async for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        kinds = {
            b"Version": iter(page.get("Versions", [])),
            b"DeleteMarker": iter(page.get("DeleteMarkers", [])),
        }
        for kind in page[ORDER]:
            found = next(kinds[kind])
            item = _item(found, latest=bool(found["IsLatest"]), marker=kind == b"DeleteMarker")
            held.setdefault(item.key, []).append(item)
            last = item.key  # the next page may go on with it
        for key in [key for key in held if key != last]:
            for item in _oldest_first(held.pop(key)):
                yield item
    for found in held.values():
        for item in _oldest_first(found):
            yield item


def _item(found: dict[str, Any], *, latest: bool, marker: bool = False) -> Item:
    return Item(
        key=found["Key"],
        version=str(found.get("VersionId") or ""),
        size=int(found.get("Size") or 0),
        latest=latest,
        marker=marker,
        modified=found["LastModified"],
        storage_class=str(found.get("StorageClass") or "STANDARD"),
    )


def _oldest_first(found: list[Item]) -> list[Item]:
    """S3 lists the newest first; where times are of a second, this order tells what they do not."""
    ordered = [found[place] for place in range(len(found) - 1, -1, -1)]
    return sorted(ordered, key=lambda item: (item.latest, item.modified))


def said(error: Exception) -> str:
    """What a server or the way to it answered, in few words and without an address."""
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message", ""))
        return f"{code(error)}: {message}" if message else code(error)
    if isinstance(error, BotoCoreError):
        return type(error).__name__.replace("Error", "").strip() or "no answer"
    return type(error).__name__
