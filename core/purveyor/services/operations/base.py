"""What the operations on services share."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType, Step
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import Plan, PlannedContainer, PlannedPort, PlannedVolume
from purveyor.services import store as services
from purveyor.services.models import ServiceRecord
from purveyor.services.provisioning import Provisioner
from purveyor_hooks import Conflict, EngineUnavailable, PurveyorError, ServiceType

IMAGE_DEADLINE = 3600.0  # a pull is ended for lack of progress, not for its length
STOP_DEADLINE = 120.0


class ServiceOperation(OperationType):
    """An operation that works on the container of a service."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.provision = context.part(Provisioner)

    def plan_of_new(
        self, tx: Tx, operation: OperationRecord, volume_action: str, warnings: Sequence[str] = ()
    ) -> Plan:
        """The plan of an operation that ends with a container that was not there before."""
        record = services.get(tx, operation.service)
        kind = self.context.registry.kind(record.service_type)
        volume = services.volume(tx, record.volume_id or "")
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=step_names(self.steps(operation)),
            containers=[
                PlannedContainer(name=record.container_name, action="create", image=record.image)
            ],
            volumes=[PlannedVolume(name=volume.name, action=f"{volume_action} in {volume.path}")],
            ports=planned_ports(kind, record.parameters),
            warnings=list(warnings),
        )

    def image_step(self, operation: OperationRecord, service_id: int) -> Step:
        progress = self.progress(operation, "image")
        return Step(
            "image", lambda: self.provision.image(service_id, progress), deadline=IMAGE_DEADLINE
        )

    def progress(self, operation: OperationRecord, step: str) -> Callable[[str], Awaitable[None]]:
        """Tells how far a step is."""

        async def tell(text: str) -> None:
            await self.context.store.write(
                lambda tx: self.emit(tx, operation, "progress", {"step": step, "text": text})
            )

        return tell

    def volume_step(self, service_id: int) -> Step:
        return Step("volume", lambda: self.provision.volume(service_id))

    async def forget_volume(self, service_id: int) -> None:
        """Take the volume's name from the engine; its folder and its record stay."""
        record = await self.context.store.read(lambda tx: services.get(tx, service_id))
        if record.volume_id is None:
            return
        volume = await self.context.store.read(
            lambda tx: services.volume(tx, record.volume_id or "")
        )
        await self.context.engine.volumes.forget(volume.name)

    async def try_again(self, service_id: int, *, start: bool) -> None:
        """Have the container back that an operation has taken, as far as that is possible. Raises only
        `EngineUnavailable`: what refuses to come back is seen, and told, by whoever looks at the
        service next."""
        try:
            await self.provision.volume(service_id)
            await self.provision.container(service_id)
            if start:
                await self.provision.start(service_id)
        except EngineUnavailable:
            raise
        except PurveyorError as error:
            self.context.logger.warning("service.down", service=service_id, error=error.detail)

    def container_step(self, service_id: int) -> Step:
        return Step("container", lambda: self._container(service_id), deadline=STOP_DEADLINE)

    async def _container(self, service_id: int) -> None:
        await self.context.engine.ensure_network()
        await self.provision.container(service_id)

    def start_steps(self, service_id: int, accept: bool = False) -> list[Step]:
        """Start, wait until it serves, and check whose data it is."""
        ready = self.context.settings.ready_timeout + 10
        return [
            Step("start", lambda: self.provision.start(service_id), deadline=STOP_DEADLINE),
            Step("ready", lambda: self.provision.ready(service_id), deadline=ready),
            Step("identity", lambda: self.provision.identity(service_id, accept)),
        ]


def require_active(record: ServiceRecord) -> None:
    """Raise `Conflict` unless the service is there and not on its way in or out."""
    if record.state != "active":
        raise Conflict(f"{record.name} is {record.state}.", remedy="See: purveyor operations")


def require_own(record: ServiceRecord) -> None:
    """Raise `Conflict` when the container was imported: what makes a container anew is its owner's
    to do."""
    if record.imported:
        raise Conflict(
            f"{record.name} was imported: this needs its container to be recreated, and Purveyor "
            "does not manage that.",
            remedy=f"Change it where it was made. Or copy it into a service of Purveyor's, and go on there: "
            f"purveyor clone {record.slug} NAME",
        )


def planned_ports(kind: ServiceType, parameters: dict[str, Any]) -> list[PlannedPort]:
    return [
        PlannedPort(port=int(parameters[port.parameter]), container_port=port.container)
        for port in kind.ports
    ]


def step_names(steps: Sequence[Step]) -> list[str]:
    return [step.name for step in steps]


def require_serving(record: ServiceRecord) -> None:
    require_active(record)
    if record.desired != "running":
        remedy = f"Start it first: purveyor start {record.slug}"
        raise Conflict(
            f"{record.name} is stopped; it can be backed up while it runs.", remedy=remedy
        )
