"""The way to the API: a daemon elsewhere, the daemon of this host, or the core in this very
process."""

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import anyio
import anyio.abc
import click
import httpx
import msgspec

from purveyor.cli.main import LeftAlone
from purveyor.cli.options import Options
from purveyor.cli.program import Program
from purveyor.exposed import Call
from purveyor.kernel.db.lock import DAEMON, StateLocked, daemon_is_there, holder
from purveyor.kernel.errors import error_from, how_to_go_on
from purveyor_hooks import DaemonUnavailable, Failed, Interrupted, NotFound, PurveyorError

T = TypeVar("T")
SOCKET = "purveyor.sock"
ENDS = (".succeeded", ".failed", ".waiting", ".abandoned")
# seconds that a command waits for another one, or for a daemon that is about to serve
PATIENCE = 30.0
# seconds; operations answer at once, only bindings are waited for
TIMEOUT = httpx.Timeout(10.0, read=600.0)
# seconds: until it is asked whether it is there at all; for the answer; between two
FIRST_LOOK, HANGS, LOOKS = 0.8, 4.0, 2.0
# of those looks, after which a call that changes something is given up; one that reads is at the
# first
MISSES = 3
AWAY = 60.0  # seconds that a daemon may be away while one of its operations is followed
SILENCE = 40.0  # seconds without a sign of life from the event stream, which gives one each 15
LOOKED = {"GET", "HEAD"}
ANYWHERE = (
    "/api/version",
    "/api/plugins",
    "/api/external-services/types",
    "/api/external-services/providers",
)
Listener = Callable[[Mapping[str, Any]], None]


