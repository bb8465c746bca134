"""Give a service's administrator new credentials; no app has them, so none notices more than a
restart."""

from collections.abc import Mapping
from typing import Any, ClassVar

from purveyor.kernel import naming
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer
from purveyor.services import store as services
from purveyor.services.above import Links
from purveyor.services.handle import handle_of, require_serving
from purveyor.services.operations.base import (
    STOP_DEADLINE,
    ServiceOperation,
    require_active,
    require_own,
    step_names,
)
from purveyor.services.operations.lifecycle import ServiceArguments
from purveyor_hooks import BadInput


class RotateAdministrator(ServiceOperation):
    """The new ones are recorded before they are set. The container is made anew with them, so that
    it never holds old ones."""

    name: ClassVar[str] = "rotate-administrator"
    arguments = ServiceArguments

    def target(self, tx: Tx, given: ServiceArguments) -> Target:
        number = services.get(tx, given.service).id
        # a backup logs in with what is renewed here
        return Target(service=number, also=(("backup", number),))

    def validate_and_record(self, tx: Tx, given: ServiceArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        require_active(record)
        require_own(record)
        require_serving(record)
        server = handle_of(self.context, record)
        server.require("rotate_administrator", "new credentials for its administrator")
        secret = [item for item in server.kind.parameters if item.secret and item.generated]
        if not secret:
            raise BadInput(
                f"The administrator of {record.name} has no credentials.",
                errors={"service": "nothing to renew"},
            )
        old = {item.name: record.parameters[item.name] for item in secret}
        private = {"old": old, "new": {item.name: naming.password(item.length) for item in secret}}
        shown = {"name": record.name, "parameters": sorted(old)}
        return operations.insert(
            tx, self.name, service_id=record.id, actor=actor, arguments=shown, private=private
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        record = services.get(tx, operation.service)
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=step_names(self.steps(operation)),
            containers=[
                PlannedContainer(name=record.container_name, action="replace", image=record.image)
            ],
            resources=[
                f"new {name} of the administrator" for name in operation.arguments["parameters"]
            ],
            apps=self.context.part(Links).apps(
                tx, record, f"does not reach {record.name} until it is up again"
            ),
            downtime="while the container is replaced, a few seconds",
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id, private = operation.service, operation.private or {}
        serve = Step(
            "serve",
            lambda: self._serve(service_id),
            deadline=self.context.settings.ready_timeout + STOP_DEADLINE,
        )
        return [
            Step(
                "rotate",
                lambda: self._swap_credentials(service_id, private["old"], private["new"]),
                undo=lambda: self._restore_credentials(service_id, private),
            ),
            self.container_step(service_id),
            serve,
        ]

    async def _swap_credentials(
        self, service_id: int, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        record = await self.context.store.read(lambda tx: services.get(tx, service_id))
        was, server = (
            handle_of(self.context, record).but(parameters={**record.parameters, **values})
            for values in (before, after)
        )
        await server.rotate_administrator(was.view)
        parameters = {**record.parameters, **after}
        await self.context.store.write(
            lambda tx: services.update(tx, service_id, parameters=parameters)
        )

    async def _restore_credentials(self, service_id: int, private: Mapping[str, Any]) -> None:
        """The old credentials, on a server that may be down for what went wrong, and may have
        either."""
        record = await self.context.store.read(lambda tx: services.get(tx, service_id))
        await self.provision.container(service_id)
        await self.provision.start(service_id)
        await self.provision.answers(
            record, [{**record.parameters, **private[name]} for name in ("new", "old")]
        )
        await self._swap_credentials(service_id, private["new"], private["old"])
        await self.provision.container(service_id)
        await self._serve(service_id)

    async def _serve(self, service_id: int) -> None:
        for step in self.start_steps(service_id):
            await step.do()
