"""Volumes of a real engine, through aiodocker."""

from typing import TYPE_CHECKING

import aiodocker

from purveyor.engine.errors import CHANGE
from purveyor.engine.models import FoundVolume
from purveyor.engine.protocols import Volumes

if TYPE_CHECKING:
    from purveyor.engine.client import DockerEngine


class DockerVolumes(Volumes):
    """`Volumes` of a Docker Engine."""

    def __init__(self, engine: "DockerEngine") -> None:
        self._engine = engine
        self.containers = engine.containers
        self.labels = engine.labels

    async def show(self, name: str) -> FoundVolume | None:
        with self._engine.errors(f"look for the volume {name}"):
            try:
                found = await (await self._engine.docker.volumes.get(name)).show()
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                return None
        device = (found.get("Options") or {}).get("device")
        return FoundVolume(name=name, path=device or "", labels=found.get("Labels") or {})

    async def bind(self, name: str, path: str, volume_id: str) -> None:
        with self._engine.errors(f"make the volume {name}", CHANGE):
            await self._engine.docker.volumes.create(
                {
                    "Name": name,
                    "Driver": "local",
                    "DriverOpts": {"type": "none", "o": "bind", "device": path},
                    "Labels": self.labels.of(volume=volume_id),
                }
            )

    async def delete(self, name: str) -> None:
        with self._engine.errors(f"remove the volume {name}", CHANGE):
            try:
                await (await self._engine.docker.volumes.get(name)).delete()
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
