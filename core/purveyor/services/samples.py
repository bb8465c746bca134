"""Looks at services, from which charts are drawn: the last so many of each kind for each
service."""

from collections.abc import Sequence
from typing import NamedTuple

from purveyor.kernel.db.database import Tx

COLUMNS = "service_id, kind, seen"
KINDS = ("health", "usage")


class Sample(NamedTuple):
    """What was seen of a service: `kind` is "health" or "usage", `seen` is JSON."""

    service_id: int
    kind: str
    seen: str


def add(tx: Tx, looks: Sequence[Sample], most: int) -> None:
    """Keep these, and of what was kept before so much that there are at most `most` of a kind for a
    service."""
    for look in looks:
        tx.insert("looks", **look._asdict())
    for service_id, kind in {(look.service_id, look.kind) for look in looks}:
        held = [service_id, kind]
        newest = (
            "SELECT id FROM looks WHERE service_id = ? AND kind = ? ORDER BY id DESC LIMIT 1 "
            "OFFSET ?"
        )
        last = tx.value(newest, [*held, most])
        if last is not None:
            tx.db.execute(
                "DELETE FROM looks WHERE service_id = ? AND kind = ? AND id <= ?", [*held, last]
            )


def forget_deleted(tx: Tx, limit: int) -> int:
    """Forget some of the looks at services that are deleted; the answer is how many."""
    over = (
        "SELECT looks.id FROM services JOIN looks ON looks.service_id = services.id WHERE "
        "services.state = 'deleted' LIMIT ?"
    )
    return tx.db.execute(f"DELETE FROM looks WHERE id IN ({over})", [limit]).rowcount


def recent(tx: Tx, service_id: int, most: int) -> list[Sample]:
    """The last looks of each kind at a service, oldest first."""
    each = f"SELECT {COLUMNS} FROM looks WHERE service_id = ? AND kind = ? ORDER BY id DESC LIMIT ?"
    return [
        Sample(**row)
        for kind in KINDS
        for row in reversed(list(tx.rows(each, [service_id, kind, most])))
    ]


def last_of_each(tx: Tx, kind: str) -> list[Sample]:
    """The last look of a kind at each service that is not deleted."""
    last = "SELECT max(id) FROM looks WHERE service_id = services.id AND kind = ?"
    join = f"services JOIN looks ON looks.id = ({last}) WHERE services.state != 'deleted'"
    return [Sample(**row) for row in tx.rows(f"SELECT {COLUMNS} FROM {join}", [kind])]