class Client:
    """Calls the API; its errors are raised as ours. `who` is the daemon's name in sentences, "" for
    the core in this process.

    `waits_for` is the operation that is waited for, with its operation.
    """

    def __init__(self, http: httpx.AsyncClient, who: str = "") -> None:
        self._http = http
        self.who = who
        self.waits_for: tuple[int, str] | None = None

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """One call; the answer is the decoded body."""
        response = await self.send(method, path, **options)
        return response.json() if response.content else None

    async def ask(self, call: Call) -> Any:
        """One call of an operation, or for its plan; the answer is the decoded body."""
        return await self.call(call.method, call.path, **call.given)

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One call; the answer with its headers."""

        async def ask() -> httpx.Response:
            with self._translated(method in LOOKED):
                return await self._http.request(method, path, **options)

        response = await self._watched(ask, 1 if method in LOOKED else MISSES)
        if response.is_error:
            raise _error(response)
        return response

    async def get(self, path: str, **parameters: Any) -> Any:
        return await self.call(
            "GET",
            path,
            params={name: value for name, value in parameters.items() if value is not None},
        )

    async def pages(self, path: str, **parameters: Any) -> list[Any]:
        """A whole list, however many pages it has."""
        items: list[Any] = []
        while True:
            response = await self.send(
                "GET", path, params={**parameters, "limit": 500, "offset": len(items)}
            )
            page = response.json()
            items += page
            if not page or len(items) >= int(response.headers.get("X-Total-Count", len(items))):
                return items

    # -------------------------------------------------------------- a daemon that hangs, or is away

    @contextmanager
    def _translated(self, reads: bool) -> Iterator[None]:
        """A connection that fails, as an error of ours."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise DaemonUnavailable(
                f"{self._named} does not answer.", remedy="Is it running? Start it: purveyor serve"
            ) from error
        except httpx.TransportError as error:
            remedy = (
                "Try again." if reads else "What it had begun goes on: see purveyor operations."
            )
            raise DaemonUnavailable(
                f"{self._named} went away before it answered.", remedy=remedy
            ) from error

    @property
    def _named(self) -> str:
        return (self.who or "Purveyor")[0].upper() + (self.who or "Purveyor")[1:]

    async def _watched(self, work: Callable[[], Awaitable[T]], misses: int) -> T:
        """Run a call, and look beside it whether the daemon is there at all. Raises
        `DaemonUnavailable` after so many looks in vain; the first is told as soon as it is seen."""
        if not self.who:
            return await work()
        answers: list[T] = []
        failures: list[Exception] = []

        async def run() -> None:
            try:
                answers.append(await work())
            except Exception as error:  # carried out of the group, which would wrap it
                failures.append(error)

        async def look(scope: anyio.CancelScope) -> None:
            missed = 0
            await anyio.sleep(FIRST_LOOK)
            while True:
                missed = 0 if await self._is_there() else missed + 1
                if missed >= misses:
                    detail = f"{self._named} does not answer, though it runs."
                    failures.append(
                        DaemonUnavailable(detail, remedy="See its log; if it stays so, restart it.")
                    )
                    scope.cancel()
                    return
                if missed == 1:
                    self._say("does not answer; waiting for it …")
                await anyio.sleep(LOOKS)

        async with anyio.create_task_group() as group:
            group.start_soon(look, group.cancel_scope)
            await run()
            group.cancel_scope.cancel()
        if answers:
            return answers[0]
        raise failures[0]

    async def _is_there(self) -> bool:
        """Whether it answers anything; one that is gone has its connections broken, and need not be
        looked for."""
        with anyio.move_on_after(HANGS) as scope:
            try:
                await self._http.get("/api/version")
            except httpx.TransportError:
                return True
        return not scope.cancelled_caught

    def _say(self, what: str) -> None:
        click.echo(f"{self._named} {what}", err=True)

    # ---------------------------------------------------------------- operations and events

    async def run_operation(self, call: Call, listener: Listener) -> Mapping[str, Any]:
        """Run an operation, telling `listener` its events; the answer is the operation. Raises what it
        failed with."""
        prefer = {"Prefer": "respond-async"}
        begun = await self.call(call.method, call.path, headers=prefer, **call.given)
        return await self._to_its_end(begun["operation_id"], begun["after"], listener)

    async def follow_operation(self, number: int, listener: Listener) -> Mapping[str, Any]:
        """Wait for an operation that is under way, as `verb` does."""
        newest = await self.call(
            "GET", "/api/events", params={"limit": 1}, headers={"Accept": "application/json"}
        )
        operation: Mapping[str, Any] = await self.get(f"/api/operations/{number}")
        if operation["state"] not in ("running", "undoing"):
            return _ended(operation, {})
        return await self._to_its_end(number, newest[-1]["id"] if newest else 0, listener)

    def left_alone(self) -> LeftAlone:
        """What Ctrl-C means for what this client waits for."""
        if self.waits_for is None:
            return LeftAlone("")
        number, verb = self.waits_for
        where = "in the daemon" if self.who else "when Purveyor is started again"
        return LeftAlone(
            f"Operation {number} ({verb}) is not done: it goes on {where}. {how_to_go_on(number)}"
        )

    async def _to_its_end(self, number: int, after: int, listener: Listener) -> Mapping[str, Any]:
        """Follow an operation until it has ended, or cannot be taken back now: over streams that
        break and restarts of the daemon. Raises what it failed with, and `Interrupted` when the
        daemon is away for too long."""
        position = after
        told: Mapping[str, Any] = {}  # what the event that ended it, or says why it waits, told

        async def follow() -> None:
            nonlocal position, told
            async with aclosing(self.events(after=position)) as line:
                async for event in line:
                    position = event["id"]
                    if event["operation"] == number:
                        listener(event)
                        if event["type"].endswith(ENDS):
                            told = {"because": "", **event["data"], "type": event["type"]}
                            return

        there, away = monotonic(), False
        operation: Mapping[str, Any] = {}
        while True:
            try:
                if not operation:
                    operation = await self.get(f"/api/operations/{number}")
                    self.waits_for = (number, operation["verb"])
                # else it went away between the event and the answer: the event does not come again
                if not told:
                    await self._watched(follow, MISSES)
                operation = await self.get(f"/api/operations/{number}")
                waits = str(told.get("type", "")).endswith(".waiting")
                if operation["state"] not in ("running", "undoing") or waits:
                    self.waits_for = None
                    return _ended(operation, told)
                there, away, told = monotonic(), False, {}
            except DaemonUnavailable as error:
                if monotonic() - there > AWAY:
                    verb = self.waits_for[1] if self.waits_for else "It"
                    remedy = f"It goes on when the daemon is started again. {how_to_go_on(number)}"
                    raise Interrupted(
                        f"{verb} was interrupted: {self.who} is away for {AWAY:.0f} s.",
                        remedy=remedy,
                    ) from error
                if not away:
                    self._say(
                        f"is away; operation {number} goes on when it is back. Waiting for it …"
                    )
                away = True
            await anyio.sleep(0.3)

    async def events(self, **parameters: Any) -> AsyncGenerator[Mapping[str, Any], None]:
        """The event line after a number, until the stream ends. Raises `DaemonUnavailable` when it
        breaks."""
        given = {name: value for name, value in parameters.items() if value is not None}
        headers = {"Accept": "text/event-stream"}
        if "after" in given:
            headers["Last-Event-ID"] = str(given.pop("after"))
        timeout = httpx.Timeout(10.0, read=SILENCE)
        with self._translated(reads=True):
            async with self._http.stream(
                "GET", "/api/events", params=given, headers=headers, timeout=timeout
            ) as response:
                await _raise_for(response)
                async for line in response.aiter_lines():
                    if line.startswith("data:"):
                        yield msgspec.json.decode(line[5:])

    async def follow(self, after: int, **filters: Any) -> AsyncIterator[Mapping[str, Any]]:
        """The event line after a number, for ever, over restarts of the daemon. Raises
        `DaemonUnavailable` when it is away for too long, and `Unauthorized` when the token has
        ended."""
        position, there, told = after, monotonic(), False
        while True:
            try:
                async with aclosing(self.events(after=position, **filters)) as line:
                    async for event in line:
                        position, there, told = event["id"], monotonic(), False
                        yield event
                there = monotonic()  # it ended as it should
            except DaemonUnavailable:
                if monotonic() - there > AWAY + SILENCE:
                    raise
                if not told:
                    self._say("is away; waiting for it …")
                told = True
            await anyio.sleep(0.3)

    async def text(self, path: str, **parameters: Any) -> AsyncIterator[str]:
        """Follow a plain text."""
        with self._translated(reads=True):
            async with self._http.stream("GET", path, params=parameters, timeout=None) as response:
                await _raise_for(response)
                async for chunk in response.aiter_text():
                    yield chunk

    async def stream(self, path: str, **parameters: Any) -> AsyncGenerator[bytes, None]:
        """The body of a GET, as it comes."""
        with self._translated(reads=True):
            async with self._http.stream("GET", path, params=parameters, timeout=None) as response:
                await _raise_for(response)
                async for chunk in response.aiter_bytes():
                    yield chunk


