"""What the core asks of a Docker Engine.

Two classes answer it: `DockerEngine` over aiodocker, and the fake of the tests, which keeps its
containers in memory. What both do alike (to remove, to run once, to look before a volume is used)
stands here, written on what each does by itself. Errors are ours: `EngineUnavailable` when it does
not answer, `NotFound`, `Conflict`, `Failed`.
"""

import shutil
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.to_thread

from purveyor.docker.files import Placed
from purveyor.docker.labels import Labels
from purveyor.docker.models import Found, FoundVolume, Network, Usage
from purveyor_hooks import (
    Command,
    Conflict,
    ContainerSpec,
    DataRefused,
    DeadlineExceeded,
    ExecResult,
    Failed,
    FoundContainer,
    Image,
    ImageMissing,
    Mount,
    NotFound,
)

Subnet = tuple[str, str]  # its range of addresses, and the host's own one in it
Progress = Callable[[str], Awaitable[None]]
COPY_DEADLINE = 6 * 3600.0
# what files take that keep their owners and modes
UNPACKING = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID")


class Session(Protocol):
    """A command that runs in a container: what it prints, what it is sent, how it ends."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """What it prints: 1 and its output, or 2 and its errors, until it ends."""

    async def write(self, data: bytes) -> None:
        """Send it input; awaiting is the back-pressure."""

    async def end_input(self) -> None:
        """Tell the command that nothing more comes, and go on reading what it prints."""

    async def resize(self, lines: int, columns: int) -> None:
        """Tell its terminal the new size."""

    async def exit_code(self) -> int:
        """What it ended with; only after its output has ended."""


class Containers(Protocol):
    """Containers: made from a `ContainerSpec`, found by our labels, changed only when they are
    ours.

    One that was imported is somebody else's (`foreign`): it is looked at, started, stopped, and put
    on the network.
    """

    labels: Labels
    _once: defaultdict[str, anyio.Lock]

    def __init__(self) -> None:
        self._once = defaultdict(anyio.Lock)

    async def inspect(self, name: str, *, foreign: bool = False) -> Found | None:
        """The container of this name, None when there is none. Raises `Conflict` when it is
        somebody else's, unless that is meant."""

    async def foreign(self) -> list[FoundContainer]:
        """Every container that no Purveyor has made, as plugins see it."""

    async def foreign_of(self, reference: str) -> FoundContainer | None:
        """A container by its name or id (or how that begins), as plugins see it; None when there is
        none."""

    async def published(self, name: str) -> dict[int, int]:
        """Host port -> container port, of any container."""

    async def named(self, names: Sequence[str]) -> list[Found]:
        """The containers of these names, whosever they are."""

    async def listed(self, **fields: object) -> list[Found]:
        """All containers of this installation that carry these labels."""

    async def create(
        self,
        name: str,
        spec: ContainerSpec,
        *,
        labels: Mapping[str, str],
        ports: Mapping[int, int],
        volume: str | None,
        seed: bool,
        network: str | None,
        aliases: Sequence[str] = (),
        restart: bool = True,
        read_only: Mapping[str, str] | None = None,
        inside: str = "",
        hosts: Mapping[str, str] | None = None,
        further: Sequence[Placed] = (),
    ) -> str:
        """Create (not start) a container; the answer is its id. `ports` maps container ports to
        host ports, `read_only` further volumes to where they are mounted, `hosts` further names to
        addresses. One that is `inside` another's network has none of its own. `further` files are
        put in with those of `spec`: each call for that takes the engine as long as a fork."""

    async def put(self, container_id: str, files: Sequence[Placed]) -> None:
        """Put files into a container, whether it runs or not."""

    async def users(self, folders: Mapping[str, str]) -> dict[str, list[Found]]:
        """The containers, whosever they are and whether they run or not, that can write to these
        volumes: by the volume's name, by another name of its folder, or by the folder itself or one
        in it. `folders` maps names to folders."""

    async def rename(self, container_id: str, name: str) -> None:
        """Give a container another name. Raises `Conflict` when it is somebody's."""

    async def unpause(self, name: str) -> None:
        """Let a container that was paused go on; one that is not is fine."""

    async def holds(self, container_id: str, path: str) -> bool:
        """Whether a file is there, volumes included; the container need not run. Small files
        only."""

    async def contents(self, container_id: str, path: str) -> str | None:
        """The text of a small file, volumes included, None when there is none; the container need
        not run."""

    async def start(self, name: str) -> None:
        """Start a container; one that runs stays as it is. Raises `PortTaken`."""

    async def stop(self, name: str, seconds: int | None = None) -> None:
        """Stop a container and wait until it has; one that is gone or stopped is fine."""

    async def delete(self, container_id: str) -> None:
        """Remove a container and its anonymous volumes, whether it runs or not; one that is gone is
        fine."""

    async def wait(self, name: str) -> int:
        """Wait until a container has ended; the answer is its exit code."""

    async def connect(self, name: str, aliases: Sequence[str], network: str = "") -> None:
        """Put a container on a network under these further names, instead of those it had. Of this
        and what follows `network` is one of `Networks`, "" the installation's own."""

    async def join(self, name: str, network: str = "") -> None:
        """Put a container on a network, beside those that it is on; it may be there already."""

    async def leave(self, name: str, network: str = "") -> None:
        """Take a container from a network; either may be gone, and it need not be on it."""

    async def aliases(self, name: str, network: str = "") -> list[str]:
        """The further names of a container on a network."""

    async def log(
        self, name: str, *, lines: int | str = 200, timestamps: bool = False
    ) -> list[str]:
        """The last lines that the container printed, both streams."""

    def follow(self, name: str, *, lines: int | str = 200) -> AsyncGenerator[str, None]:
        """The last lines, then every further one until the container stops."""

    async def usage(self, name: str) -> Usage | None:
        """What a running container uses now, None when the engine does not tell."""

    async def execute(
        self, name: str, command: Command, *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        """Run a command in a running container. Raises `DeadlineExceeded`, `NotFound`,
        `Conflict`."""

    def session(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], *, tty: bool = False
    ) -> AbstractAsyncContextManager[Session]:
        """Start a command in a running container, with its input and output in hand."""

    # what every engine does alike

    async def remove(self, name: str) -> None:
        """Stop in peace and remove our container of this name, if there is one."""
        found = await self.inspect(name)
        if found is None:
            return
        await self.stop(found.id)
        await self.delete(found.id)
        for _ in range(100):
            if await self.inspect(name) is None:
                return
            await anyio.sleep(0.05)
        raise Failed(f"The container {name} does not go away.", remedy=f"Try: docker rm -f {name}")

    async def run_once(
        self,
        name: str,
        spec: ContainerSpec,
        *,
        volume: str | None,
        network: str | None,
        timeout: float = 60.0,
        read_only: Mapping[str, str] | None = None,
    ) -> ExecResult:
        """Run a throw-away container to its end and remove it, whatever happens.

        One of this name that a kill left behind is removed first; one that runs now is waited for.
        """
        async with self._once[name]:
            await self.remove(name)
            try:
                await self.create(
                    name,
                    spec,
                    labels=self.labels.of(purpose="once"),
                    ports={},
                    volume=volume,
                    seed=False,
                    network=network,
                    restart=False,
                    read_only=read_only,
                )
                with anyio.fail_after(timeout):
                    await self.start(name)
                    code = await self.wait(name)
                output = "\n".join(await self.log(name))
                return ExecResult(exit_code=code, stdout=output, stderr="")
            except TimeoutError:
                raise DeadlineExceeded(f"{name} did not end within {timeout:.0f} s.") from None
            finally:
                with anyio.CancelScope(shield=True):
                    await self.remove(name)

    async def require_running(self, name: str, *, foreign: bool = False) -> Found:
        """The running container of this name. Raises `NotFound` or `Conflict`."""
        found = await self.inspect(name, foreign=foreign)
        if found is None:
            raise NotFound(f"There is no container {name}.")
        if found.state != "running":
            raise Conflict(f"The container {name} is {found.state}, not running.")
        return found


