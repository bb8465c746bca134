"""/api/blob: put, get, list, copy, delete, and whether Blob is there at all."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import msgspec
from litestar import Request, Router, delete, get, post, route
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.params import Parameter
from litestar.response.base import ASGIResponse

from purveyor_blob_service import paths, vercel
from purveyor_blob_service.flow import Description, Download
from purveyor_blob_service.store import Blob, Buckets, Conditions
from purveyor_hooks import FOR_APPS, Actor, Application, BadInput, Bound, PurveyorError, standing

TYPE = "blob"
DELETE_LIMIT = 1000
Req = Request[Actor, Any, Any]


class BlobAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A blob: where it is read, its name, its type, its size in bytes and when it was written."""

    url: str
    pathname: str
    contentType: str
    size: int
    uploadedAt: str
    etag: str


class ListAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of blobs; `cursor` leads to the next."""

    blobs: list[BlobAnswer]
    cursor: str | None
    hasMore: bool


class DeleteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Blobs by name, or by their URLs."""

    pathnames: list[str]
    projectId: int | str | None = None
    project_id: int | str | None = None
    environment: str | None = None


class CopyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The blob `fromUrl` (its URL or name) is copied to `toPathname`."""

    fromUrl: str
    toPathname: str
    projectId: int | str | None = None
    project_id: int | str | None = None
    environment: str | None = None


class BlobDependencies:
    """What the handlers share: the core, and the buckets of all environments."""

    def __init__(self, app: Application) -> None:
        self.core = app.core
        self.buckets = Buckets()

    async def bound(
        self, actor: Actor, project: str | int | None, environment: str | None
    ) -> Bound:
        return await self.core.bound(TYPE, actor, project, environment)

    async def named(self, actor: Actor, path: str, environment: str | None) -> tuple[Bound, str]:
        """Whose blob a path means, and which: ``{project}/{pathname}``; a project's token may leave
        its own project out."""
        path = path.removeprefix("/")
        project, slash, pathname = path.partition("/")
        if actor.project_id is None:
            return await self.bound(actor, project, environment), paths.check(pathname)
        bound = await self.bound(actor, None, environment)
        own = slash and project in (str(bound.project_id), bound.binding.scope.project)
        return bound, paths.check(pathname if own else path)


def root(request: Request[Any, Any, Any], bound: Bound) -> str:
    """The API's root for the URLs of answers."""
    return bound.api_url or str(request.base_url)


def answer(request: Req, bound: Bound, blob: Blob) -> BlobAnswer:
    return BlobAnswer(
        url=paths.url(root(request, bound), bound.project_id, blob.pathname),
        pathname=blob.pathname,
        contentType=blob.content_type,
        size=blob.size,
        uploadedAt=blob.uploaded_at.isoformat().replace("+00:00", "Z"),
        etag=blob.etag,
    )


async def body_of(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    """The body as it comes. Raises when it is cut off before its end."""
    async for chunk in request.stream():
        yield chunk


@post("/", status_code=201, request_max_body_size=None)
async def put_blob(
    request: Req,
    desk: BlobDependencies,
    pathname: str,
    content_type: str | None = None,
    add_random_suffix: bool = False,
    project_id: str | None = None,
    environment: str | None = None,
) -> BlobAnswer:
    """Write a blob from the raw body. Until its last byte has come, what was there before is what
    others see."""
    name = paths.check(pathname)
    kind = paths.media_type(content_type, request.headers.get("content-type", ""), name)
    name = paths.suffixed(name) if add_random_suffix else name
    bound = await desk.bound(request.user, project_id, environment)
    async with desk.buckets.opened(bound) as bucket:
        return answer(request, bound, await bucket.put(name, body_of(request), kind, Conditions()))


@get("/")
async def list_blobs(
    request: Req,
    desk: BlobDependencies,
    limit: Annotated[int, Parameter(ge=1, le=1000)] = 100,
    prefix: str = "",
    cursor: str | None = None,
    project_id: str | None = None,
    environment: str | None = None,
) -> ListAnswer:
    """Blobs whose names begin so, in order of name."""
    paths.check_prefix(prefix)
    bound = await desk.bound(request.user, project_id, environment)
    async with desk.buckets.opened(bound) as bucket:
        page = await bucket.page(prefix, limit, cursor)
        blobs = [answer(request, bound, blob) for blob in await bucket.described(page.blobs)]
    return ListAnswer(blobs=blobs, cursor=page.cursor, hasMore=page.cursor is not None)


@delete("/", status_code=200)
async def delete_blobs(request: Req, desk: BlobDependencies, data: DeleteRequest) -> dict[str, int]:
    """Delete blobs; the answer is how many were there."""
    if len(data.pathnames) > DELETE_LIMIT:
        why = f"at most {DELETE_LIMIT} at once"
        raise BadInput(
            f"pathnames holds {len(data.pathnames)} names; {why}.", errors={"pathnames": why}
        )
    bound = await desk.bound(request.user, data.projectId or data.project_id, data.environment)
    names = [paths.of_url(item, bound.project_id, "pathnames") for item in data.pathnames]
    async with desk.buckets.opened(bound) as bucket:
        return {"deleted": await bucket.delete(names)}


@post("/copy", status_code=200)
async def copy_blob(request: Req, desk: BlobDependencies, data: CopyRequest) -> BlobAnswer:
    """Copy a blob of the project to another name."""
    target = paths.check(data.toPathname, "toPathname")
    bound = await desk.bound(request.user, data.projectId or data.project_id, data.environment)
    source = paths.of_url(data.fromUrl, bound.project_id, "fromUrl")
    async with desk.buckets.opened(bound) as bucket:
        return answer(request, bound, await bucket.copy(source, target, Conditions()))


@route("/{path:path}", http_method=["GET", "HEAD"], status_code=200, opt={"reveals": "file"})
async def read_blob(
    request: Req,
    desk: BlobDependencies,
    path: str,
    environment: str | None = None,
    download: bool = False,
) -> ASGIResponse:
    """A blob's bytes, Range and conditions honoured; or for HEAD what would be said of them."""
    bound, pathname = await desk.named(request.user, path, environment)
    if request.method == "GET":
        return Download(desk.buckets, bound, pathname, request.headers, attach=download)
    async with desk.buckets.opened(bound) as bucket:
        return Description(await bucket.head(pathname))


def routers(app: Application) -> Sequence[Router]:
    """The routes, over one desk."""
    desk = BlobDependencies(app)

    async def provide() -> BlobDependencies:
        return desk

    own = [
        put_blob,
        list_blobs,
        delete_blobs,
        copy_blob,
        read_blob,
        *standing.routes(app.core, TYPE),
    ]
    shared: dict[str, Any] = {
        "middleware": [app.authentication],
        "dependencies": {"desk": Provide(provide)},
        "tags": ["blob"],
        "opt": {FOR_APPS: True, "audit": "data"},
    }
    refused: Any = {PurveyorError: vercel.refused, HTTPException: vercel.refused}
    return [
        Router(paths.BASE, route_handlers=own, **shared),
        Router(
            vercel.BASE,
            route_handlers=vercel.handlers(),
            exception_handlers=refused,
            include_in_schema=False,
            **shared,
        ),
    ]
