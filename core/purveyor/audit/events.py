"""The events of the audit log, but for those of operations."""

from purveyor.kernel.events.catalog import Described
from purveyor_hooks import events

EVENTS: tuple[Described, ...] = (
    ("audit.cut",
    "The oldest entries of the audit log were let go, as `audit-days` says, or stayed on a lost host.",
     events.AuditCut(first=1, last=512)),
)  # fmt: skip
