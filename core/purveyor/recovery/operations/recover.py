"""Bring one service of a lost host back: made anew, filled from its backup, every account as the
apps have it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from purveyor.archiving import pitr
from purveyor.backups import store as backups
from purveyor.backups.kinds import BASE
from purveyor.backups.manifest import Verified
from purveyor.backups.models import BackupRecord
from purveyor.backups.repository import BackupRepository
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.projects import store as projects
from purveyor.projects.claims import take_in
from purveyor.recovery.models import Choice, recovering
from purveyor.services import store as services
from purveyor.services.handle import handle_of
from purveyor.services.models import HeldBinding
from purveyor.services.operations.base import STOP_DEADLINE
from purveyor.services.shadow import ShadowOperation
from purveyor_hooks import (
    BadInput,
    Conflict,
    Failed,
    Finding,
    NotFound,
    RestoreOptions,
)

USED = "backup"  # in a volume's facts: what its data came from
REMEDY = (
    "Say what to bring it back from: purveyor recover service {slug} --backup BACKUP, or "
    "--empty for one without data."
)


class RecoverArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` is an id or a name. Without a `backup` what the recovery has chosen is used, the
    next one when the best one does not come; `empty` is a person's word for a service that comes
    back without data."""

    service: str
    backup: str = ""
    empty: bool = False
    accept_unsigned: bool = False


