"""Bind an environment: its resources and accounts on every service that its project is linked
to."""

from typing import Any, ClassVar

import msgspec

from purveyor.context import Context
from purveyor.docker import names
from purveyor.kernel import naming
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType, Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.projects import bindings, variables
from purveyor.projects import store as projects
from purveyor.projects.bindings import Binder
from purveyor.projects.models import EnvironmentRecord, ProjectRecord
from purveyor.projects.operations.link import BIND_DEADLINE
from purveyor.projects.operations.projects import PRODUCTION
from purveyor.services import store as services
from purveyor.services.handle import require_serving
from purveyor.services.operations.base import step_names


class BindArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`project` is an id or slug; the environment is made when there is none of that name."""

    project: str
    environment: str = PRODUCTION


def environment_for(
    tx: Tx, context: Context, project: ProjectRecord, given: str
) -> EnvironmentRecord:
    """The project's environment of this name, made now if there is none. Raises `BadInput`, and
    `Conflict` where its app would answer by another's name."""
    slug = naming.slug_of(given, "environment")
    found = projects.find_environment(tx, project.id, slug)
    if found is None:
        names.require_app(tx, context.engine.namespace, project.slug, slug)
        found = projects.environment_by_id(tx, projects.insert_environment(tx, project.id, slug))
    return found


def record_missing(
    tx: Tx, context: Context, project: ProjectRecord, environment: EnvironmentRecord
) -> tuple[list[int], list[int]]:
    """Choose bindings for all linked services: those that are not made yet, and which of these are
    new. A token that an environment lacks is made now; for that alone no account is touched, which
    an app may be using."""
    missing, new = [], []
    for link in projects.links(tx, project_id=project.id):
        service = services.get(tx, link.service_id)
        before = projects.taken_up(tx, service.id, project, environment)
        if variables.ready(tx, context, service, environment.id):
            continue
        bound = before is not None and before.state == "bound"
        if not bound:
            require_serving(service)
        number = bindings.record_intent(tx, context, service, project, environment).id
        if bound:
            continue
        missing.append(number)
        if before is None:
            new.append(number)
    return missing, new


class BindingSteps:
    """The step that makes what `record_missing` chose, for operations that need an environment's
    variables."""

    INTERNAL = ("bindings", "new_bindings")

    def __init__(self, context: Context) -> None:
        self._binder = context.part(Binder)

    def step(self, operation: OperationRecord) -> Step:
        missing, new = operation.arguments["bindings"], operation.arguments["new_bindings"]

        async def undo() -> None:
            await self._binder.purge(new)
            await self._binder.unbind([number for number in missing if number not in new])

        return Step("bind", lambda: self._binder.bind(missing), undo=undo, deadline=BIND_DEADLINE)

    @staticmethod
    def forget(tx: Tx, operation: OperationRecord) -> None:
        """After undoing: new bindings are gone, older ones unbound as before."""
        for number in operation.arguments["bindings"]:
            if number in operation.arguments["new_bindings"]:
                projects.delete_binding(tx, number)
            else:
                projects.update_binding(tx, number, state="unbound")


class Bind(OperationType):
    name: ClassVar[str] = "bind"
    subject: ClassVar[str] = "project"
    arguments = BindArguments
    internal: ClassVar[tuple[str, ...]] = BindingSteps.INTERNAL

    def __init__(self, context: Context) -> None:
        self.context = context
        self._binding = BindingSteps(context)

    def target(self, tx: Tx, given: BindArguments) -> Target:
        project = projects.get(tx, given.project)
        linked = tuple(link.service_id for link in projects.links(tx, project_id=project.id))
        return Target(project=project.id, services=linked)

    def validate_and_record(self, tx: Tx, given: BindArguments, actor: str) -> int:
        project = projects.get(tx, given.project)
        environment = environment_for(tx, self.context, project, given.environment)
        missing, new = record_missing(tx, self.context, project, environment)
        shown = {
            "project": project.slug,
            "environment": environment.slug,
            "bindings": missing,
            "new_bindings": new,
        }
        return operations.insert(tx, self.name, project_id=project.id, actor=actor, arguments=shown)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        held = [projects.binding(tx, number) for number in operation.arguments["bindings"]]
        return Plan(
            verb=self.name,
            subject=f"{operation.arguments['project']}/{operation.arguments['environment']}",
            steps=step_names(self.steps(operation)),
            resources=[record.resource for record in held if record],
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        return [self._binding.step(operation)]

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        self._binding.forget(tx, operation)
