"""Delete a service: the container goes, the volume is kept unless its purge is asked for."""

from typing import ClassVar

import msgspec

from purveyor.docker import port_registry
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer, PlannedVolume
from purveyor.services import document_store
from purveyor.services import store as services
from purveyor.services.above import Archiving, Links
from purveyor.services.models import ServiceRecord
from purveyor.services.operations.base import (
    STOP_DEADLINE,
    ServiceOperation,
    require_active,
    step_names,
)
from purveyor_hooks import BadInput

PURGE_DEADLINE = 3600.0


class DeleteArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` is an id or a name; `purge` deletes the data too."""

    service: str
    purge: bool = False


class Delete(ServiceOperation):
    name: ClassVar[str] = "delete"
    arguments = DeleteArguments

    def target(self, tx: Tx, given: DeleteArguments) -> Target:
        return Target(service=services.get(tx, given.service).id)

    def validate_and_record(self, tx: Tx, given: DeleteArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        if not _left_over(tx, record):
            require_active(record)
        if record.imported and given.purge:
            why = f"{record.name} was imported, and its data is its owner's"
            raise BadInput(
                f"Nothing was deleted: {why}.", remedy="Leave --purge out.", errors={"purge": why}
            )
        self.context.part(Links).require_unlinked(tx, record)
        services.update(tx, record.id, state="deleting", desired="stopped")
        shown = {"name": record.name, "purge": given.purge}
        before = {"desired": record.desired, "state": record.state}
        return operations.insert(
            tx, self.name, service_id=record.id, actor=actor, arguments=shown, private=before
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        record = services.get(tx, operation.service)
        if record.imported:
            return self._plan_release(record, operation)
        volume = services.volume(tx, record.volume_id or "")
        purge = operation.arguments["purge"]
        links = self.context.part(Links)
        held = links.resources(tx, record.id)
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=step_names(self.steps(operation)),
            containers=[PlannedContainer(name=record.container_name, action="remove")],
            volumes=[
                PlannedVolume(
                    name=volume.name,
                    action="DELETE WITH ALL DATA" if purge else f"keep in {volume.path}",
                )
            ],
            resources=held,
            apps=links.apps(tx, record, f"loses {record.name} permanently"),
            downtime="permanent",
            warnings=[
                f"The data of {len(held)} projects' environments goes with it: {', '.join(held)}."
            ]
            if purge and held
            else [],
        )

    def _plan_release(self, record: ServiceRecord, operation: OperationRecord) -> Plan:
        action = "leave as it was, running; taken from our network"
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=step_names(self.steps(operation)),
            containers=[PlannedContainer(name=record.container_name, action=action)],
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id = operation.service
        start = (operation.private or {}).get("desired") == "running"
        helper = Step("helper", lambda: self._end_archive(service_id), deadline=STOP_DEADLINE)
        container = Step(
            "container", lambda: self.provision.remove_container(service_id), deadline=STOP_DEADLINE
        )
        if operation.arguments["purge"]:  # what a purge has begun cannot be had back
            return [
                helper,
                container,
                Step("purge", lambda: self._purge(service_id), deadline=PURGE_DEADLINE, final=True),
            ]
        container = container._replace(undo=lambda: self.try_again(service_id, start=start))
        return [helper, container, Step("volume", lambda: self.forget_volume(service_id))]

    async def _end_archive(self, service_id: int) -> None:
        """Nothing more is written down; what was, stays."""
        record = await self.context.store.read(lambda tx: services.get(tx, service_id))
        await self.context.part(Archiving).end(record)

    async def _purge(self, service_id: int) -> None:
        record = await self.context.store.read(lambda tx: services.get(tx, service_id))
        volume = await self.context.store.read(
            lambda tx: services.volume(tx, record.volume_id or "")
        )
        await self.context.engine.volumes.destroy(volume.name, volume.path, record.image)

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        record = services.get(tx, operation.service)
        services.update(tx, record.id, state="deleted")
        self.context.part(Archiving).forget(tx, record.id)
        port_registry.release_ports(tx, service=record.id)
        if record.volume_id is None:  # it was imported, and its data is its owner's
            document_store.forget(tx, record.id)
            return
        if operation.arguments["purge"]:
            document_store.forget(tx, record.id)
            services.update_volume(tx, record.volume_id, state="purged", kept_at=tx.now)
        else:
            held = self.context.part(Links).held(tx, record.id)
            facts = {"before": f"delete {operation.id}"}
            services.keep_volume(tx, record.volume_id, record, facts, held)

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, object]) -> None:
        before = {"state": "active", "desired": "running", **(operation.private or {})}
        services.update(tx, operation.service, **before)


def _left_over(tx: Tx, record: ServiceRecord) -> bool:
    """Whether a service is on its way in or out and nobody is at it: its operation was
    abandoned."""
    return record.state in ("creating", "deleting") and operations.of_service(tx, record.id) is None
