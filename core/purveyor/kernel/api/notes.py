"""What a route knows of a request and its address does not say, for whoever writes down what was
done."""

from contextvars import ContextVar
from typing import Any

import msgspec

NOTES = "purveyor.audit"
# of the request from outside, also for what it asks in this process
ORIGIN: ContextVar[str] = ContextVar("origin", default="")
# fields of an operation's arguments that say what it is about
NAMING = ("service", "project", "environment", "name", "backup")


class Notes(msgspec.Struct):
    """What a route adds. `planned` is a change that was only asked for its plan."""

    target: str = ""
    detail: str = ""
    operation: int | None = None
    planned: bool = False


def note(request: Any, **fields: Any) -> None:
    """Add to the entry of a request."""
    notes: Notes = request.scope.setdefault(NOTES, Notes())
    for name, value in fields.items():
        setattr(notes, name, value)


def about(given: msgspec.Struct) -> str:
    """What an operation's arguments name."""
    named = (getattr(given, name, None) for name in NAMING)
    return "/".join(
        str(value) for value in named if isinstance(value, str | int) and value not in ("", None)
    )
