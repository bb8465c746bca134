"""A project's bucket, reached with the project's own key: the server itself keeps projects
apart."""

import base64
import binascii
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import anyio
from botocore.exceptions import BotoCoreError, ClientError

from purveyor_blob_service import paths
from purveyor_hooks import BadInput, Bound, Conflict, Failed, NotFound, PurveyorError, StorageFull
from purveyor_s3 import driver, flavours, transfer

TIMEOUT = 60.0  # seconds without a byte
ABANDONED = timedelta(days=1)
COPY_AT_ONCE = 5 * 1024**3
BATCH = 1000
HEADS = 16
CLIENTS = 128
MISSING = ("NoSuchKey", "NotFound", "404", "NoSuchUpload")


class PreconditionFailed(PurveyorError):
    """A condition of the request does not hold."""

    status = 412
    code = "precondition-failed"
    title = "A condition does not hold"
    exit_code = 5


class AlreadyThere(PreconditionFailed):
    """There is a blob of that name, and it was not allowed to overwrite it."""


class RangeNotSatisfiable(PurveyorError):
    """The range lies beyond the end."""

    status = 416
    code = "range-not-satisfiable"
    title = "There is nothing in that range"
    exit_code = 2


class NotModified(Exception):
    """What the caller has is what there is."""


class Blob(NamedTuple):
    """What is known of a blob: size in bytes, its type and when it was written."""

    pathname: str
    size: int
    content_type: str
    uploaded_at: datetime
    etag: str
    cache_control: str = ""


class Listing(NamedTuple):
    """A page of blobs; `cursor` leads to the next, None on the last."""

    blobs: list[Blob]
    folders: list[str]
    cursor: str | None


class Conditions(NamedTuple):
    """What must hold before a blob is written: nothing there, or this very content."""

    absent: bool = False
    etag: str = ""

    def arguments(self) -> dict[str, str]:
        return ({"IfNoneMatch": "*"} if self.absent else {}) | (
            {"IfMatch": self.etag} if self.etag else {}
        )


class _Client:
    """A client in use: retired while somebody still reads through it, it is closed by the last
    one."""

    def __init__(self, bound: Bound, opened: Any, stack: AsyncExitStack) -> None:
        self.bound = bound
        self.opened = opened
        self.users = 0
        self._stack = stack
        self._retired = False

    async def retire(self) -> None:
        self._retired = True
        await self.leave(0)

    async def leave(self, count: int = 1) -> None:
        self.users -= count
        if self._retired and not self.users:
            with anyio.CancelScope(shield=True):
                await self._stack.aclose()


class Buckets:
    """The buckets by binding; a client of one is kept, for making it costs more than most
    requests."""

    def __init__(self) -> None:
        self._clients: dict[int, _Client] = {}
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def opened(self, bound: Bound) -> AsyncIterator["Bucket"]:
        """The bucket of a binding. What the server refuses is raised in the words of
        `purveyor_hooks.errors`."""
        known = self._clients.get(bound.binding.id)
        if known is None or (known.bound is not bound and known.bound != bound):
            async with self._lock:
                known = await self._client(bound)
        known.users += 1
        try:
            yield Bucket(known.opened, bound.binding.resource)
        except (ClientError, BotoCoreError, OSError, ExceptionGroup) as error:
            raise translate_error(transfer.first_of(error)) from None
        finally:
            await known.leave()

    async def _client(self, bound: Bound) -> _Client:
        known = self._clients.get(bound.binding.id)
        if known is not None:
            if known.bound == bound:
                return known
            await self._clients.pop(bound.binding.id).retire()
        while len(self._clients) >= CLIENTS:
            await self._clients.pop(next(iter(self._clients))).retire()
        service, binding = bound.service, bound.binding
        stack = AsyncExitStack()
        opened = await stack.enter_async_context(
            driver.session().client(
                "s3",
                endpoint_url=f"http://{service.host}:{service.port(flavours.PORT)}",
                region_name=flavours.REGION,
                aws_access_key_id=binding.account,
                aws_secret_access_key=binding.password,
                config=driver.config(TIMEOUT, pool=64),
            )
        )
        made = self._clients[binding.id] = _Client(bound, opened, stack)
        await Bucket(opened, binding.resource).forget_abandoned()
        return made


