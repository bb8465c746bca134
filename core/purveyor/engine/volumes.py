"""Volumes: a folder on the host that Docker knows by name.

The data is not in Docker's own folder but in one of ours, bound by the local driver: what removes volumes on
the engine (``docker volume rm``, ``docker system prune --volumes``) removes a name and never the data.
"""

import shutil
from pathlib import Path

import aiodocker
import anyio.to_thread

from purveyor.engine import containers
from purveyor.engine.client import Engine
from purveyor_hooks import ContainerSpec, DataRefused, Failed, Mount

COPY_DEADLINE = 6 * 3600.0


async def create(engine: Engine, name: str, path: str, volume_id: str) -> None:
    """Make the folder and the volume of a new data set; both may be there already."""
    await anyio.to_thread.run_sync(lambda: Path(path).mkdir(parents=True, exist_ok=True))
    await _create(engine, name, path, volume_id)


async def require(engine: Engine, name: str, path: str, volume_id: str) -> None:
    """Make sure that a recorded volume is there and is the recorded one. Raises `DataRefused`."""
    if not await anyio.to_thread.run_sync(Path(path).is_dir):
        raise DataRefused(
            f"The folder {path} that holds this service's data is gone.",
            remedy="Put it back (a mount that is missing, a folder that was moved), or restore a backup into a new service.",
        )
    with engine.errors(f"look for the volume {name}"):
        try:
            found = await (await engine.docker.volumes.get(name)).show()
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise
            await _create(engine, name, path, volume_id)  # the name was removed, the data is there
            return
    device = (found.get("Options") or {}).get("device")
    if device != path:
        raise DataRefused(
            f"The Docker volume {name} is not the recorded one: it holds {device or 'a folder of its own'}, not {path}.",
            remedy=f"Somebody replaced it. Your data is in {path}. Remove the wrong volume (docker volume rm {name}), "
            "then start the service again.",
        )


async def _create(engine: Engine, name: str, path: str, volume_id: str) -> None:
    with engine.errors(f"make the volume {name}"):
        await engine.docker.volumes.create(
            {
                "Name": name,
                "Driver": "local",
                "DriverOpts": {"type": "none", "o": "bind", "device": path},
                "Labels": engine.labels.of(volume=volume_id),
            }
        )


async def forget(engine: Engine, name: str) -> None:
    """Remove the name from the engine if it is ours; the data stays where it is."""
    with engine.errors(f"remove the volume {name}"):
        try:
            volume = await engine.docker.volumes.get(name)
            if engine.labels.ours((await volume.show()).get("Labels")):
                await volume.delete()
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise


async def destroy(engine: Engine, name: str, path: str, image: str) -> None:
    """Remove the volume and delete its data.

    The servers own their files: where this process may not delete them, a container of `image` does.
    """
    folder = Path(path)
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
    if await anyio.to_thread.run_sync(folder.exists):
        spec = ContainerSpec(
            image=image,
            entrypoint=("/bin/sh", "-c", 'find "$0" -mindepth 1 -delete'),
            command=("/purge",),
            mount=Mount(target="/purge"),
            user="0",
        )
        await containers.run_once(engine, f"{name}-purge", spec, volume=name, network=None)
        await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
        if await anyio.to_thread.run_sync(folder.exists):
            raise Failed(f"The data in {path} could not be deleted.", remedy=f"As root: rm -r {path}")
    await forget(engine, name)


async def copy(engine: Engine, source: str, target: str, target_path: str, image: str) -> None:
    """Copy all files of one volume into another, with owners and times; what an earlier try left is removed first.

    Both are read and written by a container of `image`, for the files are the server's own.
    """
    script = 'find "$0" -mindepth 1 -delete && cp -a /from/. "$0"/ && sync'
    spec = ContainerSpec(image=image, entrypoint=("/bin/sh", "-c", script), command=("/to",), mount=Mount(target="/to"), user="0")
    ended = await containers.run_once(
        engine, f"{target}-copy", spec, volume=target, network=None, timeout=COPY_DEADLINE, read_only={source: "/from"}
    )
    if ended.exit_code:
        raise Failed(f"The data could not be copied to {target_path}: {ended.stdout[-300:]}", remedy="Is the disk full?")
