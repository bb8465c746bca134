"""The HTTP API as this very process reaches it: for plugins that are clients of it, such as a
dashboard."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    MutableMapping,
)
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import httpx
import msgspec
from litestar import Litestar

from purveyor.kernel.api.auth import INWARD
from purveyor.kernel.api.streaming import flow
from purveyor.kernel.errors import error_from
from purveyor_hooks import Failed, PurveyorError, Sink

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Message, Receive, Send], Awaitable[None]]
BASE = "http://purveyor"


class InwardClient:
    """`ApiClient` without a socket."""

    def __init__(
        self, application: ASGIApp, headers: httpx.Headers, group: anyio.abc.TaskGroup
    ) -> None:
        self._application = application
        self._headers = headers
        self._group = group

    async def call(self, method: str, path: str, **options: Any) -> Any:
        body = bytearray()

        async def write(chunk: bytes) -> None:
            body.extend(chunk)

        status = await self._ask(method, path, options, write)
        if status >= 400:
            raise _error(status, bytes(body))
        return msgspec.json.decode(body) if body else None

    async def stream(self, path: str, **parameters: Any) -> AsyncGenerator[bytes, None]:
        """The body as it comes. A reader who leaves ends the request."""
        status = 0

        def begin(answered: int) -> None:
            nonlocal status
            status = answered

        async def write(sink: Sink) -> None:
            options = {"params": parameters or None}
            await self._ask("GET", path, options, sink.write, begin)

        refused = b""
        async with aclosing(flow(self._group, write)) as chunks:
            async for chunk in chunks:
                if status >= 400:
                    refused += chunk
                else:
                    yield chunk
        if status >= 400:
            raise _error(status, refused)

    async def _ask(
        self,
        method: str,
        path: str,
        options: Mapping[str, Any],
        write: Callable[[bytes], Awaitable[object]],
        begin: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Ask, and pass on the body of the answer as it comes; its status, which `begin` is told
        before. The application is called as it is: the transport of httpx takes as long as a short
        answer does."""
        headers = httpx.Headers([*self._headers.raw, *httpx.Headers(options.get("headers")).raw])
        given = {name: value for name, value in options.items() if name != "headers"}
        request = httpx.Request(method, BASE + path, headers=headers, **given)
        content = request.read()
        over = anyio.Event()
        asked = False
        status = 0

        async def receive() -> Message:
            """The body, and then nothing until the answer is whole."""
            nonlocal asked
            if asked:
                await over.wait()
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                begin(status)
            elif message["type"] == "http.response.body":
                if message.get("body"):
                    await write(message["body"])
                if not message.get("more_body"):
                    over.set()

        await self._application(_scope(request), receive, send)
        return status


def _scope(request: httpx.Request) -> Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 0),
        "server": ("purveyor", 80),
    }


def _error(status: int, content: bytes) -> PurveyorError:
    try:
        problem = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.MsgspecError:
        return Failed(f"The API answered {status}.")
    return error_from({**problem, "code": str(problem.get("type", "")).rpartition(":")[2]})


@asynccontextmanager
async def inward(
    api: Litestar, token: str, group: anyio.abc.TaskGroup
) -> AsyncIterator[InwardClient]:
    """A client with a token, or a session, of its own; what it streams runs in `group`."""

    whole: Any = api

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await whole({**scope, INWARD: True}, receive, send)

    yield InwardClient(application, httpx.Headers({"Authorization": f"Bearer {token}"}), group)
