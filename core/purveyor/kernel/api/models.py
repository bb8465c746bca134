"""Tokens as the database has them."""

from datetime import datetime
from typing import Literal

from purveyor.kernel.db.models import Record


class TokenRecord(Record, frozen=True):
    id: int
    name: str
    scope: Literal["admin", "read", "project"]
    project_id: int | None
    environment_id: int | None
    user: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