def _ended(operation: Mapping[str, Any], told: Mapping[str, Any]) -> Mapping[str, Any]:
    """An operation that has ended. Raises what it failed with; `told` is what its last event
    says."""
    if operation["state"] == "succeeded":
        return operation
    error = error_from(
        operation["error"] or {"detail": told.get("because") or "It could not be ended."}
    )
    number = operation["id"]
    if operation["state"] == "undoing":
        error.remedy += " What was begun is taken back as soon as that is possible."
    if operation["state"] in ("running", "undoing"):
        error.remedy += f" Follow it: purveyor operations follow {number}"
    error.remedy = error.remedy.strip()
    raise error


async def _raise_for(response: httpx.Response) -> None:
    if response.is_error:
        await response.aread()
        raise _error(response)


def _error(response: httpx.Response) -> PurveyorError:
    try:
        problem = response.json()
        stored = {**problem, "code": str(problem.get("type", "")).rpartition(":")[2]}
    except ValueError:
        return Failed(f"The server answered {response.status_code}.")
    return error_from(stored)


# ---------------------------------------------------------------- which core


@asynccontextmanager
async def connect(options: Options, *, resume: bool = True) -> AsyncIterator[Client]:
    """A client of the daemon that is named or running, else of the core run here.

    Without `resume` that core does not go on with what an earlier process left.
    """
    if options.url:
        token = os.environ.get("PURVEYOR_TOKEN", "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(
            base_url=options.url, headers=headers, timeout=TIMEOUT
        ) as http:
            yield Client(http, f"the daemon at {options.url}")
        return
    state = options.state
    if (
        not (state / "settings.toml").exists()
        and not (state / "purveyor.db").exists()
        and not (state / "key").exists()
    ):
        async with _when_needed(options) as client:
            yield client
        return
    path = state / SOCKET
    started = monotonic()
    while not listens(path):
        if not daemon_is_there(state):
            try:
                async with _in_process(options.require_program(), state, resume) as client:
                    yield client
                return
            except StateLocked:
                if monotonic() - started > PATIENCE:
                    raise
        elif monotonic() - started > PATIENCE:
            detail = (
                f"The daemon (process {holder(state, DAEMON) or 'unknown'}) is there, and does "
                "not serve yet."
            )
            raise DaemonUnavailable(
                detail,
                remedy=f"It may wait for process {holder(state)}. Try again, or see its log.",
            )
        await anyio.sleep(0.2)
    number = holder(state)
    async with _over(path) as http:
        yield Client(http, f"the daemon (process {number})" if number else "the daemon")


