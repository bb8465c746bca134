"""Users as the database has them."""

from datetime import datetime

from purveyor.kernel.db.models import Record


class UserRecord(Record, frozen=True):
    """Somebody with a name. One who was removed stays as a row, so that nobody else is ever called
    so."""

    id: int
    name: str
    created_at: datetime
    disabled_at: datetime | None
    removed_at: datetime | None
