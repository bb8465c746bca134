"""Backups, sources and schedules as the database has them."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from purveyor.kernel.db.models import Record


class SourceRecord(Record, frozen=True):
    """A bucket that backups go to."""

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


class LastResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a schedule's last run: how many backups were made, failed, and were not even
    tried."""

    made: int = 0
    suspect: int = 0
    failed: int = 0
    skipped: int = 0


class ScheduleRecord(Record, frozen=True):
    """When backups are made by themselves. Without `service_ids` every service that can be backed
    up is meant.

    The cron line is read in `timezone` (IANA); `jitter` are seconds by which a run may come later,
    so that many installations do not meet at one bucket.
    """

    id: int
    name: str
    backup_type: str
    retention_period: int
    retention_count: int
    schedule_expression: str
    enabled: bool
    description: str
    tags: list[str]
    s3_source_id: int | None
    service_ids: list[int]
    verify: bool
    next_run: datetime | None
    last_run: datetime | None
    created_at: datetime
    timezone: str = "UTC"
    jitter: int = 0
    last_result: LastResult | None = None
    verify_deep: bool = False


class BackupRecord(Record, frozen=True):
    id: int
    backup_id: str
    service_id: int | None
    service_name: str
    service_type: str
    state: Literal["running", "ok", "suspect", "failed"]
    backup_type: str
    s3_source_id: int | None
    schedule_id: int | None
    folder: str
    location: str
    size_bytes: int
    plain_bytes: int
    checksum: str
    encryption: str
    error_message: str
    metadata: dict[str, Any]
    proven_at: datetime | None
    proven_seconds: float | None
    started_at: datetime
    completed_at: datetime | None
    expires_at: datetime | None

    @property
    def skipped(self) -> bool:
        """It was due, and not even begun: stored as failed, for the table of the first version
        knows no other word."""
        return bool(self.metadata.get("skipped"))

    @property
    def interrupted(self) -> bool:
        """The daemon ended while it was written."""
        return bool(self.metadata.get("interrupted"))
