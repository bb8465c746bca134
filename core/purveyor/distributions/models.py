"""What was installed beside Purveyor, as the database has it."""

from datetime import datetime

from purveyor.kernel.db.models import Record


class InstalledRecord(Record, frozen=True):
    """A distribution that was installed: the wheel that it came from, and the hash of its list of
    files (RECORD)."""

    distribution: str
    version: str
    source: str
    sha256: str
    size_bytes: int
    record_sha256: str
    installed_at: datetime
    actor: str
