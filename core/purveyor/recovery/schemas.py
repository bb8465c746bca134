"""What the API says of copies of the state and of a recovery."""

from datetime import datetime

import msgspec

from purveyor.recovery.copier import Status


class CopyView(msgspec.Struct, frozen=True, kw_only=True):
    """The copy of the state at one place: `current` when it holds all that has changed,
    `superseded` when another installation has taken over there."""

    place: str
    current: bool
    at: datetime | None
    size_bytes: int
    error: str
    superseded: str
    behind_since: datetime | None


def copy_view(status: Status) -> CopyView:
    return CopyView(
        place=status.place,
        current=status.at is not None and status.behind_since is None and not status.superseded,
        at=status.at,
        size_bytes=status.size,
        error=status.error,
        superseded=status.superseded,
        behind_since=status.behind_since,
    )


class ServiceBack(msgspec.Struct, frozen=True, kw_only=True):
    """A service of a recovery: `state` is waiting, back or missing; `operation` says what was not
    as it was."""

    service: str
    service_id: int
    state: str
    operation: int | None
    error: str
    differences: list[str]


class RecoveryView(msgspec.Struct, frozen=True, kw_only=True):
    """A recovery that no person has called finished yet."""

    since: datetime
    place: str
    host: str
    state_of: datetime
    at: datetime | None
    services: list[ServiceBack]
    notes: list[str]


class StateView(msgspec.Struct, frozen=True, kw_only=True):
    recovery: RecoveryView | None
    copies: list[CopyView]


class RecoverServiceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to bring one service back from: a `backup`, or nothing (`empty`)."""

    backup: str = ""
    empty: bool = False
    accept_unsigned: bool = False


class TakenOver(msgspec.Struct, frozen=True, kw_only=True):
    """The term in which this installation writes from now on."""

    term: int
