"""What projects and services ask of deployments, answered."""

from typing import Any

import msgspec

from purveyor.deployments import store as deployments
from purveyor.deployments.app_runtime import remove_containers
from purveyor.deployments.models import DeploymentRecord
from purveyor.deployments.operations.repair_app import AppArguments, RepairApp
from purveyor.docker import port_registry
from purveyor.house import House
from purveyor.kernel.db import Tx
from purveyor.projects import store as projects
from purveyor.projects.above import Deployed
from purveyor.projects.models import BindingRecord
from purveyor.services import hold, networks
from purveyor.services.above import App, Apps


class ProjectApps(Deployed, Apps):
    def __init__(self, house: House) -> None:
        self._house = house

    # ---------------------------------------------------------------- of projects

    def users(self, tx: Tx, service_id: int) -> list[tuple[BindingRecord, int]]:
        return [(binding, user.id) for binding, user in deployments.users(tx, service_id)]

    def user_of(self, tx: Tx, binding: BindingRecord) -> int | None:
        user = deployments.user_of(tx, binding)
        return user.id if user is not None else None

    def containers(
        self, tx: Tx, *, project_id: int | None = None, environment_id: int | None = None
    ) -> list[str]:
        chosen = {"project_id": project_id, "environment_id": environment_id}
        active = deployments.deployments(tx, **chosen, state="active")
        return [item.container for item in active if item.container]

    async def remove(
        self, *, project_id: int | None = None, environment_id: int | None = None
    ) -> None:
        given = {"project": project_id, "environment": environment_id}
        chosen = {name: number for name, number in given.items() if number is not None}
        await remove_containers(self._house.engine, **chosen)

    def retire(self, tx: Tx, environment_id: int) -> None:
        for item in deployments.deployments(tx, environment_id=environment_id, state="active"):
            deployments.update_deployment(
                tx, item.id, state="retired", variables=None, ended_at=tx.now
            )
            port_registry.release_ports(tx, deployment=item.id)

    # ---------------------------------------------------------------- of services

    def wanted(self, tx: Tx) -> list[App]:
        if hold.held(tx):  # an app acts on others: it waits for a person's word
            return []
        active = [_wanted(item) for item in deployments.deployments(tx, state="active")]
        return sorted((item for item in active if item), key=lambda item: item.id)

    def find(self, tx: Tx, number: int) -> App | None:
        return _wanted(deployments.deployment(tx, number))

    def current(self, tx: Tx) -> set[int]:
        return deployments.active(tx)

    def network(self, tx: Tx, app: App) -> str:
        environment = projects.environment_by_id(tx, app.environment_id).slug
        project = projects.get(tx, app.project_id).slug
        return networks.name_of(self._house.engine.namespace, project, environment)

    def place(self, tx: Tx, number: int) -> dict[str, Any]:
        record = deployments.deployment(tx, number)
        environment = projects.environment_by_id(tx, record.environment_id).slug
        return {"project": record.project_id, "environment": environment, "deployment": record.id}

    def repair(self, number: int) -> tuple[str, msgspec.Struct]:
        return RepairApp.name, AppArguments(deployment=number)


def _wanted(record: DeploymentRecord) -> App | None:
    """The app of a deployment, if it should run."""
    if record.state != "active" or record.app is None:
        return None
    return App(
        id=record.id,
        project_id=record.project_id,
        environment_id=record.environment_id,
        container=record.container,
    )
