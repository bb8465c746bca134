"""`Engine` without Docker: containers are rows, a start is an assignment, and commands run on this
host."""

import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import msgspec

from purveyor.docker.files import Placed
from purveyor.docker.labels import INSTALLATION, SPEC, Labels, whole
from purveyor.docker.models import (
    AddressesTaken,
    Found,
    FoundVolume,
    Network,
    PortTaken,
    Usage,
    digest,
)
from purveyor.docker.protocols import (
    Containers,
    Engine,
    Images,
    Networks,
    Progress,
    Session,
    Subnet,
    Volumes,
    pull_remedy,
)
from purveyor_hooks import (
    Command,
    Conflict,
    ContainerSpec,
    EngineUnavailable,
    ExecResult,
    Failed,
    FoundContainer,
    Image,
    ImageMissing,
    NotFound,
)

WORLD = "world.json"
BRIDGE = "bridge"


class Container(msgspec.Struct, kw_only=True):
    """A container of the fake engine. `mounts` maps where to what volume, `binds` where to what
    folder of the host; `files` are those that were put in, of the `wanted` ones."""

    id: str
    name: str
    image: str
    image_id: str
    labels: dict[str, str]
    environment: dict[str, str]
    command: list[str]
    entrypoint: list[str]
    mounts: dict[str, str]
    ports: dict[int, int]
    networks: dict[str, str]
    aliases: list[str] = []
    wanted: list[str] = []
    files: list[str] = []
    put: dict[str, str] = {}
    inside: str = ""
    state: str = "created"
    exit_code: int = 0
    started_at: datetime | None = None
    log: list[str] = []
    binds: dict[str, str] = {}
    network_ids: dict[str, str] = {}
    restarts: int = 0
    killed: bool = False
    error: str = ""
    contained: bool = True
    read_only: bool = False
    capabilities: list[str] = []
    pids: int = 0
    memory: int = 0
    hosts: dict[str, str] = {}
    hangs: bool = False  # its processes are stopped: it runs, and says nothing
    restart: bool = True  # by the engine, when that is started again


class Volume(msgspec.Struct, kw_only=True):
    name: str
    path: str
    labels: dict[str, str]


class World(msgspec.Struct, kw_only=True):
    """All that the engine holds. `wrongs` are things that must never happen, noted when they
    did."""

    images: dict[str, dict[str, str]] = {}
    # what an image brings, as Docker hands it on to its containers
    labels: dict[str, dict[str, str]] = {}
    tags: dict[str, str] = {}  # which image a name means, where that is not the one called so
    digests: dict[str, str] = {}  # what its registry calls an image
    containers: list[Container] = []
    volumes: list[Volume] = []
    networks: dict[str, str] = {}
    subnets: dict[str, str] = {}  # of those of environments
    strangers: list[str] = []  # ranges that somebody else on the host has
    made: int = 0
    clock: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    wrongs: list[str] = []

    def meant(self, reference: str) -> str | None:
        """The image that a name or an id means."""
        name = reference.removeprefix("sha256:")
        found = name if name != reference else self.tags.get(reference, reference)
        return found if found in self.images else None


