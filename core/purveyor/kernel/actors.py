"""Who did something, as the journal tells it."""

from typing import Any

from purveyor_hooks import Actor

Who = Actor | str  # a name alone is one of Purveyor's own parts, or a plugin
OWN = (
    "local",
    "plugin",
    "purveyor",
    "reconciler",
    "scheduler",
    "sweep",
    "archivist",
    "recovery",
    "root",
    "admin",
    "system",
)


def name_of(who: Who) -> str:
    return who if isinstance(who, str) else who.name


def token_of(who: Who) -> int | None:
    """The token that was shown; two tokens may have one name."""
    return None if isinstance(who, str) else who.token_id


def actor_fields(who: Who) -> dict[str, Any]:
    """Fields of an event's data."""
    token = token_of(who)
    return {"actor": name_of(who)} | ({} if token is None else {"token": token})