def listens(path: Path) -> bool:
    """Whether somebody takes connections on a socket. Raises `DaemonUnavailable` when somebody
    should, and does not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(HANGS)
        try:
            probe.connect(str(path))
        except (TimeoutError, BlockingIOError) as error:
            # so many wait already that the system lets no more
            detail = (
                f"The daemon (process {holder(path.parent) or 'unknown'}) takes no "
                "connections, though it runs."
            )
            raise DaemonUnavailable(
                detail, remedy="See its log; if it stays so, restart it."
            ) from error
        except OSError:
            return False
    return True


def _transport(path: Path) -> httpx.AsyncHTTPTransport:
    # no TLS there: reading the certificates takes 30 ms
    return httpx.AsyncHTTPTransport(uds=str(path), verify=False)


@asynccontextmanager
async def _over(path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=_transport(path), base_url="http://purveyor", timeout=TIMEOUT
    ) as http:
        yield http


@asynccontextmanager
async def _in_process(program: Program, state: Path, resume: bool) -> AsyncIterator[Client]:
    """The very same API, served to this process alone."""
    async with _served(program, state, resume) as path, _over(path) as http:
        yield Client(http)


@asynccontextmanager
async def _served(
    program: Program, state: Path, resume: bool = True, *, patience: float = 0.0
) -> AsyncIterator[Path]:
    """The socket of a core that runs here, once whoever else has the state directory lets it go."""
    from purveyor.kernel.api.server import listen_local, serving

    async with program.core_and_api(state, resume=resume, patience=patience) as (_, api):
        with tempfile.TemporaryDirectory(prefix="purveyor-") as folder:
            path = Path(folder) / SOCKET
            async with serving(api, local=[listen_local(path)], called="command line"):
                yield path


class _Late(httpx.AsyncBaseTransport):
    """The core of a state directory that there is not yet: begun by the first call that changes
    something.

    What only looks makes nothing: it is told that nothing is there, or, about what is the same
    everywhere, answered by a core that forgets.
    """

    def __init__(self, options: Options, group: anyio.abc.TaskGroup, over: anyio.Event) -> None:
        self._options = options
        self._group = group
        self._over = over
        self._inner: httpx.AsyncBaseTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        program = self._options.require_program()
        if self._inner is None:
            if request.method not in LOOKED:
                self._inner = await self._group.start(self._serve, self._options.state)
            elif request.url.path.startswith(ANYWHERE):
                with tempfile.TemporaryDirectory(prefix="purveyor-") as folder:
                    async with (
                        _served(program, Path(folder)) as path,
                        _transport(path) as transport,
                    ):
                        answer = await transport.handle_async_request(request)
                        return httpx.Response(
                            answer.status_code, headers=answer.headers, content=await answer.aread()
                        )
            else:
                raise NotFound(
                    f"There is no installation in {self._options.state} ({self._options.why}).",
                    remedy=(
                        "Begin one by creating something, or say where yours is: purveyor "
                        "--state DIR, or $PURVEYOR_STATE."
                    ),
                )
        assert self._inner is not None
        return await self._inner.handle_async_request(request)

    async def _serve(
        self, state: Path, *, task_status: anyio.abc.TaskStatus[httpx.AsyncBaseTransport]
    ) -> None:
        program = self._options.require_program()
        async with (
            _served(program, state, patience=PATIENCE) as path,
            _transport(path) as transport,
        ):
            task_status.started(transport)
            await self._over.wait()


@asynccontextmanager
async def _when_needed(options: Options) -> AsyncIterator[Client]:
    over = anyio.Event()
    async with anyio.create_task_group() as group:
        transport = _Late(options, group, over)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://purveyor", timeout=TIMEOUT
        ) as http:
            try:
                yield Client(http)
            finally:
                over.set()


def _silence(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What the event loop has to say of its callbacks: nothing of a call that was given up and
    answered in the same turn.

    anyio's UNIX sockets wake a future that was cancelled; the loop would print that as a stack
    trace.
    """
    if not isinstance(context.get("exception"), asyncio.InvalidStateError):
        loop.default_exception_handler(context)


def run(options: Options, work: Callable[[Client], Awaitable[T]], *, resume: bool = True) -> T:
    """Run a command's work with a client. Raises `LeftAlone` when it is interrupted from the
    keyboard."""
    clients: list[Client] = []

    async def go() -> T:
        asyncio.get_running_loop().set_exception_handler(_silence)
        async with connect(options, resume=resume) as client:
            clients.append(client)
            return await work(client)

    try:
        return anyio.run(go)
    except KeyboardInterrupt:
        raise (clients[0].left_alone() if clients else LeftAlone("")) from None