class Recover(ShadowOperation):
    """Begun anew as often as it takes: what a try that was interrupted has filled is never used."""

    name: ClassVar[str] = "recover"
    arguments = RecoverArguments

    def target(self, tx: Tx, given: RecoverArguments) -> Target:
        return Target(service=services.get(tx, given.service).id)

    def validate_and_record(self, tx: Tx, given: RecoverArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        under_way = recovering(tx)
        if under_way is None:
            raise Conflict(
                "No recovery is under way.", remedy="To restore a backup: purveyor backup restore"
            )
        if record.state != "creating" or record.imported is not None:
            raise Conflict(
                f"{record.name} is {record.state}: there is nothing to bring back.",
                remedy="See: purveyor recover status",
            )
        choice = _choice(tx, given, under_way.choices.get(record.id, Choice()))
        if not choice.backups and not choice.empty:
            raise BadInput(
                f"{record.name} cannot be brought back: "
                f"{choice.reason or 'there is no backup of it.'}",
                remedy=REMEDY.format(slug=record.slug),
                errors={"backup": "which one?"},
            )
        shown = {
            "name": record.name,
            "backups": list(choice.backups),
            "base": bool(choice.backups) and backups.get(tx, choice.backups[0]).backup_type == BASE,
            "at": under_way.at.isoformat() if under_way.at else "",
            "highest": under_way.highest,
            "keep_purged": under_way.keep_purged,
            "accept_unsigned": choice.accept_unsigned,
        }
        return operations.insert(tx, self.name, service_id=record.id, actor=actor, arguments=shown)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        return self.plan_of_new(tx, operation, "create")

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id = operation.service
        steps = self.shadow_steps(operation, service_id)
        if operation.arguments["base"]:
            steps.insert(2, self.data_step("unpack", lambda: self._unpack(operation)))
            steps.insert(5, self.data_step("arrive", lambda: self._arrive(operation)))
        elif operation.arguments["backups"]:
            steps.append(
                self.data_step(
                    "restore",
                    lambda: self.fill(operation, service_id, lambda: self._restore(operation)),
                )
            )
        steps.append(Step("claims", lambda: self._claims(operation), deadline=600.0))
        steps.append(self.accounts_step(service_id))
        return [
            *steps,
            Step("as it was", lambda: self._as_it_was(service_id), deadline=STOP_DEADLINE),
        ]

    # ---------------------------------------------------------------- data

    async def _unpack(self, operation: OperationRecord) -> None:
        backup, verified = await self._first(operation)
        record = await self.load(operation.service)
        volume = await self.context.store.read(
            lambda tx: services.volume(tx, record.volume_id or "")
        )
        at = (
            datetime.fromisoformat(operation.arguments["at"]) if operation.arguments["at"] else None
        )
        await pitr.unpack(
            self.context, backup, verified, record, volume, at, self.teller(operation, "unpack")
        )

    async def _arrive(self, operation: OperationRecord) -> None:
        record = await self.load(operation.service)
        outcome = await pitr.arrive(self.context, record, self.teller(operation, "arrive"))
        await self.context.store.write(
            lambda tx: operations.note_outcome(tx, operation.id, outcome)
        )

    async def _restore(self, operation: OperationRecord) -> None:
        """From the best backup whose every byte holds. One that turns out to be damaged is named,
        and the next one taken; what fails for any other reason is no reason for older data."""
        service_id = operation.service
        passed: list[Finding] = []
        numbers = operation.arguments["backups"]
        for number in numbers:
            backup = await self.context.store.read(lambda tx: backups.get(tx, number))  # noqa: B023
            try:
                verified = await self._verified(operation, backup)
                record, tell = await self.load(service_id), self.teller(operation, "restore")
                findings = await self.context.part(BackupRepository).read_into(
                    backup, verified, record, tell, RestoreOptions()
                )
            except (BadInput, NotFound) as error:
                passed.append(
                    Finding(where="", what=f"the backup {backup.backup_id}", why=error.detail)
                )
                if number == numbers[-1]:
                    raise Failed(
                        f"No backup of {operation.arguments['name']} could be restored: "
                        f"{error.detail}",
                        remedy=REMEDY.format(slug=(await self.load(service_id)).slug),
                    ) from error
                await self._anew(operation)
                continue
            await self.compare(
                operation, verified.manifest.census, service_id, [*passed, *findings]
            )
            await self.context.store.write(lambda tx: _note_used(tx, service_id, number))  # noqa: B023
            return

    async def _anew(self, operation: OperationRecord) -> None:
        """An empty service again: half of a backup is none."""
        await self._empty(operation.service)
        for step in self.shadow_steps(operation, operation.service):
            await step.do()

    async def _verified(self, operation: OperationRecord, backup: BackupRecord) -> Verified:
        return await self.context.part(BackupRepository).manifest(
            backup, accept_unsigned=operation.arguments["accept_unsigned"]
        )

    async def _first(self, operation: OperationRecord) -> tuple[BackupRecord, Verified]:
        backup = await self.context.store.read(
            lambda tx: backups.get(tx, operation.arguments["backups"][0])
        )
        return backup, await self._verified(operation, backup)

    # ---------------------------------------------------------------- whose it is

    async def _claims(self, operation: OperationRecord) -> None:
        """Bring what the state says of the bindings, and what the data holds, into one: by number,
        never by name.

        A name may have been given to somebody else since. Whatever a person purged after the backup
        is purged again, before any account is opened: its successor must not find it.
        """
        service_id, used = operation.service, await self._used_by(operation)
        if used is None:
            return
        held = {item.number: item for item in used}
        rows = await self.context.store.read(
            lambda tx: projects.bindings(tx, service_id=service_id)
        )
        known = {item.origin or item.id for item in rows}
        only_held = [item for number, item in sorted(held.items()) if number not in known]
        taken = {item.resource for item in rows} | {
            item.slot for item in rows if item.slot is not None
        }
        keep = operation.arguments["keep_purged"]
        again = [
            item
            for item in only_held
            if item.number <= operation.arguments["highest"]
            and not (keep and not taken & {item.resource, item.slot})
        ]
        record = await self.load(service_id)
        service = handle_of(self.context, record)
        for item in again:
            await service.purge(item.view())
        kept = [item for item in only_held if item not in again]
        numbered = service.kind.numbered_accounts
        await self.context.store.write(
            lambda tx: _settle(tx, service_id, held, kept, numbered=numbered)
        )

    async def _used_by(self, operation: OperationRecord) -> Sequence[HeldBinding] | None:
        """Whose the data of the backup is that was used; None where there is none, or where more
        followed it: the archive's changes have brought it to what the state says."""
        if operation.arguments["base"] or not operation.arguments["backups"]:
            return None

        def look(tx: Tx) -> BackupRecord:
            volume = services.volume(tx, services.get(tx, operation.service).volume_id or "")
            return backups.get(tx, (volume.facts or {})[USED])

        backup = await self.context.store.read(look)
        return (await self._verified(operation, backup)).manifest.bindings

    async def _as_it_was(self, service_id: int) -> None:
        """A service that its owner had stopped is stopped."""
        record = await self.load(service_id)
        if record.desired == "stopped":
            await self.provision.stop(service_id)

    # ---------------------------------------------------------------- the end

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        services.end_filling(tx, operation.service)
        services.update(tx, operation.service, state="active", refusal="")

    def on_failure(self, tx: Tx, operation: OperationRecord, error: Mapping[str, Any]) -> None:
        """It stays what it was: recorded, and not there. Nothing of it was handed to anybody."""
        record = services.find(tx, operation.service)
        if record is None:
            return
        services.end_filling(tx, record.id)
        services.update_volume(tx, record.volume_id or "", state="new", identity="", major="")


def _choice(tx: Tx, given: RecoverArguments, chosen: Choice) -> Choice:
    if given.empty:
        return Choice(empty=True)
    if given.backup:
        backup = backups.get(tx, given.backup)
        return Choice(backups=(backup.id,), accept_unsigned=given.accept_unsigned)
    return msgspec.structs.replace(
        chosen, accept_unsigned=chosen.accept_unsigned or given.accept_unsigned
    )


def _note_used(tx: Tx, service_id: int, number: int) -> None:
    volume = services.volume(tx, services.get(tx, service_id).volume_id or "")
    services.update_volume(tx, volume.id, facts={**(volume.facts or {}), USED: number})


def _settle(
    tx: Tx,
    service_id: int,
    held: Mapping[int, HeldBinding],
    only_held: Sequence[HeldBinding],
    *,
    numbered: bool,
) -> None:
    """The data's own names hold where they differ, but for accounts that a newer credential has
    replaced since; what is younger than the state is kept for whoever it belonged to."""
    for row in projects.bindings(tx, service_id=service_id):
        item = held.get(row.origin or row.id)
        if item is None:
            continue
        account = row.account if numbered else item.account
        if (item.resource, account, item.slot) != (row.resource, row.account, row.slot):
            projects.update_binding(
                tx, row.id, resource=item.resource, account=account, slot=item.slot
            )
    for item in only_held:
        take_in(tx, service_id, item)
