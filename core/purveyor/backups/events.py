"""The events of backups, their destinations and schedules, but for those of operations."""

from purveyor.kernel.events.catalog import Described
from purveyor_hooks import events

EVENTS: tuple[Described, ...] = (
    ("backup.adopted", "A backup that was found at a destination was registered.",
     events.Adopted(id=7, backup_id="20261125T131353Z-3f9a2c", service="main")),
    ("backup.skipped", "A backup that a schedule had due was not made: its service did not run.",
     events.BackupSkipped(id=7, schedule="nightly", reason="it is stopped")),
    ("s3-source.created", "A bucket for backups was added.", events.Named(id=1, name="offsite")),
    ("s3-source.updated", "A bucket for backups was changed.",
    events.Changed(id=1, changes=["secret_key"])),
    ("s3-source.deleted", "A bucket for backups was forgotten.",
    events.Named(id=1, name="offsite")),
    ("schedule.created", "A schedule was made.", events.Named(id=1, name="nightly")),
    ("schedule.updated", "A schedule was changed.", events.Changed(id=1, changes=["jitter"])),
    ("schedule.deleted", "A schedule was deleted.", events.Named(id=1, name="nightly")),
    ("schedule.enabled", "A schedule goes on.", events.Named(id=1, name="nightly")),
    ("schedule.disabled", "A schedule was disabled.", events.Named(id=1, name="nightly")),
)  # fmt: skip
