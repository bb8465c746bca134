"""verify-backup: verify a backup by restoring it."""

import re
from typing import Any, ClassVar

import msgspec

from purveyor.backups import store as backups
from purveyor.backups.kinds import BASE
from purveyor.backups.manifest import KeyMissing, Verified
from purveyor.backups.models import BackupRecord
from purveyor.backups.operations.backup import (
    DIFFERENCES,
    VerifyArguments,
    doubt,
    image_for,
    require_vouched,
    usable,
)
from purveyor.backups.repository import BackupRepository, StorageUnavailable
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord, Outcome
from purveyor.providers.provider import PluginFault
from purveyor.services import store as services
from purveyor.services.handle import handle_of
from purveyor.services.operations.base import step_names
from purveyor.services.shadow import ShadowOperation
from purveyor_hooks import (
    BadInput,
    DeadlineExceeded,
    Failed,
    Finding,
    ImageMissing,
    NotFound,
    PurveyorError,
    RestoreOptions,
)

DEEP = "deep"  # in a backup's metadata: its verification compared contents
# What servers and their programs say when the disk or the memory that they were given is used up.
NO_ROOM = re.compile(
    r"no space left|disk (is )?full|storage ?full|insufficient ?storage|out of memory|cannot "
    r"allocate",
    re.I,
)


class VerifyBackup(ShadowOperation):
    """Restore a backup into a service made for that, count or compare what is in it, and take it
    away again."""

    name: ClassVar[str] = "verify-backup"
    subject: ClassVar[str] = "backup"
    lock: ClassVar[str] = "verify"
    arguments = VerifyArguments

    def validate_and_record(self, tx: Tx, given: VerifyArguments, actor: str) -> int:
        backup = usable(tx, given.backup)
        require_vouched(backup, given.accept_unsigned)
        if backup.backup_type == BASE:
            remedy = (
                f"Restore it into a new service: purveyor backup restore {backup.id} --new NAME"
            )
            raise BadInput(
                "A base copy is not compared by counting.",
                remedy=remedy,
                errors={"backup": "a base copy"},
            )
        provider = self.context.registry.provider(backup.service_type)
        provider.require("restore", "restores")
        if given.deep:
            provider.require("contents", "the comparison of contents")
        facts = backup.metadata
        slug = f"backup-{backup.id}.verify"
        image = image_for(self.context, backup)
        scratch = self.make_like(
            tx, backup.service_name, backup.service_type, image, facts["parameters"], scratch=slug
        )
        shown = {
            "name": backup.service_name,
            "backup": backup.id,
            "scratch": scratch,
            "accept_unsigned": given.accept_unsigned,
        }
        shown["deep"] = given.deep
        return operations.insert(tx, self.name, service_id=None, actor=actor, arguments=shown)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        backup = backups.get(tx, operation.arguments["backup"])
        return Plan(
            verb=self.name, subject=backup.backup_id, steps=step_names(self.steps(operation))
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        scratch = operation.arguments["scratch"]
        restore = self.data_step(
            "restore",
            lambda: self.fill(operation, scratch, lambda: self._restore(operation, scratch)),
        )
        steps = [*self.shadow_steps(operation, scratch), restore]
        if operation.arguments.get("deep"):
            steps.append(
                self.data_step("compare contents", lambda: self._compare(operation, scratch))
            )
        return [*steps, self.discard_step(operation, scratch)]

    async def _restore(self, operation: OperationRecord, scratch: int) -> None:
        try:
            backup, verified = await self._verified(operation)
            record, tell = await self.load(scratch), self.teller(operation, "restore")
            findings = await self.context.part(BackupRepository).read_into(
                backup, verified, record, tell, RestoreOptions()
            )
            await self.compare(operation, verified.manifest.census, scratch, findings)
        except (BadInput, NotFound, Failed) as error:
            if await self._speaks_against_it(error, scratch):
                found = Outcome(findings=(Finding(where="", what="", why=error.detail),))
                await self.context.store.write(
                    lambda tx: operations.note_outcome(tx, operation.id, found)
                )
            raise

    async def _verified(self, operation: OperationRecord) -> tuple[BackupRecord, Verified]:
        backup = await self.context.store.read(
            lambda tx: backups.get(tx, operation.arguments["backup"])
        )
        accept = operation.arguments.get("accept_unsigned", False)
        return backup, await self.context.part(BackupRepository).manifest(
            backup, accept_unsigned=accept
        )

    async def _speaks_against_it(self, error: PurveyorError, scratch: int) -> bool:
        """Whether a failure says something about the backup, and not about what it was restored
        into or read from, or a plugin. A server that is well after it, and has room, was given
        something that it does not take."""
        if isinstance(error, BadInput):
            return not isinstance(error, KeyMissing)
        if isinstance(
            error, StorageUnavailable | DeadlineExceeded | ImageMissing | PluginFault
        ) or NO_ROOM.search(error.detail):
            return False
        try:
            record = await self.load(scratch)
            found = await self.context.engine.containers.inspect(record.container_name)
            if found is None or found.restarts:  # it ended under it, and was brought back
                return False
            return (await handle_of(self.context, record).ready()).healthy
        except PurveyorError:
            return False

    async def _compare(self, operation: OperationRecord, scratch: int) -> None:
        """Beside the numbers, what the things are."""
        backup, verified = await self._verified(operation)
        record, tell = await self.load(scratch), self.teller(operation, "compare contents")
        found = await self.context.part(BackupRepository).compare_contents(
            backup, verified, record, tell
        )

        def note(tx: Tx) -> None:
            outcome = operations.outcome(tx, operation.id)
            # an earlier try may have noted some
            differences = tuple(dict.fromkeys((*outcome.differences, *found)))
            operations.note_outcome(
                tx, operation.id, msgspec.structs.replace(outcome, differences=differences)
            )

        await self.context.store.write(note)

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        """Verified, when all that was written came back and nothing else speaks against it. Else it
        is usable with what is named, and not called verified."""
        backup = backups.get(tx, operation.arguments["backup"])
        if doubt(tx, operation, backup):
            return
        facts = {
            name: value
            for name, value in backup.metadata.items()
            if name not in (DIFFERENCES, DEEP)
        }
        if operation.arguments.get("deep"):
            facts[DEEP] = True
        backups.update(tx, backup.id, metadata=facts)
        if not facts.get("suspect"):  # what an earlier verification said is answered
            seconds = (tx.now - operation.created_at).total_seconds()
            note = facts.get("note", "")
            backups.update(
                tx,
                backup.id,
                state="ok",
                error_message=note,
                proven_at=tx.now,
                proven_seconds=seconds,
            )

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        if services.find(tx, operation.arguments["scratch"]):
            services.forget_scratch(tx, operation.arguments["scratch"])
        backup = backups.find(tx, operation.arguments["backup"])
        if backup is not None:
            doubt(tx, operation, backup)
