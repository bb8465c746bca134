"""Create and delete projects."""

from typing import ClassVar

import msgspec

from purveyor.context import Context
from purveyor.docker import names
from purveyor.kernel import naming
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType, Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer
from purveyor.projects import store as projects
from purveyor.projects.above import Deployed
from purveyor.services import store as services
from purveyor.services.networks import Networks
from purveyor.services.operations.base import STOP_DEADLINE, step_names
from purveyor_hooks import BadInput, Conflict

PRODUCTION = "production"


class CreateProjectArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`slug` is made from the name when it is not given."""

    name: str
    slug: str | None = None


class ProjectArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`project` is an id or slug."""

    project: str


class CreateProject(OperationType):
    name: ClassVar[str] = "create-project"
    subject: ClassVar[str] = "project"
    arguments = CreateProjectArguments

    def __init__(self, context: Context) -> None:
        self.context = context

    def validate_and_record(self, tx: Tx, given: CreateProjectArguments, actor: str) -> int:
        slug = naming.slug_of(given.slug, "slug") if given.slug else naming.slug_of(given.name)
        if projects.find(tx, slug):
            raise Conflict(
                f"There is a project {slug!r} already.",
                remedy="Choose another name.",
                errors={"name": "taken"},
            )
        names.require_project(self.context.engine.namespace, slug)
        names.require_app(tx, self.context.engine.namespace, slug, PRODUCTION)
        project_id = projects.insert(tx, slug=slug, name=given.name.strip())
        projects.insert_environment(tx, project_id, PRODUCTION)
        return operations.insert(
            tx, self.name, project_id=project_id, actor=actor, arguments={"project": slug}
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        return Plan(verb=self.name, subject=operation.arguments["project"], steps=[])

    def steps(self, operation: OperationRecord) -> list[Step]:
        return []


class DeleteProject(OperationType):
    """Its containers go; what it kept in services stays there, listed with the service."""

    name: ClassVar[str] = "delete-project"
    subject: ClassVar[str] = "project"
    arguments = ProjectArguments

    def __init__(self, context: Context) -> None:
        self.context = context

    def target(self, tx: Tx, given: ProjectArguments) -> Target:
        return Target(project=projects.get(tx, given.project).id)

    def validate_and_record(self, tx: Tx, given: ProjectArguments, actor: str) -> int:
        project = projects.get(tx, given.project)
        linked = [
            services.get(tx, link.service_id) for link in projects.links(tx, project_id=project.id)
        ]
        if linked:
            raise BadInput(
                f"{project.slug} is still linked to "
                f"{', '.join(service.name for service in linked)}.",
                remedy="Unlink first: "
                + "; ".join(f"purveyor unlink {item.slug} {project.slug}" for item in linked),
            )
        return operations.insert(
            tx, self.name, project_id=project.id, actor=actor, arguments={"project": project.slug}
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        containers = self.context.part(Deployed).containers(tx, project_id=operation.project_id)
        return Plan(
            verb=self.name,
            subject=operation.arguments["project"],
            steps=step_names(self.steps(operation)),
            containers=[PlannedContainer(name=name, action="remove") for name in containers],
            downtime="permanent",
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        project_id = operation.project_id or 0
        return [
            Step("containers", lambda: self._remove(project_id), deadline=STOP_DEADLINE, final=True)
        ]

    async def _remove(self, project_id: int) -> None:
        await self.context.part(Deployed).remove(project_id=project_id)
        networks = self.context.part(Networks)
        for environment in await self.context.store.read(
            lambda tx: projects.environments(tx, project_id)
        ):
            await networks.drop(environment.id)

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        projects.delete(tx, operation.project_id or 0)
