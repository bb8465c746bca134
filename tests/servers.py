"""PostgreSQL servers for tests of the plugin's own hooks: containers by docker's command line, no
core beside."""

import asyncio
import functools
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

from purveyor_hooks import Address, Command, ExecResult, Failed, Image, Service
from support import docker, free_port

IMAGE = "purveyor-test/postgres:{}".format


def awaited(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that awaits."""

    @functools.wraps(test)
    def work(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return work


class Piped:
    """`Process` of the contract."""

    def __init__(self, process: Any, what: str) -> None:
        self._process, self._what = process, what

    async def write(self, data: bytes) -> None:
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def end_input(self) -> None:
        self._process.stdin.close()

    async def output(self) -> AsyncIterator[bytes]:
        while chunk := await self._process.stdout.read(65536):
            yield chunk

    async def finish(self) -> None:
        async for _ in self.output():
            pass
        said = (await self._process.stderr.read()).decode(errors="replace")
        if code := await self._process.wait():
            raise Failed(f"{self._what} ended with {code}: {said.strip()[-2000:]}")


class Server:
    """A server in a container of its own, and `Access` to it."""

    logger = structlog.get_logger()

    def __init__(
        self,
        major: int,
        network: str,
        *,
        image: str = "",
        slug: str = "main",
        environment: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.name = f"{network}-{secrets.token_hex(3)}"
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self.major = major
        extra = [
            part
            for name, value in (environment or {}).items()
            for part in ("-e", f"{name}={value}")
        ]
        docker(
            "run", "-d", "--name", self.name, "--network", network, "-p",
            f"127.0.0.1:{self.port}:5432",
            "-e", f"POSTGRES_PASSWORD={self.password}", "-e",
            f"PGDATA=/var/lib/postgresql/{major}/docker", *extra, image or IMAGE(major),
            "postgres", "-c", "fsync=off", *arguments,
        )  # fmt: skip
        values = {
            "username": "postgres",
            "password": self.password,
            "database": "postgres",
            "ssl_mode": "disable",
        }
        self.service = Service(
            id=1, name=slug, slug=slug, service_type="postgres",
            parameters={**values, "port": self.port, "max_connections": 100},
            secrets={}, image=Image(reference=image or IMAGE(major), environment={"PG_MAJOR": str(major)}),
            host=self.name, major=str(major),
        )  # fmt: skip
        self.longest = 0.0  # seconds without a sign of life
        self.last = time.monotonic()
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while (
            docker(
                "exec",
                self.name,
                "psql",
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-Atc",
                "SELECT 1",
                check=False,
            )
            != "1"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def remove(self) -> None:
        docker("rm", "-f", "-v", self.name)

    def psql(
        self, sql: str, database: str = "postgres", *, user: str = "postgres", check: bool = True
    ) -> str:
        """What its own psql answers, logged in over the socket, with no setting of anybody's."""
        pins = "-c role=none -c local_preload_libraries= -c statement_timeout=0"
        done = subprocess.run(
            ["docker", "exec", "-i", "-e", f"PGDATABASE={database}", "-e", f"PGOPTIONS={pins}",
            self.name,
             "psql", "-U", user, "-XAtq", "-v", "ON_ERROR_STOP=1"],
            input=sql.encode(), capture_output=True, check=False,
        )  # fmt: skip
        assert not check or not done.returncode, done.stderr.decode(errors="replace")
        return (done.stdout + (b"" if check else done.stderr)).decode(errors="replace").strip()

    def feed(self, sql: bytes) -> bytes:
        """The same for what is no text."""
        argv = [
            "docker",
            "exec",
            "-i",
            self.name,
            "psql",
            "-U",
            "postgres",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
        ]
        return subprocess.run(argv, input=sql, capture_output=True, check=True).stdout

    def dumped(
        self, database: str, *, of: "Server | None" = None, less: tuple[str, ...] = ()
    ) -> list[str]:
        """A database as pg_dump of this server's version writes it, of this server or another, line
        by line."""
        host = (of or self).name
        done = subprocess.run(
            ["docker", "exec", "-e", f"PGDATABASE={database}", "-e",
            f"PGPASSWORD={(of or self).password}", self.name,
             "pg_dump", "-h", host, "-U", "postgres", *less],
            capture_output=True, text=True, errors="backslashreplace", check=True,
        )  # fmt: skip
        noise = ("--", "\\restrict", "\\unrestrict", "SET transaction_timeout")
        return [line for line in done.stdout.splitlines() if line and not line.startswith(noise)]

    # ---------------------------------------------------------------- Access

    def address(self, container_port: int) -> Address:
        return Address(host="127.0.0.1", port=self.port)

    def inside(self, container_port: int) -> Address:
        return Address(host=self.name, port=container_port)

    def beat(self) -> None:
        now = time.monotonic()
        self.longest, self.last = max(self.longest, now - self.last), now

    def _argv(self, command: Command) -> list[str]:
        variables = [
            part
            for name, value in command.environment.items()
            for part in ("-e", f"{name}={value}")
        ]
        return ["docker", "exec", "-i", *variables, self.name, *command.argv]

    async def exec(
        self, command: Command, *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self._argv(command), stdin=pipe, stdout=pipe, stderr=pipe
        )
        out, error = await asyncio.wait_for(process.communicate(stdin), timeout)
        return ExecResult(
            exit_code=process.returncode or 0, stdout=out.decode(), stderr=error.decode()
        )

    @asynccontextmanager
    async def process(self, command: Command) -> AsyncIterator[Piped]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self._argv(command), stdin=pipe, stdout=pipe, stderr=pipe
        )
        yield Piped(process, command.argv[0])


class Stream:
    """A backup in memory: `Sink`, and `Source` as often as wanted."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, chunk: bytes) -> None:
        self.data += chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), 1 << 20):
            yield bytes(self.data[start : start + (1 << 20)])
