"""undo-upgrade: back to the image and the data of before the last upgrade."""

from datetime import UTC, datetime
from typing import ClassVar

import msgspec

from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Target
from purveyor.services import store as services
from purveyor.services.operations.base import require_active, require_own
from purveyor.services.operations.volumes import _Exchange
from purveyor_hooks import Conflict

UNDOABLE = ("upgrade ", "restore ")  # what the data was kept before


class UndoUpgradeArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` is an id or a name."""

    service: str


class UndoUpgrade(_Exchange):
    """Back to the image and the data of before the last upgrade or restore; what was written since
    stays kept."""

    name: ClassVar[str] = "undo-upgrade"
    arguments = UndoUpgradeArguments

    def target(self, tx: Tx, given: UndoUpgradeArguments) -> Target:
        return Target(service=services.get(tx, given.service).id)

    def validate_and_record(self, tx: Tx, given: UndoUpgradeArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        require_active(record)
        require_own(record)
        found = [
            item
            for item in services.volumes(tx, ["kept"])
            if (item.facts or {}).get("service") == record.id
            and str((item.facts or {}).get("before")).startswith(UNDOABLE)
        ]
        if not found:
            raise Conflict(
                f"There is nothing to go back to: no data of {record.name} from before an upgrade "
                "is kept.",
                remedy="Restore a backup instead: purveyor backup list",
            )
        newest = max(found, key=lambda item: item.kept_at or datetime.min.replace(tzinfo=UTC))
        return self.exchange(tx, record, newest, actor)
