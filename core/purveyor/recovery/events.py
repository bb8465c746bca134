"""The events of copies of the state and recoveries, but for those of operations."""

from purveyor.kernel.events.catalog import Described
from purveyor_hooks import events

EVENTS: tuple[Described, ...] = (
    ("state-copy.late",
    "A place of backups has not taken the copy of this installation's state for a minute.",
     events.StatePlace(place="s3://offsite/", error="The bucket does not answer.")),
    ("state-copy.current", "It has taken it again.", events.StatePlace(place="s3://offsite/")),
    ("state-copy.superseded",
    "Another installation has taken over from this one there: nothing is written there any more.",
     events.StatePlace(place="s3://offsite/", by="web2, at 2026-11-25 13:13:53 UTC (term 7)")),
    ("recovery.done", "After the loss of a host, everything was tried that could be brought back.",
     events.RecoveryDone(back=6, missing=["legacy"])),
    ("recovery.finished",
    "A person has called a recovery finished: apps, webhooks and expiry go on.",
     events.StatePlace(place="s3://offsite/")),
)  # fmt: skip
