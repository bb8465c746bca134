"""Who is at the door: a connection from a container gets what is for apps, and nothing else.

Cookies and ports make no difference between an app of this host and its administrator, addresses
do: apps arrive with those of the engine's networks, through whichever address of the host.
"""

import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Protocol

import anyio
from litestar import Request

from purveyor.kernel.api.problems import render
from purveyor_hooks import FOR_APPS, Forbidden, Logger, PurveyorError

REACH = "purveyor.reach"  # in a connection's scope, where it is less than everything
# seconds for which a look at the engine's networks tells that an address is on none of them
FRESH = 5.0
MOST = 10_000  # addresses that are remembered
NO_NEIGHBOUR = Forbidden(
    "This address serves the apps of this installation, and you are on none of its networks.",
    remedy=(
        "Connect the container to the installation's network: docker network connect NETWORK "
        "CONTAINER"
    ),
)
NOT_FOR_APPS = Forbidden(
    "From a container only what is for apps is reached; this is not.",
    remedy=(
        "Use the API and the dashboard from the host itself, or from elsewhere through a "
        "tunnel to it."
    ),
)


class Network(Protocol):
    """A network of containers, with its ranges of addresses; `ours` when it is one of this
    installation's."""

    @property
    def subnets(self) -> tuple[str, ...]: ...
    @property
    def ours(self) -> bool: ...


class Whose(Enum):
    """Whose an address is."""

    HOST = "this host's"
    OURS = "on a network of this installation"
    ENGINE = "on another network of the engine"
    OUTSIDE = "somebody else's"


class Reach(Enum):
    """What a connection may ask for."""

    ALL = "everything"
    APPS = "what is for apps"
    NOTHING = "nothing"


def address_of(text: str) -> IPv4Address | IPv6Address:
    """An address as it is compared. Raises `ValueError`."""
    found = ip_address(text)
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def is_own(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is this host's: the system answers those from themselves. Nothing is
    sent."""
    if address.is_loopback:
        return True
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return address_of(probe.getsockname()[0]) == address
    except OSError:
        return False


class Neighbours:
    """The engine's networks, and who is on them. `gateway` is the host's address on the network of
    this installation."""

    def __init__(
        self, networks: Callable[[], Awaitable[Sequence[Network]]], logger: Logger
    ) -> None:
        self._ask = networks
        self._logger = logger
        # None while the engine has never answered
        self._networks: tuple[Network, ...] | None = None
        self._looked = 0.0  # when the last look began
        self._looking = anyio.Lock()
        self._complained = False
        self._known: dict[str, tuple[Whose, float]] = {}
        self.gateway = ""

    async def reach(self, peer: str, arrived: str, *, at_gateway: bool) -> Reach:
        """What a connection gets: `peer` is who, `arrived` the address of ours that it came to.

        `at_gateway` is for the listener that only containers are to use. On one that listens
        everywhere, what arrives at the gateway's address is at the door as well, unless the host
        itself asks.
        """
        whose = await self.whose(peer)
        if whose is Whose.HOST:
            return Reach.APPS if at_gateway else Reach.ALL
        if at_gateway or (self.gateway and arrived == self.gateway):
            return Reach.APPS if whose is Whose.OURS else Reach.NOTHING
        return Reach.ALL if whose is Whose.OUTSIDE else Reach.APPS

    async def whose(self, peer: str) -> Whose:
        """Whose an address is. One that is on no network that is known is looked for again: an app
        may be on one that has just been made. While the engine has never told its networks, anybody
        else may be a container, and counts as one."""
        now = time.monotonic()
        known = self._known.get(peer)
        if known is not None and (known[0] is not Whose.OUTSIDE or now - known[1] < FRESH):
            return known[0]
        found = self._judge(peer)
        if found is Whose.OUTSIDE:
            async with self._looking:  # one look serves all who came before it
                if self._looked < now:
                    await self._look()
            found = self._judge(peer)
        if self._networks is None:
            return found if found is Whose.HOST else Whose.ENGINE
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[peer] = (found, now)
        return found

    async def look(self) -> None:
        """Ask the engine for its networks."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        self._looked = time.monotonic()
        try:
            found = tuple(await self._ask())
        except PurveyorError as error:  # what was known holds: nobody makes a network meanwhile
            if not self._complained:
                self._logger.warning("networks.unknown", error=error.detail)
            self._complained = True
            self._looked += FRESH  # not each of many strangers waits for it
            return
        self._complained = False
        if found != self._networks:
            self._networks = found
            self._known.clear()

    def _judge(self, peer: str) -> Whose:
        try:
            address = address_of(peer)
        except ValueError:
            return Whose.OUTSIDE
        if is_own(address):
            return Whose.HOST
        if address.is_link_local:  # a container's on a network with IPv6, which no range tells
            return Whose.ENGINE
        whose = Whose.OUTSIDE
        for network in self._networks or ():
            if any(address in ip_network(subnet, strict=False) for subnet in network.subnets):
                if network.ours:
                    return Whose.OURS
                whose = Whose.ENGINE
        return whose


def judge_peers(application: Any, neighbours: Neighbours, *, at_gateway: bool) -> Any:
    """The same application, told what each connection may ask for."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        peer, arrived = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
        reach = await neighbours.reach(str(peer[0]), str(arrived[0]), at_gateway=at_gateway)
        await application(scope if reach is Reach.ALL else {**scope, REACH: reach}, receive, send)

    return call


def for_apps_only(app: Any) -> Any:
    """The middleware of all routes: who is at the door passes to those that are marked as for apps.
    The refusal is told here, in the API's own way, whatever the route makes of errors."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        reach = scope.get(REACH, Reach.ALL)
        if reach is Reach.ALL or (reach is Reach.APPS and scope["route_handler"].opt.get(FOR_APPS)):
            await app(scope, receive, send)
            return
        request: Request[Any, Any, Any] = Request(scope)
        answer = render(request, NO_NEIGHBOUR if reach is Reach.NOTHING else NOT_FOR_APPS)
        await answer.to_asgi_response(None, request)(scope, receive, send)

    return call
