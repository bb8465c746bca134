"""Users and sessions as the database has them."""

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


class SessionRecord(Record, frozen=True):
    """Somebody's session in a browser: `token` is the name of what it was opened with, `user` whose
    that is, `peer` and `agent` say from where."""

    id: int
    token_id: int
    token: str
    user: str | None
    peer: str
    agent: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
