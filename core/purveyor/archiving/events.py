"""The events of continuous archives, but for those of operations."""

from purveyor.kernel.events.catalog import Described
from purveyor_hooks import events

REASON = events.Reason(reason="The server does not accept connections.")
EVENTS: tuple[Described, ...] = (
    ("archive.following", "Continuous archiving follows, for the first time or again.",
    events.Reason()),
    ("archive.waiting", "What was written down waits, for its place or its server.", REASON),
    ("archive.broken",
    "Continuous archiving has ended: its queue was full. It begins anew when its place is back.",
    REASON),
)  # fmt: skip
