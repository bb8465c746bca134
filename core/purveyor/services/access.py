"""A service's server, as type hooks reach it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from purveyor.docker import Engine
from purveyor.docker.models import Found
from purveyor.docker.terminal import Piped, piped
from purveyor.kernel.watchdog import Heartbeat
from purveyor.services.models import ServiceRecord
from purveyor_hooks import Address, Command, ExecResult, Logger, ServiceType


@dataclass(frozen=True)
class ServiceAccess:
    """`Access` to one service."""

    engine: Engine
    kind: ServiceType
    service: ServiceRecord
    logger: Logger
    pulse: Heartbeat | None = None

    def address(self, container_port: int) -> Address:
        if imported := self.service.imported:
            return Address(
                host=imported.address, port=imported.ports.get(container_port, container_port)
            )
        for port in self.kind.ports:
            if port.container == container_port:
                return Address(host="127.0.0.1", port=int(self.service.parameters[port.parameter]))
        raise LookupError(f"{self.kind.name} publishes no port {container_port}")

    def inside(self, container_port: int) -> Address:
        return Address(host=self.service.container_name, port=container_port)

    def beat(self) -> None:
        if self.pulse is not None:
            self.pulse.beat()

    async def exec(
        self, command: Command, *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        found = await self._running()
        return await self.engine.containers.execute(found.id, command, stdin=stdin, timeout=timeout)

    @asynccontextmanager
    async def process(self, command: Command) -> AsyncIterator[Piped]:
        found = await self._running()
        async with piped(self.engine, found.id, command) as process:
            yield process

    async def _running(self) -> Found:
        foreign = self.service.imported is not None
        return await self.engine.containers.require_running(
            self.service.container_name, foreign=foreign
        )
