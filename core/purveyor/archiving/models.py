"""Archives as the database has them."""

from datetime import datetime
from typing import Literal

from purveyor.kernel.db.models import Record


class ArchiveRecord(Record, frozen=True):
    """A service whose every change is written down: `until` is the last moment that can be
    restored."""

    id: int
    service_id: int
    s3_source_id: int | None
    encryption: str
    keep_days: int
    volume_id: str | None
    folder: str
    state: Literal["starting", "following", "waiting", "broken"]
    reason: str
    until: datetime | None
    queue_bytes: int
    base_at: datetime | None
    created_at: datetime
