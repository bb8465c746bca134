"""Volumes of a real engine, through aiodocker."""

import os
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiodocker
import anyio
from anyio import to_thread

from purveyor.docker.errors import CHANGE
from purveyor.docker.labels import INSTALLATION
from purveyor.docker.models import FoundVolume
from purveyor.docker.protocols import Volumes

if TYPE_CHECKING:
    from purveyor.docker.client import DockerEngine


EACH = 5.0  # seconds in which the files of one folder are added up


async def sizes_of(paths: Sequence[str], within: float) -> dict[str, int | None]:
    """The size of each folder, see `size_of`; those that it took too long for, alone or all
    together, are left out. `within` is in seconds."""
    found: dict[str, int | None] = {}
    until = monotonic() + within
    for path in paths:
        left = min(EACH, until - monotonic())
        if left <= 0:
            break
        with anyio.move_on_after(left + 1):  # a disk that hangs is asked for nothing more
            try:
                found[path] = await to_thread.run_sync(size_of, path, left, abandon_on_cancel=True)
            except TimeoutError:
                continue
    return found


def size_of(path: str, budget: float = EACH) -> int | None:
    """The bytes that the files of a folder take on the disk; None where it may not be read. Raises
    `TimeoutError` when they cannot be added up in so many seconds."""
    until, total, folders = monotonic() + budget, 0, [path]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    total += found.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except FileNotFoundError:
            continue  # the server removes files while they are counted
        except OSError:
            return None
        if monotonic() > until:
            raise TimeoutError
    return total


def _seen(shown: Mapping[str, Any]) -> FoundVolume:
    device = (shown.get("Options") or {}).get("device")
    return FoundVolume(name=shown["Name"], path=device or "", labels=shown.get("Labels") or {})


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
        return _seen(found)

    async def listed(self) -> list[FoundVolume]:
        with self._engine.errors("list its volumes"):
            answer = await self._engine.docker.volumes.list(filters={"label": [INSTALLATION]})
        return [_seen(item) for item in answer.get("Volumes") or ()]

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
