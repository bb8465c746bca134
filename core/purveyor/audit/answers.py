"""What of the HTTP API goes into the audit log: whatever changes something, whatever reveals
something, whoever is refused.

It is asked when an answer begins: nothing is revealed before it is written down. A route says with
`opt` what it reveals (`reveals="log"`), or that apps' and people's data go through it
(`audit="data"`: told once a minute, and for an environment's own app not at all). What a route
knows and its address does not say is added with `note`.
"""

from collections.abc import Hashable, Mapping
from typing import Any

from litestar.types import Message, Scope

from purveyor.audit.log import AuditLog
from purveyor.audit.models import Entry, Outcome
from purveyor.kernel.api.notes import NOTES, ORIGIN, Notes
from purveyor.kernel.core import Core
from purveyor.kernel.db.database import LARGEST
from purveyor_hooks import Actor

API = "/api/"
LOOKED = ("GET", "HEAD", "OPTIONS")
LONGEST = 200  # characters of a target


async def on_answer(message: Message, scope: Scope) -> None:
    """Write down the request whose answer begins. As a `before_send` hook it sees every route's, a
    plugin's too."""
    if message["type"] != "http.response.start":
        return
    found = _entry(message["status"], scope)
    if found is not None:
        core: Core = scope["litestar_app"].state.core
        await core.part(AuditLog).record(*found)


def _entry(status: int, scope: Any) -> tuple[Entry, Hashable] | None:
    """The entry, and the kind of which one a minute is enough; None for what is not written
    down."""
    handler = scope.get("route_handler")
    opt: Mapping[str, Any] = handler.opt if handler is not None else {}
    user = scope.get("user")
    actor: Actor | None = user if isinstance(user, Actor) else None
    notes: Notes = scope.get(NOTES) or Notes()
    refused = status in (401, 403)
    # a plan shows nothing of what would be revealed
    reveals = str(opt.get("reveals", "")) if status < 400 and not notes.planned else ""
    changes = scope["method"] not in LOOKED and not notes.planned
    if not scope["path"].startswith(API) or not (refused or reveals or changes):
        return None
    if actor is not None and actor.environment and opt.get("audit") == "data" and not refused:
        return None
    core: Core = scope["litestar_app"].state.core
    action, target = _action(scope)
    entry = Entry(
        at=core.now(),
        actor=actor.name if actor else "",
        token_id=actor.token_id if actor else None,
        origin=ORIGIN.get() or (scope["client"][0] if scope.get("client") else "this process"),
        action=action,
        target=_plain(notes.target or target),
        outcome=_outcome(status),
        status=status,
        reveals=reveals,
        operation_id=_storable(notes.operation),
        detail=_plain(notes.detail),
    )
    if refused and actor is None:
        return entry, (entry.origin, status)
    who = (entry.token_id, entry.actor, entry.origin, action)
    if status >= 400:
        return entry, (*who, entry.outcome)
    return entry, (*who, entry.target) if reveals or opt.get("audit") == "data" else None


def _action(scope: Any) -> tuple[str, str]:
    """Method and pattern of the address, and what it names. Words of a whole path are left out:
    they may be values."""
    given: Mapping[str, Any] = scope.get("path_params") or {}
    named = [str(value) for value in given.values() if isinstance(value, str | int)]
    return (
        f"{scope['method']} {scope.get('path_template') or 'an address that there is not'}",
        "/".join(named),
    )


def _storable(number: int | None) -> int | None:
    """A number that somebody named, if an operation can have it."""
    return number if number is not None and 0 < number <= LARGEST else None


def _outcome(status: int) -> Outcome:
    if status < 400:
        return "begun" if status == 202 else "ok"
    return "refused" if status in (401, 403) else "failed"


def _plain(text: str) -> str:
    """On one line, and not longer than a name."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:LONGEST])
