"""Networks of a real engine, through aiodocker; and the addresses that are in use on this host."""

import ipaddress
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiodocker
import anyio.to_thread
import msgspec
from aiodocker.networks import DockerNetwork

from purveyor.docker.errors import CHANGE
from purveyor.docker.models import AddressesTaken, Network
from purveyor.docker.protocols import Networks, Subnet
from purveyor_hooks import Conflict

if TYPE_CHECKING:
    from purveyor.docker.client import DockerEngine

IP = ("ip", "-4", "-j")
RESOLVERS = Path("/etc/resolv.conf")


class DockerNetworks(Networks):
    """`Networks` of a Docker Engine."""

    def __init__(self, engine: "DockerEngine") -> None:
        super().__init__()
        self._engine = engine
        self.labels = engine.labels

    async def ids(self) -> dict[str, str]:
        with self._engine.errors("list its networks"):
            found = await self._engine.docker.networks.list(filters=self.labels.filters())
        return {str(item["Name"]): str(item["Id"]) for item in found}

    async def ensure(self, name: str, subnet: Subnet, environment: int) -> str:
        if found := await self._named(name):
            return found
        config: dict[str, Any] = {
            "Name": name,
            "CheckDuplicate": True,
            "Labels": self.labels.of(environment=environment),
            # with a subnet alone the engine tells no gateway
            "IPAM": {"Config": [{"Subnet": subnet[0], "Gateway": subnet[1]}]},
        }
        with self._engine.errors(f"make the network {name}", CHANGE):
            try:
                await self._engine.docker.networks.create(config)
            except aiodocker.DockerError as error:
                said = str(error.message)
                if "overlap" in said:
                    raise AddressesTaken(
                        f"The addresses {subnet[0]} are in use by another network."
                    ) from error
                if error.status != 409:  # made a moment ago, by a process that was killed then
                    raise
        return await self._named(name)

    async def _named(self, name: str) -> str:
        """The id of our network of this name, "" when there is none. Raises `Conflict` when it is
        somebody else's."""
        with self._engine.errors(f"look for the network {name}"):
            listed = await self._engine.docker.networks.list(filters={"name": [name]})
        # the filter takes parts of names
        listed = [item for item in listed if item["Name"] == name]
        ours = [item for item in listed if self.labels.ours(item.get("Labels"))]
        if listed and not ours:
            raise Conflict(
                f"A network named {name} exists and is not Purveyor's.",
                remedy=f"Remove it (docker network rm {name}), then try again.",
            )
        return str(ours[0]["Id"]) if ours else ""

    async def delete(self, name: str) -> tuple[str, ...]:
        with self._engine.errors(f"remove the network {name}", CHANGE):
            try:
                shown = await (await self._engine.docker.networks.get(name)).show()
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                return ()
            if not self.labels.ours(shown.get("Labels")):
                return ()
            ours = {item.id for item in await self._engine.containers.listed()}
            others = []
            for number, item in (shown.get("Containers") or {}).items():
                if number not in ours:
                    others.append(str(item["Name"]))
                    continue
                await self._engine.containers.leave(number, name)
            if others:
                return tuple(sorted(others))
            try:
                await DockerNetwork(self._engine.docker, shown["Id"]).delete()
            except aiodocker.DockerError as error:
                if "active endpoints" in str(error.message):  # somebody joined it a moment ago
                    return ("somebody",)
                if error.status != 404:
                    raise
        return ()

    async def listed(self) -> list[Network]:
        with self._engine.errors("list its networks"):
            found = await self._engine.docker.networks.list()
        return [
            Network(
                name=item["Name"],
                subnets=tuple(
                    pool["Subnet"]
                    for pool in (item.get("IPAM") or {}).get("Config") or ()
                    if pool.get("Subnet")
                ),
                ours=item["Name"] == self._engine.namespace or self.labels.ours(item.get("Labels")),
            )
            for item in found
        ]

    async def taken(self) -> list[str]:
        ranges = [subnet for network in await self.listed() for subnet in network.subnets]
        return [*ranges, *await anyio.to_thread.run_sync(_of_host)]


def _of_host() -> list[str]:
    """Where this host sends packets, in all its tables; its own addresses; and whom it asks for
    names."""
    found = list(_routes())
    if RESOLVERS.exists():
        lines = (line.split() for line in RESOLVERS.read_text(errors="replace").splitlines())
        found += [
            line[1]
            for line in lines
            if len(line) > 1 and line[0] == "nameserver" and ":" not in line[1]
        ]
    return [item for item in found if _is_range(item)]


def _routes() -> Iterator[str]:
    try:
        for item in msgspec.json.decode(_asked("route", "show", "table", "all")):
            yield str(item.get("dst", ""))
        for item in msgspec.json.decode(_asked("addr")):
            yield from (
                f"{address.get('local')}/{address.get('prefixlen')}"
                for address in item.get("addr_info", [])
            )
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError):
        # the program is not there: the kernel's own table
        for line in Path("/proc/net/route").read_text().splitlines()[1:]:
            target, mask = line.split()[1], line.split()[7]
            yield f"{_little(target)}/{_little(mask)}"


def _asked(*words: str) -> bytes:
    return subprocess.run([*IP, *words], capture_output=True, check=True, timeout=5).stdout


def _little(number: str) -> str:
    return str(ipaddress.IPv4Address(int.from_bytes(bytes.fromhex(number), "little")))


def _is_range(text: str) -> bool:
    """Whether it is a range of addresses, and not all of them: the default route."""
    try:
        return ipaddress.ip_network(text, strict=False).prefixlen > 0
    except ValueError:
        return False
