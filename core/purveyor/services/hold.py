"""What an installation that was brought back from a lost host does not do before a person has
looked at it.

Nothing acts on others meanwhile: no app, no deploy, no webhook; and nothing at the places of
backups expires, nor for a week after that.
"""

from datetime import datetime, timedelta

from purveyor.kernel.db import Tx
from purveyor.kernel.db.database import forget, note, read_note
from purveyor_hooks import Conflict

HOLD, ENDED = "hold", "hold-ended"
COMING, COME = "services are being brought back", "a person is to look at what came"
GRACE = timedelta(days=7)


def begin(tx: Tx) -> None:
    note(tx, HOLD, COMING)


def come(tx: Tx) -> None:
    """Everything was tried that could be brought back."""
    note(tx, HOLD, COME)


def end(tx: Tx) -> None:
    """A person has looked."""
    forget(tx, HOLD)
    note(tx, ENDED, tx.now.isoformat())


def is_held(tx: Tx) -> bool:
    return read_note(tx, HOLD) is not None


def coming(tx: Tx) -> bool:
    """Whether services are still being brought back: none of them is backed up."""
    return read_note(tx, HOLD) == COMING


def keeps_all(tx: Tx) -> bool:
    """Whether nothing at the places of backups may expire."""
    ended = read_note(tx, ENDED)
    return is_held(tx) or (ended is not None and tx.now - datetime.fromisoformat(ended) < GRACE)


def require_free(tx: Tx, what: str) -> None:
    """Raise `Conflict` for what acts on others."""
    if is_held(tx):
        raise Conflict(
            f"{what} waits: this installation is being recovered.",
            remedy="When all is as it should be: purveyor recover finish",
        )
