"""The way to the API: a daemon elsewhere, the daemon of this host, or the core in this very process."""

import os
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import anyio
import httpx
import msgspec

from purveyor.cli.main import Options
from purveyor.failures import error_from
from purveyor_hooks import Conflict, Failed, PurveyorError

T = TypeVar("T")
SOCKET = "purveyor.sock"
PATIENCE = 30.0
TIMEOUT = httpx.Timeout(10.0, read=600.0)  # seconds; verbs answer at once, only bindings are waited for
Listener = Callable[[Mapping[str, Any]], None]


class Client:
    """Calls the API; its errors are raised as ours."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """One call; the answer is the decoded body."""
        response = await self.send(method, path, **options)
        return response.json() if response.content else None

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One call; the answer with its headers."""
        try:
            response = await self._http.request(method, path, **options)
        except httpx.ConnectError as error:
            raise Failed(f"The daemon at {self._http.base_url} does not answer.", remedy="Is it running?") from error
        if response.is_error:
            raise _error(response)
        return response

    async def get(self, path: str, **parameters: Any) -> Any:
        return await self.call("GET", path, params={name: value for name, value in parameters.items() if value is not None})

    async def pages(self, path: str, **parameters: Any) -> list[Any]:
        """A whole list, however many pages it has."""
        items: list[Any] = []
        while True:
            response = await self.send("GET", path, params={**parameters, "limit": 500, "offset": len(items)})
            page = response.json()
            items += page
            if not page or len(items) >= int(response.headers.get("X-Total-Count", len(items))):
                return items

    async def verb(self, method: str, path: str, listener: Listener, **options: Any) -> Mapping[str, Any]:
        """Run a verb, telling `listener` its events; the answer is the operation. Raises what it failed with."""
        begun = await self.call(method, path, headers={"Prefer": "respond-async"}, **options)
        number = begun["operation_id"]
        async for event in self.events(after=begun["after"]):
            if event["operation"] != number:
                continue
            listener(event)
            if event["type"].endswith((".succeeded", ".failed", ".waiting")):
                break
        operation: Mapping[str, Any] = await self.get(f"/api/operations/{number}")
        if operation["state"] != "succeeded":
            error = error_from(operation["error"] or {})
            if operation["state"] == "undoing":
                error.remedy += " What was begun is taken back as soon as that is possible."
            raise error
        return operation

    async def events(self, **parameters: Any) -> AsyncIterator[Mapping[str, Any]]:
        """Follow the event line."""
        given = {name: value for name, value in parameters.items() if value is not None}
        headers = {"Accept": "text/event-stream"}
        async with self._http.stream("GET", "/api/events", params=given, headers=headers, timeout=None) as response:
            if response.is_error:
                await response.aread()
                raise _error(response)
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    yield msgspec.json.decode(line[5:])

    async def text(self, path: str, **parameters: Any) -> AsyncIterator[str]:
        """Follow a plain text."""
        async with self._http.stream("GET", path, params=parameters, timeout=None) as response:
            if response.is_error:
                await response.aread()
                raise _error(response)
            async for chunk in response.aiter_text():
                yield chunk

    async def stream(self, path: str, **parameters: Any) -> AsyncIterator[bytes]:
        """The body of a GET, as it comes."""
        async with self._http.stream("GET", path, params=parameters, timeout=None) as response:
            if response.is_error:
                await response.aread()
                raise _error(response)
            async for chunk in response.aiter_bytes():
                yield chunk


def _error(response: httpx.Response) -> PurveyorError:
    try:
        problem = response.json()
        stored = {**problem, "code": str(problem.get("type", "")).rpartition(":")[2]}
    except ValueError:
        return Failed(f"The server answered {response.status_code}.")
    return error_from(stored)


@asynccontextmanager
async def connected(options: Options) -> AsyncIterator[Client]:
    """A client of the daemon that is named or running, else of the core run here."""
    if options.url:
        token = os.environ.get("PURVEYOR_TOKEN", "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(base_url=options.url, headers=headers, timeout=TIMEOUT) as http:
            yield Client(http)
        return
    path = options.state / SOCKET
    started = monotonic()
    while not _answers(path):
        try:
            async with _in_process(options.state) as client:
                yield client
            return
        except Conflict as error:
            if "Another Purveyor" not in error.detail or monotonic() - started > PATIENCE:
                raise
        await anyio.sleep(0.2)
    async with _over(path) as client:
        yield client


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@asynccontextmanager
async def _over(path: Path) -> AsyncIterator[Client]:
    transport = httpx.AsyncHTTPTransport(uds=str(path), verify=False)  # no TLS there: reading the certificates takes 30 ms
    async with httpx.AsyncClient(transport=transport, base_url="http://purveyor", timeout=TIMEOUT) as http:
        yield Client(http)


@asynccontextmanager
async def _in_process(state: Path) -> AsyncIterator[Client]:
    """The very same API, served to this process alone."""
    from purveyor.api.server import create_api, listen_local, serving
    from purveyor.app import open_app

    async with open_app(state) as app:
        with tempfile.TemporaryDirectory(prefix="purveyor-") as folder:
            path = Path(folder) / SOCKET
            async with serving(create_api(app), local=[listen_local(path)]), _over(path) as client:
                yield client


def run(options: Options, work: Callable[[Client], Awaitable[T]]) -> T:
    """Run a command's work with a client."""

    async def go() -> T:
        async with connected(options) as client:
            return await work(client)

    return anyio.run(go)
