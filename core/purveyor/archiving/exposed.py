"""Archiving and the way back to a moment, as people come to them."""

from functools import partial

from purveyor.backups.exposed import BACKUPS
from purveyor.exposed import Command, Exposed

ARCHIVE = f"{BACKUPS}/archives/{{service}}"
SCHEMAS = "purveyor.archiving.schemas"

_of_archive = partial(Exposed, tag="backups")

BEGIN_ARCHIVE = _of_archive(
    "archive",
    f"POST {BACKUPS}/archives",
    "begin_archive",
    body=f"{SCHEMAS}:ArchiveRequest",
    renamed={"service_id": "service"},
    status=201,
    answers="purveyor.archiving.routes:archive_made",
)
END_ARCHIVE = _of_archive(
    "end-archive",
    f"DELETE {ARCHIVE}",
    "end_archive",
    status=204,
    command=Command(
        "stop",
        "Stop continuous archiving. Existing archives are kept, and can be restored.",
        "Ending the archive of {service}",
        interrupts="What {service} writes from now on can be restored from backups alone.",
        says="{service} is archived no more.",
        tells={"ended": "{service}"},
    ),
)
RESTORE_MOMENT = _of_archive(
    "restore",
    f"POST {BACKUPS}/archives/{{service:archive}}/restore",
    "restore_moment",
    body=f"{SCHEMAS}:MomentRequest",
    status=201,
    answers="purveyor.services.routes:service_made",
)
