"""The connection to the engine: opened when first needed, its errors turned into ours."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, closing
from typing import Any

import aiodocker
import aiohttp
import anyio
import msgspec

from purveyor.docker.containers import DockerContainers
from purveyor.docker.errors import CHANGE, LOOK, UNREACHABLE, translated
from purveyor.docker.filters import filters
from purveyor.docker.host import connect, require_here
from purveyor.docker.images import DockerImages
from purveyor.docker.labels import Labels
from purveyor.docker.networks import DockerNetworks
from purveyor.docker.protocols import Engine
from purveyor.docker.volumes import DockerVolumes


class DockerEngine(Engine):
    """A Docker Engine with the API 1.41 and up: the one that DOCKER_HOST or the Docker context
    names."""

    def __init__(self, namespace: str, labels: Labels) -> None:
        self.namespace = namespace
        self.labels = labels
        self._docker: aiodocker.Docker | None = None
        self._networking = anyio.Lock()
        self.containers = DockerContainers(self)
        self.images = DockerImages(self)
        self.volumes = DockerVolumes(self)
        self.networks = DockerNetworks(self)

    @property
    def docker(self) -> aiodocker.Docker:
        """The client of this process."""
        if self._docker is None:
            self._docker = connect()
        return self._docker

    async def require_here(self) -> None:
        try:
            await require_here(self.docker)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._docker is not None:
            await self._docker.close()
            self._docker = None

    @staticmethod
    def errors(what: str, within: float | None = LOOK) -> AbstractContextManager[None]:
        """Turn what the engine or the connection raises into our errors; `what` ends "could not …".
        Whoever does not answer `within` so many seconds is away; None waits for as long as it
        takes."""
        return translated(what, within)

    async def ask(
        self, path: str, params: Mapping[str, str], method: str = "GET"
    ) -> aiohttp.ClientResponse:
        """What the library has no call for: the answer, to be read and closed. Raises as the
        library does."""
        try:
            answer = await self.docker.session.request(
                method, f"{self.docker.docker_host}/{path}", params=params
            )
        except aiohttp.ClientConnectionError as error:
            raise aiodocker.DockerError(UNREACHABLE, str(error)) from error
        if answer.status >= 400:
            with closing(answer):
                raise aiodocker.DockerError(
                    answer.status, _message((await answer.read()).decode(errors="replace"))
                )
        return answer

    async def version(self) -> dict[str, Any]:
        with self.errors("ask for its version"):
            answer: dict[str, Any] = await self.docker.version()
            return answer

    async def ensure_network(self) -> None:
        async with self._networking:  # one at a time: the engine lets two networks have one name
            found = await self._named_networks()
            if not found:
                with self.errors(f"make the network {self.namespace}", CHANGE):
                    await self._make_network()
                found = await self._named_networks()
            if len(found) > 1:
                await self._leave_one(found)

    async def _named_networks(self) -> list[dict[str, Any]]:
        with self.errors(f"look for the network {self.namespace}"):
            found: list[dict[str, Any]] = await self.docker.networks.list(
                filters={"name": [f"^{self.namespace}$"]}
            )
            return found

    async def _leave_one(self, found: list[dict[str, Any]]) -> None:
        """Two networks of one name: a process that was killed while it made one, and the next one,
        that did not see it yet. The one that is used stays, else the oldest; whoever else looks at
        the same moment decides alike."""
        with self.errors(f"look at the network {self.namespace}", CHANGE):
            shown = [await (await self.docker.networks.get(item["Id"])).show() for item in found]
            shown.sort(
                key=lambda item: (not item.get("Containers"), item.get("Created", ""), item["Id"])
            )
            for item in shown[1:]:
                if (
                    not item.get("Containers")
                    and (item.get("Labels") or {}).items() >= self.labels.of().items()
                ):
                    await (await self.docker.networks.get(item["Id"])).delete()

    async def _make_network(self) -> None:
        config: dict[str, Any] = {
            "Name": self.namespace,
            "CheckDuplicate": True,
            "Labels": self.labels.of(),
        }
        if self.subnets:
            pools = [
                {"Subnet": subnet, **({"Gateway": gateway} if gateway else {})}
                for subnet, gateway in self.subnets
            ]
            try:
                await self.docker.networks.create({**config, "IPAM": {"Config": pools}})
                return
            except aiodocker.DockerError as error:
                if error.status == UNREACHABLE:
                    raise
        await self.docker.networks.create(config)  # somebody has the addresses now

    async def network_id(self) -> str:
        found = await self._network()
        return str(found["Id"]) if found else ""

    async def _network(self) -> dict[str, Any]:
        """The network as the engine shows it, {} when there is none."""
        with self.errors(f"look at the network {self.namespace}"):
            try:
                found: dict[str, Any] = await (
                    await self.docker.networks.get(self.namespace)
                ).show()
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                return {}
        pools = (found.get("IPAM") or {}).get("Config") or []
        parts = (
            (str(pool.get("Subnet") or ""), str(pool.get("Gateway") or "").partition("/")[0])
            for pool in pools
        )
        self.subnets = tuple(part for part in parts if part[0])
        return found

    async def gateway(self) -> str:
        await self.ensure_network()
        await self._network()
        return next((gateway for _, gateway in self.subnets if gateway), "")

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        docker = connect()
        wanted = {"type": ["container", "network"]}

        async def listen() -> AsyncIterator[dict[str, Any]]:
            while (event := await channel.get()) is not None:
                yield event

        async def pump() -> None:
            with self.errors("follow its events", None):
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


def _message(body: str) -> str:
    """What an engine says in the body of a refusal."""
    try:
        return str(msgspec.json.decode(body)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body
