"""Commands in a helper container."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from purveyor.docker import Engine
from purveyor.docker.terminal import Piped, piped
from purveyor_hooks import Address, Command, ExecResult, Logger


@dataclass(frozen=True)
class HelperAccess:
    """`Access` to a container of ours that is no service: commands only."""

    engine: Engine
    container: str
    logger: Logger

    def address(self, container_port: int) -> Address:
        raise LookupError(f"{self.container} is a helper, and has no address of its own")

    def inside(self, container_port: int) -> Address:
        return self.address(container_port)

    def beat(self) -> None:
        """Nobody watches."""

    async def exec(
        self, command: Command, *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        found = await self.engine.containers.require_running(self.container)
        return await self.engine.containers.execute(found.id, command, stdin=stdin, timeout=timeout)

    @asynccontextmanager
    async def process(self, command: Command) -> AsyncIterator[Piped]:
        found = await self.engine.containers.require_running(self.container)
        async with piped(self.engine, found.id, command) as process:
            yield process
