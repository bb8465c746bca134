"""What may be forgotten: events and operations that are over for long, looks at services that are
gone."""

from datetime import datetime

from purveyor.kernel.db.database import Tx
from purveyor.services import samples

BATCH = 500  # rows in one transaction: a writer waits for no more than that
LEAST = 1_000  # the newest of each are kept, however old they are


def forget(tx: Tx, before: datetime, most: int) -> int:
    """Forget a batch of what happened before a moment, or of all but the last `most` events. The
    answer is how many rows.

    The line of events goes from its beginning on, without gaps, and not beyond the first event of
    an operation that is unfinished. An operation goes when all its events have gone.
    """
    return _events(tx, before, most) + _operations(tx) + samples.forget_deleted(tx, BATCH)


def _events(tx: Tx, before: datetime, most: int) -> int:
    last = tx.value("SELECT max(id) FROM events") or 0
    unfinished = "SELECT id FROM operations WHERE state IN ('running', 'undoing')"
    needed = tx.value(f"SELECT min(id) FROM events WHERE operation IN ({unfinished})") or last
    end = min(last - LEAST, needed - 1)
    over = 0
    for row in tx.rows("SELECT id, at FROM events WHERE id <= ? ORDER BY id LIMIT ?", [end, BATCH]):
        if datetime.fromisoformat(row["at"]) >= before and row["id"] > last - most:
            break
        over = row["id"]
    return tx.db.execute("DELETE FROM events WHERE id <= ?", [over]).rowcount


def _operations(tx: Tx) -> int:
    first = tx.row("SELECT id, at FROM events ORDER BY id LIMIT 1")
    if first is None or first["id"] == 1:
        return 0  # all that ever happened is still told
    last = tx.value("SELECT max(id) FROM operations") or 0
    ended = (
        "SELECT id FROM operations WHERE ended_at < ? AND state IN ('succeeded', 'failed') AND "
        "id <= ? ORDER BY id LIMIT ?"
    )
    statement = f"DELETE FROM operations WHERE id IN ({ended})"
    return tx.db.execute(statement, [first["at"], last - LEAST, BATCH]).rowcount
