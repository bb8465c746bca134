"""Restore a backup into a new service or in place; copy a service into a new one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from purveyor.backups import store as backups
from purveyor.backups.above import Archives
from purveyor.backups.kinds import BASE
from purveyor.backups.manifest import Verified
from purveyor.backups.models import BackupRecord
from purveyor.backups.operations.backup import (
    BackupArguments,
    doubt,
    holders,
    image_for,
    insert_backup,
    mark_failed,
    missing,
    require_vouched,
    settle,
    sweep,
    usable,
    write_once,
)
from purveyor.backups.repository import BackupRepository
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer, PlannedVolume
from purveyor.projects import bindings
from purveyor.projects.claims import claim
from purveyor.services import store as services
from purveyor.services.handle import hooks_of
from purveyor.services.models import HeldBinding, ServiceRecord
from purveyor.services.operations.base import require_active, require_own, step_names
from purveyor.services.shadow import NewServiceOperation, before, few
from purveyor_hooks import BadInput, Conflict, Finding, RestoreOptions

CAME = "came"  # among what is noted with an operation


class RestoreArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Into a new service named `new_name`, or in place of the data of `service_id` (an id or a
    name).

    `databases` are the only ones (or buckets) to restore, all without them. What came is compared
    with what was saved: a new service keeps what came, and the operation's outcome names each
    difference; in place any difference stops the restore before the data is exchanged, unless
    `keep_going`; so does what the backup knows that this server does not take, before anything
    begins. `accept_unsigned` is a person's word for a backup that nothing else vouches for.

    An archive that lacks a file of changes is refused, and with `keep_going` restored up to that
    file at most.

    From a `backup`; or to the moment `at` of a service that is or was archived: from its newest
    base copy before that, or from the one that is named. Without `at` a base copy is followed by
    all that was written down after it.
    """

    backup: str = ""
    new_name: str | None = None
    service_id: int | str | None = None
    archive: str | None = None
    at: datetime | None = None
    databases: tuple[str, ...] = ()
    keep_going: bool = False
    accept_unsigned: bool = False


