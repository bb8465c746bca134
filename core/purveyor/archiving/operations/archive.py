"""Continuous archiving of a service: begin it, with a helper and a base copy, and end it."""

from typing import Any, ClassVar

import msgspec

from purveyor.archiving import store as archives
from purveyor.archiving.wal_receiver import WalReceiver
from purveyor.backups import age
from purveyor.backups import store as backups
from purveyor.backups.kinds import BASE
from purveyor.backups.operations.backup import (
    BackupArguments,
    insert_backup,
    mark_failed,
    settle,
    sweep,
    write_once,
)
from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer
from purveyor.services import store as services
from purveyor.services.models import ServiceRecord
from purveyor.services.operations.base import STOP_DEADLINE, require_serving, step_names
from purveyor.services.operations.lifecycle import ServiceArguments
from purveyor.services.shadow import ShadowOperation
from purveyor_hooks import BadInput, Conflict, NotFound


class ArchiveArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` is an id or a name; without `s3_source_id` its archive is a folder of this host.

    Each base copy, and what was written since, is kept for `keep_days`. `again` is the archivist's:
    it begins anew.
    """

    service: str
    s3_source_id: int | str | None = None
    encrypt: bool | None = None
    keep_days: int = 7
    again: bool = False


class ArchiveOperation(ShadowOperation):
    """An operation on a service's archive."""

    lock: ClassVar[str] = "backup"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.helpers = context.part(WalReceiver)

    def target(self, tx: Tx, given: Any) -> Target:
        return Target(service=services.get(tx, given.service).id, lock=self.lock)


class Archive(ArchiveOperation):
    """From its end on, every moment can be restored."""

    name: ClassVar[str] = "archive"
    arguments = ArchiveArguments

    def validate_and_record(self, tx: Tx, given: ArchiveArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        require_serving(record)
        self.context.registry.provider(record.service_type).require(
            "archive_helper", "continuous archiving"
        )
        if not 1 <= given.keep_days <= 3650:
            errors = {"keep_days": "must be from 1 to 3650"}
            raise BadInput(
                "The archive cannot be kept so long.",
                remedy="Give another number of days.",
                errors=errors,
            )
        known = archives.find(tx, record.id)
        if known and not given.again:
            raise Conflict(
                f"{record.name} is archived already.", remedy="See: purveyor backup archive list"
            )
        if given.again and known is None:
            raise NotFound(f"{record.name} is not archived.")
        if known:
            encrypt, source, days = bool(known.encryption), known.s3_source_id, known.keep_days
        else:
            chosen = given.encrypt
            encrypt = self.context.settings.encrypt_backups if chosen is None else chosen
            source = (
                backups.source(tx, given.s3_source_id).id
                if given.s3_source_id is not None
                else None
            )
            days = given.keep_days
        asked = BackupArguments(
            service=str(record.id),
            s3_source_id=source,
            backup_type=BASE,
            encrypt=encrypt,
            keep_days=days,
        )
        number = insert_backup(tx, self.context, record, asked, archiving=True)
        backup = backups.get(tx, number)
        folder = f"{record.slug}/changes-{backup.backup_id}"
        values = {
            "volume_id": record.volume_id,
            "folder": folder,
            "state": "starting",
            "reason": "",
            "until": None,
        }
        if known:
            archives.update(tx, record.id, **values)
        else:
            encryption = age.METHOD if encrypt else ""
            archives.insert(
                tx,
                service_id=record.id,
                s3_source_id=source,
                encryption=encryption,
                keep_days=days,
                **values,
            )
        shown = {"name": record.name, "backup": number, "again": given.again}
        return operations.insert(tx, self.name, service_id=record.id, actor=actor, arguments=shown)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        record = services.get(tx, operation.service)
        backup = backups.get(tx, operation.arguments["backup"])
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=step_names(self.steps(operation)),
            containers=[
                PlannedContainer(
                    name=self.helpers.name(record), action="create beside it", image=record.image
                )
            ],
            resources=[backup.location],
            warnings=[
                "The server keeps what it writes until the helper has it. A queue that grows too "
                "long ends the archive."
            ],
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id, number = operation.service, operation.arguments["backup"]
        helper = Step(
            "helper",
            lambda: self._start(service_id),
            undo=lambda: self._end(service_id),
            deadline=STOP_DEADLINE,
        )
        base = self.data_step("base", lambda: write_once(self, operation, number))
        return [helper, base._replace(undo=lambda: sweep(self, number))]

    async def _start(self, service_id: int) -> None:
        record = await self.load(service_id)
        await self.helpers.end(record)  # what an earlier one left, in the server too
        await self.helpers.ensure(record)
        await self.helpers.first_beat(record)

    async def _end(self, service_id: int) -> None:
        await self.helpers.end(await self.load(service_id))

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        settle(tx, operation.arguments["backup"])
        archives.update(tx, operation.service, state="following", base_at=tx.now)

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        mark_failed(tx, operation.arguments["backup"], error)
        if operation.arguments["again"]:
            archives.update(tx, operation.service, state="broken", reason=error.get("detail", ""))
        else:
            archives.delete(tx, operation.service)

    def settle(self, tx: Tx, operation: OperationRecord, reason: str) -> None:
        mark_failed(tx, operation.arguments["backup"], {"detail": reason})
        archives.update(tx, operation.service, state="broken", reason=reason)


class EndArchive(ArchiveOperation):
    """What was archived stays, and can be restored."""

    name: ClassVar[str] = "end-archive"
    arguments = ServiceArguments

    def validate_and_record(self, tx: Tx, given: ServiceArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        if archives.find(tx, record.id) is None:
            raise NotFound(
                f"{record.name} is not archived.",
                remedy=f"Begin with: purveyor backup archive start {record.slug}",
            )
        archives.update(tx, record.id, state="starting")  # nobody ships meanwhile
        return operations.insert(
            tx, self.name, service_id=record.id, actor=actor, arguments={"name": record.name}
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        record = services.get(tx, operation.service)
        container = PlannedContainer(name=self.helpers.name(record), action="remove")
        return Plan(verb=self.name, subject=record.name, steps=["end"], containers=[container])

    def steps(self, operation: OperationRecord) -> list[Step]:
        return [Step("end", lambda: self._end(operation.service), deadline=STOP_DEADLINE)]

    async def _end(self, service_id: int) -> None:
        record: ServiceRecord = await self.load(service_id)
        await self.helpers.end(record)

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        archives.delete(tx, operation.service)

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        archives.update(tx, operation.service, state="following")
