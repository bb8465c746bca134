"""Delete the data of a volume that is kept: the only thing that removes data, and only when it is
named."""

from typing import ClassVar

import msgspec

from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType, Plan, Step
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedVolume
from purveyor.services import document_store
from purveyor.services import store as services
from purveyor_hooks import BadInput, Conflict

DEADLINE = 3600.0


class PurgeArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`volume` is its id or its name on the engine, whole; `confirm` is the name of the service
    that it was made for."""

    volume: str
    confirm: str


class Purge(OperationType):
    name: ClassVar[str] = "purge-volume"
    subject: ClassVar[str] = "volume"
    arguments = PurgeArguments

    def __init__(self, context: Context) -> None:
        self.context = context

    def validate_and_record(self, tx: Tx, given: PurgeArguments, actor: str) -> int:
        volume = services.find_volume(tx, given.volume)
        if volume.state != "kept":
            word = (
                "of a service that is there" if volume.state in ("new", "used") else "gone already"
            )
            raise Conflict(
                f"The volume {volume.name} is {word}.",
                remedy="Only data that is kept can be purged.",
            )
        if given.confirm != volume.origin:
            why = "it is not the name of the service that the data was made for"
            raise BadInput(
                f"Nothing was deleted: {why}.",
                remedy=f"Type it: {volume.origin}",
                errors={"confirm": why},
            )
        arguments = {
            "volume": volume.id,
            "name": volume.name,
            "image": services.image_of_volume(tx, volume),
        }
        return operations.insert(tx, self.name, actor=actor, arguments=arguments)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        volume = services.volume(tx, operation.arguments["volume"])
        planned = PlannedVolume(name=volume.name, action=f"DELETE WITH ALL DATA in {volume.path}")
        return Plan(verb=self.name, subject=volume.origin, steps=["purge"], volumes=[planned])

    def steps(self, operation: OperationRecord) -> list[Step]:
        return [Step("purge", lambda: self._purge(operation), deadline=DEADLINE, final=True)]

    async def _purge(self, operation: OperationRecord) -> None:
        given = operation.arguments
        volume = await self.context.store.read(lambda tx: services.volume(tx, given["volume"]))
        await self.context.engine.volumes.destroy(volume.name, volume.path, given["image"])

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        services.update_volume(tx, operation.arguments["volume"], state="purged")
        document_store.forget_of_volume(tx, operation.arguments["volume"])
