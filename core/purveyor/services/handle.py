"""A service as type hooks reach it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from purveyor.kernel.docker import Engine
from purveyor.kernel.docker.models import Found
from purveyor.kernel.docker.terminal import Piped, piped
from purveyor.kernel.watchdog import Pulse
from purveyor.services import certificates
from purveyor.services.models import ServiceRecord
from purveyor_hooks import Address, Api, Command, Conflict, ExecResult, Logger, Service, ServiceType


@dataclass(frozen=True)
class ServiceAccess:
    """`Access` to one service."""

    engine: Engine
    kind: ServiceType
    service: ServiceRecord
    logger: Logger
    pulse: Pulse | None = None

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


def require_serving(service: ServiceRecord) -> None:
    """Raise `Conflict` unless accounts can be made on a service now."""
    if service.state != "active" or service.desired != "running":
        word = "stopped" if service.state == "active" else service.state
        raise Conflict(
            f"{service.name} is {word}.", remedy=f"Start it first: purveyor start {service.slug}"
        )
    if service.refusal:
        raise Conflict(f"{service.name} is refused: {service.refusal}")


PLACEHOLDER = Api(url="http://purveyor", token="preview-only", project_id=0)


def seen_from(
    kind: ServiceType, service: ServiceRecord, state: Path, *, from_host: bool, address: str = ""
) -> Service:
    """A service as its reader reaches it: apps on the network, or commands on this host, where the
    state directory has the file of authorities and its container an `address`."""
    view = service.view()
    if not from_host:
        return view
    if view.tls is not None:
        view = msgspec.structs.replace(
            view, tls=msgspec.structs.replace(view.tls, file=str(state / certificates.FILE))
        )
    if service.imported:
        return msgspec.structs.replace(view, host=service.imported.address)
    ports = {port.container: int(service.parameters[port.parameter]) for port in kind.ports}
    return msgspec.structs.replace(view, host="127.0.0.1", ports=ports, address=address)
