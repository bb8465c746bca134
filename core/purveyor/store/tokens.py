"""API tokens: only their hashes are kept."""

import hashlib
import secrets
from datetime import datetime

from purveyor.store.database import Tx, convert
from purveyor.store.records import TokenRecord
from purveyor_hooks import NotFound

COLUMNS = "id, name, scope, project_id, created_at, expires_at, revoked_at, last_used_at"


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def create(tx: Tx, *, name: str, scope: str, project_id: int | None, expires_at: datetime | None) -> tuple[int, str]:
    """Make a token; the answer holds it in clear, for the only time."""
    token = f"pvy_{secrets.token_urlsafe(32)}"
    values = {"name": name, "scope": scope, "project_id": project_id, "expires_at": expires_at}
    return tx.insert("tokens", **values, hash=_hash(token), created_at=tx.now), token


def check(tx: Tx, token: str) -> TokenRecord | None:
    """The record of a token that is valid now."""
    row = tx.row(f"SELECT {COLUMNS} FROM tokens WHERE hash = ?", [_hash(token)])
    record = convert(row, TokenRecord, tx.vault) if row else None
    if record is None or record.revoked_at or (record.expires_at and record.expires_at <= tx.now):
        return None
    return record


def touch(tx: Tx, token_id: int) -> None:
    """Note that a token was used."""
    tx.update("tokens", "id = ?", [token_id], last_used_at=tx.now)


def every(tx: Tx) -> list[TokenRecord]:
    return [convert(row, TokenRecord, tx.vault) for row in tx.rows(f"SELECT {COLUMNS} FROM tokens ORDER BY id")]


def revoke(tx: Tx, token_id: int) -> None:
    """End a token. Raises `NotFound`."""
    if not tx.update("tokens", "id = ? AND revoked_at IS NULL", [token_id], revoked_at=tx.now):
        raise NotFound(f"There is no valid token with the id {token_id}.", remedy="List them with: purveyor token list")
