"""What projects ask of deployments, answered."""

from purveyor.context import Context
from purveyor.deployments import store as deployments
from purveyor.deployments.app_runtime import remove_containers
from purveyor.docker import port_registry
from purveyor.kernel.db import Tx
from purveyor.projects.above import Deployed
from purveyor.projects.models import BindingRecord


class ProjectApps(Deployed):
    def __init__(self, context: Context) -> None:
        self._context = context

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
        await remove_containers(self._context.engine, **chosen)

    def retire(self, tx: Tx, environment_id: int) -> None:
        for item in deployments.deployments(tx, environment_id=environment_id, state="active"):
            deployments.update_deployment(
                tx, item.id, state="retired", variables=None, ended_at=tx.now
            )
            port_registry.release_ports(tx, deployment=item.id)
