"""Delete an environment: a preview that is over."""

from typing import ClassVar

import msgspec

from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType, Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer
from purveyor.projects import store as projects
from purveyor.projects.above import Deployed
from purveyor.projects.bindings import Binder
from purveyor.projects.models import BindingRecord
from purveyor.projects.operations.link import BIND_DEADLINE
from purveyor.projects.operations.projects import PRODUCTION
from purveyor.services import store as services
from purveyor.services.handle import require_serving
from purveyor.services.networks import Networks
from purveyor.services.operations.base import STOP_DEADLINE, step_names
from purveyor_hooks import BadInput, NotFound


class EnvironmentArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`project` is an id or slug; `purge` drops the environment's data in all services."""

    project: str
    environment: str
    purge: bool = False


class DeleteEnvironment(OperationType):
    name: ClassVar[str] = "delete-environment"
    subject: ClassVar[str] = "project"
    arguments = EnvironmentArguments
    internal: ClassVar[tuple[str, ...]] = ("bindings",)

    def __init__(self, context: Context) -> None:
        self.context = context
        self._binder = context.part(Binder)

    def target(self, tx: Tx, given: EnvironmentArguments) -> Target:
        project = projects.get(tx, given.project)
        linked = [link.service_id for link in projects.links(tx, project_id=project.id)]
        ending = [item.service_id for item in projects.ending(tx, project_id=project.id)]
        return Target(project=project.id, services=(*linked, *ending))

    def _bindings(self, tx: Tx, environment_id: int) -> list[BindingRecord]:
        found = (
            projects.binding_of(tx, service.id, environment_id) for service in services.list_all(tx)
        )
        return [record for record in found if record]

    def validate_and_record(self, tx: Tx, given: EnvironmentArguments, actor: str) -> int:
        project = projects.get(tx, given.project)
        environment = projects.find_environment(tx, project.id, given.environment)
        if environment is None:
            raise NotFound(f"{project.slug} has no environment {given.environment!r}.")
        if environment.slug == PRODUCTION:
            remedy = f"Delete the project instead: purveyor project delete {project.slug}"
            raise BadInput(
                "The production environment stays while its project does.", remedy=remedy
            )
        held = self._bindings(tx, environment.id)
        for record in held:
            require_serving(services.get(tx, record.service_id))
        shown = {
            "project": project.slug,
            "environment": environment.slug,
            "environment_id": environment.id,
            "bindings": [record.id for record in held],
            "bound": [record.id for record in held if record.state == "bound"],
            "purge": given.purge,
        }
        return operations.insert(tx, self.name, project_id=project.id, actor=actor, arguments=shown)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        environment_id = operation.arguments["environment_id"]
        containers = self.context.part(Deployed).containers(tx, environment_id=environment_id)
        held = self._bindings(tx, environment_id)
        return Plan(
            verb=self.name,
            subject=f"{operation.arguments['project']}/{operation.arguments['environment']}",
            steps=step_names(self.steps(operation)),
            containers=[PlannedContainer(name=name, action="remove") for name in containers],
            resources=[record.resource for record in held],
            downtime="permanent",
            warnings=["The data of these resources is deleted."]
            if operation.arguments["purge"] and held
            else [],
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        environment_id, held = (
            operation.arguments["environment_id"],
            operation.arguments["bindings"],
        )

        async def remove() -> None:
            deployed = self.context.part(Deployed)
            await deployed.remove(environment_id=environment_id)
            await self.context.store.write(lambda tx: deployed.retire(tx, environment_id))
            await self.context.part(Networks).drop(environment_id)

        # an app that is gone is not brought back
        containers = Step("containers", remove, deadline=STOP_DEADLINE, final=True)
        if operation.arguments["purge"]:  # what a purge has begun cannot be had back
            return [
                containers,
                Step("bindings", lambda: self._binder.purge(held), deadline=BIND_DEADLINE),
            ]
        bound = operation.arguments.get("bound", [])
        unbind = Step(
            "bindings",
            lambda: self._binder.unbind(held),
            lambda: self._binder.bind(bound),
            BIND_DEADLINE,
        )
        return [containers, unbind]

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        projects.delete_environment(tx, operation.arguments["environment_id"])