class Images(Protocol):
    """Images: one that is on the engine is never pulled."""

    async def inspect(self, reference: str) -> Image | None:
        """The image as it is on the engine, None when it is not there."""

    async def pull(self, reference: str, progress: Progress, stall: float) -> None:
        """Pull an image; given up after `stall` seconds without progress. Raises `ImageMissing`
        that says why."""

    async def ensure(self, reference: str, progress: Progress, stall: float) -> Image:
        """The image, pulled when it is not there. Raises `ImageMissing` that says why."""
        image = await self.inspect(reference)
        if image is None:
            await self.pull(reference, progress, stall)
            image = await self.inspect(reference)
        if image is None:
            raise ImageMissing(
                f"The image {reference} was pulled and is not there.", remedy=pull_remedy(reference)
            )
        return image


def pull_remedy(reference: str) -> str:
    return f"Check the name and the network, or bring the image yourself: docker pull {reference}"


class Volumes(Protocol):
    """Volumes: a folder on the host that Docker knows by name.

    The data is not in Docker's own folder but in one of ours, bound by the local driver: what
    removes volumes on the engine (``docker volume rm``, ``docker system prune --volumes``) removes
    a name and never the data.
    """

    containers: Containers
    labels: Labels

    async def show(self, name: str) -> FoundVolume | None:
        """The volume of this name, None when there is none."""

    async def listed(self) -> list[FoundVolume]:
        """The volumes that any Purveyor has made."""

    async def bind(self, name: str, path: str, volume_id: str) -> None:
        """Give a folder a volume's name; it may have it already."""

    async def delete(self, name: str) -> None:
        """Remove a volume's name; one that is gone is fine."""

    # what every engine does alike

    async def create(self, name: str, path: str, volume_id: str) -> None:
        """Make the folder and the volume of a new data set; both may be there already."""
        await anyio.to_thread.run_sync(lambda: Path(path).mkdir(parents=True, exist_ok=True))
        await self.bind(name, path, volume_id)

    async def require(self, name: str, path: str, volume_id: str) -> None:
        """Make sure that a recorded volume is there and is the recorded one. Raises
        `DataRefused`."""
        if not await anyio.to_thread.run_sync(Path(path).is_dir):
            raise DataRefused(
                f"The folder {path} that holds this service's data is gone.",
                remedy=(
                    "Put it back (a mount that is missing, a folder that was moved), or "
                    "restore a backup into a new service."
                ),
            )
        found = await self.show(name)
        if found is None:
            await self.bind(name, path, volume_id)  # the name was removed, the data is there
        elif found.path != path:
            raise DataRefused(
                f"The Docker volume {name} is not the recorded one: it holds "
                f"{found.path or 'a folder of its own'}, not {path}.",
                remedy=f"Somebody replaced it. Your data is in {path}. Remove the wrong volume (docker volume rm {name}), "
                "then start the service again.",
            )

    async def forget(self, name: str) -> None:
        """Remove the name from the engine if it is ours; the data stays where it is."""
        found = await self.show(name)
        if found is not None and self.labels.ours(found.labels):
            await self.delete(name)

    async def destroy(self, name: str, path: str, image: str) -> None:
        """Remove the volume and delete its data.

        The servers own their files: where this process may not delete them, a container of `image`
        does.
        """
        folder = Path(path)
        # there when the copy that fills the volume could not be ended in time
        await self.containers.remove(f"{name}-copy")
        await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
        if await anyio.to_thread.run_sync(folder.exists):
            spec = ContainerSpec(
                image=image,
                entrypoint=("/bin/sh", "-c", 'find "$0" -mindepth 1 -delete'),
                command=("/purge",),
                mount=Mount(target="/purge"),
                user="0",
                capabilities=("DAC_OVERRIDE", "FOWNER"),
            )
            await self.containers.run_once(f"{name}-purge", spec, volume=name, network=None)
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
            if await anyio.to_thread.run_sync(folder.exists):
                raise Failed(
                    f"The data in {path} could not be deleted.", remedy=f"As root: rm -r {path}"
                )
        await self.forget(name)

    async def copy(self, source: str, target: str, target_path: str, image: str) -> None:
        """Copy all files of one volume into another, with owners and times; what an earlier try
        left is removed first.

        Both are read and written by a container of `image`, for the files are the server's own.
        """
        script = 'find "$0" -mindepth 1 -delete && cp -a /from/. "$0"/ && sync'
        spec = ContainerSpec(
            image=image,
            entrypoint=("/bin/sh", "-c", script),
            command=("/to",),
            mount=Mount(target="/to"),
            user="0",
            capabilities=UNPACKING,
        )
        ended = await self.containers.run_once(
            f"{target}-copy",
            spec,
            volume=target,
            network=None,
            timeout=COPY_DEADLINE,
            read_only={source: "/from"},
        )
        if ended.exit_code:
            raise Failed(
                f"The data could not be copied to {target_path}: {ended.stdout[-300:]}",
                remedy="Is the disk full?",
            )


