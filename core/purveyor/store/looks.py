"""Looks at services, from which charts are drawn: the last so many of each kind for each service."""

from collections.abc import Sequence
from typing import NamedTuple

from purveyor.store.database import Tx


class Look(NamedTuple):
    """What was seen of a service: `kind` is "health" or "usage", `seen` is JSON."""

    service_id: int
    kind: str
    seen: str


def add(tx: Tx, looks: Sequence[Look], most: int) -> None:
    """Keep these, and of what was kept before so much that there are at most `most` of a kind for a service."""
    for look in looks:
        tx.insert("looks", **look._asdict())
    for service_id, kind in {(look.service_id, look.kind) for look in looks}:
        held = [service_id, kind]
        newest = "SELECT id FROM looks WHERE service_id = ? AND kind = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
        last = tx.value(newest, [*held, most])
        if last is not None:
            tx.db.execute("DELETE FROM looks WHERE service_id = ? AND kind = ? AND id <= ?", [*held, last])
    tx.db.execute("DELETE FROM looks WHERE service_id IN (SELECT id FROM services WHERE state = 'deleted')")


def every(tx: Tx) -> list[Look]:
    """All that are kept, oldest first."""
    return [Look(**row) for row in tx.rows("SELECT service_id, kind, seen FROM looks ORDER BY id")]
