"""End the accounts that outlived their link, once the app that used them is gone."""

from collections.abc import Awaitable, Callable
from typing import ClassVar

import msgspec

from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target, Verb
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.parts import House
from purveyor.projects import bindings
from purveyor.projects import store as projects
from purveyor.projects.bindings import Binder
from purveyor.projects.models import BindingRecord
from purveyor.projects.operations.link import BIND_DEADLINE
from purveyor.services import handle
from purveyor.services import store as services
from purveyor.services.operations.base import step_names
from purveyor.services.operations.lifecycle import ServiceArguments
from purveyor.services.provisioning import Provisioner
from purveyor_hooks import Conflict, PurveyorError


class EndAccess(Verb):
    """Of one service: whoever still needs its account keeps it."""

    name: ClassVar[str] = "end-access"
    arguments: ClassVar[type[msgspec.Struct]] = ServiceArguments

    def __init__(self, house: House, provisioner: Provisioner) -> None:
        self.house = house
        self._binder = Binder(house)

    def target(self, tx: Tx, given: ServiceArguments) -> Target:
        return Target(service=services.get(tx, given.service).id)

    def intend(self, tx: Tx, given: ServiceArguments, actor: str) -> int:
        service = services.get(tx, given.service)
        handle.require_serving(service)
        due = [item for item in projects.ending(tx, service_id=service.id) if projects.due(tx, item)]
        if not due:
            raise Conflict(f"No account of {service.name} waits for its end.", remedy=f"See: purveyor show {service.slug}")
        shown = {
            "name": service.name,
            "bindings": [item.id for item in due],
            "projects": sorted({item.project_id for item in due if item.project_id}),
        }
        return operations.insert(tx, self.name, service_id=service.id, actor=actor, arguments=shown)

    def describe(self, tx: Tx, operation: OperationRecord) -> Plan:
        held = [projects.binding(tx, number) for number in operation.arguments["bindings"]]
        return Plan(
            verb=self.name,
            subject=operation.arguments["name"],
            steps=step_names(self.steps(operation)),
            resources=[f"the account of {item.project}/{item.environment}" for item in held if item],
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        held = operation.arguments["bindings"]
        return [Step("unbind", lambda: self._binder.unbind(held), lambda: self._binder.bind(held), BIND_DEADLINE)]

    def succeed(self, tx: Tx, operation: OperationRecord) -> None:
        for number in operation.arguments["projects"]:
            bindings.revoke_unused(tx, self.house, number)


def end_of_environment(house: House, operation: OperationRecord, environment_id: int) -> Callable[[], Awaitable[None]]:
    """The step of a deploy that ends what its environment is not linked to any more, on the services that it has locked. What
    cannot be ended now is left to the sweep, and fails no deploy."""
    locked = {number for kind, number in operation.locks or [] if kind == "service"}
    binder = Binder(house)

    def look(tx: Tx) -> list[BindingRecord]:
        found = projects.ending(tx, environment_id=environment_id)
        return [item for item in found if item.service_id in locked and projects.due(tx, item)]

    async def work() -> None:
        due = await house.store.read(look)
        for item in due:
            try:
                await binder.unbind([item.id])
            except PurveyorError as error:
                house.logger.warning("deploy.accounts", binding=item.id, error=error.detail)
        if due:
            await house.store.write(lambda tx: bindings.revoke_unused(tx, house, operation.project_id or 0))

    return work
