"""Containers: made from a `ContainerSpec`, found by our labels, changed only when they are ours.

One that was imported is somebody else's (`foreign`): it is looked at, started, stopped, and put on the network.
"""

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import aiodocker
import aiohttp
import anyio
import msgspec
from aiodocker.multiplexed import multiplexed_result_stream

from purveyor.engine.client import Engine, filters
from purveyor.engine.labels import INSTALLATION, SPEC
from purveyor_hooks import (
    Command,
    Conflict,
    ContainerSpec,
    DeadlineExceeded,
    ExecResult,
    Failed,
    File,
    FoundContainer,
    Image,
    NotFound,
)

OUTPUT_LIMIT = 64 * 1024
LOG_OPTIONS = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A container as the engine shows it. `state` is Docker's word: created, running, exited, …; `networks` are those
    that it is on, with its address on each."""

    id: str
    name: str
    state: str
    labels: dict[str, str]
    image_id: str = ""
    health: str = ""
    exit_code: int = 0
    restarting: bool = False
    started_at: datetime | None = None
    networks: dict[str, str] = {}


def digest(spec: ContainerSpec, ports: Mapping[int, int], network: str | None) -> str:
    """A short hash that changes whenever the container has to be made anew."""
    content = msgspec.json.encode([spec, sorted(ports.items()), network])
    return hashlib.sha256(content).hexdigest()[:16]


async def inspect(engine: Engine, name: str, *, foreign: bool = False) -> Found | None:
    """The container of this name, None when there is none. Raises `Conflict` when it is somebody else's, unless that is
    meant."""
    with engine.errors(f"look for the container {name}"):
        try:
            shown = await engine.docker.containers.container(name).show()
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise
            return None
    found = _found(shown)
    if not foreign and not engine.labels.ours(found.labels):
        raise Conflict(
            f"A container named {name} exists and is not Purveyor's.",
            remedy=f"Rename or remove it (docker rename {name} …), then try again.",
        )
    return found


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
        started_at=None if started.startswith("0001") else datetime.fromisoformat(f"{started[:19]}+00:00"),
        networks=_addresses(shown["NetworkSettings"]),
    )


def _addresses(settings: dict[str, Any] | None) -> dict[str, str]:
    networks = (settings or {}).get("Networks") or {}
    return {name: str((endpoint or {}).get("IPAddress") or "") for name, endpoint in networks.items()}


async def foreign(engine: Engine) -> list[FoundContainer]:
    """Every container that no Purveyor has made, as plugins see it."""
    with engine.errors("list its containers"):
        answer = await engine.docker.containers.list(all=True)
    found = [await foreign_of(engine, item.id) for item in answer if INSTALLATION not in (item["Labels"] or {})]
    return [item for item in found if item is not None]


async def foreign_of(engine: Engine, reference: str) -> FoundContainer | None:
    """A container by its name or id (or how that begins), as plugins see it; None when there is none."""
    with engine.errors(f"look at the container {reference}"):
        try:
            shown = await engine.docker.containers.container(reference).show()
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise
            return None
    config, settings = shown["Config"], shown["NetworkSettings"]
    ports = {int(port.partition("/")[0]) for port in {**(config.get("ExposedPorts") or {}), **(settings.get("Ports") or {})}}
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


async def published(engine: Engine, name: str) -> dict[int, int]:
    """Host port -> container port, of a container of anybody's."""
    with engine.errors(f"look at the container {name}"):
        shown = await engine.docker.containers.container(name).show()
    ports = shown["NetworkSettings"].get("Ports") or {}
    return {int(end["HostPort"]): int(inner.partition("/")[0]) for inner, ends in ports.items() for end in ends or ()}


async def named(engine: Engine, names: Sequence[str]) -> list[Found]:
    """The containers of these names, whosever they are."""
    with engine.errors("list its containers"):
        answer = await engine.docker.containers.list(all=True, filters=filters({"name": [f"^/{name}$" for name in names]}))
    return [_brief(item) for item in answer]


async def listed(engine: Engine, **fields: object) -> list[Found]:
    """All containers of this installation that carry these labels."""
    with engine.errors("list its containers"):
        answer = await engine.docker.containers.list(all=True, filters=filters(engine.labels.filters(**fields)))
    return [_brief(item) for item in answer]


def _brief(item: Any) -> Found:
    return Found(
        id=item.id,
        name=item["Names"][0].lstrip("/"),
        state=item["State"],
        labels=item["Labels"] or {},
        networks=_addresses(item["NetworkSettings"]),
    )


