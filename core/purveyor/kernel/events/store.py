"""The journal: every event, readable from any number."""

import heapq
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

from purveyor.kernel.db.database import EVERY, Row, Tx, convert, matching
from purveyor_hooks import Event

BEYOND = "\U0010ffff"  # sorts after whatever a name is made of

# The types that begin with a prefix, one seek in the index each.
KINDS = """
WITH RECURSIVE kinds (name) AS (
    SELECT min(type) FROM events WHERE type >= ?1 AND type < ?2
    UNION ALL SELECT (SELECT min(type) FROM events WHERE type > name AND type < ?2) FROM kinds WHERE name IS NOT NULL
) SELECT name FROM kinds WHERE name IS NOT NULL
"""


class Wanted(NamedTuple):
    """Which events: those whose type begins with `kind`, of a service, of an operation."""

    kind: str = ""
    service: int | None = None
    operation: int | None = None

    def holds(self, event: Event) -> bool:
        """Whether an event is one of them."""
        of_one = self.service in (None, event.service) and self.operation in (None, event.operation)
        return of_one and event.type.startswith(self.kind)


ALL = Wanted()


def after(tx: Tx, number: int, limit: int = 500, wanted: Wanted = ALL) -> list[Event]:
    """Those events with a higher number than this one, in order, at most `limit`."""
    return _events(tx, _rows(tx, wanted, number, last_first=False), limit)


def latest(tx: Tx, limit: int, wanted: Wanted = ALL) -> list[Event]:
    """The last of those events, in order."""
    return _events(tx, _rows(tx, wanted, 0, last_first=True), limit)[::-1]


def _rows(tx: Tx, wanted: Wanted, number: int, *, last_first: bool) -> Iterator[Row]:
    """The rows of events above a number, read as they are taken; an index leads to them, whatever
    is wanted."""
    where, given = matching(service=wanted.service, operation=wanted.operation)
    order = "DESC" if last_first else "ASC"
    sql, given = f"SELECT * FROM events WHERE {where} AND id > ?", [*given, number]
    prefix = [wanted.kind, wanted.kind + BEYOND]
    if not wanted.kind:
        return tx.rows(f"{sql} ORDER BY id {order}", given)
    if where != EVERY:
        return tx.rows(f"{sql} AND type >= ? AND type < ? ORDER BY id {order}", [*given, *prefix])
    kinds = [row["name"] for row in tx.rows(KINDS, prefix)]
    each = [tx.rows(f"{sql} AND type = ? ORDER BY id {order}", [*given, kind]) for kind in kinds]
    return heapq.merge(*each, key=itemgetter("id"), reverse=last_first)


def _events(tx: Tx, rows: Iterator[Row], limit: int) -> list[Event]:
    return [convert(row, Event, tx.secrets, plain=["data"]) for row in islice(rows, limit)]


def first(tx: Tx) -> int:
    """The lowest number that is kept, 0 without any."""
    return int(tx.value("SELECT coalesce(min(id), 0) FROM events"))


def last(tx: Tx) -> int:
    """The highest number so far, 0 without any. Numbers go on where events were forgotten, or left
    on a lost host."""
    return int(tx.value("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'"))
