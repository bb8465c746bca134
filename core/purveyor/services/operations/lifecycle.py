"""Start, stop, restart, and repair: what keeps a service's container as its owner wants it."""

from typing import Any, ClassVar

import msgspec

from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer
from purveyor.services import store as services
from purveyor.services.above import Links
from purveyor.services.operations.base import (
    STOP_DEADLINE,
    ServiceOperation,
    require_active,
    step_names,
)
from purveyor_hooks import Conflict

ACCOUNTS_DEADLINE = 600.0


class ServiceArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` is an id or a name."""

    service: str


class StartArguments(ServiceArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`accept_data`: take the data set that is in the volume now for the recorded one."""

    accept_data: bool = False


class LifecycleOperation(ServiceOperation):
    """An operation on one existing service. `desired` is what its owner wants from now on, "" when that
    stays as it is."""

    arguments: ClassVar[type[msgspec.Struct]] = ServiceArguments
    downtime = "none"
    container_action = ""
    desired = ""
    effect = ""  # what it does to the apps that run

    def target(self, tx: Tx, given: ServiceArguments) -> Target:
        return Target(service=services.get(tx, given.service).id)

    def validate_and_record(self, tx: Tx, given: ServiceArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        require_active(record)
        self.context.registry.provider(record.service_type)
        shown = {"name": record.name, "accept_data": getattr(given, "accept_data", False)}
        before = {"desired": record.desired}
        if self.desired:
            services.update(tx, record.id, desired=self.desired)
        return operations.insert(
            tx, self.name, service_id=record.id, actor=actor, arguments=shown, private=before
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        record = services.get(tx, operation.service)
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=step_names(self.steps(operation)),
            containers=[
                PlannedContainer(
                    name=record.container_name, action=self.container_action, image=record.image
                )
            ],
            apps=self.context.part(Links).apps(tx, record, self.effect.format(record.name))
            if self.effect
            else [],
            downtime=self.downtime,
        )

    def _serve_steps(self, operation: OperationRecord) -> list[Step]:
        service_id = operation.service
        accept = bool(operation.arguments.get("accept_data"))
        return [
            self.image_step(operation, service_id),
            self.volume_step(service_id),
            self.container_step(service_id),
            *self.start_steps(service_id, accept),
            Step("accounts", lambda: self._accounts(service_id), deadline=ACCOUNTS_DEADLINE),
        ]

    async def _accounts(self, service_id: int) -> None:
        """A server that somebody else configured may have kept our accounts in its memory alone."""
        record = await self.context.store.read(lambda tx: services.get(tx, service_id))
        if record.imported:
            await self.context.part(Links).open_again(service_id)

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        services.update(tx, operation.service, refusal="")

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        refusal = (
            f"{error['detail']} {error['remedy']}".strip()
            if error["code"] == "data-refused"
            else ""
        )
        desired = (operation.private or {}).get("desired", "running")
        services.update(tx, operation.service, refusal=refusal, desired=desired)


class Start(LifecycleOperation):
    name: ClassVar[str] = "start"
    arguments = StartArguments
    container_action = "start"
    desired = "running"

    def steps(self, operation: OperationRecord) -> list[Step]:
        """One that was stopped is stopped again when it does not come up."""
        service_id = operation.service
        steps = self._serve_steps(operation)
        if (operation.private or {}).get("desired") != "stopped":
            return steps
        return [
            step._replace(undo=lambda: self.provision.stop(service_id))
            if step.name == "start"
            else step
            for step in steps
        ]


class Repair(LifecycleOperation):
    """Bring a container back that should run and does not, on its volume."""

    name: ClassVar[str] = "repair"
    container_action = "create if missing, start"

    def validate_and_record(self, tx: Tx, given: ServiceArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        if record.desired != "running":  # its owner was quicker
            raise Conflict(
                f"{record.name} is stopped as its owner wants.",
                remedy=f"Start it: purveyor start {record.slug}",
            )
        return super().validate_and_record(tx, given, actor)

    def steps(self, operation: OperationRecord) -> list[Step]:
        """A container that does not come up is stopped, and stays with what it printed; one that
        was never started is taken away again, for its files may not be in it."""
        service_id = operation.service

        async def take_away() -> None:
            record = await self.context.store.read(lambda tx: services.get(tx, service_id))
            if record.imported:
                return
            found = await self.provision.found(record)
            if found is not None and found.state == "created":
                await self.provision.remove_container(service_id)
            else:
                await self.provision.stop(service_id)

        pull = self.image_step(operation, service_id)

        async def image() -> None:
            """A container that is there goes on with the image that it was made of, whatever the
            tag means by now."""
            record = await self.context.store.read(lambda tx: services.get(tx, service_id))
            if await self.provision.found(record) is None:
                await pull.do()

        changed: dict[str, dict[str, Any]] = {
            "image": {"do": image},
            "container": {"undo": take_away},
        }
        return [
            step._replace(**changed.get(step.name, {})) for step in self._serve_steps(operation)
        ]


class Stop(LifecycleOperation):
    name: ClassVar[str] = "stop"
    container_action = "stop"
    downtime = "from now until it is started again"
    effect = "does not reach {} until it is started again"
    desired = "stopped"

    def steps(self, operation: OperationRecord) -> list[Step]:
        """One that ran goes on when it is cancelled, or cannot be stopped in time."""
        service_id = operation.service
        stop = Step("stop", lambda: self.provision.stop(service_id), deadline=STOP_DEADLINE)
        ran = (operation.private or {}).get("desired") != "stopped"
        return [stop._replace(undo=lambda: self.try_again(service_id, start=True)) if ran else stop]


class Restart(LifecycleOperation):
    name: ClassVar[str] = "restart"
    container_action = "stop, start"
    downtime = "until the server is up again, a few seconds"
    effect = "does not reach {} until it is up again"
    desired = "running"

    def steps(self, operation: OperationRecord) -> list[Step]:
        """What can be found wrong without stopping the server is found before."""
        service_id = operation.service
        stop = Step("stop", lambda: self.provision.stop(service_id), deadline=STOP_DEADLINE)
        start = (operation.private or {}).get("desired") != "stopped"
        image, volume, *rest = self._serve_steps(operation)
        return [
            image,
            volume,
            stop._replace(undo=lambda: self.try_again(service_id, start=start)),
            *rest,
        ]
