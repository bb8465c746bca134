"""Which engine is meant, and whether it is on this host.

Data folders, published ports and helpers are on the engine's host, and Purveyor reads and reaches
them itself: an engine elsewhere would be given folders that it does not have.
"""

import socket
from ipaddress import ip_address

import aiodocker
import aiohttp
import anyio
from yarl import URL

from purveyor_hooks import BadInput

DEFAULT_HOST = "unix:///var/run/docker.sock"
LOOKUP_DEADLINE = 1.0  # seconds
REMEDY = (
    "Run Purveyor on the engine's own host; there, leave DOCKER_HOST and DOCKER_CONTEXT alone, "
    "or let them name its socket."
)


def connect() -> aiodocker.Docker:
    """A client of the engine that DOCKER_HOST or the Docker context names; no call has been made
    yet. Raises `BadInput` for one that is reached in a way that leads to other hosts only."""
    try:
        return aiodocker.Docker()
    except (ImportError, aiodocker.DockerError) as error:
        # ssh:// needs a library that we have no use for
        raise elsewhere("reached over ssh") from error
    except (AssertionError, ValueError):  # no socket where it looks; that is said at the first call
        return aiodocker.Docker(url=DEFAULT_HOST)


def elsewhere(what: str) -> BadInput:
    return BadInput(
        f"The Docker Engine is {what}. Purveyor keeps data in folders of this host and reaches "
        "services on 127.0.0.1, "
        "so the engine has to be on this host too.",
        remedy=REMEDY,
    )


async def require_here(docker: aiodocker.Docker) -> None:
    """Raise `BadInput` for an engine on another host, without asking it anything."""
    if isinstance(docker.connector, aiohttp.UnixConnector):
        return
    if not isinstance(docker.connector, aiohttp.TCPConnector):
        raise elsewhere("reached over ssh")
    url = URL(docker.docker_host)
    name, port = url.host or "", url.port or 0
    try:
        with anyio.fail_after(LOOKUP_DEADLINE):
            found = await anyio.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        raise elsewhere(f"at {name}, and which host that is cannot be told") from None
    if not all(_ours(str(address[4][0])) for address in found):
        raise elsewhere(f"on another host, {name}")


def _ours(address: str) -> bool:
    """Whether an address is one of this host's: only those can be bound to."""
    if ip_address(address.partition("%")[0]).is_loopback:
        return True
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
