"""The journal: every event, readable from any number."""

from purveyor.store.database import Tx, convert
from purveyor_hooks import Event


def after(tx: Tx, number: int, limit: int = 500) -> list[Event]:
    """Events with a higher number than this one, in order, at most `limit`."""
    rows = tx.rows("SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?", [number, limit])
    return [convert(row, Event, tx.vault, plain=["data"]) for row in rows]


def latest(tx: Tx, limit: int) -> list[Event]:
    """The last events, in order."""
    rows = tx.rows("SELECT * FROM (SELECT * FROM events ORDER BY id DESC LIMIT ?) ORDER BY id", [limit])
    return [convert(row, Event, tx.vault, plain=["data"]) for row in rows]


def last(tx: Tx) -> int:
    """The highest number so far, 0 without any."""
    return int(tx.value("SELECT coalesce(max(id), 0) FROM events"))
