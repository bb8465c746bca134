"""The SDK: `Blob` and `AsyncBlob`, over the HTTP API."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import IO, Any
from urllib.parse import quote

import httpx
import msgspec

from purveyor_blob import _api

TIMEOUT = 60.0  # seconds without a byte
CHUNK = 256 * 1024
BASE = "/api/blob"
Body = bytes | str | IO[bytes] | Iterable[bytes]


class BlobError(_api.ApiError):
    """A call that failed."""


class BlobInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is known of a blob: where it is read, its name, its type, its size in bytes and when it
    was written."""

    url: str
    pathname: str
    content_type: str
    size: int
    uploaded_at: datetime
    etag: str = ""


class Page(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of blobs; `cursor` leads to the next."""

    blobs: list[BlobInfo]
    cursor: str | None = None
    has_more: bool = False


class _Requests:
    """The requests, which are the same for both."""

    def __init__(self, url: str | None, token: str | None, project_id: str | int | None) -> None:
        self.place = _api.Place.of(url, token, project_id)
        if not (self.place.url and self.place.token):
            raise _api.bad_input(
                BlobError,
                "Blob is not configured: PURVEYOR_API_URL and PURVEYOR_TOKEN are not set.",
                "Link the project to a Blob and deploy it, or give url and token.",
            )

    @property
    def http(self) -> dict[str, Any]:
        return {"base_url": self.place.url, "headers": self.place.headers()}

    def parameters(self, **values: Any) -> dict[str, Any]:
        given = {name: value for name, value in values.items() if value is not None}
        return given | ({"project_id": self.place.project_id} if self.place.project_id else {})

    def body(self, **values: Any) -> dict[str, Any]:
        return values | ({"projectId": self.place.project_id} if self.place.project_id else {})

    def path(self, pathname: str) -> str:
        """Where a blob is read; a URL of one is taken as well."""
        if pathname.startswith(("http://", "https://")):
            return pathname
        if not pathname:
            raise _api.bad_input(BlobError, "The pathname is empty.", "For example: images/cat.png")
        return f"{BASE}/{quote(f'{self.place.project_id}/' if self.place.project_id else '')}{quote(pathname)}"


def _told(response: httpx.Response) -> Any:
    return _api.answered(BlobError, response.status_code, response.content)


def _refuse(response: httpx.Response) -> None:
    if response.is_error:
        _told(response)


def _head(response: httpx.Response, pathname: str) -> BlobInfo | None:
    if response.status_code == 404:
        return None
    if response.is_error:  # an answer to HEAD has no body to say more
        raise BlobError(
            "failed",
            response.status_code,
            "The operation failed",
            f"The server answered {response.status_code}.",
        )
    said = response.headers
    moment = datetime.strptime(said["last-modified"], "%a, %d %b %Y %H:%M:%S %Z").astimezone()
    return BlobInfo(
        url=str(response.url),
        pathname=pathname,
        content_type=said["content-type"],
        size=int(said["content-length"]),
        uploaded_at=moment,
        etag=said.get("etag", ""),
    )


def _pieces(body: Body) -> Any:
    """A body as httpx sends it without holding it whole."""
    if isinstance(body, bytes | str):
        return body
    if hasattr(body, "read"):
        return iter(lambda: body.read(CHUNK), b"")
    return body


async def _async_pieces(body: Any) -> AsyncIterator[bytes]:
    if hasattr(body, "__aiter__"):
        async for chunk in body:
            yield chunk
    else:
        for chunk in _pieces(body):
            yield chunk


class Blob:
    """Files by name. Without arguments it is configured from the variables that a link injects.

    Every method raises `BlobError`. Use it as a context manager, or `close` it.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        project_id: str | int | None = None,
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        self._requests = _Requests(url, token, project_id)
        self._http = httpx.Client(**self._requests.http, timeout=timeout)

    def __enter__(self) -> "Blob":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise _api.unreachable(BlobError, error) from None

    def put(
        self,
        pathname: str,
        body: Body,
        *,
        content_type: str | None = None,
        add_random_suffix: bool = False,
    ) -> BlobInfo:
        """Write a blob from bytes, text, an open file or an iterable of bytes; what was there
        before is replaced.

        The type is told by the name's extension unless `content_type` says it. `add_random_suffix`
        makes a name that nobody can guess: read it from the answer.
        """
        given = self._requests.parameters(
            pathname=pathname, content_type=content_type, add_random_suffix=add_random_suffix
        )
        return msgspec.convert(
            _told(self._send("POST", BASE, params=given, content=_pieces(body))), BlobInfo
        )

    def get(self, pathname: str) -> bytes:
        """The whole of a blob, by its name or URL."""
        response = self._send("GET", self._requests.path(pathname))
        _refuse(response)
        return response.content

    @contextmanager
    def stream(self, pathname: str, *, offset: int = 0) -> Iterator[Iterator[bytes]]:
        """A blob in chunks, from a byte on, in constant memory."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self._http.stream(
                "GET", self._requests.path(pathname), headers=headers
            ) as response:
                if response.is_error:
                    response.read()
                    _refuse(response)
                yield response.iter_bytes(CHUNK)
        except httpx.HTTPError as error:
            raise _api.unreachable(BlobError, error) from None

    def head(self, pathname: str) -> BlobInfo | None:
        """What is known of a blob, None when there is none."""
        return _head(self._send("HEAD", self._requests.path(pathname)), pathname)

    def list(
        self, prefix: str = "", *, limit: int | None = None, cursor: str | None = None
    ) -> Page:
        """A page of the blobs whose names begin so, in order of name."""
        given = self._requests.parameters(prefix=prefix, limit=limit, cursor=cursor)
        return msgspec.convert(_told(self._send("GET", BASE, params=given)), Page)

    def delete(self, *pathnames: str) -> int:
        """Delete blobs by names or URLs; the answer is how many were there."""
        body = self._requests.body(pathnames=list(pathnames))
        return int(_told(self._send("DELETE", BASE, json=body))["deleted"])

    def copy(self, source: str, target: str) -> BlobInfo:
        """Copy a blob, by its name or URL, to another name."""
        body = self._requests.body(fromUrl=source, toPathname=target)
        return msgspec.convert(_told(self._send("POST", f"{BASE}/copy", json=body)), BlobInfo)


class AsyncBlob:
    """`Blob` for async apps: the same arguments, methods and errors; `put` takes async iterables
    too."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        project_id: str | int | None = None,
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        self._requests = _Requests(url, token, project_id)
        self._http = httpx.AsyncClient(**self._requests.http, timeout=timeout)

    async def __aenter__(self) -> "AsyncBlob":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let the connections go."""
        await self._http.aclose()

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise _api.unreachable(BlobError, error) from None

    async def put(
        self,
        pathname: str,
        body: Body | AsyncIterable[bytes],
        *,
        content_type: str | None = None,
        add_random_suffix: bool = False,
    ) -> BlobInfo:
        """As `Blob.put`."""
        given = self._requests.parameters(
            pathname=pathname, content_type=content_type, add_random_suffix=add_random_suffix
        )
        content = body if isinstance(body, bytes | str) else _async_pieces(body)
        return msgspec.convert(
            _told(await self._send("POST", BASE, params=given, content=content)), BlobInfo
        )

    async def get(self, pathname: str) -> bytes:
        """As `Blob.get`."""
        response = await self._send("GET", self._requests.path(pathname))
        _refuse(response)
        return response.content

    @asynccontextmanager
    async def stream(
        self, pathname: str, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """As `Blob.stream`."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            async with self._http.stream(
                "GET", self._requests.path(pathname), headers=headers
            ) as response:
                if response.is_error:
                    await response.aread()
                    _refuse(response)
                yield response.aiter_bytes(CHUNK)
        except httpx.HTTPError as error:
            raise _api.unreachable(BlobError, error) from None

    async def head(self, pathname: str) -> BlobInfo | None:
        """As `Blob.head`."""
        return _head(await self._send("HEAD", self._requests.path(pathname)), pathname)

    async def list(
        self, prefix: str = "", *, limit: int | None = None, cursor: str | None = None
    ) -> Page:
        """As `Blob.list`."""
        given = self._requests.parameters(prefix=prefix, limit=limit, cursor=cursor)
        return msgspec.convert(_told(await self._send("GET", BASE, params=given)), Page)

    async def delete(self, *pathnames: str) -> int:
        """As `Blob.delete`."""
        body = self._requests.body(pathnames=list(pathnames))
        return int(_told(await self._send("DELETE", BASE, json=body))["deleted"])

    async def copy(self, source: str, target: str) -> BlobInfo:
        """As `Blob.copy`."""
        body = self._requests.body(fromUrl=source, toPathname=target)
        return msgspec.convert(_told(await self._send("POST", f"{BASE}/copy", json=body)), BlobInfo)