class Networks(Protocol):
    """Further networks of this installation, each of an environment: its apps, and the services
    that they use.

    Whoever makes or removes one holds `turn`: the engine lets two networks have one name.
    """

    labels: Labels
    turn: anyio.Lock

    def __init__(self) -> None:
        self.turn = anyio.Lock()

    async def ids(self) -> dict[str, str]:
        """Name -> id of all networks of this installation."""

    async def ensure(self, name: str, subnet: Subnet, environment: int) -> str:
        """The id of a network, made with these addresses when there is none of its name. Raises
        `AddressesTaken`, and `Conflict` when it is somebody else's."""

    async def delete(self, name: str) -> tuple[str, ...]:
        """Take our containers from a network and remove it; the answer are the containers of others
        that are in the way. One that is gone is fine."""

    async def listed(self) -> list[Network]:
        """The engine's networks, whosever they are."""

    async def taken(self) -> list[str]:
        """Every range of addresses that the engine's networks have, or that this host uses or sends
        to."""


class Engine(Protocol):
    """A Docker Engine. `namespace` is the network's name and the beginning of all other names."""

    namespace: str
    labels: Labels
    containers: Containers
    images: Images
    volumes: Volumes
    networks: Networks

    async def require_here(self) -> None:
        """Raise `BadInput` when the engine is on another host. Nothing is asked of it."""

    async def version(self) -> dict[str, Any]:
        """The engine's version answer. Raises `EngineUnavailable` within five seconds."""

    # of the network when it was last seen: one that is made anew asks for the same
    subnets: tuple[Subnet, ...] = ()

    async def ensure_network(self) -> None:
        """Make the network unless it is there; with the addresses of the last one, if they can be
        had."""

    async def network_id(self) -> str:
        """Which network it is, "" when there is none."""

    async def gateway(self) -> str:
        """The network's gateway address, "" when it has none; creates the network if missing."""

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]]:
        """The engine's events of containers and networks, from now on until the connection ends."""

    async def close(self) -> None:
        """Let go of the connection."""
