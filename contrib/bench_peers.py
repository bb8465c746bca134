"""What `contrib/bench` creates the same containers with, to stand beside Purveyor: by hand, and two
tools that people use."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import aiodocker
import anyio
import anyio.to_thread
import asyncpg
import redis.asyncio
from bench_stage import IMAGES, NotToBeHad

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from compose import compose

CACHE = Path.home() / ".cache/purveyor-bench"
TESTCONTAINERS = "testcontainers[redis]>=4.13,<5"
TARGETS = {"redis": "/data", "postgres": "/var/lib/postgresql"}
PORTS = {"redis": 6379, "postgres": 5432}
SHARED_MEMORY = 256 * 1024 * 1024


class Peer(Protocol):
    """Creates a container on a volume and waits until it is ready; `beside` is its name in the
    table."""

    beside: str

    async def create(self, kind: str, name: str) -> None: ...

    async def remove(self, name: str) -> None: ...


def environment(password: str) -> dict[str, str]:
    """What PostgreSQL's image is told; the one of Redis reads none of it."""
    return {
        "POSTGRES_PASSWORD": password,
        "PGDATA": "/var/lib/postgresql/17/docker",
        "POSTGRES_INITDB_ARGS": "--data-checksums",
    }


class Raw:
    """By hand: the engine calls that cannot be left out, and a driver loop."""

    beside = "by hand"

    def __init__(
        self, docker: aiodocker.Docker, folder: Path, namespace: str, ports: Iterator[int]
    ) -> None:
        self._docker = docker
        self._folder = folder
        self._namespace = namespace
        self._ports = ports

    async def create(self, kind: str, name: str) -> None:
        docker, port, password = self._docker, next(self._ports), secrets.token_hex(8)
        await docker.images.inspect(IMAGES[kind])
        path = self._folder / name
        path.mkdir(parents=True)
        volume = {
            "Name": name,
            "Driver": "local",
            "DriverOpts": {"type": "none", "o": "bind", "device": str(path)},
        }
        await docker.volumes.create(volume)
        await docker.networks.list(filters={"name": [f"^{self._namespace}$"]})
        given = {
            "Image": IMAGES[kind],
            **getattr(self, f"_{kind}")(password),
            "ExposedPorts": {f"{PORTS[kind]}/tcp": {}},
        }
        given["HostConfig"] = {
            "PortBindings": {
                f"{PORTS[kind]}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
            },
            "Mounts": [{"Type": "volume", "Source": name, "Target": TARGETS[kind]}],
            "ShmSize": SHARED_MEMORY,
            "NetworkMode": self._namespace,
        }
        container = await docker.containers.create(given, name=name)
        await container.put_archive("/", self._files(kind, password))
        await container.start()
        pause = 0.02
        while not await getattr(self, f"_{kind}_ready")(port, password):
            await anyio.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    @staticmethod
    def _files(kind: str, password: str) -> bytes:
        """A configuration or a password, as a file of the container."""
        text = (
            f"requirepass {password}\nappendonly yes\nprotected-mode no\ndir /data\n"
            if kind == "redis"
            else password
        )
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            entry = tarfile.TarInfo("etc/bench")
            entry.size, entry.mode = len(text), 0o444
            tar.addfile(entry, io.BytesIO(text.encode()))
        return buffer.getvalue()

    @staticmethod
    def _redis(_: str) -> dict[str, Any]:
        return {"Cmd": ["redis-server", "/etc/bench"]}

    @staticmethod
    def _postgres(password: str) -> dict[str, Any]:
        told = {**environment(password), "POSTGRES_PASSWORD_FILE": "/etc/bench"}
        del told["POSTGRES_PASSWORD"]
        return {
            "Cmd": ["postgres", "-c", "max_connections=100"],
            "Env": [f"{name}={value}" for name, value in told.items()],
        }

    @staticmethod
    async def _redis_ready(port: int, password: str) -> bool:
        client = redis.asyncio.Redis(
            host="127.0.0.1", port=port, password=password, socket_timeout=5
        )
        try:
            return bool(await client.set("bench", "1"))
        except (redis.RedisError, OSError):
            return False
        finally:
            await client.aclose()

    @staticmethod
    async def _postgres_ready(port: int, password: str) -> bool:
        login = {
            "host": "127.0.0.1",
            "port": port,
            "user": "postgres",
            "password": password,
            "database": "postgres",
        }
        try:
            connection = await asyncpg.connect(**login, timeout=5, ssl=False)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            return False
        await connection.fetchval("SELECT 1")
        await connection.close()
        return True

    async def remove(self, name: str) -> None:
        await self._docker.containers.container(name).delete(force=True, v=True)
        await (await self._docker.volumes.get(name)).delete()
        shutil.rmtree(self._folder / name, ignore_errors=True)


