"""Containers: made from a `ContainerSpec`, found by our labels, touched only when they are ours."""

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import aiodocker
import anyio
import msgspec

from purveyor.engine.client import Engine, filters
from purveyor.engine.labels import SPEC
from purveyor_hooks import Command, Conflict, ContainerSpec, DeadlineExceeded, ExecResult, Failed, File, NotFound

OUTPUT_LIMIT = 64 * 1024
LOG_OPTIONS = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A container of ours as the engine shows it. `state` is Docker's word: created, running, exited, …"""

    id: str
    name: str
    state: str
    labels: dict[str, str]
    image_id: str = ""
    health: str = ""
    exit_code: int = 0
    restarting: bool = False
    started_at: datetime | None = None
    networks: tuple[str, ...] = ()


def digest(spec: ContainerSpec, ports: Mapping[int, int], network: str | None) -> str:
    """A short hash that changes whenever the container has to be made anew."""
    content = msgspec.json.encode([spec, sorted(ports.items()), network])
    return hashlib.sha256(content).hexdigest()[:16]


async def inspect(engine: Engine, name: str) -> Found | None:
    """Our container of this name, None when there is none. Raises `Conflict` when it is somebody else's."""
    with engine.errors(f"look for the container {name}"):
        try:
            shown = await engine.docker.containers.container(name).show()
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise
            return None
    found = _found(shown)
    if not engine.labels.ours(found.labels):
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
        networks=tuple(shown["NetworkSettings"]["Networks"]),
    )


async def listed(engine: Engine, **fields: object) -> list[Found]:
    """All containers of this installation that carry these labels."""
    with engine.errors("list its containers"):
        answer = await engine.docker.containers.list(all=True, filters=filters(engine.labels.filters(**fields)))
    return [
        Found(
            id=item.id,
            name=item["Names"][0].lstrip("/"),
            state=item["State"],
            labels=item["Labels"] or {},
            networks=tuple((item["NetworkSettings"] or {}).get("Networks") or ()),
        )
        for item in answer
    ]


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
) -> str:
    """Create (not start) a container; the answer is its id. `ports` maps container ports to host ports."""
    host: dict[str, Any] = {
        "PortBindings": {f"{inner}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(outer)}] for inner, outer in ports.items()},
        "RestartPolicy": {"Name": "unless-stopped" if restart else "no"},
        "ShmSize": spec.shared_memory,
        "LogConfig": LOG_OPTIONS,
        "NetworkMode": network or "none",
    }
    if spec.mount and volume:
        # what the image has at the mount's place is copied into a new volume only, never over somebody's data
        options = {"NoCopy": not seed}
        host["Mounts"] = [{"Type": "volume", "Source": volume, "Target": spec.mount.target, "VolumeOptions": options}]
    if spec.limits.memory:
        host["Memory"] = spec.limits.memory
    if spec.limits.cpus:
        host["NanoCpus"] = int(spec.limits.cpus * 1e9)
    config: dict[str, Any] = {
        "Image": spec.image,
        "Cmd": list(spec.command) or None,
        "Env": [f"{key}={value}" for key, value in spec.environment.items()],
        "Labels": {**labels, SPEC: digest(spec, ports, network)},
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
        container = engine.docker.containers.container(name)
        async for chunk in container.log(stdout=True, stderr=True, follow=True, tail=lines):
            yield chunk


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
    engine: Engine, name: str, spec: ContainerSpec, *, volume: str | None, network: str | None, timeout: float = 60.0
) -> ExecResult:
    """Run a throw-away container to its end and remove it, whatever happens."""
    await remove(engine, name)
    labels = engine.labels.of(purpose="once")
    try:
        await create(engine, name, spec, labels=labels, ports={}, volume=volume, seed=False, network=network, restart=False)
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


async def require_running(engine: Engine, name: str) -> Found:
    """Our running container of this name. Raises `NotFound` or `Conflict`."""
    found = await inspect(engine, name)
    if found is None:
        raise NotFound(f"There is no container {name}.")
    if found.state != "running":
        raise Conflict(f"The container {name} is {found.state}, not running.")
    return found