def translate_error(error: BaseException) -> BaseException:
    """A server's refusal, as a person can use it."""
    if not isinstance(error, ClientError | BotoCoreError | OSError):
        return error
    if not isinstance(error, ClientError):
        detail = f"The server behind Blob does not answer ({type(error).__name__})."
        return Failed(detail, remedy="Is the service running? See: purveyor health blob")
    name = driver.code(error)
    if name in MISSING:
        return NotFound("There is no such blob.")
    if name in ("PreconditionFailed", "412"):
        return PreconditionFailed(
            "The blob is there already, or is not the one that was meant.", remedy="Read it anew."
        )
    if name in ("InvalidRange", "416"):
        return RangeNotSatisfiable("The range begins beyond the end of the blob.")
    if name in (
        "XMinioParentIsObject",
        "XMinioObjectExistsAsDirectory",
        "ExistingObjectIsDirectory",
        "ExistingObjectIsFile",
    ):
        detail = (
            "The name stands in the way of another: it is a folder's, or one of its folders is "
            "a blob."
        )
        return Conflict(detail, remedy="Choose another name.")
    # MinIO's words, and RustFS's
    if name == "XMinioStorageFull" or "disk full" in str(error).lower():
        return StorageFull(
            "The disk of the server behind Blob is full.", remedy="Make room on it: purveyor doctor"
        )
    again = (
        "While its key is being rotated that passes: try again. If it stays so: purveyor rotate "
        "PROJECT, then deploy."
    )
    if name == "AccessDenied":
        return StorageFull(
            "The server behind Blob refuses the write: the project's storage is full.",
            remedy=f"Delete something, or raise project_storage: purveyor health blob. {again}",
        )
    if name in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return Failed(
            "The server behind Blob refuses the project's key.",
            remedy=again,
        )
    return Failed(
        f"The server behind Blob refused: {name or 'unknown'}.",
        remedy="See its log: purveyor logs blob",
    )


