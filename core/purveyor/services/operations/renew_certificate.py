"""Give a service's server another certificate while it runs."""

from typing import ClassVar

from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import store as services
from purveyor.services.handle import require_serving
from purveyor.services.operations.base import require_own, step_names
from purveyor.services.operations.lifecycle import LifecycleOperation, ServiceArguments

DEADLINE = 300.0


class RenewCertificate(LifecycleOperation):
    """Connections that are open go on. What cannot reload shows it from its next start on: it is in
    the container by then."""

    name: ClassVar[str] = "renew-certificate"
    container_action = "reload"

    def validate_and_record(self, tx: Tx, given: ServiceArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        require_own(record)
        require_serving(record)
        return super().validate_and_record(tx, given, actor)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        record = services.get(tx, operation.service)
        return Plan(verb=self.name, subject=record.name, steps=step_names(self.steps(operation)))

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id = operation.service
        return [
            Step(
                "certificate",
                lambda: self.provision.renew_certificate(service_id),
                deadline=DEADLINE,
            )
        ]
