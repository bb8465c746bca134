"""Users: added, disabled, removed. What they may do is what their tokens may."""

import re

from purveyor.access.models import UserRecord
from purveyor.kernel.actors import OWN
from purveyor.kernel.db.database import Page, Tx, convert
from purveyor_hooks import BadInput, Conflict, NotFound

NAME = re.compile(r"[a-z][a-z0-9._@+-]{0,79}")
LISTING = "List them with: purveyor user list"


def add(tx: Tx, name: str) -> UserRecord:
    """Raises `BadInput` for what is no name, `Conflict` for one that somebody has, or had."""
    if not NAME.fullmatch(name) or name in OWN:
        why = "small letters, digits and . _ @ + -, beginning with a letter, at most 80"
        why = f"{name} is what Purveyor calls itself, or the host" if name in OWN else why
        raise BadInput(
            f"{name!r} cannot be a user's name.",
            remedy="For example: ada, ada@example.com",
            errors={"name": why},
        )
    row = tx.row("SELECT * FROM users WHERE name = ?", [name])
    if row is not None:
        remedy = "Choose another: the journal and the audit log tell people by their names."
        if row["removed_at"] is None:
            raise Conflict(
                f"There is a user {name} already.", remedy=LISTING, errors={"name": "it is taken"}
            )
        raise Conflict(
            f"There was a user {name}, who was removed.",
            remedy=remedy,
            errors={"name": "it was somebody's"},
        )
    tx.insert("users", name=name, created_at=tx.now)
    return get(tx, name)


def get(tx: Tx, name: str) -> UserRecord:
    """A user who was not removed. Raises `NotFound`."""
    row = tx.row("SELECT * FROM users WHERE name = ? AND removed_at IS NULL", [name])
    if row is None:
        raise NotFound(f"There is no user {name!r}.", remedy=LISTING)
    return convert(row, UserRecord, tx.secrets)


def require_enabled(tx: Tx, name: str) -> UserRecord:
    """A user who may have tokens. Raises `NotFound` and `Conflict`."""
    found = get(tx, name)
    if found.disabled_at is not None:
        raise Conflict(
            f"The user {name} is disabled.",
            remedy=f"purveyor user enable {name}",
            errors={"user": "disabled"},
        )
    return found


def page(tx: Tx, *, limit: int, offset: int) -> Page[UserRecord]:
    found = tx.page(
        "*", "users WHERE removed_at IS NULL", [], order="name", limit=limit, offset=offset
    )
    return Page([convert(row, UserRecord, tx.secrets) for row in found.items], found.total)


def disable(tx: Tx, user: UserRecord) -> None:
    tx.update("users", "id = ? AND disabled_at IS NULL", [user.id], disabled_at=tx.now)


def enable(tx: Tx, user: UserRecord) -> None:
    """The next account of a provider that signs in under the name is this user's."""
    tx.update("users", "id = ?", [user.id], disabled_at=None, account=None)


def remove(tx: Tx, user: UserRecord) -> None:
    """Nobody is called so from now on, and nobody else ever is."""
    tx.update(
        "users", "id = ?", [user.id], removed_at=tx.now, disabled_at=user.disabled_at or tx.now
    )
