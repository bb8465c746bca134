"""How type hooks reach their service, and deploy hooks their containers."""

from dataclasses import dataclass

from purveyor.engine import Engine, containers
from purveyor.store.records import ServiceRecord
from purveyor_hooks import Address, Command, ExecResult, Logger, ServiceType


@dataclass(frozen=True)
class ServiceAccess:
    """`Access` to one service."""

    engine: Engine
    kind: ServiceType
    service: ServiceRecord
    logger: Logger

    def address(self, container_port: int) -> Address:
        for port in self.kind.ports:
            if port.container == container_port:
                return Address(host="127.0.0.1", port=int(self.service.parameters[port.parameter]))
        raise LookupError(f"{self.kind.name} publishes no port {container_port}")

    async def exec(self, command: Command, *, stdin: bytes = b"", timeout: float = 60.0) -> ExecResult:
        found = await containers.require_running(self.engine, self.service.container_name)
        return await containers.execute(self.engine, found.id, command, stdin=stdin, timeout=timeout)
