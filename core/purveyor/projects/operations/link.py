"""Link and unlink: a project's use of a service."""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType, Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord, Outcome
from purveyor.projects import bindings
from purveyor.projects import store as projects
from purveyor.projects.above import Deployed
from purveyor.projects.bindings import Binder
from purveyor.projects.models import BindingRecord, ProjectRecord
from purveyor.projects.naming import Extras
from purveyor.projects.operations.projects import PRODUCTION
from purveyor.services import store as services
from purveyor.services.handle import PLACEHOLDER, handle_of, require_serving
from purveyor.services.models import ServiceRecord
from purveyor.services.operations.base import step_names
from purveyor_hooks import BadInput, Conflict, Finding, NotFound

BIND_DEADLINE = 300.0


class UseArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` and `project` are ids or names."""

    service: str
    project: str


class LinkArguments(UseArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each of `extra_databases` is the name of one more database for every environment, which the
    same account reaches. A project that is linked already gets those that it does not have."""

    extra_databases: Extras = ()


class UnlinkArguments(UseArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account that an active deployment uses ends with the next one, or `now`.

    `purge` drops the project's data on the service, now; `force` unlinks although the service does
    not serve, which leaves the accounts as they are until it does.
    """

    purge: bool = False
    force: bool = False
    now: bool = False


class LinkOperation(OperationType):
    """An operation on one project's use of one service."""

    arguments: ClassVar[type[msgspec.Struct]] = UseArguments
    internal: ClassVar[tuple[str, ...]] = ("bindings",)

    def __init__(self, context: Context) -> None:
        self.context = context
        self.binder = context.part(Binder)

    def target(self, tx: Tx, given: UseArguments) -> Target:
        return Target(
            service=services.get(tx, given.service).id, project=projects.get(tx, given.project).id
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        service = services.get(tx, operation.service)
        server = handle_of(self.context, service)
        held = [projects.binding(tx, number) for number in operation.arguments["bindings"]]
        # names alone are wanted: where the API is does not matter
        views = [
            msgspec.structs.replace(record.view(), api=PLACEHOLDER) for record in held if record
        ]
        names = {variable.name for view in views for variable in server.environment(view)}
        return Plan(
            verb=self.name,
            subject=f"{service.name} and {operation.arguments['project']}",
            steps=step_names(list(self.steps(operation))),
            resources=[name for view in views for name in (view.resource, *view.extras.values())],
            variables=sorted(names),
            warnings=server.notes() if self.name == "link" else [],
        )


class Link(LinkOperation):
    name: ClassVar[str] = "link"
    arguments = LinkArguments

    def validate_and_record(self, tx: Tx, given: UseArguments, actor: str) -> int:
        assert isinstance(given, LinkArguments)
        service, project = services.get(tx, given.service), projects.get(tx, given.project)
        require_serving(service)
        wanted = self._wanted(service, given)
        if wanted and projects.find_link(tx, service.id, project.id) is not None:
            return self._more(tx, service, project, wanted, actor)
        for link in projects.links(tx, project_id=project.id):
            if link.service_id == service.id:
                raise Conflict(f"{service.name} is linked to {project.slug} already.")
            if link.service_type == service.service_type:
                other = services.get(tx, link.service_id)
                raise Conflict(
                    f"{project.slug} has a {service.service_type} already: {other.name}.",
                    remedy=f"Unlink it first: purveyor unlink {other.slug} {project.slug}",
                )
        projects.insert_link(
            tx, service_id=service.id, project_id=project.id, service_type=service.service_type
        )
        environment = projects.find_environment(tx, project.id, PRODUCTION)
        chosen = []
        before = None
        if environment is not None:
            before = projects.taken_up(tx, service.id, project, environment)
            record = bindings.record_intent(tx, self.context, service, project, environment)
            chosen.append(bindings.with_extras(tx, self.context, service, record, wanted).id)
        elif wanted:
            raise Conflict(
                f"{project.slug} has no environment {PRODUCTION}, which further databases begin "
                "with.",
                remedy=f"Make it: purveyor project add-environment {project.slug} {PRODUCTION}",
            )
        shown = {
            "service": service.name,
            "project": project.slug,
            "bindings": chosen,
            "known": before is not None,
            "bound": before is not None and before.state == "bound",
        }
        number = operations.insert(
            tx,
            self.name,
            service_id=service.id,
            project_id=project.id,
            actor=actor,
            arguments=shown,
        )
        if before is None and (others := projects.awaiting(tx, service.id)):
            operations.note_outcome(
                tx, number, Outcome(findings=(_beside(service, project, others),))
            )
        return number

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        found = operation.outcome.findings if operation.outcome else ()
        plan = super().plan(tx, operation)
        return msgspec.structs.replace(plan, warnings=[*plan.warnings, *map(str, found)])

    def _wanted(self, service: ServiceRecord, given: LinkArguments) -> set[str]:
        if (
            given.extra_databases
            and not self.context.registry.kind(service.service_type).extra_resources
        ):
            raise BadInput(
                f"The service type {service.service_type!r} makes one resource for each "
                "environment.",
                errors={"extra_databases": "leave it out"},
            )
        return set(given.extra_databases)

    def _more(
        self, tx: Tx, service: ServiceRecord, project: ProjectRecord, wanted: set[str], actor: str
    ) -> int:
        """Further databases for a project that is linked: for each environment that has its
        account."""
        held = [
            item
            for item in projects.bindings(tx, service_id=service.id, project_id=project.id)
            if item.state == "bound"
        ]
        lacking = [item for item in held if wanted - set(item.extras)]
        if not lacking:
            raise Conflict(
                f"{service.name} is linked to {project.slug} already, with "
                f"{', '.join(sorted(wanted))}."
            )
        before = {str(item.id): item.extras for item in lacking}
        chosen = [
            bindings.with_extras(tx, self.context, service, item, wanted).id for item in lacking
        ]
        shown = {
            "service": service.name,
            "project": project.slug,
            "bindings": chosen,
            "known": True,
            "bound": True,
            "extras": before,
        }
        return operations.insert(
            tx,
            self.name,
            service_id=service.id,
            project_id=project.id,
            actor=actor,
            arguments=shown,
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        chosen = operation.arguments["bindings"]
        # what a failed first link began is empty and nobody's; what was there before is somebody's
        # data
        take_back = self.binder.unbind if operation.arguments["known"] else self.binder.purge
        step = Step(
            "bind",
            lambda: self.binder.bind(chosen),
            undo=lambda: take_back(chosen),
            deadline=BIND_DEADLINE,
        )
        # an app still uses that account
        return [step._replace(undo=None) if operation.arguments.get("bound") else step]

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        link = projects.find_link(tx, operation.service, operation.project_id or 0)
        if link:
            projects.update_link(tx, link.id, "linked")
            for item in projects.bindings(
                tx, service_id=link.service_id, project_id=link.project_id
            ):
                projects.update_binding(tx, item.id, ends_after=0)

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        # it was linked before; an empty database may be left, and is found again by its name
        if "extras" in operation.arguments:
            for number, extras in operation.arguments["extras"].items():
                projects.update_binding(tx, int(number), extras=extras)
            return
        link = projects.find_link(tx, operation.service, operation.project_id or 0)
        if link:
            projects.delete_link(tx, link.id)
        for number in operation.arguments["bindings"]:
            if operation.arguments.get("bound"):
                continue
            if operation.arguments["known"]:
                projects.update_binding(tx, number, state="unbound")
            else:
                projects.delete_binding(tx, number)


def _beside(
    service: ServiceRecord, project: ProjectRecord, others: Sequence[BindingRecord]
) -> Finding:
    """A project that gets nothing of what was restored has to hear of it: it may be the same one,
    under another name."""
    told = ", ".join(f"{item.resource} (of {item.project}/{item.environment})" for item in others)
    why = f"{service.name} holds restored data that waits for a project of its name: {told}"
    return Finding(where=project.slug, what="gets an empty one", why=why, notice=True)


class Unlink(LinkOperation):
    """The next deploy gets no variables of the service. An account that an app runs with ends with
    that deploy: until then it has no link, stays bound, and a new link takes it up again, password
    included."""

    name: ClassVar[str] = "unlink"
    arguments = UnlinkArguments
    internal: ClassVar[tuple[str, ...]] = ("bindings", "later")

    def validate_and_record(self, tx: Tx, given: UseArguments, actor: str) -> int:
        assert isinstance(given, UnlinkArguments)
        service, project = services.get(tx, given.service), projects.get(tx, given.project)
        link = projects.find_link(tx, service.id, project.id)
        held = projects.bindings(tx, service_id=service.id, project_id=project.id)
        self._check(tx, given, service, project)
        deployed = self.context.part(Deployed)
        users = {item.id: user for item in held if (user := deployed.user_of(tx, item)) is not None}
        later = []
        if not given.now and not given.purge:
            later = [
                item for item in held if item.state == "bound" and (given.force or item.id in users)
            ]
        chosen = [item for item in held if item not in later]
        if not given.force and (chosen or not later):
            try:
                require_serving(service)
            except Conflict as error:
                error.remedy += ", or unlink without ending the accounts: --force"
                raise
        if link is not None:
            projects.update_link(tx, link.id, "unlinking")
        shown = {
            "service": service.name,
            "project": project.slug,
            "bindings": [item.id for item in chosen],
            "bound": [item.id for item in chosen if item.state == "bound"],
            "later": [[item.id, users.get(item.id, 0)] for item in later],
            "until": [f"{item.project}/{item.environment}" for item in later if item.id in users],
            "purge": given.purge,
            "force": given.force,
        }
        return operations.insert(
            tx,
            self.name,
            service_id=service.id,
            project_id=project.id,
            actor=actor,
            arguments=shown,
        )

    def _check(
        self, tx: Tx, given: UnlinkArguments, service: ServiceRecord, project: ProjectRecord
    ) -> None:
        if given.force and (given.purge or given.now):
            raise BadInput("force excludes purge and now: those are done by a server that serves.")
        if projects.find_link(tx, service.id, project.id) is not None:
            return
        if not projects.ending(tx, service_id=service.id, project_id=project.id):
            raise NotFound(f"{service.name} is not linked to {project.slug}.")
        if not given.now and not given.purge:
            raise NotFound(
                f"{service.name} is not linked to {project.slug} any more; an app has its account "
                "until the next deploy.",
                remedy=f"End it now: purveyor unlink {service.slug} {project.slug} --now",
            )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        plan = super().plan(tx, operation)
        service, given = services.get(tx, operation.service), operation.arguments
        project = projects.get(tx, operation.project_id or 0)
        held = {
            item.id: item.environment_id
            for item in projects.bindings(tx, service_id=service.id, project_id=project.id)
        }
        ended = {held[number] or 0 for number in given["bindings"] if number in held}
        kept = {held[number] or 0 for number, _ in given["later"]}
        lost = bindings.apps(tx, self.context, service, f"loses {service.name} at once", ended)
        waits = bindings.apps(
            tx,
            self.context,
            service,
            f"keeps its account on {service.name} until its next deploy",
            kept,
        )
        warnings = []
        if waits:
            how = f"purveyor unlink {service.slug} {project.slug} --now"
            warnings.append(f"An account that is used ends with the next deploy; now with: {how}")
        if given["purge"] and held:
            warnings.append(f"The data of {project.slug} on {service.name} is deleted.")
        downtime = (
            f"of the apps named, until they are deployed without {service.name}" if lost else "none"
        )
        return msgspec.structs.replace(
            plan, apps=[*lost, *waits], downtime=downtime, warnings=warnings
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        chosen = operation.arguments["bindings"]
        if operation.arguments["force"] or not chosen:
            return []
        if operation.arguments["purge"]:  # what a purge has begun cannot be had back
            return [
                Step("purge", lambda: self.binder.purge(chosen), deadline=BIND_DEADLINE, final=True)
            ]
        bound = operation.arguments.get("bound", [])
        return [
            Step(
                "unbind",
                lambda: self.binder.unbind(chosen),
                lambda: self.binder.bind(bound),
                BIND_DEADLINE,
            )
        ]

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        link = projects.find_link(tx, operation.service, operation.project_id or 0)
        if link:
            projects.delete_link(tx, link.id)
        for number, deployment in operation.arguments.get("later", []):
            projects.update_binding(tx, number, ends_after=deployment or projects.NOBODY)
        if operation.arguments["force"]:
            for number in operation.arguments["bindings"]:
                projects.update_binding(tx, number, state="unbound")
        bindings.revoke_unused(tx, self.context, operation.project_id or 0)

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        link = projects.find_link(tx, operation.service, operation.project_id or 0)
        if link:
            projects.update_link(tx, link.id, "linked")
