"""clone: a second service with the data of the first."""

from typing import ClassVar

import msgspec

from purveyor.backups.repository import held_bindings
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import parameters
from purveyor.services import store as services
from purveyor.services.operations.base import require_serving
from purveyor.services.shadow import NewServiceVerb
from purveyor_hooks import RestoreOptions


class CloneArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` is copied into a new one called `name`, which runs the same image or `docker_image`."""

    service: str
    name: str
    docker_image: str | None = None


class Clone(NewServiceVerb):
    """A copy of everything that a service holds, into a new one; accounts of projects are not among it."""

    name: ClassVar[str] = "clone"
    arguments = CloneArguments

    def target(self, tx: Tx, given: CloneArguments) -> Target:
        return Target(service=services.get(tx, given.service).id, lock="backup")

    def intend(self, tx: Tx, given: CloneArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        require_serving(record)
        provider = self.house.registry.provider(record.service_type)
        provider.require("backup", "copies")
        provider.require("restore", "copies")
        image = parameters.require_image(given.docker_image) if given.docker_image is not None else record.image
        made = self.make_like(tx, given.name, record.service_type, image, record.parameters)
        shown = {"name": given.name, "of": record.id}
        return operations.insert(tx, self.name, service_id=made, actor=actor, arguments=shown)

    def describe(self, tx: Tx, operation: OperationRecord) -> Plan:
        return self.plan_of_new(tx, operation, "create")

    def steps(self, operation: OperationRecord) -> list[Step]:
        made = operation.service_id or 0
        copy = self.data_step("copy", lambda: self.fill(operation, made, lambda: self._copy(operation, made)))
        claims = Step("claims", lambda: self._claim(operation, made), deadline=600.0)
        return [*self.beside_steps(operation, made), copy, claims]

    async def _claim(self, operation: OperationRecord, made: int) -> None:
        await self.claim(made, await self.house.store.read(lambda tx: held_bindings(tx, operation.arguments["of"])))

    async def _copy(self, operation: OperationRecord, made: int) -> None:
        old, new = await self.load(operation.arguments["of"]), await self.load(made)
        census, findings = await self.keeper.pipe(old, new, self.teller(operation, "copy"), RestoreOptions())
        await self.compare(operation, census, made, findings)
