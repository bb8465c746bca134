"""Give one project's environment new credentials; its next deploy injects them."""

from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar

import msgspec

from purveyor.context import Context
from purveyor.kernel import naming
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType, Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.projects import bindings, tokens
from purveyor.projects import naming as accounts
from purveyor.projects import store as projects
from purveyor.projects.models import BindingRecord
from purveyor.projects.operations.projects import PRODUCTION
from purveyor.services import store as services
from purveyor.services.handle import ServiceHandle, handle_of, require_serving
from purveyor.services.models import ServiceRecord
from purveyor.services.operations.base import step_names
from purveyor_hooks import BadInput, Conflict, NotFound

LONGEST = 7 * 24 * 3600  # seconds of grace


class RotateArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`project` by id or slug; all services that it is linked to, or the one that is named. What is
    replaced goes on working for `grace` seconds, and then ends by itself; without, it ends at
    once."""

    project: str
    environment: str = PRODUCTION
    service: str | None = None
    grace: Annotated[int, msgspec.Meta(ge=0, le=LONGEST)] = 0


class Rotate(OperationType):
    """Each new password is recorded before it is set, so that none is ever lost."""

    name: ClassVar[str] = "rotate"
    subject: ClassVar[str] = "project"
    arguments = RotateArguments
    internal: ClassVar[tuple[str, ...]] = ("bindings",)

    def __init__(self, context: Context) -> None:
        self.context = context

    def target(self, tx: Tx, given: RotateArguments) -> Target:
        project = projects.get(tx, given.project)
        linked = tuple(link.service_id for link in projects.links(tx, project_id=project.id))
        return Target(project=project.id, services=linked)

    def validate_and_record(self, tx: Tx, given: RotateArguments, actor: str) -> int:
        project = projects.get(tx, given.project)
        environment = projects.find_environment(tx, project.id, given.environment)
        if environment is None:
            raise NotFound(f"{project.slug} has no environment {given.environment!r}.")
        chosen = services.get(tx, given.service).id if given.service else None
        private: dict[str, Any] = {}
        of_api: set[str] = set()  # the services whose apps come with the environment's token
        other: set[str] = set()
        for link in projects.links(tx, project_id=project.id):
            service = services.get(tx, link.service_id)
            held = projects.binding_of(tx, service.id, environment.id)
            if held is None or held.state != "bound":
                continue
            uses_api = self.context.registry.kind(service.service_type).uses_api
            if chosen not in (None, service.id):
                other |= {service.name} if uses_api else set()
                continue
            of_api |= {service.name} if uses_api else set()
            require_serving(service)
            server = handle_of(self.context, service)
            server.require("rotate", "new credentials")
            if given.grace:
                _require_room(server, held)
            account = accounts.account(
                server.kind, held.resource, held.account, projects.names_taken(tx, service.id)
            )
            private[str(held.id)] = {
                "new": {"account": account, "password": naming.password()},
                "old": {"account": held.account, "password": held.password},
            }
        if not private:
            raise BadInput(
                f"{project.slug} has no credentials in {given.environment} to renew.",
                remedy=f"See: purveyor env {project.slug} -e {given.environment}",
                errors={"service": "not linked, or nothing bound yet"},
            )
        shown = {
            "project": project.slug,
            "environment": given.environment,
            "bindings": sorted(map(int, private)),
            "accounts": {number: turned["new"]["account"] for number, turned in private.items()},
            "until": (tx.now + timedelta(seconds=given.grace)).isoformat() if given.grace else None,
            "token": sorted(of_api | other) if of_api else [],
        }
        return operations.insert(
            tx, self.name, project_id=project.id, actor=actor, arguments=shown, private=private
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        held = [projects.binding(tx, number) for number in operation.arguments["bindings"]]
        ends = operation.arguments["until"]
        until = at(datetime.fromisoformat(ends)) if ends else ""
        lost = f"at {until}, unless" if until else "until"
        return Plan(
            verb=self.name,
            subject=f"{operation.arguments['project']}/{operation.arguments['environment']}",
            steps=step_names(self.steps(operation)),
            resources=[
                *(
                    self._told(tx, item, operation.arguments["accounts"][str(item.id)])
                    for item in held
                    if item
                ),
                *(
                    [f"new token of the API, for {', '.join(of_api)}"]
                    if (of_api := operation.arguments.get("token"))
                    else []
                ),
            ],
            apps=[
                msgspec.structs.replace(
                    app, effect=f"loses {app.service} {lost} it is deployed again"
                )
                for item in held
                if item and item.environment_id
                for app in bindings.apps(
                    tx, self.context, services.get(tx, item.service_id), "", [item.environment_id]
                )
            ],
            warnings=[
                f"The old credentials, and the sessions that they opened, end at {until}: deploy "
                "the app before."
                if until
                else (
                    "Sessions that the old credentials opened end at once: an app that runs "
                    "needs a deploy."
                )
            ],
        )

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        """The token is replaced when all else is, so that no failure has to bring one back."""
        if not operation.arguments.get("token"):
            return
        held = next(
            item
            for number in operation.arguments["bindings"]
            if (item := projects.binding(tx, number)) and item.environment_id
        )
        ends = operation.arguments["until"]
        tokens.replace_of_environment(
            tx,
            projects.get(tx, operation.project_id or 0),
            projects.environment_by_id(tx, held.environment_id or 0),
            datetime.fromisoformat(ends) if ends else None,
        )

    def _told(self, tx: Tx, held: BindingRecord, account: str) -> str:
        if account == held.account:
            return f"new password of {account}"
        server = handle_of(self.context, services.get(tx, held.service_id))
        amiss = server.outdated(held.view())
        return f"new account {account} in place of {held.account}" + (
            f", which {amiss} until then" if amiss else ""
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        return [self._step(operation, number) for number in operation.arguments["bindings"]]

    def _step(self, operation: OperationRecord, number: int) -> Step:
        given = (operation.private or {})[str(number)]
        new, old = given["new"], given["old"]
        ends = operation.arguments["until"]
        grace = datetime.fromisoformat(ends) if ends else None

        async def turn(new: dict[str, str], old: dict[str, str], until: datetime | None) -> None:
            binding, service = await self.context.store.read(lambda tx: self._load(tx, number))
            view = msgspec.structs.replace(binding.view(), **new)
            server = handle_of(self.context, service)
            await server.rotate(view, old["password"], old["account"], until)
            await self.context.store.write(
                lambda tx: projects.update_binding(tx, number, **new, former_until=until)
            )

        return Step(
            f"rotate {number}", lambda: turn(new, old, grace), undo=lambda: turn(old, new, None)
        )

    def _load(self, tx: Tx, number: int) -> tuple[BindingRecord, ServiceRecord]:
        binding = projects.binding(tx, number)
        if binding is None:
            raise NotFound("The binding is gone.")
        return binding, services.get(tx, binding.service_id)


def at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}"


def _require_room(server: ServiceHandle, held: BindingRecord) -> None:
    """One former credential at a time, where the server can have two."""
    if not server.offers("retire"):
        raise BadInput(
            f"{server.record.name} keeps one credential for a project: what is replaced there ends at "
            "once.",
            remedy=(
                "Rotate without a grace, or the credentials on another service alone: "
                "--service NAME"
            ),
            errors={"grace": f"not on the type {server.kind.name}"},
        )
    if held.former_until:  # one that is over, and not taken away yet, must not come back
        raise Conflict(
            f"Former credentials of {held.project}/{held.environment} work until "
            f"{at(held.former_until)} already.",
            remedy="Wait for that, or rotate without a grace, which ends all of them now.",
        )
