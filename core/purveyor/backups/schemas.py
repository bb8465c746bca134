"""Backups, sources and schedules as the API is told and tells them."""

from datetime import datetime
from typing import Annotated, Any

import msgspec

from purveyor.backups.models import SourceRecord
from purveyor.kernel.operations import SECRET
from purveyor.kernel.redact import MASK


class BackupView(msgspec.Struct, frozen=True, kw_only=True):
    """A backup: `state` is running, ok, suspect, failed or skipped; `error_message` says why it is
    not ok."""

    id: int
    backup_id: str
    service_id: int | None
    service_name: str
    service_type: str
    state: str
    backup_type: str
    started_at: datetime
    completed_at: datetime | None
    size_bytes: int
    checksum: str
    compression_type: str
    encryption: str
    location: str
    expires_at: datetime | None
    error_message: str
    proven_at: datetime | None
    proven_seconds: float | None
    metadata: dict[str, Any]


class SourceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bucket; it is written to and read from before it is taken. One of this installation's own
    services burns with the host: it is refused, unless `accept_own`."""

    name: str
    bucket_name: str
    access_key_id: str
    secret_key: Annotated[str, SECRET]
    region: str = "us-east-1"
    bucket_path: str = ""
    endpoint: str = ""
    force_path_style: bool = False
    accept_own: bool = False


class SourceChange(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What is to be another; the rest stays."""

    name: str | None = None
    bucket_name: str | None = None
    access_key_id: str | None = None
    secret_key: Annotated[str | None, SECRET] = None
    region: str | None = None
    bucket_path: str | None = None
    endpoint: str | None = None
    force_path_style: bool | None = None


class SourceView(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    name: str
    bucket_name: str
    bucket_path: str
    access_key_id: str
    secret_key: str
    region: str
    endpoint: str
    force_path_style: bool
    created_at: datetime


def source_view(record: SourceRecord) -> SourceView:
    values = {name: getattr(record, name) for name in SourceView.__struct_fields__}
    return SourceView(**{**values, "secret_key": MASK})


class ScheduleRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`schedule_expression` is a cron line, read in `timezone`; a run comes up to `jitter` seconds
    later. Backups older than `retention_period` days, and more than `retention_count` (0: any
    number), are deleted; `verify` proves each one right after it was made, `verify_deep` with its
    contents compared."""

    name: str
    schedule_expression: str
    backup_type: str = "scheduled"
    retention_period: int = 30
    retention_count: int = 0
    enabled: bool = True
    description: str = ""
    tags: list[str] = []
    s3_source_id: int | str | None = None
    service_ids: list[int | str] = []
    verify: bool = False
    verify_deep: bool = False
    timezone: str = "UTC"
    jitter: int = 0


class ScheduleChange(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What is to be another; the rest stays. An `s3_source_id` of "" is the folder of this host, no
    `service_ids` are all services."""

    name: str | None = None
    schedule_expression: str | None = None
    backup_type: str | None = None
    retention_period: int | None = None
    retention_count: int | None = None
    enabled: bool | None = None
    description: str | None = None
    tags: list[str] | None = None
    s3_source_id: int | str | None = None
    service_ids: list[int | str] | None = None
    verify: bool | None = None
    verify_deep: bool | None = None
    timezone: str | None = None
    jitter: int | None = None


class RunRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    s3_source_id: int | str | None = None
    backup_type: str = "manual"
    encrypt: bool | None = None
    keep_days: int | None = None


class RestoreRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Into a new service, or in place of the data of an existing one; `databases` are the only ones
    to restore. In place, a difference between what was saved and what came stops the restore unless
    `keep_going`."""

    new_name: str | None = None
    service_id: int | str | None = None
    at: datetime | None = None
    databases: list[str] = []
    keep_going: bool = False
    accept_unsigned: bool = False


class FoundBackup(msgspec.Struct, frozen=True, kw_only=True):
    """What a bucket itself says that it holds; `problem` is why it cannot be used. One that is not
    `signed` by a key of this installation may say anything."""

    path: str
    backup_id: str = ""
    service: str = ""
    service_type: str = ""
    completed_at: datetime | None = None
    size_bytes: int = 0
    state: str = ""
    signed: bool = False
    problem: str = ""
