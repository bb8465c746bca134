"""Bring a deleted service back, on the volume that was kept."""

from typing import Any, ClassVar

import msgspec

from purveyor.docker import names, port_registry, ports
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import store as services
from purveyor.services.models import ServiceRecord
from purveyor.services.operations.base import STOP_DEADLINE, ServiceOperation
from purveyor_hooks import Conflict


class UndeleteArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` is the name or id that it had."""

    service: str


class Undelete(ServiceOperation):
    name: ClassVar[str] = "undelete"
    arguments = UndeleteArguments

    def validate_and_record(self, tx: Tx, given: UndeleteArguments, actor: str) -> int:
        record = services.get_deleted(tx, given.service)
        if services.find(tx, record.slug):
            raise Conflict(
                f"There is another service named {record.slug} now.",
                remedy="Delete it first, or give the id of the one you mean.",
            )
        names.require_service(tx, record.slug, record.container_name)
        kind = self.context.registry.kind(record.service_type)
        operation_id = operations.insert(
            tx,
            self.name,
            service_id=record.id,
            actor=actor,
            arguments={"name": record.name},
            private={"parameters": record.parameters},
        )
        values = dict(record.parameters)
        for item in kind.parameters:
            if item.generated == "port":
                taken = port_registry.ports_taken(tx)
                wanted = int(values[item.name])
                values[item.name] = (
                    wanted
                    if wanted not in taken and ports.is_free(wanted)
                    else ports.lowest_free(wanted, taken)
                )
                port_registry.claim_port(tx, values[item.name], item.name, service=record.id)
        services.update(
            tx, record.id, state="creating", desired="running", refusal="", parameters=values
        )
        services.update_volume(tx, record.volume_id or "", state="used")
        return operation_id

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        return self.plan_of_new(tx, operation, "use again,")

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id = operation.service
        container = self.container_step(service_id)._replace(
            undo=lambda: self.provision.remove_container(service_id), deadline=STOP_DEADLINE
        )
        volume = self.volume_step(service_id)._replace(undo=lambda: self.forget_volume(service_id))
        return [
            self.image_step(operation, service_id),
            volume,
            container,
            *self.start_steps(service_id),
        ]

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        record = self._record(tx, operation)
        services.update(tx, record.id, state="active")

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        record = self._record(tx, operation)
        port_registry.release_ports(tx, service=record.id)
        services.update_volume(tx, record.volume_id or "", state="kept")
        services.update(
            tx, record.id, state="deleted", desired="stopped", **(operation.private or {})
        )

    def _record(self, tx: Tx, operation: OperationRecord) -> ServiceRecord:
        return services.get(tx, operation.service)
