"""Containers of a real engine, through aiodocker."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiodocker
import anyio
import httpcore
from aiodocker.containers import DockerContainer
from aiodocker.multiplexed import multiplexed_result_stream
from aiodocker.networks import DockerNetwork

from purveyor.docker import files as placing
from purveyor.docker.errors import CHANGE, LOOK
from purveyor.docker.files import Placed
from purveyor.docker.filters import filters
from purveyor.docker.hijack import started
from purveyor.docker.labels import FILES, INSTALLATION, SPEC, whole
from purveyor.docker.models import Found, Usage, digest
from purveyor.docker.protocols import Containers, Session
from purveyor.docker.terminal import DockerSession
from purveyor_hooks import (
    Command,
    Conflict,
    ContainerSpec,
    DeadlineExceeded,
    ExecResult,
    FoundContainer,
    Image,
)

if TYPE_CHECKING:
    from purveyor.docker.client import DockerEngine

OUTPUT_LIMIT = 64 * 1024
LARGEST_TEXT = 1024 * 1024
LEAST_PAUSE = 1_000_000_000  # nanoseconds between two health checks of an image's own
DOCKERS_GRACE = 10  # seconds between the engine's two signals when a container does not say
STOP_SLACK = 30.0
LOWEST = -1  # of the priorities that a network's gateway may have
PASSWD, OWN_NUMBER, OWN_GROUP = "/etc/passwd", 2, 3
NUMBER = re.compile(r"\d{1,9}")
KNOWN_IMAGES = 64  # whose users are remembered
SCRATCH = "rw,nosuid,nodev,noexec,mode=1777,size=64m"
LOG_OPTIONS = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


class DockerContainers(Containers):
    """`Containers` of a Docker Engine."""

    def __init__(self, engine: "DockerEngine") -> None:
        super().__init__()
        self._engine = engine
        self.labels = engine.labels
        self._users: dict[str, dict[str, placing.Owner]] = {}  # of images, by id

    async def inspect(self, name: str, *, foreign: bool = False) -> Found | None:
        with self._engine.errors(f"look for the container {name}"):
            try:
                shown = await self._engine.docker.containers.container(name).show()
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                return None
        found = _found(shown)
        if not foreign and not self._engine.labels.ours(found.labels):
            raise Conflict(
                f"A container named {name} exists and is not Purveyor's.",
                remedy=f"Rename or remove it (docker rename {name} …), then try again.",
            )
        return found

    async def foreign(self) -> list[FoundContainer]:
        with self._engine.errors("list its containers"):
            answer = await self._engine.docker.containers.list(all=True)
        found = [
            await self.foreign_of(item.id)
            for item in answer
            if INSTALLATION not in (item["Labels"] or {})
        ]
        return [item for item in found if item is not None]

    async def foreign_of(self, reference: str) -> FoundContainer | None:
        with self._engine.errors(f"look at the container {reference}"):
            try:
                shown = await self._engine.docker.containers.container(reference).show()
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                return None
        config, settings = shown["Config"], shown["NetworkSettings"]
        ports = {
            int(port.partition("/")[0])
            for port in {**(config.get("ExposedPorts") or {}), **(settings.get("Ports") or {})}
        }
        environment = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
        return FoundContainer(
            id=shown["Id"],
            name=shown["Name"].lstrip("/"),
            image=Image(reference=config["Image"], id=shown["Image"], environment=environment),
            running=shown["State"]["Status"] == "running",
            ports=tuple(sorted(ports)),
            labels=config.get("Labels") or {},
            environment=environment,
            command=tuple(config.get("Cmd") or ()),
        )

    async def published(self, name: str) -> dict[int, int]:
        with self._engine.errors(f"look at the container {name}"):
            shown = await self._engine.docker.containers.container(name).show()
        ports = shown["NetworkSettings"].get("Ports") or {}
        return {
            int(end["HostPort"]): int(inner.partition("/")[0])
            for inner, ends in ports.items()
            for end in ends or ()
        }

    async def named(self, names: Sequence[str]) -> list[Found]:
        with self._engine.errors("list its containers"):
            answer = await self._engine.docker.containers.list(
                all=True, filters=filters({"name": [f"^/{name}$" for name in names]})
            )
        return [_brief(item) for item in answer]

    async def listed(self, **fields: object) -> list[Found]:
        with self._engine.errors("list its containers"):
            answer = await self._engine.docker.containers.list(
                all=True, filters=filters(self._engine.labels.filters(**fields))
            )
        return [_brief(item) for item in answer]

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
        host: dict[str, Any] = {
            "PortBindings": {
                f"{inner}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(outer)}]
                for inner, outer in ports.items()
            },
            "RestartPolicy": {"Name": "unless-stopped" if restart else "no"},
            "ShmSize": spec.shared_memory,
            "LogConfig": LOG_OPTIONS,
            "NetworkMode": f"container:{inside}" if inside else network or "none",
            "ExtraHosts": [f"{called}:{address}" for called, address in (hosts or {}).items()],
        }
        if spec.mount and volume:
            # what the image has at the mount's place is copied into a new volume only, never over
            # somebody's data
            options = {"NoCopy": not seed}
            host["Mounts"] = [
                {
                    "Type": "volume",
                    "Source": volume,
                    "Target": spec.mount.target,
                    "VolumeOptions": options,
                }
            ]
        for name_of_volume, where in (read_only or {}).items():
            mount = {"Type": "volume", "Source": name_of_volume, "Target": where, "ReadOnly": True}
            host.setdefault("Mounts", []).append(mount)
        # the engine puts files into volumes only where the root is not written to
        folders = placing.folders_of(spec, further) if spec.read_only else []
        owner = f"{self.labels.installation}/{name}"
        host.setdefault("Mounts", []).extend(
            {"Type": "volume", "Target": folder, "VolumeOptions": {"Labels": {FILES: owner}}}
            for folder in folders
        )
        host |= _contained(spec, own_network=bool(network) and not inside)
        config: dict[str, Any] = {
            "Image": spec.image,
            "Cmd": list(spec.command) or None,
            "Env": [f"{key}={value}" for key, value in spec.environment.items()],
            "Labels": {**whole(labels), SPEC: digest(spec, ports, inside or network)},
            "ExposedPorts": {f"{port}/tcp": {} for port in ports},
            "User": spec.user,
            "StopTimeout": spec.stop_timeout,
            "HostConfig": host,
        }
        if spec.entrypoint:
            config["Entrypoint"] = list(spec.entrypoint)
        if network:
            config["NetworkingConfig"] = {"EndpointsConfig": {network: {"Aliases": list(aliases)}}}
        if check := spec.health_check:
            config["Healthcheck"] = {
                "Test": ["CMD", *check.command],
                "Interval": int(check.interval * 1e9),
                "Timeout": int(check.timeout * 1e9),
                "Retries": check.retries,
                "StartPeriod": int(check.start_period * 1e9),
            }
        elif slower := await self._slower(spec.image):
            config["Healthcheck"] = slower  # all else is the image's own
        with self._engine.errors(f"create the container {name}", CHANGE):
            if folders:
                await self._forget_files(owner)
            container = await self._engine.docker.containers.create(config, name=name)
            files = [Placed(file) for file in spec.files if seed or not file.seed] + [*further]
            within = (spec.mount.target if spec.mount else "") if spec.read_only else None
            users = await self._users_of_new(container) if _have_owners(further) else {}
            for place, some in placing.by_place(files, within).items():
                await container.put_archive(place, placing.archive(some, place, users))
        return str(container.id)

    async def _users_of_new(self, container: DockerContainer) -> dict[str, placing.Owner]:
        """The users of a container that was never started: they are its image's, which is looked
        into once."""
        image = str((await container.show())["Image"])
        if image not in self._users:
            if len(self._users) >= KNOWN_IMAGES:
                self._users.clear()
            self._users[image] = await _users(container)
        return self._users[image]

    async def _slower(self, image: str) -> dict[str, int]:
        """What keeps an image's own health check to once a second: its command is started by the
        engine, and no limit of the container bounds what that costs."""
        with self._engine.errors(f"look for the image {image}"):
            try:
                shown = await self._engine.docker.images.inspect(image)
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                return {}
        check = (shown.get("Config") or {}).get("Healthcheck") or {}
        pauses = {name: int(check.get(name) or 0) for name in ("Interval", "StartInterval")}
        return {name: LEAST_PAUSE for name, pause in pauses.items() if 0 < pause < LEAST_PAUSE}

    async def _forget_files(self, owner: str) -> None:
        """Remove the volumes of an earlier container's files: they go with it, unless somebody else
        removed it."""
        found = await self._engine.docker.volumes.list(
            filters={"label": [f"{FILES}={owner}"], "dangling": ["true"]}
        )
        for item in found.get("Volumes") or []:
            await (await self._engine.docker.volumes.get(item["Name"])).delete()

    async def put(self, container_id: str, files: Sequence[Placed]) -> None:
        with self._engine.errors(f"put files into the container {container_id[:12]}", CHANGE):
            container = self._engine.docker.containers.container(container_id)
            users = await _users(container) if _have_owners(files) else {}
            for place, some in placing.by_place(files, "").items():
                try:
                    await container.put_archive(place, placing.archive(some, place, users))
                except aiodocker.DockerError:
                    # a folder that is not there is made, and takes the place of what an image has
                    # there that is none: a file, or a link that leads nowhere
                    await container.put_archive("/", placing.archive(some, "/", users))

    async def users(self, folders: Mapping[str, str]) -> dict[str, list[Found]]:
        with self._engine.errors("list its containers"):
            answer = await self._engine.docker.containers.list(all=True)
        with self._engine.errors("list its volumes"):
            volumes = (await self._engine.docker.volumes.list()).get("Volumes") or []
        bound = {
            str(item["Name"]): str((item.get("Options") or {}).get("device") or "")
            for item in volumes
        }
        found: dict[str, list[Found]] = {name: [] for name in folders}
        for item in answer:
            written = [mount for mount in item["Mounts"] or [] if mount.get("RW")]
            names = {str(mount.get("Name") or "") for mount in written}
            paths = {bound.get(name, "") for name in names} | {
                str(mount.get("Source") or "") for mount in written
            }
            for name, folder in folders.items():
                if name in names or any(
                    path == folder or path.startswith(f"{folder}/") for path in paths
                ):
                    found[name].append(_brief(item))
        return found

    async def rename(self, container_id: str, name: str) -> None:
        with self._engine.errors(f"rename the container {container_id[:12]} to {name}", CHANGE):
            await self._engine.docker.containers.container(container_id).rename(name)

    async def unpause(self, name: str) -> None:
        with self._engine.errors(f"unpause the container {name}", CHANGE):
            try:
                await self._engine.docker.containers.container(name).unpause()
            except aiodocker.DockerError as error:
                if "not paused" not in str(error.message):
                    raise

    async def holds(self, container_id: str, path: str) -> bool:
        with self._engine.errors(f"look for {path}", CHANGE):
            try:
                await self._engine.docker.containers.container(container_id).get_archive(path)
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                return False
        return True

    async def contents(self, container_id: str, path: str) -> str | None:
        with self._engine.errors(f"read {path}", CHANGE):
            try:
                archive = await self._engine.docker.containers.container(container_id).get_archive(
                    path
                )
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                return None
        with archive:
            member = archive.next()
            opened = archive.extractfile(member) if member is not None else None
            return None if opened is None else opened.read(LARGEST_TEXT).decode(errors="replace")

    async def start(self, name: str) -> None:
        with self._engine.errors(f"start the container {name}", CHANGE):
            await self._engine.docker.containers.container(name).start()

    async def stop(self, name: str, seconds: int | None = None) -> None:
        container = self._engine.docker.containers.container(name)
        patience = seconds
        with self._engine.errors(f"look at the container {name}"):
            try:
                shown = await container.show()
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                return
        if patience is None:
            patience = shown["Config"].get("StopTimeout") or DOCKERS_GRACE
        with self._engine.errors(f"stop the container {name}", patience + STOP_SLACK):
            try:
                await container.stop(t=seconds)
            except aiodocker.DockerError as error:
                if error.status not in (304, 404):
                    raise

    async def delete(self, container_id: str) -> None:
        with self._engine.errors(f"remove the container {container_id}", CHANGE):
            try:
                # v: anonymous volumes of the image's other VOLUME lines; the service's own is named
                # and stays
                await self._engine.docker.containers.container(container_id).delete(
                    force=True, v=True
                )
            except aiodocker.DockerError as error:
                if error.status not in (404, 409):  # 409: its removal is already in progress
                    raise

    async def wait(self, name: str) -> int:
        with self._engine.errors(f"wait for {name}", None):
            return int((await self._engine.docker.containers.container(name).wait())["StatusCode"])

    async def connect(self, name: str, aliases: Sequence[str], network: str = "") -> None:
        with self._engine.errors(
            f"connect {name} to the network {network or self._engine.namespace}", CHANGE
        ):
            await self._disconnect(name, network)
            found = await self._engine.docker.networks.get(network or self._engine.namespace)
            await found.connect({"Container": name, "EndpointConfig": _endpoint(network, aliases)})

    async def join(self, name: str, network: str = "") -> None:
        with self._engine.errors(
            f"connect {name} to the network {network or self._engine.namespace}", CHANGE
        ):
            found = await self._engine.docker.networks.get(network or self._engine.namespace)
            try:
                await found.connect({"Container": name, "EndpointConfig": _endpoint(network)})
            except aiodocker.DockerError as error:
                if "already exists" not in str(error.message):
                    raise

    async def leave(self, name: str, network: str = "") -> None:
        with self._engine.errors(
            f"take {name} from the network {network or self._engine.namespace}", CHANGE
        ):
            await self._disconnect(name, network)

    async def _disconnect(self, name: str, network: str) -> None:
        """By the network's name: a container that was stopped names one that is gone, and does not
        start until it leaves it."""
        try:
            found = DockerNetwork(self._engine.docker, network or self._engine.namespace)
            await found.disconnect({"Container": name, "Force": True})
        except aiodocker.DockerError as error:
            if error.status != 404 and "not connected" not in str(error.message):
                raise

    async def aliases(self, name: str, network: str = "") -> list[str]:
        with self._engine.errors(f"look at the container {name}"):
            shown = await self._engine.docker.containers.container(name).show()
        endpoint = shown["NetworkSettings"]["Networks"].get(network or self._engine.namespace) or {}
        return list(endpoint.get("Aliases") or [])

    async def log(
        self, name: str, *, lines: int | str = 200, timestamps: bool = False
    ) -> list[str]:
        with self._engine.errors(f"read the log of {name}", CHANGE):
            container = self._engine.docker.containers.container(name)
            chunks = await container.log(
                stdout=True, stderr=True, tail=lines, timestamps=timestamps
            )
        return "".join(chunks).splitlines()

    async def follow(self, name: str, *, lines: int | str = 200) -> AsyncGenerator[str, None]:
        with self._engine.errors(f"look at the container {name}"):
            tty = bool(
                (await self._engine.docker.containers.container(name).show())["Config"]["Tty"]
            )
            params = {"stdout": "true", "stderr": "true", "follow": "true", "tail": str(lines)}
            # not by `log` of the library: when a reader just goes away, its nested generators are
            # closed in any order, and fail
            answer = await self._engine.ask(f"containers/{name}/logs", params)
        with self._engine.errors(f"follow the log of {name}", None):
            try:
                async with aclosing(multiplexed_result_stream(answer, is_tty=tty)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                answer.close()

    async def usage(self, name: str) -> Usage | None:
        with self._engine.errors(f"ask what {name} uses"):
            async with await self._engine.ask(
                f"containers/{name}/stats", {"stream": "false", "one-shot": "true"}
            ) as answer:
                found = await answer.json() or {}  # null: the container went away meanwhile
        memory, cpu = (
            found.get("memory_stats") or {},
            (found.get("cpu_stats") or {}).get("cpu_usage") or {},
        )
        if "usage" not in memory:
            return None
        details = memory.get("stats") or {}
        cache = details.get("total_inactive_file", details.get("inactive_file", 0))
        return Usage(
            memory=max(0, int(memory["usage"]) - int(cache)), cpu=int(cpu.get("total_usage", 0))
        )

    async def execute(
        self, name: str, command: Command, *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        output: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        exit_code: int | None = None
        with self._engine.errors(f"run {command.argv[0]} in {name}", None):
            with anyio.move_on_after(timeout) as scope:
                if stdin:
                    exit_code = await self._fed(name, command, stdin, output)
                else:
                    exit_code = await self._run(name, command, output)
            if scope.cancelled_caught:
                raise DeadlineExceeded(
                    f"{command.argv[0]} in {name} did not end within {timeout:.0f} s."
                )
        stdout, stderr = (output[number].decode(errors="replace") for number in (1, 2))
        return ExecResult(
            exit_code=exit_code if exit_code is not None else -1, stdout=stdout, stderr=stderr
        )

    async def _run(self, name: str, command: Command, output: dict[int, bytearray]) -> int | None:
        container = self._engine.docker.containers.container(name)
        job = await container.exec(list(command.argv), environment=dict(command.environment))
        async with job.start(detach=False) as stream:
            while (message := await stream.read_out()) is not None:
                kept = output[2 if message.stream == 2 else 1]
                kept += message.data[: OUTPUT_LIMIT - len(kept)]
        code: int | None = (await job.inspect())["ExitCode"]
        return code

    async def _fed(
        self, name: str, command: Command, stdin: bytes, output: dict[int, bytearray]
    ) -> int:
        """The same with input, which ends: a command that reads to the end would wait for ever."""
        async with (
            self.session(name, command.argv, command.environment) as session,
            anyio.create_task_group() as group,
        ):

            async def feed() -> None:
                with suppress(OSError, httpcore.NetworkError):  # it ended without reading all
                    await session.write(stdin)
                    await session.end_input()

            group.start_soon(feed)
            async for number, data in session.output():
                kept = output[2 if number == 2 else 1]
                kept += data[: OUTPUT_LIMIT - len(kept)]
            group.cancel_scope.cancel()
        return await session.exit_code()

    @asynccontextmanager
    async def session(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], *, tty: bool = False
    ) -> AsyncIterator[Session]:
        with self._engine.errors(f"run {argv[0]} in {name}", None):
            found = self._engine.docker.containers.container(name)
            with anyio.fail_after(LOOK):
                job = await found.exec(
                    list(argv), stdin=True, tty=tty, environment=dict(environment)
                )
            async with started(self._engine.docker, job.id, tty) as line:
                yield DockerSession(job, line)


def _endpoint(network: str, aliases: Sequence[str] = ()) -> dict[str, Any]:
    """How a container is on a network. Its way out and its published ports are of the
    installation's own one; engines before the API 1.48 take the first by name for that, and ours
    sort so."""
    return {"Aliases": list(aliases), **({"GwPriority": LOWEST} if network else {})}


def _contained(spec: ContainerSpec, *, own_network: bool) -> dict[str, Any]:
    """What keeps a container in: of its capabilities those that its spec names, no way to gain
    more, an end to what it uses; and a root file system that is not written to, where its spec says
    so. One that is on several networks passes nothing on between them.
    """
    host: dict[str, Any] = {
        "CapDrop": ["ALL"],
        "CapAdd": sorted(spec.capabilities),
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": spec.limits.pids,
        "ReadonlyRootfs": spec.read_only,
        "Tmpfs": dict.fromkeys(spec.scratch, SCRATCH),
    }
    if own_network:
        host["Sysctls"] = {"net.ipv4.ip_forward": "0"}
    if spec.limits.memory:
        host["Memory"] = spec.limits.memory
    if spec.limits.cpus:
        host["NanoCpus"] = int(spec.limits.cpus * 1e9)
    return host


def _found(shown: dict[str, Any]) -> Found:
    state = shown["State"]
    started = state.get("StartedAt") or "0001"
    return Found(
        id=shown["Id"],
        name=shown["Name"].lstrip("/"),
        state=state["Status"],
        labels=shown["Config"].get("Labels") or {},
        image_id=shown["Image"],
        health=(state.get("Health") or {}).get("Status", ""),
        exit_code=state.get("ExitCode", 0),
        restarting=state.get("Restarting", False),
        started_at=None
        if started.startswith("0001")
        else datetime.fromisoformat(f"{started[:19]}+00:00"),
        networks=_addresses(shown["NetworkSettings"]),
        network_ids=_network_ids(shown["NetworkSettings"]),
        restarts=int(shown.get("RestartCount") or 0),
        killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        contained="ALL" in (shown["HostConfig"].get("CapDrop") or []),
        read_only=bool(shown["HostConfig"].get("ReadonlyRootfs")),
        hosts=dict(item.split(":", 1) for item in shown["HostConfig"].get("ExtraHosts") or []),
    )


def _network_ids(settings: dict[str, Any] | None) -> dict[str, str]:
    networks = (settings or {}).get("Networks") or {}
    return {
        name: str((endpoint or {}).get("NetworkID") or "") for name, endpoint in networks.items()
    }


def _addresses(settings: dict[str, Any] | None) -> dict[str, str]:
    networks = (settings or {}).get("Networks") or {}
    return {
        name: str((endpoint or {}).get("IPAddress") or "") for name, endpoint in networks.items()
    }


def _brief(item: Any) -> Found:
    return Found(
        id=item.id,
        name=item["Names"][0].lstrip("/"),
        state=item["State"],
        labels=item["Labels"] or {},
        image_id=item["ImageID"],
        networks=_addresses(item["NetworkSettings"]),
        network_ids=_network_ids(item["NetworkSettings"]),
    )


def _have_owners(files: Iterable[Placed]) -> bool:
    return any(item.owners for item in files)


async def _users(container: DockerContainer) -> dict[str, placing.Owner]:
    """The users that a container knows, with their numbers and that of their group."""
    try:
        with await container.get_archive(PASSWD) as tar:
            entry = tar.next()
            held = tar.extractfile(entry) if entry is not None else None
            lines = held.read().decode(errors="replace").splitlines() if held else []
    except aiodocker.DockerError as error:
        if error.status != 404:
            raise
        return {}
    return {
        fields[0]: (int(fields[OWN_NUMBER]), int(fields[OWN_GROUP]))
        for fields in (line.split(":") for line in lines)
        if len(fields) > OWN_GROUP
        and all(NUMBER.fullmatch(fields[at]) for at in (OWN_NUMBER, OWN_GROUP))
    }
