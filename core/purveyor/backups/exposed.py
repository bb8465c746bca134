"""What is done to backups, to the places where they go and to schedules, as people come to it."""

from functools import partial

from purveyor.exposed import Command, Exposed

BACKUPS = "/api/backups"
BACKUP = f"{BACKUPS}/{{reference:backup}}"
SOURCES = f"{BACKUPS}/s3-sources"
SOURCE = f"{SOURCES}/{{reference:source}}"
SCHEDULES = f"{BACKUPS}/schedules"
SCHEDULE = f"{SCHEDULES}/{{reference:schedule}}"
SCHEMAS = "purveyor.backups.schemas"
ROUTES = "purveyor.backups.routes"
RECORD = "purveyor.backups.models:ScheduleRecord"

_of_backups = partial(Exposed, tag="backups")

RUN_BACKUP = _of_backups(
    "backup",
    f"POST {BACKUPS}/external-services/{{service}}/run",
    "run_backup",
    body=f"{SCHEMAS}:RunRequest",
    optional=True,
    status=201,
    answers=f"{ROUTES}:backup_made",
)
RESTORE = _of_backups(
    "restore",
    f"POST {BACKUP}/restore",
    "restore_backup",
    body=f"{SCHEMAS}:RestoreRequest",
    status=201,
    answers="purveyor.services.routes:service_made",
)
VERIFY_BACKUP = _of_backups(
    "verify-backup",
    f"POST {BACKUP}/verify",
    "verify_backup",
    query=("accept_unsigned", "deep"),
    answers=f"{ROUTES}:backup_made",
    command=Command(
        "verify",
        "Verify a backup: restore it into a temporary service, and count what is in it.",
        "Verifying {backup}",
        flags={
            "deep": "Compare what is in it as well: each table, key, object, document.",
            "accept_unsigned": "Use it although nothing proves that it is yours: who wrote it "
            "chooses what is run.",
        },
    ),
)
DELETE_BACKUP = _of_backups(
    "delete-backup",
    f"DELETE {BACKUP}",
    "delete_backup",
    status=204,
    command=Command(
        "delete",
        "Delete a backup and its files.",
        "Deleting {backup}",
        destroys="This permanently deletes the backup {backup}.",
        typed="backup",
        thing="its id",
        says="The backup {backup} is deleted.",
        tells={"deleted": "{backup}"},
    ),
)
ADOPT_FROM_BUCKET = _of_backups(
    "adopt-backups",
    f"POST {SOURCE}/adopt",
    "adopt_from_bucket",
    about="Register the backups in the bucket that have no record, so that they can be restored.\n"
    "``X-Refused`` says how many were not: see what the bucket holds.",
    query=("accept_unsigned",),
    answers=f"{ROUTES}:adopted",
)
ADOPT_FROM_FOLDER = _of_backups(
    "adopt-backups",
    f"POST {BACKUPS}/adopt",
    "adopt_from_folder",
    about="Register the backups in the folder of backups that have no record.",
    query=("accept_unsigned",),
    answers=f"{ROUTES}:adopted",
)
CREATE_SOURCE = _of_backups(
    "create-s3-source",
    f"POST {SOURCES}",
    "create_source",
    body=f"{SCHEMAS}:SourceRequest",
    status=201,
    answers=f"{SCHEMAS}:SourceView",
)
UPDATE_SOURCE = _of_backups(
    "update-s3-source",
    f"PUT {SOURCE}",
    "update_source",
    body=f"{SCHEMAS}:SourceChange",
    answers=f"{SCHEMAS}:SourceView",
)
DELETE_SOURCE = _of_backups(
    "delete-s3-source",
    f"DELETE {SOURCE}",
    "delete_source",
    status=204,
    command=Command(
        "delete",
        "Remove a backup destination. Its contents are kept.",
        metavars={"source": "NAME"},
        says="{source} is forgotten; what is in it stays.",
        tells={"deleted": "{source}"},
    ),
)
CREATE_SCHEDULE = _of_backups(
    "create-schedule",
    f"POST {SCHEDULES}",
    "create_schedule",
    body=f"{SCHEMAS}:ScheduleRequest",
    status=201,
    answers=RECORD,
)
UPDATE_SCHEDULE = _of_backups(
    "update-schedule",
    f"PUT {SCHEDULE}",
    "update_schedule",
    body=f"{SCHEMAS}:ScheduleChange",
    answers=RECORD,
)
DELETE_SCHEDULE = _of_backups(
    "delete-schedule",
    f"DELETE {SCHEDULE}",
    "delete_schedule",
    status=204,
    command=Command(
        "delete",
        "Delete a schedule. Its backups are kept.",
        metavars={"schedule": "NAME"},
        says="{schedule} is deleted; its backups stay.",
        tells={"deleted": "{schedule}"},
    ),
)
# one route has both words, which is written by hand
ENABLE_SCHEDULE = _of_backups(
    "enable-schedule",
    f"POST {SCHEDULE}/enable",
    "",
    answers=RECORD,
    command=Command(
        "enable",
        "Enable a schedule.",
        metavars={"schedule": "NAME"},
        says="{schedule} is enabled.",
    ),
)
DISABLE_SCHEDULE = ENABLE_SCHEDULE._replace(
    operation="disable-schedule",
    at=f"POST {SCHEDULE}/disable",
    command=Command(
        "disable",
        "Disable a schedule.",
        metavars={"schedule": "NAME"},
        says="{schedule} is disabled.",
    ),
)
