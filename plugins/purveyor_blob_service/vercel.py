"""/api/vercel-blob: what the published `@vercel/blob` sends, for apps that use it. Facts from
version 2.8.

Its `get()` asks a host of Vercel's by name and cannot be pointed here; a blob's `url` can be
fetched with the token.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any
from urllib.parse import unquote

import anyio
import msgspec
from litestar import Request, Response, get, post, put
from litestar.exceptions import HTTPException
from litestar.params import Parameter

from purveyor_blob_service import paths
from purveyor_blob_service.store import AlreadyThere, Blob, Bucket, Conditions, PreconditionFailed
from purveyor_hooks import (
    Actor,
    BadInput,
    Bound,
    Conflict,
    Forbidden,
    NotFound,
    PurveyorError,
    Unauthorized,
)

BASE = "/api/vercel-blob"
PART_LIMIT = 64 * 1024 * 1024  # bytes
PARTS_AT_ONCE = 3  # of all clients: each is held in memory
Req = Request[Actor, Any, Any]
CODES: dict[type[PurveyorError], str] = {
    Unauthorized: "forbidden",
    Forbidden: "forbidden",
    NotFound: "not_found",
    AlreadyThere: "bad_request",
    PreconditionFailed: "precondition_failed",
    BadInput: "bad_request",
    Conflict: "bad_request",
}


class Urls(msgspec.Struct, frozen=True):
    """Blobs to delete."""

    urls: list[str]


class Part(msgspec.Struct, frozen=True):
    """A part that was sent."""

    partNumber: int
    etag: str


def refused(_: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """Errors as this client knows them; what it does not know it tries again."""
    if isinstance(error, HTTPException):
        error = BadInput("The request is not one of @vercel/blob's.")
    assert isinstance(error, PurveyorError)
    code = next(
        (code for kind, code in CODES.items() if isinstance(error, kind)), "service_unavailable"
    )
    return Response({"error": {"code": code, "message": str(error)}}, status_code=error.status)


def flag(request: Req, header: str) -> bool:
    return request.headers.get(header) == "1"


def conditions(request: Req) -> Conditions:
    etag = request.headers.get("x-if-match", "")
    return Conditions(absent=not flag(request, "x-allow-overwrite") and not etag, etag=etag)


def age(request: Req) -> str:
    """The Cache-Control that is asked for."""
    seconds = request.headers.get("x-cache-control-max-age", "")
    return f"max-age={seconds}" if seconds.isdecimal() else ""


def blob_answer(request: Req, bound: Bound, blob: Blob) -> dict[str, Any]:
    """A blob as this client knows it."""
    url = paths.url(bound.api_url or str(request.base_url), bound.project_id, blob.pathname)
    name = blob.pathname.rpartition("/")[2].encode("ascii", "replace").decode().replace('"', "'")
    return {
        "url": url,
        "downloadUrl": f"{url}?download=1",
        "pathname": blob.pathname,
        "contentType": blob.content_type,
        "contentDisposition": f'inline; filename="{name}"',
        "cacheControl": blob.cache_control,
        "size": blob.size,
        "uploadedAt": blob.uploaded_at.isoformat().replace("+00:00", "Z"),
        "etag": blob.etag,
    }


def target(request: Req, pathname: str) -> str:
    name = paths.check(pathname)
    return paths.suffixed(name) if flag(request, "x-add-random-suffix") else name


async def body_of(request: Req) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        yield chunk


async def copied(request: Req, bound: Bound, bucket: Bucket, source: str, pathname: str) -> Blob:
    kind = request.headers.get("x-content-type", "")
    if kind:
        paths.media_type(kind, "", pathname)
    return await bucket.copy(
        source, target(request, pathname), conditions(request), kind, age(request)
    )


@put("/", status_code=200, request_max_body_size=None)
async def put_or_copy(
    request: Req, desk: Any, pathname: str, fromUrl: str | None = None
) -> dict[str, Any]:
    """Write a blob, or copy one."""
    bound = await desk.bound(request.user, None, None)
    async with desk.buckets.opened(bound) as bucket:
        if fromUrl is not None:
            source = paths.of_url(fromUrl, bound.project_id, "fromUrl")
            return blob_answer(
                request, bound, await copied(request, bound, bucket, source, pathname)
            )
        name = target(request, pathname)
        kind = paths.media_type(request.headers.get("x-content-type"), "", name)
        return blob_answer(
            request,
            bound,
            await bucket.put(name, body_of(request), kind, conditions(request), age(request)),
        )


@get("/")
async def head_or_list(
    request: Req,
    desk: Any,
    url: str | None = None,
    limit: Annotated[int, Parameter(ge=1, le=1000)] = 1000,
    prefix: str = "",
    cursor: str | None = None,
    mode: str = "expanded",
) -> dict[str, Any]:
    """What is known of one blob, or a page of them."""
    bound = await desk.bound(request.user, None, None)
    async with desk.buckets.opened(bound) as bucket:
        if url is not None:
            return blob_answer(
                request, bound, await bucket.head(paths.of_url(url, bound.project_id, "url"))
            )
        folded = mode == "folded"
        page = await bucket.page(paths.check_prefix(prefix), limit, cursor, folded)
    listed: dict[str, Any] = {
        "blobs": [blob_answer(request, bound, blob) for blob in page.blobs],
        "hasMore": page.cursor is not None,
    }
    return (
        listed
        | ({"cursor": page.cursor} if page.cursor else {})
        | ({"folders": page.folders} if folded else {})
    )


@post("/delete", status_code=200)
async def delete_urls(request: Req, desk: Any, data: Urls) -> dict[str, int]:
    """Delete blobs; one that is not there is no error."""
    bound = await desk.bound(request.user, None, None)
    names = [paths.of_url(url, bound.project_id, "urls") for url in data.urls]
    async with desk.buckets.opened(bound) as bucket:
        if names and (etag := request.headers.get("x-if-match")):
            await bucket.meet(names[0], Conditions(etag=etag))
        return {"deleted": await bucket.delete(names)}


@post("/rename", status_code=200)
async def rename(request: Req, desk: Any, pathname: str, fromUrl: str) -> dict[str, Any]:
    """Copy a blob, then delete the one that it was copied from."""
    bound = await desk.bound(request.user, None, None)
    source = paths.of_url(fromUrl, bound.project_id, "fromUrl")
    async with desk.buckets.opened(bound) as bucket:
        made = await copied(request, bound, bucket, source, pathname)
        if made.pathname != source:
            await bucket.delete([source])
    return blob_answer(request, bound, made)


def uploads() -> Any:
    """An upload in parts: create, upload, complete."""
    slots = anyio.Semaphore(PARTS_AT_ONCE)

    @post("/mpu", status_code=200, request_max_body_size=None)
    async def in_parts(request: Req, desk: Any, pathname: str) -> dict[str, Any]:
        bound = await desk.bound(request.user, None, None)
        action = request.headers.get("x-mpu-action", "")
        async with desk.buckets.opened(bound) as bucket:
            if action == "create":
                name = target(request, pathname)
                await bucket.meet(name, conditions(request))
                kind = paths.media_type(request.headers.get("x-content-type"), "", name)
                described = {"ContentType": kind} | (
                    {"CacheControl": age(request)} if age(request) else {}
                )
                return {"key": name, "uploadId": await bucket.begin(name, described)}
            name, upload = _of_upload(request.headers)
            if action == "upload":
                async with slots:
                    number = _number(request.headers.get("x-mpu-part-number", ""))
                    return {
                        "etag": await bucket.part(name, upload, number, await _whole_part(request))
                    }
            if action == "complete":
                parts = {part.partNumber: part.etag for part in _parts(await request.body())}
                await bucket.complete(name, upload, parts, conditions(request))
                return blob_answer(request, bound, await bucket.head(name))
        raise BadInput(
            "x-mpu-action must be create, upload or complete.", errors={"x-mpu-action": "not known"}
        )

    return in_parts


def _of_upload(headers: Mapping[str, str]) -> tuple[str, str]:
    upload = headers.get("x-mpu-upload-id", "")
    if not upload:
        raise BadInput("The upload is not named.", errors={"x-mpu-upload-id": "needed"})
    return paths.check(unquote(headers.get("x-mpu-key", "")), "x-mpu-key"), upload


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise BadInput(
            "A part's number is from 1 to 10,000.",
            errors={"x-mpu-part-number": "not a number of a part"},
        )
    return int(text)


def _parts(body: bytes) -> list[Part]:
    try:
        return msgspec.json.decode(body, type=list[Part])
    except msgspec.MsgspecError as error:
        raise BadInput(
            f"The list of parts cannot be used: {error}.", errors={"body": str(error)}
        ) from None


async def _whole_part(request: Req) -> bytearray:
    part = bytearray()
    async for chunk in request.stream():
        part += chunk
        if len(part) > PART_LIMIT:
            why = f"a part has at most {PART_LIMIT // 1024 // 1024} MiB"
            raise BadInput(
                f"The part is too big: {why}.", remedy="Send smaller parts.", errors={"body": why}
            )
    return part


def handlers() -> list[Any]:
    """The routes, which answer errors in this client's shape."""
    return [put_or_copy, head_or_list, delete_urls, rename, uploads()]
