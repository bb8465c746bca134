"""clone: a second service with the data of the first."""

from typing import ClassVar

import msgspec

from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import parameters, transfer
from purveyor.services import store as services
from purveyor.services.above import Links
from purveyor.services.operations.base import require_serving
from purveyor.services.shadow import NewServiceOperation, few
from purveyor_hooks import Conflict, Finding, Image, RestoreOptions


class CloneArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` is copied into a new one called `name`, which runs the same image or
    `docker_image`. What that one's server will not take (`refused`, found out before the intent)
    stops the copy before it begins, unless `keep_going`.
    """

    service: str
    name: str
    docker_image: str | None = None
    keep_going: bool = False
    refused: tuple[Finding, ...] = ()


class Clone(NewServiceOperation):
    """A copy of everything that a service holds, into a new one; accounts of projects are not among
    it."""

    name: ClassVar[str] = "clone"
    arguments = CloneArguments

    def target(self, tx: Tx, given: CloneArguments) -> Target:
        return Target(service=services.get(tx, given.service).id, lock="backup")

    async def prepare(self, given: CloneArguments) -> CloneArguments:
        """What another image's server would not take is asked of the data, before anything is
        made."""
        if given.docker_image is None:
            return given
        image = Image(reference=parameters.require_image(given.docker_image))
        record = await self.context.store.read(lambda tx: services.get(tx, given.service))
        require_serving(record)
        refused = await transfer.upgrade_check(self.context, record, image)
        return msgspec.structs.replace(given, refused=refused)

    def validate_and_record(self, tx: Tx, given: CloneArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        require_serving(record)
        provider = self.context.registry.provider(record.service_type)
        provider.require("backup", "copies")
        provider.require("restore", "copies")
        image = (
            parameters.require_image(given.docker_image)
            if given.docker_image is not None
            else record.image
        )
        refused = [str(item) for item in given.refused]
        if any(not item.notice for item in given.refused) and not given.keep_going:
            raise Conflict(
                f"{image} would not take all of {record.name}: {few(refused)}.",
                remedy="To copy the rest: --keep-going",
            )
        made = self.make_like(tx, given.name, record.service_type, image, record.parameters)
        shown = {"name": given.name, "of": record.id, "refused": refused}
        return operations.insert(tx, self.name, service_id=made, actor=actor, arguments=shown)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        warnings = [
            f"The copy will not take it: {item}" for item in operation.arguments.get("refused", [])
        ]
        return self.plan_of_new(tx, operation, "create", warnings)

    def steps(self, operation: OperationRecord) -> list[Step]:
        made = operation.service
        copy = self.data_step(
            "copy", lambda: self.fill(operation, made, lambda: self._copy(operation, made))
        )
        claims = Step("claims", lambda: self._claim(operation, made), deadline=600.0)
        return [*self.shadow_steps(operation, made), copy, claims]

    async def _claim(self, operation: OperationRecord, made: int) -> None:
        links, of = self.context.part(Links), operation.arguments["of"]
        await links.claim_copy(made, await self.context.store.read(lambda tx: links.held(tx, of)))

    async def _copy(self, operation: OperationRecord, made: int) -> None:
        old, new = await self.load(operation.arguments["of"]), await self.load(made)
        census, findings = await transfer.pipe(
            self.context, old, new, self.teller(operation, "copy"), RestoreOptions()
        )
        await self.compare(operation, census, made, findings)
