"""The events of users and sessions, but for those of operations."""

from purveyor.kernel.events.catalog import Described
from purveyor_hooks import events

EVENTS: tuple[Described, ...] = (
    ("user.created", "A user was added.",
    events.UserChanged(id=1, name="ada", actor="grace", token=2)),
    ("user.disabled", "A user may not come in any more; the tokens of that user have ended.",
     events.UserChanged(id=1, name="ada", actor="grace", token=2)),
    ("user.enabled", "A user may have tokens again.",
    events.UserChanged(id=1, name="ada", actor="grace", token=2)),
    ("user.removed", "A user was removed; the name stays that one's.",
     events.UserChanged(id=1, name="ada", actor="grace", token=2)),
    ("session.opened", "Somebody signed in at the dashboard.",
    events.SessionOpened(id=1, token="ada", peer="127.0.0.1")),
    ("session.ended", "Somebody signed out, or had a session ended.",
    events.SessionEnded(id=1, actor="token:ada")),
    ("session.refused", "Somebody failed to sign in; told once a minute at most.",
     events.Refused(count=40, peers=["192.0.2.7"])),
)  # fmt: skip
