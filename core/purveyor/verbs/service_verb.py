"""What the verbs on services share."""

from collections.abc import Sequence
from typing import Any

from purveyor.house import House
from purveyor.operations import Step, Verb
from purveyor.operations.plan import PlannedPort
from purveyor.operations.runner import emit
from purveyor.provision import Provisioner
from purveyor.store.records import OperationRecord, ServiceRecord
from purveyor_hooks import Conflict, ServiceType

IMAGE_DEADLINE = 3600.0  # a pull is ended for lack of progress, not for its length
STOP_DEADLINE = 120.0


class ServiceVerb(Verb):
    """A verb that works on the container of a service."""

    def __init__(self, house: House, provisioner: Provisioner) -> None:
        self.house = house
        self.provision = provisioner

    def image_step(self, operation: OperationRecord, service_id: int) -> Step:
        async def progress(text: str) -> None:
            await self.house.store.write(lambda tx: emit(tx, self, operation, "progress", {"step": "image", "text": text}))

        return Step("image", lambda: self.provision.image(service_id, progress), deadline=IMAGE_DEADLINE)

    def volume_step(self, service_id: int) -> Step:
        return Step("volume", lambda: self.provision.volume(service_id))

    def container_step(self, service_id: int) -> Step:
        return Step("container", lambda: self._container(service_id), deadline=STOP_DEADLINE)

    async def _container(self, service_id: int) -> None:
        await self.house.engine.ensure_network()
        await self.provision.container(service_id)

    def start_steps(self, service_id: int, accept: bool = False) -> list[Step]:
        """Start, wait until it serves, and check whose data it is."""
        ready = self.house.settings.ready_timeout + 10
        return [
            Step("start", lambda: self.provision.start(service_id), deadline=STOP_DEADLINE),
            Step("ready", lambda: self.provision.ready(service_id), deadline=ready),
            Step("identity", lambda: self.provision.identity(service_id, accept)),
        ]


def require_active(record: ServiceRecord) -> None:
    """Raise `Conflict` unless the service is there and not on its way in or out."""
    if record.state != "active":
        raise Conflict(f"{record.name} is {record.state}.", remedy="See: purveyor operations")


def planned_ports(kind: ServiceType, parameters: dict[str, Any]) -> list[PlannedPort]:
    return [PlannedPort(port=int(parameters[port.parameter]), container_port=port.container) for port in kind.ports]


def step_names(steps: Sequence[Step]) -> list[str]:
    return [step.name for step in steps]