class Restore(NewServiceOperation):
    """From a backup: what came is counted and compared with what was written, and each difference
    is named."""

    name: ClassVar[str] = "restore"
    arguments = RestoreArguments

    def target(self, tx: Tx, given: RestoreArguments) -> Target:
        if given.service_id is None:
            return Target()
        return Target(service=services.get(tx, given.service_id).id)

    async def prepare(self, given: RestoreArguments) -> RestoreArguments:
        """An archive is looked through for what it lacks, before anything is made."""
        backup = await self.context.store.read(lambda tx: self._chosen(tx, given))
        if backup.backup_type == BASE and not given.keep_going:
            verified = await self.context.part(BackupRepository).manifest(
                backup, accept_unsigned=given.accept_unsigned
            )
            await self.context.part(Archives).require_whole(backup, verified)
        return given

    def validate_and_record(self, tx: Tx, given: RestoreArguments, actor: str) -> int:
        backup = self._chosen(tx, given)
        if (given.new_name is None) == (given.service_id is None):
            errors = {
                "new_name": "give this one or service_id",
                "service_id": "give this one or new_name",
            }
            raise BadInput(
                "No restore target given.",
                remedy="Pass --new NAME for a new service, or --in-place SERVICE (new_name or service_id).",
                errors=errors,
            )
        provider = self.context.registry.provider(backup.service_type)
        provider.require("restore", "restores")
        if given.new_name is not None:
            image, values = image_for(self.context, backup), backup.metadata["parameters"]
            made = self.make_like(tx, given.new_name, backup.service_type, image, values)
            shown = {"name": given.new_name, "scratch": None, "safety": None} | _shown(
                backup, given
            )
            return operations.insert(tx, self.name, service_id=made, actor=actor, arguments=shown)
        return self._in_place(tx, backup, given, actor)

    def _chosen(self, tx: Tx, given: RestoreArguments) -> BackupRecord:
        """The backup to begin with. Raises `BadInput` for a moment that cannot be reached."""
        at = given.at
        if at is not None and at.tzinfo is None:
            why = "it does not say of which time zone it is"
            raise BadInput(
                f"Invalid timestamp: {why}.",
                remedy=f"For UTC: {at.isoformat()}Z",
                errors={"at": why},
            )
        if given.archive is None:
            backup = usable(tx, given.backup)
            if at is not None and backup.backup_type != BASE:
                why = "this backup is of one moment only"
                raise BadInput(
                    f"It cannot be chosen: {why}.",
                    remedy="Leave it out, or name a service.",
                    errors={"at": why},
                )
        else:
            record = services.get(tx, given.archive)
            bases = [
                item
                for item in backups.list_backups(tx, service_id=record.id)
                if item.backup_type == BASE and item.state == "ok" and item.completed_at
            ]
            fitting = [
                item
                for item in bases
                if at is None or (item.completed_at and item.completed_at <= at)
            ]
            if not fitting:
                earliest = min(
                    (item.completed_at for item in bases if item.completed_at), default=None
                )
                why = (
                    f"its archive begins at {earliest.isoformat()}"
                    if earliest
                    else "it was never archived"
                )
                raise BadInput(
                    f"{record.name} cannot be restored to that moment: {why}.", errors={"at": why}
                )
            backup = fitting[0]
        self._require_reached(tx, backup, at)
        require_vouched(backup, given.accept_unsigned)
        _require_held(backup, given.databases)
        return backup

    def _require_reached(self, tx: Tx, backup: BackupRecord, at: datetime | None) -> None:
        if at is None or backup.backup_type != BASE:
            return
        why = ""
        if backup.completed_at and at < backup.completed_at:
            why = f"the base copy was complete at {backup.completed_at.isoformat()}"
        archives = self.context.part(Archives)
        archive = archives.find(tx, backup.service_id) if backup.service_id else None
        current = archive is not None and archive.folder == backup.metadata.get("changes")
        until = archive.until if archive and current else tx.now
        if until is None or at > until:
            why = (
                f"what was written down reaches to {until.isoformat() if until else 'nowhere yet'}"
            )
        if why:
            raise BadInput(
                f"That moment cannot be reached: {why}.",
                remedy="Choose another one.",
                errors={"at": why},
            )

    def _in_place(self, tx: Tx, backup: BackupRecord, given: RestoreArguments, actor: str) -> int:
        record = services.get(tx, str(given.service_id))
        if given.databases:
            why = (
                "a restore in place exchanges all data of a service, also what is not in this list"
            )
            remedy = (
                f"Restore them into a new service: purveyor backup restore {backup.id} --new "
                "NAME --database ..."
            )
            raise BadInput(
                f"Single databases cannot be restored in place: {why}.",
                remedy=remedy,
                errors={"databases": why},
            )
        require_active(record)
        require_own(record)
        if record.service_type != backup.service_type:
            why = (
                f"the backup is of the type {backup.service_type}, {record.name} is of the "
                f"type {record.service_type}"
            )
            raise BadInput(
                f"The backup does not fit: {why}.",
                remedy="Choose another.",
                errors={"service_id": why},
            )
        refused = _refused(backup, record)
        if any(not item.notice for item in refused) and not given.keep_going:
            raise Conflict(
                f"{record.name} would not take all of the backup: "
                f"{few([str(item) for item in refused])}.",
                remedy="To go on with the rest: --keep-going. Into a service with the server of the backup: "
                f"purveyor backup restore {backup.id} --new NAME",
            )
        scratch = self.create_shadow(tx, record, image=record.image)
        safety = None
        if record.desired == "running" and not record.refusal:
            safety = insert_backup(
                tx,
                self.context,
                record,
                BackupArguments(service=str(record.id), backup_type="safety"),
            )
        shown = {"name": record.name, "scratch": scratch, "safety": safety} | _shown(backup, given)
        shown["refused"] = [str(item) for item in refused]
        return operations.insert(
            tx,
            self.name,
            service_id=record.id,
            actor=actor,
            arguments=shown,
            private=before(record),
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        scratch = operation.arguments["scratch"]
        if scratch is None:
            warnings = self._warnings(tx, operation) + self._off(tx, operation)
            return self.plan_of_new(tx, operation, "create", warnings)
        record, beside = services.get(tx, operation.service), services.get(tx, scratch)
        volume = services.volume(tx, record.volume_id or "")
        days = self.context.settings.old_data_days
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=step_names(self.steps(operation)),
            containers=[
                PlannedContainer(
                    name=beside.container_name, action="create, remove", image=beside.image
                ),
                PlannedContainer(name=record.container_name, action="replace", image=beside.image),
            ],
            volumes=[PlannedVolume(name=volume.name, action=f"keep for {days} days")],
            apps=bindings.apps(
                tx, self.context, record, f"finds the data of the backup in {record.name}"
            ),
            downtime=(
                "while the containers are exchanged, some seconds; what is written during the "
                "restore is not in it"
            ),
            warnings=self.former_ends(tx, record.id)
            + self._warnings(tx, operation)
            + [
                f"{record.name} will not take it: {item}"
                for item in operation.arguments.get("refused", [])
            ],
        )

    def _warnings(self, tx: Tx, operation: OperationRecord) -> list[str]:
        """What the backup says that it does not hold."""
        return [
            f"Not in the backup: {item}"
            for item in missing(backups.get(tx, operation.arguments["backup"]))
        ]

    def _off(self, tx: Tx, operation: OperationRecord) -> list[str]:
        """That a copy of a moment does not act in its original's place."""
        record = services.get(tx, operation.service)
        told = hooks_of(self.context, record.service_type).offers("recovered")
        if not told or not operation.arguments["base"]:
            return []
        return [
            f"What would act in the original's place, subscriptions for example, is off in "
            f"{record.name}, and is named when it is there."
        ]

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id, scratch, safety = (
            operation.service,
            operation.arguments["scratch"],
            operation.arguments["safety"],
        )
        target = scratch or service_id
        steps = self.shadow_steps(operation, target)
        if operation.arguments["base"]:
            steps.insert(2, self.data_step("unpack", lambda: self._unpack(operation, target)))
            steps.insert(5, self.data_step("recover", lambda: self._arrive(operation, target)))
        else:
            restore = self.data_step(
                "restore",
                lambda: self.fill(operation, target, lambda: self._restore(operation, target)),
            )
            steps.append(restore)
        if scratch is None:
            return [*steps, Step("claims", lambda: self._claim(operation), deadline=600.0)]
        if safety is not None:
            step = self.data_step("safety backup", lambda: write_once(self, operation, safety))
            steps.insert(0, step._replace(undo=lambda: self._sweep_unfinished(safety)))
        switch = self.switch_step(operation, service_id, scratch)
        accounts = self.accounts_step(service_id, lambda: self._came(operation))
        return [
            *steps,
            switch,
            accounts,
            self.put_away_step(operation, lambda: self._came(operation)),
        ]

    async def _came(self, operation: OperationRecord) -> Sequence[HeldBinding]:
        """Whose data came, as was noted when it was read: by now its place may be out of reach, and
        what was exchanged would be taken back for that."""

        def look(tx: Tx) -> tuple[Any, BackupRecord]:
            private = operations.get(tx, operation.id).private or {}
            return private.get(CAME), backups.get(tx, operation.arguments["backup"])

        noted, backup = await self.context.store.read(look)
        if noted is None:  # an earlier version read it
            return (await self._verified(operation, backup)).manifest.bindings
        return msgspec.convert(noted, list[HeldBinding])

    async def _note_came(self, operation: OperationRecord, verified: Verified) -> None:
        held = msgspec.to_builtins(verified.manifest.bindings)

        def work(tx: Tx) -> None:
            private = operations.get(tx, operation.id).private or {}
            operations.keep_private(tx, operation.id, {**private, CAME: held})

        await self.context.store.write(work)

    async def _sweep_unfinished(self, safety: int) -> None:
        backup = await self.context.store.read(lambda tx: backups.get(tx, safety))
        if backup.completed_at is None:
            await sweep(self, safety)

    async def _unpack(self, operation: OperationRecord, target: int) -> None:
        backup = await self.context.store.read(
            lambda tx: backups.get(tx, operation.arguments["backup"])
        )
        record, verified = await self.load(target), await self._verified(operation, backup)
        await self._note_came(operation, verified)
        volume = await self.context.store.read(
            lambda tx: services.volume(tx, record.volume_id or "")
        )
        at = (
            datetime.fromisoformat(operation.arguments["at"]) if operation.arguments["at"] else None
        )
        await self.context.part(Archives).unpack(
            backup, verified, record, volume, at, self.teller(operation, "unpack")
        )

    async def _arrive(self, operation: OperationRecord, target: int) -> None:
        outcome = await self.context.part(Archives).arrive(
            await self.load(target), self.teller(operation, "recover")
        )
        await self.context.store.write(
            lambda tx: operations.note_outcome(tx, operation.id, outcome)
        )

    async def _restore(self, operation: OperationRecord, target: int) -> None:
        backup = await self.context.store.read(
            lambda tx: backups.get(tx, operation.arguments["backup"])
        )
        verified = await self._verified(operation, backup)
        await self._note_came(operation, verified)
        in_place, only = (
            operation.arguments["scratch"] is not None,
            tuple(operation.arguments.get("databases", ())),
        )
        options = RestoreOptions(only=only, takes_over=in_place)
        record, tell = await self.load(target), self.teller(operation, "restore")
        findings = await self.context.part(BackupRepository).read_into(
            backup, verified, record, tell, options
        )
        stop = in_place and not operation.arguments.get("keep_going", False)
        await self.compare(
            operation, verified.manifest.census, target, findings, only=only, stop=stop
        )

    async def _verified(self, operation: OperationRecord, backup: BackupRecord) -> Verified:
        return await self.context.part(BackupRepository).manifest(
            backup, accept_unsigned=operation.arguments.get("accept_unsigned", False)
        )

    async def _claim(self, operation: OperationRecord) -> None:
        """Record whose data the new service's resources are, so that linking brings each project
        back to its own."""
        await claim(self.context, operation.service, await self._came(operation))

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        scratch, safety = operation.arguments["scratch"], operation.arguments["safety"]
        if scratch is None:
            super().on_success(tx, operation)
            if not operation.arguments.get("databases") and (
                backup := backups.find(tx, operation.arguments["backup"])
            ):
                doubt(tx, operation, backup)
            return
        services.end_filling(tx, operation.service)
        services.update(tx, operation.service, refusal="")
        self.keep_old(
            tx, operation, operation.service, scratch, {"before": f"restore {operation.id}"}
        )
        if safety is not None:
            settle(tx, safety)

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        scratch, safety = operation.arguments["scratch"], operation.arguments["safety"]
        if scratch is None:
            super().on_failure(tx, operation, error)
            return
        if services.find(tx, scratch):
            services.forget_scratch(tx, scratch)
        if safety is not None:
            if backups.get(tx, safety).completed_at is None:
                mark_failed(tx, safety, error)
            else:
                settle(tx, safety)