class Bucket:
    """One bucket. Raises what the driver raises; `Buckets.opened` tells it in our words."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    async def put(
        self,
        pathname: str,
        chunks: AsyncIterable[bytes],
        content_type: str,
        conditions: Conditions,
        cache_control: str = "",
    ) -> Blob:
        """Write a blob from what comes, in constant memory. Until the last byte is there, nothing
        of it is seen."""
        await self.meet(pathname, conditions)
        described = {"ContentType": content_type} | (
            {"CacheControl": cache_control} if cache_control else {}
        )
        await transfer.upload(
            self._client, self._name, pathname, chunks, described, conditions.arguments()
        )
        return await self.head(pathname)

    async def meet(self, pathname: str, conditions: Conditions) -> None:
        """Look before writing: not every server knows conditions at every call."""
        if not (conditions.absent or conditions.etag):
            return
        try:
            found = await self.head(pathname)
        except ClientError as error:
            if driver.code(error) not in MISSING:
                raise
            if conditions.etag:
                raise PreconditionFailed("There is no blob of this name.") from None
            return
        if conditions.absent:
            raise AlreadyThere(
                "There is a blob of this name already.",
                remedy="Allow to overwrite it, or choose another.",
            )
        if conditions.etag.strip('"') != found.etag.strip('"'):
            raise PreconditionFailed(
                "The blob has changed since it was read.", remedy="Read it anew."
            )

    # ---------------------------------------------------------------- uploads in parts

    async def begin(self, pathname: str, described: Mapping[str, str]) -> str:
        """Begin an upload in parts; the answer is its id."""
        begun = await self._client.create_multipart_upload(
            Bucket=self._name, Key=pathname, **described
        )
        return str(begun["UploadId"])

    async def part(
        self, pathname: str, upload: str, number: int, content: bytes | bytearray
    ) -> str:
        """Send a part, counted from 1; the answer is its ETag."""
        sent = await self._client.upload_part(
            Bucket=self._name, Key=pathname, UploadId=upload, PartNumber=number, Body=content
        )
        return str(sent["ETag"])

    async def complete(
        self, pathname: str, upload: str, parts: Mapping[int, str], conditions: Conditions
    ) -> None:
        """Make a blob of the parts."""
        listed = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(parts.items())]
        await self._client.complete_multipart_upload(
            Bucket=self._name,
            Key=pathname,
            UploadId=upload,
            MultipartUpload={"Parts": listed},
            **conditions.arguments(),
        )

    async def forget_abandoned(self) -> None:
        """Abort uploads that were begun long ago and never ended: a crash, or a client that went
        away."""
        try:
            found = await self._client.list_multipart_uploads(Bucket=self._name)
        except ClientError:
            return
        for upload in found.get("Uploads", []):
            if datetime.now(UTC) - upload["Initiated"] > ABANDONED:
                await transfer.abort(self._client, self._name, upload["Key"], upload["UploadId"])

    # ---------------------------------------------------------------- reading

    async def head(self, pathname: str) -> Blob:
        return _blob(pathname, await self._client.head_object(Bucket=self._name, Key=pathname))

    async def get(
        self, pathname: str, headers: Mapping[str, str]
    ) -> tuple[Blob, dict[str, str], Any]:
        """A blob, the headers of a part of it when a range was asked for, and its body to be read.

        Raises `NotModified` when the conditions say that the caller has it.
        """
        try:
            found = await self._client.get_object(
                Bucket=self._name, Key=pathname, **_conditional(headers)
            )
        except ClientError as error:
            if driver.code(error) in ("304", "NotModified"):
                raise NotModified from None
            raise
        blob = _blob(pathname, found)
        return (
            blob,
            ({"content-range": found["ContentRange"]} if "ContentRange" in found else {}),
            found["Body"],
        )

    async def page(
        self, prefix: str, limit: int, cursor: str | None, folded: bool = False
    ) -> Listing:
        """A page of the blobs whose names begin so, in order of name; `folded` gathers those of
        deeper folders.

        A listing knows no types: `content_type` is empty.
        """
        given: dict[str, Any] = {"Prefix": prefix, "MaxKeys": limit}
        if cursor:
            given["ContinuationToken"] = _opened_cursor(cursor)
        if folded:
            given["Delimiter"] = "/"
        try:
            found = await self._client.list_objects_v2(Bucket=self._name, **given)
        except ClientError as error:
            if cursor and driver.code(error) in ("InvalidArgument", "InvalidToken"):
                raise _bad_cursor() from None
            raise
        blobs = [
            Blob(
                item["Key"],
                item["Size"],
                "",
                item["LastModified"].astimezone(UTC),
                item.get("ETag", ""),
            )
            for item in found.get("Contents", [])
            if not item["Key"].endswith("/")
        ]
        folders = await self._filled([item["Prefix"] for item in found.get("CommonPrefixes", [])])
        following = found.get("NextContinuationToken") if found.get("IsTruncated") else None
        return Listing(
            blobs,
            folders,
            base64.urlsafe_b64encode(following.encode()).decode() if following else None,
        )

    async def _filled(self, folders: Sequence[str]) -> list[str]:
        """Those that hold a blob: SeaweedFS also lists folders whose last one is gone."""
        filled: set[str] = set()
        limiter = anyio.CapacityLimiter(HEADS)

        async def look(folder: str) -> None:
            async with limiter:
                found = await self._client.list_objects_v2(
                    Bucket=self._name, Prefix=folder, MaxKeys=1
                )
                if any(not item["Key"].endswith("/") for item in found.get("Contents", [])):
                    filled.add(folder)

        async with anyio.create_task_group() as group:
            for folder in folders:
                group.start_soon(look, folder)
        return [folder for folder in folders if folder in filled]

    async def described(self, blobs: Sequence[Blob]) -> list[Blob]:
        """The same blobs with their types; one that is gone meanwhile is left out."""
        found: dict[str, Blob] = {}
        limiter = anyio.CapacityLimiter(HEADS)

        async def look(pathname: str) -> None:
            async with limiter:
                try:
                    found[pathname] = await self.head(pathname)
                except ClientError as error:
                    if driver.code(error) not in MISSING:
                        raise

        async with anyio.create_task_group() as group:
            for blob in blobs:
                group.start_soon(look, blob.pathname)
        return [found[blob.pathname] for blob in blobs if blob.pathname in found]

    # ---------------------------------------------------------------- changing

    async def copy(
        self,
        source: str,
        target: str,
        conditions: Conditions,
        content_type: str = "",
        cache_control: str = "",
    ) -> Blob:
        """Copy a blob within the bucket, on the server."""
        from boto3.s3.transfer import TransferConfig  # like the driver: when it is first needed

        found = await self.head(source)
        await self.meet(target, conditions)
        described = {
            "ContentType": content_type or found.content_type,
            "CacheControl": cache_control or found.cache_control,
            "MetadataDirective": "REPLACE",
        }
        await self._client.copy(
            {"Bucket": self._name, "Key": source},
            self._name,
            target,
            ExtraArgs={name: value for name, value in described.items() if value},
            Config=TransferConfig(
                multipart_threshold=COPY_AT_ONCE, multipart_chunksize=COPY_AT_ONCE // 5
            ),
        )
        return await self.head(target)

    async def delete(self, pathnames: Sequence[str]) -> int:
        """Delete blobs; the answer is how many were there."""
        wanted = list(dict.fromkeys(pathnames))
        there = await self.described([Blob(name, 0, "", datetime.now(UTC), "") for name in wanted])
        for start in range(0, len(there), BATCH):
            listed = [{"Key": blob.pathname} for blob in there[start : start + BATCH]]
            answer = await self._client.delete_objects(
                Bucket=self._name, Delete={"Objects": listed, "Quiet": True}
            )
            if errors := answer.get("Errors"):
                raise Failed(
                    f"{len(errors)} of {len(wanted)} blobs could not be deleted: "
                    f"{errors[0].get('Code')}."
                )
        return len(there)


def _blob(pathname: str, found: Mapping[str, Any]) -> Blob:
    return Blob(
        pathname=pathname,
        size=found["ContentLength"],
        content_type=found.get("ContentType") or paths.PLAIN,
        uploaded_at=found["LastModified"].astimezone(UTC),
        etag=found.get("ETag", ""),
        cache_control=found.get("CacheControl", ""),
    )


def _conditional(headers: Mapping[str, str]) -> dict[str, Any]:
    """A request's conditions for the server. A range of several pieces, or none, is not honoured:
    the whole comes."""
    given: dict[str, Any] = {}
    asked = headers.get("range", "").replace(" ", "")
    if re.fullmatch(r"bytes=(\d+-\d*|-\d+)", asked) and not headers.get("if-range"):
        given["Range"] = asked
    for header, name in (("if-none-match", "IfNoneMatch"), ("if-match", "IfMatch")):
        if value := headers.get(header):
            given[name] = value
    for header, name in (
        ("if-modified-since", "IfModifiedSince"),
        ("if-unmodified-since", "IfUnmodifiedSince"),
    ):
        if (
            (value := headers.get(header))
            and "IfNoneMatch" not in given
            and (moment := _moment(value))
        ):
            given[name] = moment
    return given


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return None


def _opened_cursor(cursor: str) -> str:
    try:
        return base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _bad_cursor() from None


def _bad_cursor() -> BadInput:
    why = "unknown or expired cursor"
    return BadInput(
        f"The cursor cannot be used: {why}.",
        remedy="Begin again without a cursor.",
        errors={"cursor": why},
    )