class FakeEngine(Engine):
    """`Engine` whose world is a file of the state directory.

    `acted` is told each call by its name before it is done, and may raise; `changed` is told after
    each change. `run` says what a container does when it is started with a volume: the servers of
    `fake.server` are hung in there.
    """

    def __init__(self, namespace: str, labels: Labels, state: Path) -> None:
        self.namespace = namespace
        self.labels = labels
        self.state = state
        self.away = ""
        self.acted: Callable[[str], None] = lambda name: None
        self.changed: Callable[[], None] = lambda: None
        self.run: Callable[[FakeEngine, Container], None] = lambda engine, container: None
        self.world = World()
        if (state / WORLD).exists():
            self.world = msgspec.json.decode((state / WORLD).read_bytes(), type=World)
        self.containers = FakeContainers(self)
        self.images = FakeImages(self)
        self.volumes = FakeVolumes(self)
        self.networks = FakeNetworks(self)
        self._listeners: list[anyio.abc.ObjectSendStream[dict[str, Any]]] = []

    # ---------------------------------------------------------------- what tests ask and do

    def act(self, name: str) -> None:
        """A call begins. Raises what the engine answers when it is away, or what a test wants to go
        wrong."""
        if self.away:
            raise EngineUnavailable(self.away, remedy="Start it.")
        self.acted(name)

    def save(self) -> None:
        """The world has changed, and that is durable."""
        (self.state / f"{WORLD}.part").write_bytes(msgspec.json.encode(self.world))
        os.replace(self.state / f"{WORLD}.part", self.state / WORLD)
        self.changed()

    def find(self, reference: str) -> Container | None:
        return next(
            (item for item in self.world.containers if reference in (item.name, item.id)), None
        )

    def require(self, reference: str) -> Container:
        found = self.find(reference)
        if found is None:
            raise NotFound(f"Could not find the container: No such container: {reference}.")
        return found

    def folder(self, volume: str) -> Path:
        """Where a volume's files are."""
        found = next((item for item in self.world.volumes if item.name == volume), None)
        if found is None:
            raise Failed(f"no such volume: {volume}")
        return Path(found.path)

    def number(self) -> int:
        self.world.made += 1
        return self.world.made

    def now(self) -> datetime:
        """A clock that never stands still, so that one start can be told from the next."""
        self.world.clock = max(self.world.clock + timedelta(milliseconds=1), datetime.now(UTC))
        return self.world.clock

    def tell(self, action: str, container: Container) -> None:
        """An event, to whoever listens now."""
        attributes = {
            **container.labels,
            "name": container.name,
            "exitCode": str(container.exit_code),
        }
        event = {
            "Type": "container",
            "Action": action,
            "Actor": {"ID": container.id, "Attributes": attributes},
        }
        for listener in self._listeners:
            listener.send_nowait(event)

    def foreign(self, name: str, image: str, environment: dict[str, str], target: str) -> Container:
        """A running container that somebody else has made, with a volume of its own."""
        path = self.state / "foreign" / name
        path.mkdir(parents=True)
        self.world.volumes.append(Volume(name=f"{name}-data", path=str(path), labels={}))
        made = Container(
            id=f"c{self.number():08d}",
            name=name,
            image=image,
            image_id=f"sha256:{image}",
            labels={},
            environment={**self.world.images[image], **environment},
            command=["serve"],
            entrypoint=[],
            mounts={target: f"{name}-data"},
            ports={},
            networks={BRIDGE: f"10.9.0.{self.number()}"},
        )
        self.world.containers.append(made)
        self.launch(made)
        return made

    def written(self, container: Container) -> set[str]:
        """The folders that a container can write to."""
        return {
            *container.binds.values(),
            *(str(self.folder(name)) for name in container.mounts.values()),
        }

    def launch(self, container: Container) -> None:
        """Start a container, as Docker itself or somebody else would."""
        for other in self.world.containers:
            if other is not container and other.state == "running":
                if taken := sorted({*other.ports} & {*container.ports}):
                    raise PortTaken(
                        f"Could not start {container.name}: port is already allocated: {taken[0]}."
                    )
                if not container.entrypoint and not other.entrypoint:
                    for volume in self.written(other) & self.written(container):
                        self.world.wrongs.append(
                            f"{container.name} and {other.name} run on one data set: {volume}"
                        )
        container.state, container.exit_code, container.started_at = "running", 0, self.now()
        container.killed, container.error, container.restarts = False, "", 0
        if container.files == container.wanted:
            self.run(self, container)
        else:
            container.state, container.exit_code, container.log = (
                "exited",
                1,
                ["a file that it needs is missing"],
            )
        self.save()
        self.tell("start", container)

    def go(self, why: str) -> None:
        """The engine ends: it answers nothing, and whoever listens hears that it is over."""
        self.away = why
        while self._listeners:
            self._listeners.pop().close()

    def come_back(self) -> None:
        """It is started again, after a kill: what it should keep running is run anew, and nothing
        else."""
        self.away = ""
        ran = [item for item in self.world.containers if item.state == "running"]
        for container in ran:
            container.state, container.exit_code = "exited", 137
        for container in ran:
            if container.restart:
                self.launch(container)
        self.save()

    def lose_network(self, name: str = "") -> None:
        """Somebody disconnects everything from a network and removes it; stopped containers go on
        naming it."""
        name = name or self.namespace
        self.world.networks.pop(name, None)
        for container in self.world.containers:
            if container.state == "running":
                container.networks.pop(name, None)
                container.network_ids.pop(name, None)
        self.save()

    def pause(self, container: Container) -> None:
        """Somebody pauses a container."""
        container.state = "paused"
        self.save()
        self.tell("pause", container)

    def crash(self, container: Container, code: int) -> None:
        """A container ends and the engine starts it again, as its restart policy says."""
        container.restarts += 1
        container.started_at = self.now()
        self.save()
        container.exit_code = code
        self.tell("die", container)
        container.exit_code = 0
        self.tell("start", container)

    def die(self, container: Container, code: int = 0, *, killed: bool = False) -> None:
        """A container ends by itself, or by somebody else's hand."""
        container.state, container.exit_code, container.killed = "exited", code, killed
        self.save()
        self.tell("die", container)

    # ---------------------------------------------------------------- Engine

    async def version(self) -> dict[str, Any]:
        self.act("version")
        return {"Version": "fake", "ApiVersion": "1.41"}

    async def ensure_network(self) -> None:
        self.act("ensure network")
        if self.namespace not in self.world.networks:
            self.world.networks[self.namespace] = f"n{self.number():08d}"
            self.save()

    async def network_id(self) -> str:
        self.act("inspect network")
        return self.world.networks.get(self.namespace, "")

    async def gateway(self) -> str:
        await self.ensure_network()
        return "127.0.0.1"

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        self.act("events")
        sending, receiving = anyio.create_memory_object_stream[dict[str, Any]](1000)
        self._listeners.append(sending)
        try:
            with receiving:
                yield receiving
        finally:
            if sending in self._listeners:
                self._listeners.remove(sending)
            sending.close()

    async def close(self) -> None:
        pass


