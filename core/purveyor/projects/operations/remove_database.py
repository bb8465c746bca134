"""Drop one further database of a link, in every environment, with all that is in it."""

from typing import ClassVar

import msgspec

from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.projects import bindings
from purveyor.projects import store as projects
from purveyor.projects.models import BindingRecord
from purveyor.projects.operations.link import BIND_DEADLINE, LinkOperation, UseArguments
from purveyor.services import store as services
from purveyor.services.handle import PLACEHOLDER, handle_of, require_serving
from purveyor.services.operations.base import step_names
from purveyor_hooks import BadInput, NotFound


class RemoveDatabaseArguments(UseArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`database` is the name that it was asked for with: test. What is in it goes with it, so
    `purge` has to be said."""

    database: str
    purge: bool = False


class RemoveDatabase(LinkOperation):
    """The account and all other databases of the project stay as they are."""

    name: ClassVar[str] = "remove-database"
    arguments: ClassVar[type[msgspec.Struct]] = RemoveDatabaseArguments

    def validate_and_record(self, tx: Tx, given: UseArguments, actor: str) -> int:
        assert isinstance(given, RemoveDatabaseArguments)
        service, project = services.get(tx, given.service), projects.get(tx, given.project)
        held = projects.bindings(tx, service_id=service.id, project_id=project.id)
        chosen = [item for item in held if given.database in item.extras]
        if not chosen:
            known = sorted({name for item in held for name in item.extras})
            raise NotFound(
                f"{project.slug} has no further database {given.database!r} on {service.name}.",
                remedy=f"It has: {', '.join(known)}." if known else "It has none there.",
            )
        handle_of(self.context, service).require("purge_extra", "dropping one of several databases")
        require_serving(service)
        resources = [item.extras[given.database] for item in chosen]
        if not given.purge:
            raise BadInput(
                f"All that is in {', '.join(resources)} would be deleted.",
                remedy=(
                    f"Say so: purveyor unlink {service.slug} {project.slug} --extra-database "
                    f"{given.database} --purge (in the API: ?purge=true)"
                ),
                errors={"purge": "has to be said"},
            )
        shown = {
            "service": service.name,
            "project": project.slug,
            "database": given.database,
            "bindings": [item.id for item in chosen],
            "resources": resources,
        }
        return operations.insert(
            tx,
            self.name,
            service_id=service.id,
            project_id=project.id,
            actor=actor,
            arguments=shown,
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        service, given = services.get(tx, operation.service), operation.arguments
        found = (projects.binding(tx, number) for number in given["bindings"])
        held = [item for item in found if item]
        ended = {item.environment_id for item in held if item.environment_id}
        effect = f"loses the database {given['database']} at once"
        lost = bindings.apps(tx, self.context, service, effect, ended)
        resources = ", ".join(given["resources"])
        return Plan(
            verb=self.name,
            subject=f"{service.name} and {given['project']}",
            steps=step_names(self.steps(operation)),
            resources=given["resources"],
            variables=sorted({name for item in held for name in self._lost(tx, item, operation)}),
            apps=lost,
            warnings=[f"All that is in {resources} is deleted."],
        )

    def _lost(self, tx: Tx, held: BindingRecord, operation: OperationRecord) -> set[str]:
        """The variables that the next deploy does not get any more."""
        server = handle_of(self.context, services.get(tx, held.service_id))
        before = msgspec.structs.replace(held.view(), api=PLACEHOLDER)
        after = msgspec.structs.replace(before, extras=_without(held, operation))
        left = {variable.name for variable in server.environment(after)}
        return {variable.name for variable in server.environment(before)} - left

    def steps(self, operation: OperationRecord) -> list[Step]:
        chosen, name = operation.arguments["bindings"], operation.arguments["database"]
        return [  # what a purge has begun cannot be had back
            Step(
                "purge",
                lambda: self.binder.purge_extra(chosen, name),
                deadline=BIND_DEADLINE,
                final=True,
            )
        ]


def _without(held: BindingRecord, operation: OperationRecord) -> dict[str, str]:
    return {
        name: value
        for name, value in held.extras.items()
        if name != operation.arguments["database"]
    }
