"""The S3 server: clients of it, and whether it serves."""

import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from purveyor_hooks import Access, Health, Service
from purveyor_s3 import flavours, keys
from purveyor_s3.driver import TIMEOUT, administrator, code, config

PORT = flavours.PORT
OWN_BUCKET = "purveyor"  # a project's bucket always has a hyphen in its name
HEALTH, IDENTITY, USAGE = "health", "identity", "usage"
LOOKS = 3
MISSING = ("NoSuchKey", "NoSuchBucket", "NotFound", "404")
REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied")
EXISTS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


@asynccontextmanager
async def connection(service: Service, access: Access) -> AsyncIterator[Any]:
    """The administrator's client."""
    async with administrator(service, access, config(TIMEOUT)) as client:
        yield client


async def exists(client: Any, bucket: str) -> bool:
    try:
        await client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if code(error) in MISSING:
            return False
        raise
    return True


async def ensure_bucket(client: Any, name: str) -> None:
    """Make a bucket unless it is there."""
    try:
        await client.create_bucket(Bucket=name)
    except ClientError as error:
        if code(error) not in EXISTS:
            raise


async def text(client: Any, key: str) -> str | None:
    """A small object of our own bucket, None when it is not there."""
    try:
        found = await client.get_object(Bucket=OWN_BUCKET, Key=key)
        async with found["Body"] as body:
            return str((await body.read()).decode())
    except ClientError as error:
        if code(error) in MISSING:
            return None
        raise


async def ready(service: Service, access: Access) -> Health:
    """Log in, list, write an object and read it back."""
    address = access.address(PORT)
    try:  # a server that is not there yet is told without a client being made for it
        with anyio.fail_after(TIMEOUT):
            await (await anyio.connect_tcp(address.host, address.port)).aclose()
    except (OSError, TimeoutError):
        return Health(
            healthy=False, stage="container", detail="The server does not accept connections."
        )
    stage, version = "tcp", ""
    try:
        async with connection(service, access) as client:
            listed = await client.list_buckets()
            stage = "login"
            version = await _version(
                service, access, listed["ResponseMetadata"]["HTTPHeaders"].get("server", "")
            )
            stage = "query"
            if OWN_BUCKET not in {bucket["Name"] for bucket in listed.get("Buckets", [])}:
                await ensure_bucket(client, OWN_BUCKET)
            if not await _comes_back(client):
                return Health(
                    healthy=False,
                    stage=stage,
                    version=version,
                    detail="What was written does not come back.",
                )
            return Health(healthy=True, stage="write", version=version)
    except EndpointConnectionError:
        return Health(
            healthy=False,
            stage="container",
            version=version,
            detail="The server does not accept connections.",
        )
    except ClientError as error:
        detail = (
            "The administrator's keys are refused."
            if code(error) in REFUSED and stage == "tcp"
            else str(error)
        )
        return Health(healthy=False, stage=stage, version=version, detail=detail)
    except (BotoCoreError, OSError, TimeoutError, keys.KeysFailed) as error:
        return Health(
            healthy=False, stage=stage, version=version, detail=f"{type(error).__name__}: {error}"
        )


async def _comes_back(client: Any) -> bool:
    """Whether what is written is read. Another look that is made at the same time may overwrite
    it: that of a later one is as good."""
    for _ in range(LOOKS):
        mark = f"{time.time_ns():020d} {uuid.uuid4().hex}"
        await client.put_object(Bucket=OWN_BUCKET, Key=HEALTH, Body=mark.encode())
        if (await text(client, HEALTH) or "") >= mark:
            return True
    return False


async def _version(service: Service, access: Access, header: str) -> str:
    """The server's own word, where it says it."""
    numbers = re.findall(r"\d+(?:\.\d+)+", header)
    return numbers[-1] if numbers else await keys.of(service, access).version()


async def identity(service: Service, access: Access, create: bool) -> str:
    """An object of our own bucket."""
    async with connection(service, access) as client:
        found = await text(client, IDENTITY)
        if found is None and create:
            await ensure_bucket(client, OWN_BUCKET)
            await client.put_object(Bucket=OWN_BUCKET, Key=IDENTITY, Body=uuid.uuid4().hex.encode())
            found = await text(client, IDENTITY)
        return found or ""
