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

from purveyor.cli.main import LeftAlone, Options
from purveyor.failures import error_from, how_to_go_on
from purveyor_hooks import Conflict, Failed, Interrupted, PurveyorError

T = TypeVar("T")
SOCKET = "purveyor.sock"
ENDS = (".succeeded", ".failed", ".waiting", ".abandoned")
PATIENCE = 30.0
TIMEOUT = httpx.Timeout(10.0, read=600.0)  # seconds; verbs answer at once, only bindings are waited for
Listener = Callable[[Mapping[str, Any]], None]


class Client:
    """Calls the API; its errors are raised as ours. `waits_for` is the operation that is waited for, with its verb; `here`
    says that it is done by this very process."""

    def __init__(self, http: httpx.AsyncClient, *, here: bool = False) -> None:
        self._http = http
        self.here = here
        self.waits_for: tuple[int, str] | None = None

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """One call; the answer is the decoded body."""
        response = await self._send(method, path, **options)
        return response.json() if response.content else None

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, **options)
        except httpx.ConnectError as error:
            raise Unreachable(f"The daemon at {self._http.base_url} does not answer.", remedy="Is it running?") from error
        except httpx.TransportError as error:  # it was there, and ended in the middle
            raise Unreachable("The daemon went away.", remedy="Is it running?") from error
        if response.is_error:
            raise _error(response)
        return response

    async def get(self, path: str, **parameters: Any) -> Any:
        return await self.call("GET", path, params={name: value for name, value in parameters.items() if value is not None})

    async def pages(self, path: str, **parameters: Any) -> list[Any]:
        """A whole list, however many pages it has."""
        items: list[Any] = []
        while True:
            response = await self._send("GET", path, params={**parameters, "limit": 500, "offset": len(items)})
            page = response.json()
            items += page
            if not page or len(items) >= int(response.headers.get("X-Total-Count", len(items))):
                return items

    async def verb(self, method: str, path: str, listener: Listener, **options: Any) -> Mapping[str, Any]:
        """Run a verb, telling `listener` its events; the answer is the operation. Raises what it failed with."""
        begun = await self.call(method, path, headers={"Prefer": "respond-async"}, **options)
        return await self._to_its_end(begun["operation_id"], begun["after"], listener)

    async def follow(self, number: int, listener: Listener) -> Mapping[str, Any]:
        """Wait for an operation that is under way, as `verb` does."""
        newest = await self.call("GET", "/api/events", params={"limit": 1}, headers={"Accept": "application/json"})
        operation: Mapping[str, Any] = await self.get(f"/api/operations/{number}")
        if operation["state"] not in ("running", "undoing"):
            return _ended(operation, {})
        return await self._to_its_end(number, newest[-1]["id"] if newest else 0, listener)

    async def _to_its_end(self, number: int, after: int, listener: Listener) -> Mapping[str, Any]:
        try:
            operation: Mapping[str, Any] = await self.get(f"/api/operations/{number}")
            self.waits_for = (number, operation["verb"])
            told: Mapping[str, Any] = {}
            async for event in self.events(after=after):
                if event["operation"] == number:
                    listener(event)
                    if event["type"].endswith(ENDS):
                        told = event["data"]
                        break
            operation = await self.get(f"/api/operations/{number}")
        except (httpx.TransportError, Unreachable) as error:
            raise self._interrupted(number) from error
        if operation["state"] == "running" and not told:  # the stream ended before the operation did
            raise self._interrupted(number)
        self.waits_for = None
        return _ended(operation, told)

    def _interrupted(self, number: int) -> Interrupted:
        verb = self.waits_for[1] if self.waits_for else "It"
        remedy = f"It goes on when the daemon is started again. {how_to_go_on(number)}"
        return Interrupted(f"{verb} was interrupted: the daemon went away.", remedy=remedy)

    def left_alone(self) -> LeftAlone:
        """What Ctrl-C means for what this client waits for."""
        if self.waits_for is None:
            return LeftAlone("")
        number, verb = self.waits_for
        where = "when Purveyor is started again" if self.here else "in the daemon"
        return LeftAlone(f"Operation {number} ({verb}) is not done: it goes on {where}. {how_to_go_on(number)}")

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


class Unreachable(Failed):
    """There is no daemon to talk to, or not any more."""


def _ended(operation: Mapping[str, Any], told: Mapping[str, Any]) -> Mapping[str, Any]:
    """An operation that has ended. Raises what it failed with; `told` is what its last event says."""
    if operation["state"] == "succeeded":
        return operation
    error = error_from(operation["error"] or {"detail": told.get("because") or "It could not be ended."})
    number = operation["id"]
    if operation["state"] == "undoing":
        error.remedy += " What was begun is taken back as soon as that is possible."
    if operation["state"] in ("running", "undoing"):
        error.remedy += f" Follow it: purveyor operations follow {number}"
    error.remedy = error.remedy.strip()
    raise error


def _error(response: httpx.Response) -> PurveyorError:
    try:
        problem = response.json()
        stored = {**problem, "code": str(problem.get("type", "")).rpartition(":")[2]}
    except ValueError:
        return Failed(f"The server answered {response.status_code}.")
    return error_from(stored)


@asynccontextmanager
async def connected(options: Options, *, resume: bool = True) -> AsyncIterator[Client]:
    """A client of the daemon that is named or running, else of the core run here.

    Without `resume` that core does not go on with what an earlier process left.
    """
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
            async with _in_process(options.state, resume) as client:
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
async def _over(path: Path, *, here: bool = False) -> AsyncIterator[Client]:
    transport = httpx.AsyncHTTPTransport(uds=str(path), verify=False)  # no TLS there: reading the certificates takes 30 ms
    async with httpx.AsyncClient(transport=transport, base_url="http://purveyor", timeout=TIMEOUT) as http:
        yield Client(http, here=here)


@asynccontextmanager
async def _in_process(state: Path, resume: bool) -> AsyncIterator[Client]:
    """The very same API, served to this process alone."""
    from purveyor.api.server import create_api, listen_local, serving
    from purveyor.app import open_app

    async with open_app(state, resume=resume) as app:
        with tempfile.TemporaryDirectory(prefix="purveyor-") as folder:
            path = Path(folder) / SOCKET
            async with serving(create_api(app), local=[listen_local(path)]), _over(path, here=True) as client:
                yield client


def run(options: Options, work: Callable[[Client], Awaitable[T]], *, resume: bool = True) -> T:
    """Run a command's work with a client. Raises `LeftAlone` when it is interrupted from the keyboard."""
    clients: list[Client] = []

    async def go() -> T:
        async with connected(options, resume=resume) as client:
            clients.append(client)
            return await work(client)

    try:
        return anyio.run(go)
    except KeyboardInterrupt:
        raise (clients[0].left_alone() if clients else LeftAlone("")) from None