class Compose:
    """``docker compose up --wait``, a project for each; its health checks look twice a second."""

    beside = "compose up --wait"

    def __init__(self, folder: Path, namespace: str, ports: Iterator[int]) -> None:
        self._binary = ""
        self._folder = folder
        self._network = namespace
        self._ports = ports

    def fetch(self) -> None:
        self._binary = str(compose())

    def close(self) -> None:
        """Each project is removed by itself."""

    def _project(self, kind: str, name: str) -> dict[str, Any]:
        password = secrets.token_hex(8)
        command = [
            "redis-server",
            "--requirepass",
            password,
            "--appendonly",
            "yes",
            "--dir",
            "/data",
        ]
        asked = ["CMD", "redis-cli", "-a", password, "PING"]
        if kind == "postgres":
            command, asked = (
                ["postgres", "-c", "max_connections=100"],
                ["CMD", "pg_isready", "-h", "127.0.0.1", "-U", "postgres"],
            )
        service = {
            "image": IMAGES[kind],
            "container_name": name,
            "command": command,
            "environment": environment(password),
            "ports": [f"127.0.0.1:{next(self._ports)}:{PORTS[kind]}"],
            "volumes": [f"data:{TARGETS[kind]}"],
            "shm_size": SHARED_MEMORY,
            "healthcheck": {"test": asked, "interval": "500ms", "timeout": "5s", "retries": 100},
        }
        network = {"default": {"name": self._network, "external": True}}
        return {
            "services": {kind: service},
            "volumes": {"data": {"name": name}},
            "networks": network,
        }

    async def create(self, kind: str, name: str) -> None:
        (self._folder / f"{name}.json").write_text(json.dumps(self._project(kind, name)))
        await self._run(name, "up", "--wait", "--pull", "never")

    async def remove(self, name: str) -> None:
        await self._run(name, "down", "-v", "-t", "0")

    async def _run(self, name: str, *arguments: str) -> None:
        await anyio.run_process(
            [self._binary, "-p", name, "-f", str(self._folder / f"{name}.json"), *arguments]
        )


class Testcontainers:
    """testcontainers for Python, as its manual shows it; in a process and with packages of its
    own."""

    beside = "testcontainers"

    def __init__(self, *_: Any) -> None:
        self._process: subprocess.Popen[str] | None = None

    def fetch(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("bench_testcontainers.py"))],
            env={
                **os.environ,
                "PYTHONPATH": str(_testcontainers()),
                "TESTCONTAINERS_RYUK_DISABLED": "true",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._asked("ready", "", "")

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()

    def _asked(self, word: str, kind: str, name: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([word, kind, name, IMAGES.get(kind, "")]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if answer.strip() != "done":
            raise NotToBeHad(answer.strip() or "its process ended")

    async def create(self, kind: str, name: str) -> None:
        await anyio.to_thread.run_sync(self._asked, "create", kind, name)

    async def remove(self, name: str) -> None:
        await anyio.to_thread.run_sync(self._asked, "remove", "", name)


def _testcontainers() -> Path:
    """The folder that holds the package and what it needs; fetched once."""
    folder = CACHE / f"testcontainers-{sys.version_info.major}.{sys.version_info.minor}"
    if folder.exists():
        return folder
    part = CACHE / f"part-{secrets.token_hex(4)}"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--target",
            str(part),
            TESTCONTAINERS,
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        shutil.rmtree(part, ignore_errors=True)
        raise NotToBeHad(f"pip: {done.stderr.strip()[-100:]}")
    part.rename(folder)
    return folder