class FakeContainers(Containers):
    def __init__(self, engine: FakeEngine) -> None:
        super().__init__()
        self._engine = engine
        self.labels = engine.labels

    def _ours(self, reference: str) -> Container:
        return self._engine.require(reference)

    async def inspect(self, name: str, *, foreign: bool = False) -> Found | None:
        self._engine.act("inspect container")
        found = self._engine.find(name)
        if found is not None and not foreign and not self.labels.ours(found.labels):
            raise Conflict(f"A container named {name} exists and is not Purveyor's.")
        return _found(found) if found else None

    async def foreign(self) -> list[FoundContainer]:
        self._engine.act("list containers")
        return [
            _seen(item) for item in self._engine.world.containers if INSTALLATION not in item.labels
        ]

    async def foreign_of(self, reference: str) -> FoundContainer | None:
        self._engine.act("inspect container")
        found = self._engine.find(reference)
        return _seen(found) if found else None

    async def published(self, name: str) -> dict[int, int]:
        self._engine.act("inspect container")
        return dict(self._engine.require(name).ports)

    async def named(self, names: Sequence[str]) -> list[Found]:
        self._engine.act("list containers")
        return [_found(item) for item in self._engine.world.containers if item.name in names]

    async def listed(self, **fields: object) -> list[Found]:
        self._engine.act("list containers")
        wanted = self.labels.of(**fields).items()
        return [
            _found(item) for item in self._engine.world.containers if wanted <= item.labels.items()
        ]

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
        engine, world = self._engine, self._engine.world
        engine.act("create container")
        if engine.find(name):
            raise Conflict(f"Could not create the container {name}: the name is in use.")
        image = world.meant(spec.image)
        if image is None:
            raise NotFound(f"Could not create the container {name}: no such image: {spec.image}.")
        if network and network not in world.networks:
            raise NotFound(f"Could not create the container {name}: network {network} not found.")
        mounts = {where: name_of for name_of, where in (read_only or {}).items()}
        if spec.mount and volume:
            mounts[spec.mount.target] = volume
        for name_of in mounts.values():
            engine.folder(name_of)
        made = Container(
            id=f"c{engine.number():08d}",
            name=name,
            image=spec.image,
            image_id=f"sha256:{image}",
            labels={
                **world.labels.get(image, {}),
                **whole(labels),
                SPEC: digest(spec, ports, inside or network),
            },
            environment={**world.images[image], **spec.environment},
            command=list(spec.command),
            entrypoint=list(spec.entrypoint),
            mounts=mounts,
            ports={outer: inner for inner, outer in ports.items()},
            networks={network: f"10.9.0.{engine.number()}"} if network else {},
            network_ids={network: world.networks[network]} if network else {},
            aliases=list(aliases),
            wanted=[file.path for file in spec.files if seed or not file.seed],
            inside=inside,
            read_only=spec.read_only,
            capabilities=list(spec.capabilities),
            pids=spec.limits.pids,
            memory=spec.limits.memory or 0,
            hosts=dict(hosts or {}),
            restart=restart,
        )
        world.containers.append(made)
        engine.save()
        # the files come in by a call of their own: a crash may come between the two
        if made.wanted or further:
            engine.act("put files")
            made.files = made.wanted
            made.put = {item.file.path: item.file.content for item in further}
            engine.save()
        return made.id

    async def put(self, container_id: str, files: Sequence[Placed]) -> None:
        container = self._ours(container_id)
        self._engine.act("put files")
        container.put |= {item.file.path: item.file.content for item in files}
        self._engine.save()

    async def holds(self, container_id: str, path: str) -> bool:
        self._engine.act("look for a file")
        return Path(_inside(self._engine, self._ours(container_id), path)).exists()

    async def contents(self, container_id: str, path: str) -> str | None:
        self._engine.act("look for a file")
        container = self._ours(container_id)
        if path in container.put:
            return container.put[path]
        found = Path(_inside(self._engine, container, path))
        return found.read_text() if found.is_file() else None

    async def users(self, folders: Mapping[str, str]) -> dict[str, list[Found]]:
        self._engine.act("list containers")
        bound = {item.name: item.path for item in self._engine.world.volumes}
        found: dict[str, list[Found]] = {name: [] for name in folders}
        for item in self._engine.world.containers:
            names = {*item.mounts.values()}
            paths = {*item.binds.values(), *(bound.get(name, "") for name in names)}
            for name, folder in folders.items():
                if name in names or any(
                    path == folder or path.startswith(f"{folder}/") for path in paths
                ):
                    found[name].append(_found(item))
        return found

    async def rename(self, container_id: str, name: str) -> None:
        self._engine.act("rename container")
        if self._engine.find(name):
            raise Conflict(f"Could not rename the container: {name} is in use.")
        self._ours(container_id).name = name
        self._engine.save()

    async def unpause(self, name: str) -> None:
        self._engine.act("unpause container")
        found = self._ours(name)
        if found.state == "paused":
            found.state = "running"
            self._engine.save()
            self._engine.tell("unpause", found)

    async def start(self, name: str) -> None:
        self._engine.act("start container")
        found = self._ours(name)
        if found.state == "running":
            return
        if found.state == "paused":
            raise Conflict(
                f"Could not start {name}: cannot start a paused container, try unpause instead."
            )
        if gone := [
            network
            for network, number in found.network_ids.items()
            if self._engine.world.networks.get(network) != number
        ]:
            raise NotFound(f"Could not start {name}: network {gone[0]} not found.")
        if found.entrypoint and not _waits(found):
            ended = _run(self._engine, found, (*found.entrypoint, *found.command))
            found.log = (ended.stdout + ended.stderr).decode().splitlines()
            self._engine.die(found, ended.returncode)
            return
        self._engine.launch(found)

    async def stop(self, name: str, seconds: int | None = None) -> None:
        self._engine.act("stop container")
        found = self._engine.find(name)
        if found is not None and found.state in ("running", "paused"):
            self._engine.die(found)

    async def delete(self, container_id: str) -> None:
        self._engine.act("remove container")
        found = self._engine.find(container_id)
        if found is not None:
            self._engine.world.containers.remove(found)
            self._engine.save()
            self._engine.tell("destroy", found)

    async def wait(self, name: str) -> int:
        self._engine.act("wait for container")
        found = self._ours(name)
        if found.state == "running":
            raise Failed(f"{name} of the fake engine never ends")
        return found.exit_code

    async def connect(self, name: str, aliases: Sequence[str], network: str = "") -> None:
        self._engine.act("connect container")
        found = self._ours(name)
        self._join(found, network, anew=True)
        found.aliases = list(aliases)
        self._engine.save()

    def _join(self, found: Container, network: str, *, anew: bool = False) -> None:
        name, world = network or self._engine.namespace, self._engine.world
        if name not in world.networks:
            raise NotFound(
                f"Could not connect {found.name} to the network: network {name} not found."
            )
        if anew or name not in found.networks:
            found.networks[name] = f"10.9.0.{self._engine.number()}"
            found.network_ids[name] = world.networks[name]

    async def join(self, name: str, network: str = "") -> None:
        self._engine.act("connect container")
        self._join(self._ours(name), network)
        self._engine.save()

    async def leave(self, name: str, network: str = "") -> None:
        self._engine.act("disconnect container")
        found = self._engine.find(name)
        if found is not None:
            found.networks.pop(network or self._engine.namespace, None)
            found.network_ids.pop(network or self._engine.namespace, None)
            self._engine.save()

    async def aliases(self, name: str, network: str = "") -> list[str]:
        self._engine.act("inspect container")
        found = self._ours(name)
        return list(found.aliases) if (network or self._engine.namespace) in found.networks else []

    async def log(
        self, name: str, *, lines: int | str = 200, timestamps: bool = False
    ) -> list[str]:
        self._engine.act("read a log")
        return self._ours(name).log[-int(lines) :]

    async def follow(self, name: str, *, lines: int | str = 200) -> AsyncGenerator[str, None]:
        for line in await self.log(name, lines=lines):
            yield f"{line}\n"

    async def usage(self, name: str) -> Usage | None:
        self._engine.act("usage")
        return Usage(memory=1_000_000, cpu=1_000_000)

    async def execute(
        self, name: str, command: Command, *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        self._engine.act("execute")
        ended = _run(self._engine, self._running(name), command.argv, stdin)
        self._engine.changed()
        return ExecResult(
            exit_code=ended.returncode, stdout=ended.stdout.decode(), stderr=ended.stderr.decode()
        )

    @asynccontextmanager
    async def session(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], *, tty: bool = False
    ) -> AsyncIterator[Session]:
        self._engine.act("execute")
        yield FakeSession(self._engine, self._running(name), argv)
        self._engine.changed()

    def _running(self, name: str) -> Container:
        found = self._ours(name)
        if found.state != "running":
            raise Conflict(f"Could not run a command: container {name} is not running.")
        return found


