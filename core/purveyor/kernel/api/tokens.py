"""Tokens: made, checked, revoked."""

import hashlib
import secrets
from datetime import datetime

from purveyor.kernel.api.models import TokenRecord
from purveyor.kernel.db.database import EVERY, Page, Tx, convert
from purveyor_hooks import NotFound

COLUMNS = (
    "id, name, scope, project_id, environment_id, (SELECT name FROM users WHERE users.id = "
    "user_id) AS user, "
    "created_at, expires_at, revoked_at, last_used_at"
)
PROVIDER = "oidc:"  # no hash begins so
VALID = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)"


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _new() -> str:
    return f"pvy_{secrets.token_urlsafe(32)}"


def create(
    tx: Tx,
    *,
    name: str,
    scope: str,
    project_id: int | None,
    expires_at: datetime | None,
    user_id: int | None = None,
) -> tuple[int, str]:
    """Make a token; the answer holds it in clear, for the only time."""
    token = _new()
    values = {
        "name": name,
        "scope": scope,
        "project_id": project_id,
        "expires_at": expires_at,
        "user_id": user_id,
    }
    return tx.insert("tokens", **values, hash=_hash(token), created_at=tx.now), token


def check(tx: Tx, token: str) -> TokenRecord | None:
    """The record of a token that is valid now."""
    row = tx.row(f"SELECT {COLUMNS} FROM tokens WHERE hash = ? AND {VALID}", [_hash(token), tx.now])
    return convert(row, TokenRecord, tx.secrets) if row else None


def get(tx: Tx, token_id: int) -> TokenRecord | None:
    """The record of a token, valid or not."""
    row = tx.row(f"SELECT {COLUMNS} FROM tokens WHERE id = ?", [token_id])
    return convert(row, TokenRecord, tx.secrets) if row else None


def actor_of(token: TokenRecord) -> str:
    """Whom a token stands for, as the journal has it."""
    return token.user or f"token:{token.name}"


def touch(tx: Tx, token_id: int) -> None:
    """Note that a token was used."""
    tx.update("tokens", "id = ?", [token_id], last_used_at=tx.now)


def page(tx: Tx, *, limit: int, offset: int, people: bool = False) -> Page[TokenRecord]:
    """A part of the tokens, oldest first. `people`: those that are valid and were not made for an
    environment's apps."""
    where, given = (f"{VALID} AND environment_id IS NULL", [tx.now]) if people else (EVERY, [])
    found = tx.page(COLUMNS, f"tokens WHERE {where}", given, order="id", limit=limit, offset=offset)
    return Page([convert(row, TokenRecord, tx.secrets) for row in found.items], found.total)


def revoke(tx: Tx, token_id: int) -> None:
    """End a token. Raises `NotFound`."""
    if not tx.update("tokens", "id = ? AND revoked_at IS NULL", [token_id], revoked_at=tx.now):
        raise NotFound(
            f"There is no valid token with the id {token_id}.",
            remedy="List them with: purveyor token list",
        )


def of_user(tx: Tx, user_id: int) -> list[int]:
    """The valid tokens of a user."""
    return [
        row["id"]
        for row in tx.rows(
            f"SELECT id FROM tokens WHERE user_id = ? AND {VALID} ORDER BY id", [user_id, tx.now]
        )
    ]


# ---------------------------------------------------------------- of people who sign in elsewhere


def of_provider(tx: Tx, user_id: int, scope: str, until: datetime) -> TokenRecord:
    """What the sessions hang on of somebody who signs in through a provider: it has no text, so
    that nothing but that opens one. One of another scope ends: the provider says less, or more,
    than it did."""
    mine = f"user_id = ? AND hash LIKE '{PROVIDER}%' AND revoked_at IS NULL"
    tx.update("tokens", f"{mine} AND scope != ?", [user_id, scope], revoked_at=tx.now)
    number = tx.value(f"SELECT id FROM tokens WHERE {mine}", [user_id])
    if number is None:
        values = {
            "name": "oidc",
            "scope": scope,
            "user_id": user_id,
            "hash": f"{PROVIDER}{secrets.token_hex(32)}",
        }
        number = tx.insert("tokens", **values, created_at=tx.now)
    tx.update("tokens", "id = ?", [number], expires_at=until, last_used_at=tx.now)
    found = get(tx, number)
    assert found is not None
    return found


# ---------------------------------------------------------------- of an environment


def revoke_of_environment(tx: Tx, environment_id: int) -> None:
    """End the tokens of an environment."""
    where = "environment_id = ? AND sealed IS NOT NULL AND revoked_at IS NULL"
    tx.update("tokens", where, [environment_id], revoked_at=tx.now)
