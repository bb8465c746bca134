"""Sessions of people in a browser: opened with a token, used, ended. The database has the hash of
what opens one, and no more."""

import hashlib
import secrets
from datetime import datetime, timedelta

from purveyor.access.models import SessionRecord
from purveyor.kernel.db.database import Page, Tx, convert, matching
from purveyor_hooks import NotFound

MARK = "."  # between the halves; no token has one
LIFE = timedelta(hours=12)
IDLE = timedelta(hours=2)
MOST = 50  # of one token: the one that was used longest ago makes room
COLUMNS = (
    "web_sessions.id, web_sessions.token_id, tokens.name AS token, "
    "(SELECT name FROM users WHERE users.id = tokens.user_id) AS user, web_sessions.peer, "
    "web_sessions.agent, "
    "web_sessions.created_at, web_sessions.last_used_at, web_sessions.expires_at"
)
VALID = (
    "web_sessions.expires_at > ? AND web_sessions.last_used_at > ? AND tokens.revoked_at IS NULL "
    "AND (tokens.expires_at IS NULL OR tokens.expires_at > ?)"
)
OVER = "expires_at <= ? OR last_used_at <= ?"
SOURCE = "web_sessions JOIN tokens ON tokens.id = web_sessions.token_id"


def hash_of(credential: str) -> str:
    return hashlib.sha256(credential.encode()).hexdigest()


def new() -> str:
    """What opens a session: two halves, of which each by itself opens nothing."""
    return f"{secrets.token_urlsafe(32)}{MARK}{secrets.token_urlsafe(32)}"


def create(tx: Tx, token_id: int, credential: str, *, peer: str, agent: str) -> int:
    """Begin a session; those that are over make room, and the oldest ones of the same token."""
    forget(tx)
    token = tx.row("SELECT name, expires_at FROM tokens WHERE id = ?", [token_id])
    assert token is not None
    until = tx.now + LIFE
    if token["expires_at"]:
        until = min(until, datetime.fromisoformat(token["expires_at"]))
    kept = (
        "SELECT id FROM web_sessions WHERE token_id = ? ORDER BY last_used_at DESC, id DESC LIMIT ?"
    )
    tx.db.execute(
        f"DELETE FROM web_sessions WHERE token_id = ? AND id NOT IN ({kept})",
        [token_id, token_id, MOST - 1],
    )
    number = tx.insert(
        "web_sessions", hash=hash_of(credential), token_id=token_id, peer=peer, agent=agent,
        created_at=tx.now,
        last_used_at=tx.now, expires_at=until,
    )  # fmt: skip
    tx.emit("session.opened", data={"id": number, "token": token["name"], "peer": peer})
    return number


def find(tx: Tx, credential: str) -> SessionRecord | None:
    """The session that this opens now."""
    where = f"web_sessions.hash = ? AND {VALID}"
    row = tx.row(
        f"SELECT {COLUMNS} FROM {SOURCE} WHERE {where}", [hash_of(credential), *_valid(tx)]
    )
    return convert(row, SessionRecord, tx.secrets) if row else None


def touch(tx: Tx, number: int) -> None:
    """Note that a session was used."""
    tx.update("web_sessions", "id = ?", [number], last_used_at=tx.now)


def page(tx: Tx, *, token_id: int | None, limit: int, offset: int) -> Page[SessionRecord]:
    """A part of the sessions that are open, of one token or of all; the one that was used last
    comes first."""
    of_token, given = matching(token_id=token_id)
    source = f"{SOURCE} WHERE {VALID} AND {of_token}"
    order = "web_sessions.last_used_at DESC, web_sessions.id DESC"
    found = tx.page(COLUMNS, source, [*_valid(tx), *given], order=order, limit=limit, offset=offset)
    return Page([convert(row, SessionRecord, tx.secrets) for row in found.items], found.total)


def require(tx: Tx, number: int, *, token_id: int | None) -> None:
    """Raise `NotFound` unless there is such a session, of this token if one is named."""
    owner = tx.value("SELECT token_id FROM web_sessions WHERE id = ?", [number])
    if owner is None or token_id not in (None, owner):
        raise NotFound(
            f"There is no open session with the id {number}.",
            remedy="List them with: purveyor token sessions",
        )


def end(
    tx: Tx,
    actor: str,
    *,
    number: int | None = None,
    token_id: int | None = None,
    but: int | None = None,
) -> int:
    """End one session, those of a token, or all; one may stay. The answer is how many."""
    where, given = matching(id=number, token_id=token_id)
    ended = list(
        tx.rows(f"SELECT id FROM web_sessions WHERE {where} AND id IS NOT ?", [*given, but])
    )
    for row in ended:
        tx.db.execute("DELETE FROM web_sessions WHERE id = ?", [row["id"]])
        tx.emit("session.ended", data={"id": row["id"], "actor": actor})
    return len(ended)


def any_over(tx: Tx) -> bool:
    """Whether there are some that are over."""
    return tx.value(f"SELECT 1 FROM web_sessions WHERE {OVER}", [tx.now, tx.now - IDLE]) is not None


def forget(tx: Tx) -> int:
    """Delete those that are over; the answer is how many."""
    stale = [tx.now.isoformat(), (tx.now - IDLE).isoformat()]
    return tx.db.execute(f"DELETE FROM web_sessions WHERE {OVER}", stale).rowcount


def _valid(tx: Tx) -> list[datetime]:
    return [tx.now, tx.now - IDLE, tx.now]