class FakeSession(Session):
    """The command runs when its input has ended, or when its output is asked for; one that says what
    it is told waits for that."""

    def __init__(self, engine: FakeEngine, container: Container, argv: Sequence[str]) -> None:
        self._engine, self._container, self._argv = engine, container, argv
        self._input = bytearray()
        self._code = 0
        self._ended = False
        self._told = anyio.Event()

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        if self._ended:
            return
        self._ended = True
        if tuple(self._argv) == ("cat",):
            await self._told.wait()
        ended = _run(self._engine, self._container, self._argv, bytes(self._input))
        self._code = ended.returncode
        for number, data in ((1, ended.stdout), (2, ended.stderr)):
            if data:
                yield number, data

    async def write(self, data: bytes) -> None:
        self._input += data

    async def end_input(self) -> None:
        self._told.set()

    async def resize(self, lines: int, columns: int) -> None:
        pass

    async def exit_code(self) -> int:
        return self._code


class FakeImages(Images):
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    async def inspect(self, reference: str) -> Image | None:
        self._engine.act("inspect image")
        world = self._engine.world
        found = world.meant(reference)
        if found is None:
            return None
        digest = world.digests.get(found, "")
        return Image(
            reference=reference,
            id=f"sha256:{found}",
            environment=world.images[found],
            digest=digest,
        )

    async def pull(self, reference: str, progress: Progress, stall: float) -> None:
        self._engine.act("pull image")
        await progress(f"pulling {reference}")
        raise ImageMissing(
            f"The image {reference} cannot be pulled: there is no registry.",
            remedy=pull_remedy(reference),
        )


