"""The events of projects, but for those of operations."""

from purveyor.kernel.events.catalog import Described
from purveyor_hooks import events

EVENTS: tuple[Described, ...] = (
    ("project.revealed", "The variables of one of its environments were revealed.",
    events.Revealed(actor="ada", token=2)),
)  # fmt: skip
