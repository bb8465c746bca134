"""A bucket of any S3 server, for backups."""

from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import Any

import anyio

from purveyor.backups.models import SourceRecord
from purveyor_hooks import Failed, NotFound

PART = 8 * 1024 * 1024  # bytes
GROW = 1500  # parts of one size, then they grow: S3 takes 10,000
CHUNK = 1024 * 1024
TIMEOUT = 60.0  # seconds without a byte


@asynccontextmanager
async def client(source: SourceRecord, secret_key: str) -> AsyncIterator[Any]:
    import aioboto3
    from botocore.config import Config

    style = "path" if source.force_path_style else "auto"
    config = Config(
        s3={"addressing_style": style},
        connect_timeout=10,
        read_timeout=TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": 3},  # pauses that grow, by chance
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    made = aioboto3.Session().client(
        "s3",
        endpoint_url=source.endpoint or None,
        region_name=source.region,
        aws_access_key_id=source.access_key_id,
        aws_secret_access_key=secret_key,
        config=config,
    )
    async with made as opened:
        yield opened


@contextmanager
def errors(what: str) -> Any:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        if code in ("NoSuchKey", "404", "NotFound"):
            raise NotFound(f"There is no {what} in the bucket.") from None
        raise Failed(
            f"Access to {what} denied: {code}.",
            remedy="Check the keys and the bucket's name.",
        ) from None
    except (BotoCoreError, OSError, TimeoutError) as error:
        raise Failed(
            f"The bucket does not answer ({type(error).__name__}).",
            remedy="Check the endpoint, and try again.",
        ) from None


class Upload:
    """A `Writer`: parts are sent as they fill; nothing appears before `commit`."""

    def __init__(
        self, connect: Callable[[], AbstractAsyncContextManager[Any]], bucket: str, key: str
    ) -> None:
        self._connect = connect
        self._bucket = bucket
        self._key = key
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._buffer = bytearray()
        self._upload = ""
        self._parts: list[dict[str, Any]] = []

    async def open(self) -> None:
        with errors(self._key):
            self._client = await self._stack.enter_async_context(self._connect())

    async def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        size = PART * (1 + len(self._parts) // GROW)
        while len(self._buffer) >= size:
            await self._send(bytes(self._buffer[:size]))
            del self._buffer[:size]

    async def _send(self, part: bytes) -> None:
        with errors(self._key):
            if not self._upload:
                begun = await self._client.create_multipart_upload(
                    Bucket=self._bucket, Key=self._key
                )
                self._upload = begun["UploadId"]
            number = len(self._parts) + 1
            sent = await self._client.upload_part(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload,
                PartNumber=number,
                Body=part,
            )
            self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})

    async def commit(self) -> None:
        with errors(self._key):
            if not self._upload:
                await self._client.put_object(
                    Bucket=self._bucket, Key=self._key, Body=bytes(self._buffer)
                )
            else:
                if self._buffer:
                    await self._send(bytes(self._buffer))
                await self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=self._key,
                    UploadId=self._upload,
                    MultipartUpload={"Parts": self._parts},
                )
        self._upload = ""
        await self._stack.aclose()

    async def discard(self) -> None:
        try:
            if self._upload:
                with anyio.move_on_after(TIMEOUT), errors(self._key):
                    await self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=self._key, UploadId=self._upload
                    )
        except (Failed, NotFound):
            pass  # what was begun is no file; the bucket's own rules sweep it
        finally:
            await self._stack.aclose()


async def read(client: Any, bucket: str, key: str) -> AsyncIterator[bytes]:
    with errors(key):
        found = await client.get_object(Bucket=bucket, Key=key)
        body = found["Body"]
        async with body:
            async for chunk in body.iter_chunks(CHUNK):
                yield chunk


async def size(client: Any, bucket: str, key: str) -> int:
    with errors(key):
        return int((await client.head_object(Bucket=bucket, Key=key))["ContentLength"])


async def put_new(client: Any, bucket: str, key: str, content: bytes) -> None:
    """Put a small object unless there is one of that name: then nothing happens."""
    from botocore.exceptions import ClientError

    with errors(key):
        try:
            await client.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in (409, 412):
                raise


async def keys(client: Any, bucket: str, prefix: str, after: str = "") -> list[str]:
    found: list[str] = []
    with errors(prefix or bucket):
        async for page in client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, StartAfter=after
        ):
            found += [item["Key"] for item in page.get("Contents", [])]
    return found


async def delete(client: Any, bucket: str, key: str) -> None:
    with errors(key):
        await client.delete_object(Bucket=bucket, Key=key)