class FakeVolumes(Volumes):
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.containers = engine.containers
        self.labels = engine.labels

    async def show(self, name: str) -> FoundVolume | None:
        self._engine.act("inspect volume")
        found = next((item for item in self._engine.world.volumes if item.name == name), None)
        return FoundVolume(name=found.name, path=found.path, labels=found.labels) if found else None

    async def listed(self) -> list[FoundVolume]:
        self._engine.act("list volumes")
        return [
            FoundVolume(name=item.name, path=item.path, labels=item.labels)
            for item in self._engine.world.volumes
            if INSTALLATION in item.labels
        ]

    async def bind(self, name: str, path: str, volume_id: str) -> None:
        self._engine.act("create volume")
        if not any(item.name == name for item in self._engine.world.volumes):
            self._engine.world.volumes.append(
                Volume(name=name, path=path, labels=self.labels.of(volume=volume_id))
            )
            self._engine.save()

    async def delete(self, name: str) -> None:
        self._engine.act("remove volume")
        if users := [
            item.name for item in self._engine.world.containers if name in item.mounts.values()
        ]:
            raise Conflict(f"Could not remove the volume {name}: volume is in use - {users}.")
        kept = [item for item in self._engine.world.volumes if item.name != name]
        if len(kept) < len(self._engine.world.volumes):
            self._engine.world.volumes = kept
            self._engine.save()


