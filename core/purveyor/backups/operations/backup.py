"""Make a backup, delete one."""

import secrets
from datetime import timedelta
from typing import Any, ClassVar

import msgspec

from purveyor.backups import age
from purveyor.backups import store as backups
from purveyor.backups.above import Archives
from purveyor.backups.fence import Fence
from purveyor.backups.kinds import BASE
from purveyor.backups.models import BackupRecord
from purveyor.backups.repository import UNSIGNED, BackupRepository
from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import parameters
from purveyor.services import store as services
from purveyor.services.models import ServiceRecord
from purveyor.services.operations.base import require_serving, step_names
from purveyor.services.shadow import ShadowOperation, few
from purveyor_hooks import BadInput, Conflict, Failed, Finding, PurveyorError
from purveyor_hooks.types import HOLDERS

DIFFERENCES = "differences"  # in a backup's metadata: what its last whole restore found
UNITS = ("keys",)  # of a server without databases of names: what its counts are named by


class BackupArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` is an id or a name; without `s3_source_id` the backup goes to a folder of this
    host.

    `keep_days` is when it may be deleted by itself; never without it.
    """

    service: str
    s3_source_id: int | str | None = None
    backup_type: str = "manual"
    keep_days: int | None = None
    encrypt: bool | None = None
    schedule: int | None = None


class ProveArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`backup` is an id or a backup_id; `accept_unsigned` is a person's word for one that nothing
    else vouches for."""

    backup: str
    accept_unsigned: bool = False


class VerifyArguments(ProveArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`deep` compares contents, beside numbers."""

    deep: bool = False


def insert_backup(
    tx: Tx,
    context: Context,
    record: ServiceRecord,
    given: BackupArguments,
    *,
    archiving: bool = False,
) -> int:
    """Record a backup that is about to be made."""
    context.registry.provider(record.service_type).require("backup", "backups")
    archive = context.part(Archives).find(tx, record.id)
    if given.backup_type == BASE and archive is None and not archiving:
        remedy = f"Begin with: purveyor backup archive start {record.slug}"
        errors = {"backup_type": "a base copy is of a service that is archived"}
        raise BadInput(f"{record.name} is not archived.", remedy=remedy, errors=errors)
    source = backups.source(tx, given.s3_source_id) if given.s3_source_id is not None else None
    backup_id = f"{tx.now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    folder = f"{record.slug}/{backup_id}"
    encrypt = context.settings.encrypt_backups if given.encrypt is None else given.encrypt
    # one key opens a base copy and what follows it
    if archive is not None and given.backup_type == BASE and not archiving:
        encrypt = archive.encrypted
    label = context.part(BackupRepository).place(source).label.rstrip("/")
    return backups.insert(
        tx,
        backup_id=backup_id,
        service_id=record.id,
        service_name=record.name,
        service_type=record.service_type,
        backup_type=given.backup_type,
        s3_source_id=source.id if source else None,
        schedule_id=given.schedule,
        folder=folder,
        location=f"{label}/{folder}",
        encryption=age.METHOD if encrypt else "",
        expires_at=tx.now + timedelta(days=given.keep_days)
        if given.keep_days is not None
        else None,
    )


class Backup(ShadowOperation):
    """A stopped or interrupted one is failed, and nothing of it is left that looks like a
    backup."""

    name: ClassVar[str] = "backup"
    lock: ClassVar[str] = "backup"
    arguments = BackupArguments

    def target(self, tx: Tx, given: BackupArguments) -> Target:
        return Target(service=services.get(tx, given.service).id, lock=self.lock)

    def validate_and_record(self, tx: Tx, given: BackupArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        require_serving(record)
        number = insert_backup(tx, self.context, record, given)
        shown = {"name": record.name, "backup": number}
        return operations.insert(tx, self.name, service_id=record.id, actor=actor, arguments=shown)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        backup = backups.get(tx, operation.arguments["backup"])
        return Plan(
            verb=self.name,
            subject=backup.service_name,
            steps=step_names(self.steps(operation)),
            resources=[backup.location],
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        number = operation.arguments["backup"]
        step = self.data_step("write", lambda: write_once(self, operation, number))
        return [step._replace(undo=lambda: sweep(self, number))]

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        settle(tx, operation.arguments["backup"])

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        mark_failed(tx, operation.arguments["backup"], error)

    def settle(self, tx: Tx, operation: OperationRecord, reason: str) -> None:
        mark_failed(tx, operation.arguments["backup"], {"detail": reason})


async def write_once(
    operation_type: ShadowOperation, operation: OperationRecord, number: int
) -> None:
    """Write a backup, unless an earlier process was at it already: half of one is none."""
    store = operation_type.context.store

    def begin(tx: Tx) -> bool:
        backup = backups.get(tx, number)
        known = {"begun": True} | ({"interrupted": True} if backup.metadata.get("begun") else {})
        backups.update(tx, number, metadata={**backup.metadata, **known})
        return bool(backup.metadata.get("begun"))

    if await store.write(begin):
        raise Failed(
            "The backup was interrupted when Purveyor stopped.", remedy="Make another one."
        )
    await operation_type.context.part(BackupRepository).write(
        number, operation_type.teller(operation, "write")
    )


async def remove_files(operation_type: ShadowOperation, number: int) -> None:
    """Remove a backup's files."""
    backup = await operation_type.context.store.read(lambda tx: backups.get(tx, number))
    place = await operation_type.context.part(BackupRepository).place_of(backup)
    await operation_type.context.part(Fence).require(place.address)
    await place.remove(backup.folder)


async def sweep(operation_type: ShadowOperation, number: int) -> None:
    """Remove what there is of a backup that failed. A bucket that is away keeps it: without a
    manifest it is none."""
    try:
        await remove_files(operation_type, number)
    except PurveyorError as error:
        operation_type.context.logger.warning("backup.sweep", backup=number, error=error.detail)


def settle(tx: Tx, number: int) -> BackupRecord:
    backup = backups.get(tx, number)
    backups.update(tx, number, state="suspect" if backup.metadata.get("suspect") else "ok")
    return backup


def doubt(tx: Tx, operation: OperationRecord, backup: BackupRecord) -> bool:
    """Whether the whole of a backup was restored and is not what was written: it is suspect then,
    whatever was said before."""
    outcome = operations.outcome(tx, operation.id)
    lost = [*outcome.differences, *(str(item) for item in outcome.findings if not item.notice)]
    if lost:
        message = f"It was restored, and is not what was written: {few(lost)}."
        backups.update(
            tx,
            backup.id,
            state="suspect",
            error_message=message,
            metadata={**backup.metadata, DIFFERENCES: lost},
        )
    return bool(lost)


def mark_failed(tx: Tx, number: int, error: dict[str, Any]) -> None:
    backups.update(
        tx, number, state="failed", error_message=error.get("detail", ""), completed_at=tx.now
    )


class DeleteBackup(ShadowOperation):
    """Delete a backup and its files."""

    name: ClassVar[str] = "delete-backup"
    subject: ClassVar[str] = "backup"
    arguments = ProveArguments

    def validate_and_record(self, tx: Tx, given: ProveArguments, actor: str) -> int:
        backup = backups.get(tx, given.backup)
        if backup.state == "running":
            raise Conflict(
                "The backup is still being made.", remedy="Follow it with: purveyor operations"
            )
        if (reader := _under_way(tx, backup)) is not None:
            remedy = f"Follow it with: purveyor operations {reader.id}; then try again."
            raise Conflict(
                f"The backup is being read by operation {reader.id} ({reader.verb}).", remedy=remedy
            )
        shown = {"name": backup.backup_id, "backup": backup.id}
        return operations.insert(tx, self.name, actor=actor, arguments=shown)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        backup = backups.get(tx, operation.arguments["backup"])
        return Plan(
            verb=self.name,
            subject=backup.backup_id,
            steps=["remove"],
            resources=[f"DELETE {backup.location}"],
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        number = operation.arguments["backup"]
        return [Step("remove", lambda: remove_files(self, number), deadline=600.0, final=True)]

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        backups.delete(tx, operation.arguments["backup"])


def require_vouched(backup: BackupRecord, accepted: bool) -> None:
    """Raise `BadInput` for a backup that was adopted unsigned, unless a person says, each time,
    that it is to be used."""
    if backup.metadata.get(UNSIGNED) and not accepted:
        raise BadInput(
            f"The backup {backup.backup_id} is not signed by this installation: anyone with write "
            "access to its place may have made it.",
            remedy="If you know that it is yours: --accept-unsigned",
            errors={"accept_unsigned": "it is not signed"},
        )


def image_for(context: Context, backup: BackupRecord) -> str:
    """The image that a copy of a backup runs: the one that it was made under; the installation's
    own, where nobody but the backup itself says what that was."""
    if backup.metadata.get(UNSIGNED):
        return parameters.default_image(
            context.registry.kind(backup.service_type), context.settings
        )
    return str(backup.metadata["image"])


def holders(backup: BackupRecord) -> set[str]:
    """The databases, or buckets, that a backup holds."""
    counts = backup.metadata.get("counts", {}), backup.metadata.get("fleeting", {})
    named = {name for part in counts for kind in HOLDERS for name in part.get(kind, {})}
    return named or {
        name for part in counts for kind in UNITS for name in part.get(kind, {}) if name
    }


def missing(backup: BackupRecord) -> list[str]:
    """What was there when a backup was made and is not in it, in words."""
    found = [*backup.metadata.get("failed", []), *backup.metadata.get("left_out", [])]
    return [str(msgspec.convert(item, Finding)) for item in found]


def usable(tx: Tx, reference: str) -> BackupRecord:
    """A backup that can be restored. Raises `Conflict` for one that failed or is not whole yet."""
    backup = backups.get(tx, reference)
    if backup.state in ("running", "failed"):
        ended = "was not made" if backup.skipped else "failed"
        word = (
            "is still being made"
            if backup.state == "running"
            else f"{ended}: {backup.error_message}"
        )
        raise Conflict(
            f"The backup {backup.backup_id} {word}", remedy="Choose another: purveyor backup list"
        )
    if (other := _under_way(tx, backup)) is not None and other.verb == DeleteBackup.name:
        raise Conflict(
            f"The backup {backup.backup_id} is being deleted.",
            remedy="Choose another: purveyor backup list",
        )
    return backup


def readable(tx: Tx, reference: str, database: str) -> BackupRecord:
    """A backup from which one database can be taken out. Raises `BadInput` for one that is not in
    it."""
    backup = usable(tx, reference)
    if backup.backup_type == BASE:
        remedy = f"Restore it into a new service: purveyor backup restore {backup.id} --new NAME"
        raise BadInput(
            "A base copy is of the whole server.", remedy=remedy, errors={"backup": "a base copy"}
        )
    if database not in (held := holders(backup)):
        why = f"it holds {', '.join(sorted(held)) or 'none'}"
        detail = f"{database} is not in the backup {backup.backup_id}."
        raise BadInput(detail, remedy=f"Choose: {why}.", errors={"database": why})
    return backup


def _under_way(tx: Tx, backup: BackupRecord) -> OperationRecord | None:
    """An operation that is not finished and reads or deletes a backup: decided in the intent's
    transaction, so that readers and deleters exclude each other and readers do not."""
    return next(
        (
            item
            for item in operations.list_unfinished(tx)
            if item.arguments.get("backup") == backup.id
        ),
        None,
    )
