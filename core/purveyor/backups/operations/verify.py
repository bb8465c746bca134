"""verify-backup: prove a backup by restoring it."""

from typing import Any, ClassVar

from purveyor.backups import store as backups
from purveyor.backups.kinds import BASE
from purveyor.backups.operations.backup import DIFFERENCES, ProveArguments, doubt, image_for, require_vouched, usable
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import store as services
from purveyor.services.operations.base import step_names
from purveyor.services.shadow import BesideVerb
from purveyor_hooks import BadInput, RestoreOptions


class VerifyBackup(BesideVerb):
    """Restore a backup into a service made for that, count what is in it, and take it away again."""

    name: ClassVar[str] = "verify-backup"
    subject: ClassVar[str] = "backup"
    lock: ClassVar[str] = "verify"
    arguments = ProveArguments

    def intend(self, tx: Tx, given: ProveArguments, actor: str) -> int:
        backup = usable(tx, given.backup)
        require_vouched(backup, given.accept_unsigned)
        if backup.backup_type == BASE:
            remedy = f"Restore it into a new service: purveyor backup restore {backup.id} --new NAME"
            raise BadInput("A base copy is not compared by counting.", remedy=remedy, errors={"backup": "a base copy"})
        self.house.registry.provider(backup.service_type).require("restore", "restores")
        facts = backup.metadata
        slug = f"backup-{backup.id}.verify"
        image = image_for(self.house, backup)
        scratch = self.make_like(tx, backup.service_name, backup.service_type, image, facts["parameters"], scratch=slug)
        shown = {"name": backup.service_name, "backup": backup.id, "scratch": scratch, "accept_unsigned": given.accept_unsigned}
        return operations.insert(tx, self.name, service_id=None, actor=actor, arguments=shown)

    def describe(self, tx: Tx, operation: OperationRecord) -> Plan:
        backup = backups.get(tx, operation.arguments["backup"])
        return Plan(verb=self.name, subject=backup.backup_id, steps=step_names(self.steps(operation)))

    def steps(self, operation: OperationRecord) -> list[Step]:
        scratch = operation.arguments["scratch"]
        restore = self.data_step("restore", lambda: self.fill(operation, scratch, lambda: self._restore(operation, scratch)))
        return [*self.beside_steps(operation, scratch), restore, self.discard_step(operation, scratch)]

    async def _restore(self, operation: OperationRecord, scratch: int) -> None:
        store = self.house.store
        backup = await store.read(lambda tx: backups.get(tx, operation.arguments["backup"]))
        accept = operation.arguments.get("accept_unsigned", False)
        verified, record = await self.keeper.manifest(backup, accept_unsigned=accept), await self.load(scratch)
        findings = await self.keeper.read_into(backup, verified, record, self.teller(operation, "restore"), RestoreOptions())
        await self.compare(operation, verified.manifest.census, scratch, findings)

    def succeed(self, tx: Tx, operation: OperationRecord) -> None:
        """Proven, when all that was written came back and nothing else speaks against it. Else it is usable with what is named,
        and not called proven."""
        backup = backups.get(tx, operation.arguments["backup"])
        if doubt(tx, operation, backup):
            return
        facts = {name: value for name, value in backup.metadata.items() if name != DIFFERENCES}
        backups.update(tx, backup.id, metadata=facts)
        if not facts.get("suspect"):  # what an earlier verification said is answered
            seconds = (tx.now - operation.created_at).total_seconds()
            note = facts.get("note", "")
            backups.update(tx, backup.id, state="ok", error_message=note, proven_at=tx.now, proven_seconds=seconds)

    def fail(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        if services.find(tx, operation.arguments["scratch"]):
            services.forget_scratch(tx, operation.arguments["scratch"])
        backup = backups.find(tx, operation.arguments["backup"])
        tried = any(step.name == "restore" and step.state == "failed" for step in operations.steps(tx, operation.id))
        if (
            backup is not None and tried and error.get("code") in ("bad-input", "failed", "not-found")
        ):  # else it was never looked at
            message = f"It could not be proven: {error.get('detail', '')}"
            backups.update(tx, backup.id, state="suspect", error_message=message)