# ---------------------------------------------------------------- commands


def _waits(container: Container) -> bool:
    """Whether a container only stays up for the commands that are run in it."""
    return "sleep" in " ".join((*container.entrypoint, *container.command))


def _inside(engine: FakeEngine, container: Container, text: str) -> str:
    """A command's word with the places of mounts replaced by the volumes' folders."""
    for target, volume in sorted(container.mounts.items(), key=lambda item: -len(item[0])):
        folder = str(engine.folder(volume))
        if text == target or text.startswith(f"{target}/"):
            return folder + text[len(target) :]
        text = text.replace(f" {target}/", f" {folder}/")
    return text


def _run(
    engine: FakeEngine, container: Container, argv: Sequence[str], stdin: bytes = b""
) -> "subprocess.CompletedProcess[bytes]":
    words = [_inside(engine, container, word) for word in argv]
    path = shutil.which(words[0]) or words[0]
    return subprocess.run([path, *words[1:]], input=stdin, capture_output=True, timeout=60)


class FakeNetworks(Networks):
    """`Networks` of the world; whoever joins one by hand is a container without our labels."""

    def __init__(self, engine: FakeEngine) -> None:
        super().__init__()
        self._engine = engine
        self.labels = engine.labels

    async def ids(self) -> dict[str, str]:
        self._engine.act("list networks")
        return dict(self._engine.world.networks)

    async def ensure(self, name: str, subnet: Subnet, environment: int) -> str:
        engine, world = self._engine, self._engine.world
        engine.act("make network")
        if name not in world.networks:
            if subnet[0] in {
                *world.strangers,
                *(taken for other, taken in world.subnets.items() if other in world.networks),
            }:
                raise AddressesTaken(f"The addresses {subnet[0]} are in use by another network.")
            world.networks[name], world.subnets[name] = f"n{engine.number():08d}", subnet[0]
            engine.save()
        return world.networks[name]

    async def delete(self, name: str) -> tuple[str, ...]:
        engine, world = self._engine, self._engine.world
        engine.act("remove network")
        others = []
        for container in world.containers:
            if container.state == "running" and world.networks.get(
                name
            ) == container.network_ids.get(name, ""):
                if not self.labels.ours(container.labels):
                    others.append(container.name)
                else:
                    container.networks.pop(name, None)
                    container.network_ids.pop(name, None)
        if not others:
            world.networks.pop(name, None)
            world.subnets.pop(name, None)
        engine.save()
        return tuple(others)

    async def listed(self) -> list[Network]:
        self._engine.act("list networks")
        return [
            Network(name=BRIDGE, subnets=("10.8.0.0/16",), ours=False),
            *(
                Network(
                    name=name,
                    subnets=(self._engine.world.subnets.get(name, "10.9.0.0/16"),),
                    ours=True,
                )
                for name in self._engine.world.networks
            ),
        ]

    async def taken(self) -> list[str]:
        self._engine.act("list networks")
        return [*self._engine.world.subnets.values(), *self._engine.world.strangers]


def _found(item: Container) -> Found:
    return Found(
        id=item.id,
        name=item.name,
        state=item.state,
        labels=dict(item.labels),
        image_id=item.image_id,
        exit_code=item.exit_code,
        started_at=item.started_at,
        networks=dict(item.networks),
        network_ids=dict(item.network_ids),
        restarts=item.restarts,
        killed=item.killed,
        error=item.error,
        contained=item.contained,
        read_only=item.read_only,
        hosts=dict(item.hosts),
    )


def _seen(item: Container) -> FoundContainer:
    return FoundContainer(
        id=item.id,
        name=item.name,
        image=Image(reference=item.image, id=item.image_id, environment=item.environment),
        running=item.state == "running",
        ports=tuple(item.ports.values()),
        labels=item.labels,
        environment=item.environment,
        command=tuple(item.command),
    )
