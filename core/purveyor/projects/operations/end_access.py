"""End the accounts that outlived their link, once the app that used them is gone, and what
rotations replaced, in its time."""

from collections.abc import Awaitable, Callable
from typing import ClassVar

import msgspec

from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType, Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.projects import bindings
from purveyor.projects import store as projects
from purveyor.projects.bindings import Binder
from purveyor.projects.models import BindingRecord
from purveyor.projects.operations.link import BIND_DEADLINE
from purveyor.services import store as services
from purveyor.services.handle import require_serving
from purveyor.services.operations.base import step_names
from purveyor.services.operations.lifecycle import ServiceArguments
from purveyor_hooks import Conflict, PurveyorError


class EndAccess(OperationType):
    """Of one service: whoever still needs its account keeps it."""

    name: ClassVar[str] = "end-access"
    arguments: ClassVar[type[msgspec.Struct]] = ServiceArguments
    internal: ClassVar[tuple[str, ...]] = ("bindings",)

    def __init__(self, context: Context) -> None:
        self.context = context
        self._binder = context.part(Binder)

    def target(self, tx: Tx, given: ServiceArguments) -> Target:
        return Target(service=services.get(tx, given.service).id)

    def validate_and_record(self, tx: Tx, given: ServiceArguments, actor: str) -> int:
        service = services.get(tx, given.service)
        require_serving(service)
        due = [
            item for item in projects.ending(tx, service_id=service.id) if projects.is_due(tx, item)
        ]
        ended = {item.id for item in due}
        former = [
            item.id
            for item in projects.list_outlived(tx, service_id=service.id)
            if item.former_until and item.former_until <= tx.now and item.id not in ended
        ]
        if not due and not former:
            raise Conflict(
                f"No account of {service.name} waits for its end.",
                remedy=f"See: purveyor show {service.slug}",
            )
        shown = {
            "name": service.name,
            "bindings": [item.id for item in due],
            "former": former,
            "projects": sorted({item.project_id for item in due if item.project_id}),
        }
        return operations.insert(tx, self.name, service_id=service.id, actor=actor, arguments=shown)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        held = [projects.binding(tx, number) for number in operation.arguments["bindings"]]
        former = [projects.binding(tx, number) for number in operation.arguments.get("former", [])]
        return Plan(
            verb=self.name,
            subject=operation.arguments["name"],
            steps=step_names(self.steps(operation)),
            resources=[
                *(f"the account of {item.project}/{item.environment}" for item in held if item),
                *(
                    f"the former credentials of {item.project}/{item.environment}"
                    for item in former
                    if item
                ),
            ],
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        held, former = operation.arguments["bindings"], operation.arguments.get("former", [])
        unbind = Step(
            "unbind",
            lambda: self._binder.unbind(held),
            lambda: self._binder.bind(held),
            BIND_DEADLINE,
        )
        # what it has ended stays ended
        retire = Step("retire", lambda: self._binder.retire(former), deadline=BIND_DEADLINE)
        return [unbind, retire] if former else [unbind]

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        for number in operation.arguments["projects"]:
            bindings.revoke_unused(tx, self.context, number)


def end_of_environment(
    context: Context, operation: OperationRecord, environment_id: int
) -> Callable[[], Awaitable[None]]:
    """The step of a deploy that ends what its environment is not linked to any more, on the
    services that it has locked. What cannot be ended now is left to the sweep, and fails no
    deploy."""
    locked = {number for kind, number in operation.locks or [] if kind == "service"}
    binder = context.part(Binder)

    def look(tx: Tx) -> list[BindingRecord]:
        found = projects.ending(tx, environment_id=environment_id)
        return [item for item in found if item.service_id in locked and projects.is_due(tx, item)]

    async def work() -> None:
        due = await context.store.read(look)
        for item in due:
            try:
                await binder.unbind([item.id])
            except PurveyorError as error:
                context.logger.warning("deploy.accounts", binding=item.id, error=error.detail)
        if due:
            await context.store.write(
                lambda tx: bindings.revoke_unused(tx, context, operation.project_id or 0)
            )

    return work
