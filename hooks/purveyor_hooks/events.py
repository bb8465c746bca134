"""What events carry: one type of payload for each kind of event. The catalogue is generated from
these."""

from purveyor_hooks.types import Value


class Payload(Value, frozen=True, forbid_unknown_fields=True):
    """What `Event.data` holds."""


class Nothing(Payload, frozen=True):
    """Nothing: the type says it all."""


class Started(Payload, frozen=True):
    """Who asked (`actor`, and the number of the `token` that was shown), and the names of the
    `steps` to come."""

    actor: str
    steps: list[str]
    token: int | None = None


class Stepped(Payload, frozen=True):
    """A step began ("started"), ended ("done") or failed; `error` says why."""

    step: str
    state: str
    error: str = ""


class Progressed(Payload, frozen=True):
    """How far a long step is, in words."""

    step: str
    text: str


class Waits(Payload, frozen=True):
    """What was begun cannot be taken back now, `because`; it is tried again. `error` is what it
    failed with."""

    error: str
    because: str


class Ended(Payload, frozen=True):
    """What it failed with, what to do, and the error's stable code."""

    error: str
    remedy: str
    code: str


class Abandoned(Payload, frozen=True):
    """Who left it as it is (`actor`, `token`), why it could not be ended, and the steps that were
    begun and not taken back."""

    actor: str
    error: str
    left: list[str]
    token: int | None = None


class Reason(Payload, frozen=True):
    """Why, when that is known."""

    reason: str = ""


class AppReason(Payload, frozen=True):
    """Which environment and deployment of the event's project, and why, when that is known."""

    environment: str
    deployment: int
    reason: str = ""


class Named(Payload, frozen=True):
    """Which one, by number and name."""

    id: int
    name: str


class Changed(Payload, frozen=True):
    """Which one, and the names of the fields that changed."""

    id: int
    changes: list[str]


class TokenMade(Payload, frozen=True):
    """A token, without its text; `user` is the name of whose it is, `actor` who made it and `token`
    what that one showed."""

    id: int
    name: str
    scope: str
    user: str = ""
    actor: str = ""
    token: int | None = None


class TokenEnded(Payload, frozen=True):
    """Which token, by number; `actor` is who ended it and `token` what that one showed."""

    id: int
    actor: str = ""
    token: int | None = None


class UserChanged(Payload, frozen=True):
    """Which user, by number and name; `actor` is who did it and `token` what that one showed."""

    id: int
    name: str
    actor: str
    token: int | None = None


class AuthorityChanged(Payload, frozen=True):
    """Which certificate authority, by number; `actor` is who did it and `token` what that one
    showed."""

    id: int
    actor: str
    token: int | None = None


class PluginInstalled(Payload, frozen=True):
    """Which distribution, in which version, from which wheel; `actor` is who did it and `token`
    what that one showed."""

    distribution: str
    version: str
    sha256: str
    actor: str
    token: int | None = None


class AuditCut(Payload, frozen=True):
    """The numbers of the first and last entry that the audit log has not any more."""

    first: int
    last: int


class SessionOpened(Payload, frozen=True):
    """A session in a browser: the name of the token that opened it, and from where."""

    id: int
    token: str
    peer: str


class SessionEnded(Payload, frozen=True):
    """A session that somebody ended; `actor` is who."""

    id: int
    actor: str


class Refused(Payload, frozen=True):
    """How many wrong tokens came since the last event of this type, and some of the addresses that
    they came from."""

    count: int
    peers: list[str]


class Revealed(Payload, frozen=True):
    """Who looked, and the number of the token that was shown."""

    actor: str
    token: int | None = None


class Troubled(Payload, frozen=True):
    """Which of the daemon's own loops, and what it failed with."""

    loop: str
    error: str


class BackupSkipped(Payload, frozen=True):
    """`id` is the backup's row, `reason` why none was made."""

    id: int
    schedule: str
    reason: str


class StatePlace(Payload, frozen=True):
    """Where copies of the state go, what keeps one from it, and who else has taken over there."""

    place: str
    error: str = ""
    by: str = ""


class RecoveryDone(Payload, frozen=True):
    """How many services are back after the loss of a host, and the names of those that are not."""

    back: int
    missing: list[str]


class Adopted(Payload, frozen=True):
    """A backup that was found and taken up."""

    id: int
    backup_id: str
    service: str
