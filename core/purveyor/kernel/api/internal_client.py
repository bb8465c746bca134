"""The HTTP API as this very process reaches it: for plugins that are clients of it, such as a
dashboard."""

from collections.abc import AsyncGenerator, AsyncIterator, MutableMapping
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


class InwardClient:
    """`ApiClient` without a socket."""

    def __init__(
        self, application: Any, http: httpx.AsyncClient, group: anyio.abc.TaskGroup
    ) -> None:
        self._application = application
        self._http = http
        self._group = group

    async def call(self, method: str, path: str, **options: Any) -> Any:
        answer = await self._http.request(method, path, **options)
        if answer.is_error:
            raise _error(answer.status_code, answer.content)
        return answer.json() if answer.content else None

    async def stream(self, path: str, **parameters: Any) -> AsyncGenerator[bytes, None]:
        """The body as it comes: the transport of `call` gathers it first.

        A reader who leaves ends the request.
        """
        request = self._http.build_request("GET", path, params=parameters or None)
        status = 0

        async def write(sink: Sink) -> None:
            over = anyio.Event()
            asked = False

            async def receive() -> Message:
                """The empty body, and then nothing until the answer is whole."""
                nonlocal asked
                if asked:
                    await over.wait()
                    return {"type": "http.disconnect"}
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                elif message["type"] == "http.response.body":
                    if message.get("body"):
                        await sink.write(message["body"])
                    if not message.get("more_body"):
                        over.set()

            await self._application(_scope(request), receive, send)

        refused = b""
        async with aclosing(flow(self._group, write)) as chunks:
            async for chunk in chunks:
                if status >= 400:
                    refused += chunk
                else:
                    yield chunk
        if status >= 400:
            raise _error(status, refused)


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

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await whole({**scope, INWARD: True}, receive, send)

    headers = {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(
        transport=transport,
        base_url="http://purveyor",
        headers=headers,
        timeout=None,  # noqa: S113
    ) as http:
        yield InwardClient(application, http, group)