def _refused(backup: BackupRecord, record: ServiceRecord) -> list[Finding]:
    """What the server of a service does not take of a backup that was made of another one."""
    return [
        msgspec.convert(item, Finding)
        for item in backup.metadata.get("elsewhere", {}).get(record.major, [])
    ]


def _text(at: datetime | None) -> str:
    return at.isoformat() if at else ""


def _shown(backup: BackupRecord, given: RestoreArguments) -> dict[str, Any]:
    return {
        "backup": backup.id,
        "base": backup.backup_type == BASE,
        "at": _text(given.at),
        "databases": list(given.databases),
        "keep_going": given.keep_going,
        "accept_unsigned": given.accept_unsigned,
    }


def _require_held(backup: BackupRecord, databases: Sequence[str]) -> None:
    """Raise `BadInput` for a database that is not in a backup."""
    if not databases:
        return
    if backup.backup_type == BASE:
        why = "a base copy is of the whole server"
        raise BadInput(
            f"Single databases cannot be chosen: {why}.",
            remedy="Leave them out.",
            errors={"databases": why},
        )
    held = holders(backup)
    if wrong := sorted({*databases} - held):
        why = f"it holds {', '.join(sorted(held)) or 'none'}"
        raise BadInput(
            f"{', '.join(wrong)} is not in the backup {backup.backup_id}.",
            remedy=f"Choose: {why}.",
            errors={"databases": why},
        )
