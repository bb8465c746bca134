"""Archives as the API is told and tells them."""

from datetime import datetime

import msgspec


class ArchiveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Continuous archiving of a service, to a bucket or a folder of this host."""

    service_id: int | str
    s3_source_id: int | str | None = None
    encrypt: bool | None = None
    keep_days: int = 7


class ArchiveView(msgspec.Struct, frozen=True, kw_only=True):
    """`state` is starting, following, waiting (for its place) or broken, `reason` why. Every moment
    up to `until` can be restored; `lag_seconds` is how long ago that is, `queue_bytes` what
    waits."""

    service_id: int
    service: str
    s3_source_id: int | None
    state: str
    reason: str
    since: datetime | None
    until: datetime | None
    lag_seconds: float | None
    queue_bytes: int
    base_at: datetime | None
    keep_days: int
    encryption: str


class MomentRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A moment, with its time zone; without one, the last that there is. An archive that lacks a
    file of changes is refused, and with `keep_going` restored up to that file at most."""

    at: datetime | None = None
    new_name: str | None = None
    service_id: int | str | None = None
    keep_going: bool = False
