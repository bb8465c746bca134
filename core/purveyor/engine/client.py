"""The connection to the engine: opened when first needed, its errors turned into ours."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiodocker
import aiohttp
import anyio
import msgspec

from purveyor.engine.labels import Labels
from purveyor_hooks import Conflict, EngineUnavailable, Failed, NotFound

DEFAULT_HOST = "unix:///var/run/docker.sock"
UNREACHABLE = 900  # aiodocker's status for a connection that failed


class PortTaken(Conflict):
    """Somebody else has the host port."""

    code = "port-taken"


class Engine:
    """Docker Engine API 1.41 and up. `namespace` is the network's name and the beginning of all other names."""

    def __init__(self, namespace: str, labels: Labels) -> None:
        self.namespace = namespace
        self.labels = labels
        self._docker: aiodocker.Docker | None = None
        self._networking = anyio.Lock()

    @property
    def docker(self) -> aiodocker.Docker:
        """The client of this process."""
        if self._docker is None:
            self._docker = _connect()
        return self._docker

    async def close(self) -> None:
        if self._docker is not None:
            await self._docker.close()
            self._docker = None

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Turn what the engine or the connection raises into our errors; `what` ends "could not …"."""
        try:
            yield
        except aiodocker.DockerError as error:
            raise translate(error, what) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise unavailable(str(error)) from error
        except TimeoutError as error:
            raise EngineUnavailable(
                f"The Docker Engine did not answer in time: could not {what}.", remedy="See: systemctl status docker"
            ) from error

    async def version(self) -> dict[str, Any]:
        """The engine's version answer. Raises `EngineUnavailable` within five seconds."""
        with self.errors("ask for its version"), anyio.fail_after(5):
            answer: dict[str, Any] = await self.docker.version()
            return answer

    async def ensure_network(self) -> None:
        """Make the network unless it is there. One at a time: the engine lets two networks have one name."""
        async with self._networking:
            with self.errors(f"make the network {self.namespace}"):
                if not await self.docker.networks.list(filters={"name": [f"^{self.namespace}$"]}):
                    config = {"Name": self.namespace, "CheckDuplicate": True, "Labels": self.labels.of()}
                    await self.docker.networks.create(config)

    async def gateway(self) -> str:
        """The host's own address on the network, which is made if need be; "" when it has none."""
        await self.ensure_network()
        with self.errors(f"look at the network {self.namespace}"):
            found = await (await self.docker.networks.get(self.namespace)).show()
        pools = (found.get("IPAM") or {}).get("Config") or []
        return next((str(pool["Gateway"]).partition("/")[0] for pool in pools if pool.get("Gateway")), "")

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The engine's container events, from now on until the connection ends."""
        docker = _connect()
        wanted = {"type": ["container"]}

        async def listen() -> AsyncIterator[dict[str, Any]]:
            while (event := await channel.get()) is not None:
                yield event

        async def pump() -> None:
            with self.errors("follow its events"):
                await docker.events.run(filters=filters(wanted))

        try:
            channel = docker.events.subscribe(create_task=False)
            async with anyio.create_task_group() as group:
                group.start_soon(pump)
                yield listen()
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await docker.close()


def _connect() -> aiodocker.Docker:
    """A client of the engine that DOCKER_HOST or the Docker context names; no call has been made yet."""
    try:
        return aiodocker.Docker()
    except (AssertionError, ValueError):  # no socket where it looks; that is said at the first call
        return aiodocker.Docker(url=DEFAULT_HOST)


def filters(value: Any) -> str:
    """Filters as the engine takes them where aiodocker does not encode them itself."""
    return msgspec.json.encode(value).decode()


def translate(error: aiodocker.DockerError, what: str) -> Exception:
    """Our error for the engine's."""
    message = str(error.message).strip().rstrip(".")
    if error.status == UNREACHABLE:
        return unavailable(message)
    if "port is already allocated" in message or "address already in use" in message:
        return PortTaken(f"Could not {what}: {message}.", remedy="Choose another port, or free this one.")
    if error.status == 404:
        return NotFound(f"Could not {what}: {message}.")
    if error.status == 409:
        return Conflict(f"Could not {what}: {message}.")
    return Failed(f"The Docker Engine could not {what}: {message}.", remedy="See: journalctl -u docker")


def unavailable(message: str) -> EngineUnavailable:
    host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    if "ermission denied" in message:
        remedy = "Run as root, or add your user to the group `docker` and sign in again."
        return EngineUnavailable(f"This user may not use the Docker Engine at {host}.", remedy=remedy)
    remedy = "Start it (systemctl start docker), or set DOCKER_HOST to where it listens."
    return EngineUnavailable(f"The Docker Engine at {host} does not answer.", remedy=remedy)
