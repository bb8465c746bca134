"""Bring an app back that should run and does not: the container of its active deployment, as it was
recorded."""

from typing import Any, ClassVar

import msgspec

from purveyor.deployments import store as deployment_store
from purveyor.deployments.app_runtime import container_name, scope_of
from purveyor.deployments.operations.deploy import DEPLOY_DEADLINE, Deploy
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer
from purveyor.services.operations.base import STOP_DEADLINE, step_names
from purveyor_hooks import Conflict, Scope


class AppArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`deployment` is the number of the active one."""

    deployment: int


class RepairApp(Deploy):
    """A container that is there is started, renamed, connected as need be; one that was removed is
    made anew, with the variables of today."""

    name: ClassVar[str] = "repair-app"
    subject: ClassVar[str] = "app"
    arguments: ClassVar[type[msgspec.Struct]] = AppArguments

    def target(self, tx: Tx, given: Any) -> Target:
        return Target(project=deployment_store.deployment(tx, given.deployment).project_id)

    def validate_and_record(self, tx: Tx, given: Any, actor: str) -> int:
        record = deployment_store.deployment(tx, given.deployment)
        if record.state != "active" or record.app is None:
            raise Conflict(f"Deployment {record.id} is {record.state}, and not to be repaired.")
        scope = scope_of(tx, record)
        shown = {
            "project": scope.project,
            "environment": scope.environment,
            "environment_id": record.environment_id,
            "deployment": record.id,
        }
        return operations.insert(
            tx, self.name, project_id=record.project_id, actor=actor, arguments=shown
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        scope = Scope(
            project=operation.arguments["project"], environment=operation.arguments["environment"]
        )
        name = container_name(self.context.engine, scope, operation.arguments["deployment"])
        return Plan(
            verb=self.name,
            subject=f"{scope.project}/{scope.environment}",
            steps=step_names(self.steps(operation)),
            containers=[PlannedContainer(name=name, action="create if missing, start")],
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        return [
            Step("container", lambda: self._container(operation), deadline=STOP_DEADLINE),
            Step("app", lambda: self._app(operation), deadline=DEPLOY_DEADLINE),
            Step("name", lambda: self._name(operation)),
        ]

    async def _container(self, operation: OperationRecord) -> None:
        await self._runtime(operation).bring_back(operation.arguments["deployment"])

    async def _app(self, operation: OperationRecord) -> None:
        """Only when its container is gone: else it would be made anew for every variable that has
        changed since."""
        if await self._runtime(operation).has(operation.arguments["deployment"]):
            return
        record = await self.context.store.read(
            lambda tx: deployment_store.deployment(tx, operation.arguments["deployment"])
        )
        if record.variables is None:
            scope = f"{operation.arguments['project']} -e {operation.arguments['environment']}"
            raise Conflict(
                "Its container was removed, and the variables that were given to it are not "
                "recorded.",
                remedy=f"Deploy it again: purveyor deploy {scope} IMAGE",
            )
        await self._deploy(operation)

    async def _name(self, operation: OperationRecord) -> None:
        await self._runtime(operation).name(
            Scope(
                project=operation.arguments["project"],
                environment=operation.arguments["environment"],
            ),
            operation.arguments["deployment"],
        )

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        """Nothing is recorded: the deployment was active, and is."""

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        """The deployment stays what it is, and whoever watches tries again."""
