"""The servers that carry the API."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio.abc
import uvicorn
from litestar import Litestar

from purveyor.kernel.api.auth import TRUSTED
from purveyor.kernel.api.guard import RESERVE, Guard, Guarded, raise_handle_limit
from purveyor.kernel.api.notes import ORIGIN
from purveyor.kernel.api.peers import Neighbours, address_of, judge_peers
from purveyor.kernel.core import Core
from purveyor_hooks import Conflict

GRACE = 3
KEEP_ALIVE = 60  # seconds of silence until a peer is asked whether it is still there


def _placed(api: Any, trusted: str) -> Any:
    """The same application, which knows where a request comes from: a peer's address, or the name
    of a socket that only the owner of the state directory can open."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        peer = scope.get("client")
        ORIGIN.set(trusted or (peer[0] if peer else "unknown"))  # each request is a task of its own
        await api({**scope, TRUSTED: True} if trusted else scope, receive, send)

    return call


class _Server(uvicorn.Server):
    """A server whose process handles signals itself."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(application: Any, guard: Guard | None) -> _Server:
    return _Server(
        uvicorn.Config(
            application,
            http=cast(Any, partial(Guarded, guard=guard)) if guard else "httptools",
            ws="none",  # it would go by the guard, which would count it for ever
            log_config=None,
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
    )


def listen_tcp(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `Conflict` when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only where the protocol is said: without it an answer waits 40
    # ms for an ACK
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # a peer that is gone without a word is noticed
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE)
    try:
        listener.bind((host, port))
    except (OSError, TypeError) as error:  # the second for a host that is no name
        listener.close()
        remedy = (
            "Choose another: purveyor serve --listen HOST:PORT, or `listen` in the settings file."
        )
        why = error.strerror if isinstance(error, OSError) else "not a valid host name"
        raise Conflict(f"Cannot listen on {host}:{port}: {why}.", remedy=remedy) from error
    listener.listen(256)
    return listener


def _is_loopback(listener: socket.socket) -> bool:
    return address_of(listener.getsockname()[0]).is_loopback


def listen_local(path: Path) -> socket.socket:
    """A listening Unix socket that only this user can open; the state lock is held, so an old one
    is left over."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(256)
    return listener


class Servers:
    """The API on its sockets, each served in one task group."""

    def __init__(self, api: Litestar, group: anyio.abc.TaskGroup) -> None:
        core: Core = api.state.core
        context = core.context
        self._api = api
        self._group = group
        # apps have theirs: with a quarter for each, four of them would shut the administrator out
        handles = RESERVE + (raise_handle_limit() - RESERVE) // 2
        self._guard, self.door_guard = (
            Guard(context.settings.connections, handles, context.logger) for _ in range(2)
        )
        self.neighbours = Neighbours(core.container_networks, context.logger)
        self._running: list[_Server] = []

    async def open(
        self, *sockets: socket.socket, trusted: str = "", at_gateway: bool = False
    ) -> Callable[[], None]:
        """Serve on further sockets; the answer ends that. Those that are not trusted are guarded;
        those that are have a name for the audit log.

        `at_gateway` are for containers alone. Nobody but this host reaches a loopback address: there
        nobody is asked who it is.
        """
        application: Any = _placed(self._api, trusted)
        if not trusted and (at_gateway or not all(_is_loopback(item) for item in sockets)):
            application = judge_peers(application, self.neighbours, at_gateway=at_gateway)
        guard = self.door_guard if at_gateway else self._guard
        server = _server(application, None if trusted else guard)
        self._running.append(server)
        self._group.start_soon(server.serve, list(sockets))
        while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
            await anyio.sleep(0.005)

        def end() -> None:
            server.should_exit = True

        return end

    def close(self) -> None:
        for server in self._running:
            server.should_exit = True


@asynccontextmanager
async def serving(
    api: Litestar,
    *,
    local: Sequence[socket.socket],
    public: Sequence[socket.socket] = (),
    called: str = "local socket",
) -> AsyncIterator[Servers]:
    """Serve on these sockets for as long as the block runs; requests under way are given a few
    seconds to end. `called` is what the audit log has as the origin of what comes by a local
    one."""
    async with anyio.create_task_group() as group:
        servers = Servers(api, group)
        await servers.open(*local, trusted=called)
        if public:
            await servers.open(*public)
        try:
            yield servers
        finally:
            servers.close()