async def create(
    engine: Engine,
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
) -> str:
    """Create (not start) a container; the answer is its id. `ports` maps container ports to host ports, `read_only`
    further volumes to where they are mounted. One that is `inside` another's network has none of its own."""
    host: dict[str, Any] = {
        "PortBindings": {f"{inner}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(outer)}] for inner, outer in ports.items()},
        "RestartPolicy": {"Name": "unless-stopped" if restart else "no"},
        "ShmSize": spec.shared_memory,
        "LogConfig": LOG_OPTIONS,
        "NetworkMode": f"container:{inside}" if inside else network or "none",
    }
    if spec.mount and volume:
        # what the image has at the mount's place is copied into a new volume only, never over somebody's data
        options = {"NoCopy": not seed}
        host["Mounts"] = [{"Type": "volume", "Source": volume, "Target": spec.mount.target, "VolumeOptions": options}]
    for name_of_volume, where in (read_only or {}).items():
        mount = {"Type": "volume", "Source": name_of_volume, "Target": where, "ReadOnly": True}
        host.setdefault("Mounts", []).append(mount)
    if spec.limits.memory:
        host["Memory"] = spec.limits.memory
    if spec.limits.cpus:
        host["NanoCpus"] = int(spec.limits.cpus * 1e9)
    config: dict[str, Any] = {
        "Image": spec.image,
        "Cmd": list(spec.command) or None,
        "Env": [f"{key}={value}" for key, value in spec.environment.items()],
        "Labels": {**labels, SPEC: digest(spec, ports, inside or network)},
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
    with engine.errors(f"create the container {name}"):
        container = await engine.docker.containers.create(config, name=name)
        files = [file for file in spec.files if seed or not file.seed]
        if files:
            await container.put_archive("/", _archive(files))
    return str(container.id)


def _archive(files: Sequence[File]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file in files:
            content = file.content.encode()
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.size, entry.mode = len(content), file.mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


async def holds(engine: Engine, container_id: str, path: str) -> bool:
    """Whether a file is there, volumes included; the container need not run. Small files only."""
    with engine.errors(f"look for {path}"):
        try:
            await engine.docker.containers.container(container_id).get_archive(path)
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise
            return False
    return True


async def start(engine: Engine, name: str) -> None:
    """Start a container; one that runs stays as it is. Raises `PortTaken`."""
    with engine.errors(f"start the container {name}"):
        await engine.docker.containers.container(name).start()


async def stop(engine: Engine, name: str, seconds: int | None = None) -> None:
    """Stop a container and wait until it has; one that is gone or stopped is fine."""
    with engine.errors(f"stop the container {name}"):
        try:
            await engine.docker.containers.container(name).stop(t=seconds)
        except aiodocker.DockerError as error:
            if error.status not in (304, 404):
                raise


async def remove(engine: Engine, name: str) -> None:
    """Stop in peace and remove our container of this name, if there is one."""
    found = await inspect(engine, name)
    if found is None:
        return
    await stop(engine, found.id)
    with engine.errors(f"remove the container {name}"):
        try:
            # v: anonymous volumes of the image's other VOLUME lines; the service's own is named and stays
            await engine.docker.containers.container(found.id).delete(force=True, v=True)
        except aiodocker.DockerError as error:
            if error.status not in (404, 409):  # 409: its removal is already in progress
                raise
        for _ in range(100):
            if await inspect(engine, name) is None:
                return
            await anyio.sleep(0.05)
    raise Failed(f"The container {name} does not go away.", remedy=f"Try: docker rm -f {name}")


async def connect(engine: Engine, name: str, aliases: Sequence[str]) -> None:
    """Put a container on the network under these further names, instead of those it had."""
    with engine.errors(f"connect {name} to the network"):
        network = await engine.docker.networks.get(engine.namespace)
        try:
            await network.disconnect({"Container": name, "Force": True})
        except aiodocker.DockerError as error:
            if error.status not in (403, 404, 500) or "not connected" not in str(error.message):
                raise
        await network.connect({"Container": name, "EndpointConfig": {"Aliases": list(aliases)}})


async def join(engine: Engine, name: str) -> None:
    """Put a container on the network, beside those that it is on; it may be there already."""
    with engine.errors(f"connect {name} to the network"):
        network = await engine.docker.networks.get(engine.namespace)
        try:
            await network.connect({"Container": name})
        except aiodocker.DockerError as error:
            if "already exists" not in str(error.message):
                raise


async def leave(engine: Engine, name: str) -> None:
    """Take a container from the network; it may be gone, or not on it."""
    with engine.errors(f"take {name} from the network"):
        try:
            network = await engine.docker.networks.get(engine.namespace)
            await network.disconnect({"Container": name, "Force": True})
        except aiodocker.DockerError as error:
            if error.status != 404 and "not connected" not in str(error.message):
                raise


async def aliases(engine: Engine, name: str) -> list[str]:
    """The further names of a container on the network."""
    with engine.errors(f"look at the container {name}"):
        shown = await engine.docker.containers.container(name).show()
    endpoint = shown["NetworkSettings"]["Networks"].get(engine.namespace) or {}
    return list(endpoint.get("Aliases") or [])


async def log(engine: Engine, name: str, *, lines: int | str = 200, timestamps: bool = False) -> list[str]:
    """The last lines that the container printed, both streams."""
    with engine.errors(f"read the log of {name}"):
        container = engine.docker.containers.container(name)
        chunks = await container.log(stdout=True, stderr=True, tail=lines, timestamps=timestamps)
    return "".join(chunks).splitlines()


async def follow(engine: Engine, name: str, *, lines: int | str = 200) -> AsyncIterator[str]:
    """The last lines, then every further one until the container stops."""
    with engine.errors(f"follow the log of {name}"):
        tty = bool((await engine.docker.containers.container(name).show())["Config"]["Tty"])
        params = {"stdout": "true", "stderr": "true", "follow": "true", "tail": lines}
        # not by `log` of the library: when a reader just goes away, its nested generators are closed in any order, and fail
        answer = await engine.docker._do_query(
            f"containers/{name}/logs", "GET", params=params, timeout=aiohttp.ClientTimeout(total=None)
        )
        try:
            async for chunk in multiplexed_result_stream(answer, is_tty=tty):
                yield chunk
        finally:
            answer.close()


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a container uses: `memory` in bytes without the page cache, `cpu` in nanoseconds since it started."""

    memory: int
    cpu: int


async def usage(engine: Engine, name: str) -> Usage | None:
    """What a running container uses now, None when the engine does not tell."""
    with engine.errors(f"ask what {name} uses"):
        async with engine.docker._query(f"containers/{name}/stats", params={"stream": "false", "one-shot": "true"}) as answer:
            found = await answer.json() or {}  # null: the container went away meanwhile
    memory, cpu = found.get("memory_stats") or {}, (found.get("cpu_stats") or {}).get("cpu_usage") or {}
    if "usage" not in memory:
        return None
    details = memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return Usage(memory=max(0, int(memory["usage"]) - int(cache)), cpu=int(cpu.get("total_usage", 0)))


async def execute(engine: Engine, name: str, command: Command, *, stdin: bytes = b"", timeout: float = 60.0) -> ExecResult:
    """Run a command in a running container. Raises `DeadlineExceeded`, `NotFound`, `Conflict`."""
    output: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
    with engine.errors(f"run {command.argv[0]} in {name}"):
        with anyio.move_on_after(timeout) as scope:
            container = engine.docker.containers.container(name)
            job = await container.exec(list(command.argv), stdin=bool(stdin), environment=dict(command.environment))
            async with job.start(detach=False) as stream:
                if stdin:
                    await stream.write_in(stdin)
                while (message := await stream.read_out()) is not None:
                    kept = output[2 if message.stream == 2 else 1]
                    kept += message.data[: OUTPUT_LIMIT - len(kept)]
            exit_code = (await job.inspect())["ExitCode"]
        if scope.cancelled_caught:
            raise DeadlineExceeded(f"{command.argv[0]} in {name} did not end within {timeout:.0f} s.")
    stdout, stderr = (output[number].decode(errors="replace") for number in (1, 2))
    return ExecResult(exit_code=exit_code if exit_code is not None else -1, stdout=stdout, stderr=stderr)


async def run_once(
    engine: Engine,
    name: str,
    spec: ContainerSpec,
    *,
    volume: str | None,
    network: str | None,
    timeout: float = 60.0,
    read_only: Mapping[str, str] | None = None,
) -> ExecResult:
    """Run a throw-away container to its end and remove it, whatever happens."""
    await remove(engine, name)
    labels = engine.labels.of(purpose="once")
    try:
        await create(
            engine,
            name,
            spec,
            labels=labels,
            ports={},
            volume=volume,
            seed=False,
            network=network,
            restart=False,
            read_only=read_only,
        )
        with anyio.fail_after(timeout):
            await start(engine, name)
            with engine.errors(f"wait for {name}"):
                ended = await engine.docker.containers.container(name).wait()
        return ExecResult(exit_code=ended["StatusCode"], stdout="\n".join(await log(engine, name)), stderr="")
    except TimeoutError:
        raise DeadlineExceeded(f"{name} did not end within {timeout:.0f} s.") from None
    finally:
        with anyio.CancelScope(shield=True):
            await remove(engine, name)


async def require_running(engine: Engine, name: str, *, foreign: bool = False) -> Found:
    """The running container of this name. Raises `NotFound` or `Conflict`."""
    found = await inspect(engine, name, foreign=foreign)
    if found is None:
        raise NotFound(f"There is no container {name}.")
    if found.state != "running":
        raise Conflict(f"The container {name} is {found.state}, not running.")
    return found
