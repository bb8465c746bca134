"""An object written from a stream of unknown length, in constant memory; nothing of it is seen
before its last byte."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any

import anyio
from botocore.exceptions import BotoCoreError, ClientError

PART = 8 * 1024 * 1024  # bytes
IN_FLIGHT = 2
PARTS_OF_A_SIZE = 2500  # then they grow: S3 takes 10,000 parts
TIMEOUT = 60.0  # seconds


async def upload(
    client: Any,
    bucket: str,
    key: str,
    chunks: AsyncIterable[bytes],
    described: Mapping[str, Any],
    conditions: Mapping[str, str] | None = None,
) -> str:
    """Write an object; `described` are its type and the like, `conditions` what must hold. Raises
    what the driver does.

    The answer is the version that was made, "" where there are none.
    """
    stream = _parts(chunks)
    first = await anext(stream)
    if len(first) < PART:
        put = await client.put_object(
            Bucket=bucket, Key=key, Body=bytes(first), **described, **(conditions or {})
        )
        return str(put.get("VersionId") or "")
    begun = await client.create_multipart_upload(Bucket=bucket, Key=key, **described)
    number = begun["UploadId"]
    try:
        done = await _send(client, bucket, key, number, first, stream)
        listed = [{"PartNumber": part, "ETag": etag} for part, etag in sorted(done.items())]
        made = await client.complete_multipart_upload(
            Bucket=bucket,
            Key=key,
            UploadId=number,
            MultipartUpload={"Parts": listed},
            **(conditions or {}),
        )
        return str(made.get("VersionId") or "")
    except BaseException as error:
        await abort(client, bucket, key, number)
        raise first_of(error) from None


async def _send(
    client: Any,
    bucket: str,
    key: str,
    number: str,
    first: bytearray,
    rest: AsyncIterator[bytearray],
) -> dict[int, str]:
    done: dict[int, str] = {}
    slots = anyio.Semaphore(IN_FLIGHT)

    async def send(part_number: int, part: bytearray) -> None:
        try:
            sent = await client.upload_part(
                Bucket=bucket, Key=key, UploadId=number, PartNumber=part_number, Body=part
            )
            done[part_number] = sent["ETag"]
        finally:
            slots.release()

    async with anyio.create_task_group() as group:
        await slots.acquire()
        group.start_soon(send, 1, first)
        del first
        count = 1
        await slots.acquire()
        async for part in rest:
            count += 1
            group.start_soon(send, count, part)
            del part
            await slots.acquire()
        slots.release()
    return done


async def abort(client: Any, bucket: str, key: str, number: str) -> None:
    """Take back an upload that was begun; the first fault is the one that is told."""
    with anyio.move_on_after(TIMEOUT, shield=True):
        try:
            await client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=number)
        except (ClientError, BotoCoreError, OSError):
            return  # it is no object, and is found and aborted later


async def _parts(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytearray]:
    """What comes, in parts as S3 takes them; at least one, and only the last is short."""
    number, part = 0, bytearray()
    size = PART
    async for chunk in chunks:
        view = memoryview(chunk)
        while len(view):
            taken = view[: size - len(part)]
            part += taken
            view = view[len(taken) :]
            if len(part) == size:
                yield part
                number, part = number + 1, bytearray()
                size = PART * (1 + number // PARTS_OF_A_SIZE)
    if part or not number:
        yield part


def first_of(error: BaseException) -> BaseException:
    """The first error that a group of them holds."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
