"""Give one project's environment new credentials; its next deploy injects them."""

from typing import Any, ClassVar

import msgspec

from purveyor.kernel import naming
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target, Verb
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.parts import House
from purveyor.projects import bindings
from purveyor.projects import naming as accounts
from purveyor.projects import store as projects
from purveyor.projects.models import BindingRecord
from purveyor.projects.operations.projects import PRODUCTION
from purveyor.services import handle
from purveyor.services import store as services
from purveyor.services.handle import ServiceAccess
from purveyor.services.models import ServiceRecord
from purveyor.services.operations.base import step_names
from purveyor.services.provisioning import Provisioner
from purveyor_hooks import BadInput, NotFound


class RotateArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`project` by id or slug; all services that it is linked to, or the one that is named."""

    project: str
    environment: str = PRODUCTION
    service: str | None = None


class Rotate(Verb):
    """Each new password is recorded before it is set, so that none is ever lost."""

    name: ClassVar[str] = "rotate"
    subject: ClassVar[str] = "project"
    arguments = RotateArguments

    def __init__(self, house: House, provisioner: Provisioner) -> None:
        self.house = house

    def target(self, tx: Tx, given: RotateArguments) -> Target:
        project = projects.get(tx, given.project)
        linked = tuple(link.service_id for link in projects.links(tx, project_id=project.id))
        return Target(project=project.id, services=linked)

    def intend(self, tx: Tx, given: RotateArguments, actor: str) -> int:
        project = projects.get(tx, given.project)
        environment = projects.find_environment(tx, project.id, given.environment)
        if environment is None:
            raise NotFound(f"{project.slug} has no environment {given.environment!r}.")
        chosen = services.get(tx, given.service).id if given.service else None
        private: dict[str, Any] = {}
        for link in projects.links(tx, project_id=project.id):
            service = services.get(tx, link.service_id)
            if chosen not in (None, service.id):
                continue
            held = projects.binding_of(tx, service.id, environment.id)
            if held is None or held.state != "bound":
                continue
            handle.require_serving(service)
            provider = self.house.registry.provider(service.service_type)
            provider.require("rotate", "new credentials")
            account = accounts.account(provider.kind, held.resource, held.account, projects.names_taken(tx, service.id))
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
        }
        return operations.insert(tx, self.name, project_id=project.id, actor=actor, arguments=shown, private=private)

    def describe(self, tx: Tx, operation: OperationRecord) -> Plan:
        held = [projects.binding(tx, number) for number in operation.arguments["bindings"]]
        return Plan(
            verb=self.name,
            subject=f"{operation.arguments['project']}/{operation.arguments['environment']}",
            steps=step_names(self.steps(operation)),
            resources=[_told(item, operation.arguments["accounts"][str(item.id)]) for item in held if item],
            apps=[
                msgspec.structs.replace(app, effect=f"loses {app.service} until it is deployed again")
                for item in held
                if item and item.environment_id
                for app in bindings.apps(tx, services.get(tx, item.service_id), "", [item.environment_id])
            ],
            warnings=["Sessions that the old credentials opened end at once: an app that runs needs a deploy."],
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        return [self._step(operation, number) for number in operation.arguments["bindings"]]

    def _step(self, operation: OperationRecord, number: int) -> Step:
        given = (operation.private or {})[str(number)]
        new, old = given["new"], given["old"]

        async def turn(new: dict[str, str], old: dict[str, str]) -> None:
            binding, service = await self.house.store.read(lambda tx: self._load(tx, number))
            provider = self.house.registry.provider(service.service_type)
            access = ServiceAccess(self.house.engine, provider.kind, service, self.house.logger)
            view = msgspec.structs.replace(binding.view(), **new)
            await provider.rotate(service.view(), access, view, old["password"])
            await self.house.store.write(lambda tx: projects.update_binding(tx, number, **new))

        return Step(f"rotate {number}", lambda: turn(new, old), undo=lambda: turn(old, new))

    def _load(self, tx: Tx, number: int) -> tuple[BindingRecord, ServiceRecord]:
        binding = projects.binding(tx, number)
        if binding is None:
            raise NotFound("The binding is gone.")
        return binding, services.get(tx, binding.service_id)


def _told(held: BindingRecord, account: str) -> str:
    if account == held.account:
        return f"new password of {account}"
    owner = ", which goes on as the owner of the data, and logs in no more" if held.account == held.resource else ""
    return f"new account {account} in place of {held.account}{owner}"
