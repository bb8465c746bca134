"""Entries of the audit log, each chained to the one before it.

An entry's hash is an HMAC, with a key of the installation's, over the entry and the hash before it:
whoever changes the table by hand cannot make a hash that fits. Where the log begins and ends is
marked likewise, so that entries cannot be cut off either. Who has the key and the database can
write any log; who has an older copy of the marks can cut back to that.
"""

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from purveyor.audit.models import AuditRecord, Entry, Verdict, Wanted
from purveyor.kernel.db.database import Page, Row, Tx, convert, matching

PURPOSE = "purveyor audit 1"
FIRST, LAST = "first", "last"  # the last entry that is gone, and the newest one
NAMES = tuple(Entry.__struct_fields__)
OWN = "purveyor"  # the actor of what Purveyor writes by itself
BY_HAND = "changed by hand"
PROBLEMS = 20  # told by one look
BATCH = 1000  # entries that one transaction lets go


class Mark(NamedTuple):
    """An entry's number and hash."""

    entry: int = 0
    hash: str = ""


def _mac(tx: Tx, *parts: Any) -> str:
    return hmac.new(
        tx.secrets.derived(PURPOSE), msgspec.json.encode(parts), hashlib.sha256
    ).hexdigest()


def _hash(tx: Tx, before: str, number: int, row: Row) -> str:
    return _mac(tx, "entry", before, number, *(row[name] for name in NAMES))


def _mark(tx: Tx, name: str) -> Mark | None:
    """A mark; None where there is none, or one that we did not make."""
    row = tx.row("SELECT entry, hash, mac FROM audit_marks WHERE name = ?", [name])
    if row is None or not hmac.compare_digest(
        row["mac"], _mac(tx, name, row["entry"], row["hash"])
    ):
        return None
    return Mark(row["entry"], row["hash"])


def _set_mark(tx: Tx, name: str, mark: Mark) -> None:
    values = {"entry": mark.entry, "hash": mark.hash, "mac": _mac(tx, name, *mark)}
    if not tx.update("audit_marks", "name = ?", [name], **values):
        tx.insert("audit_marks", name=name, **values)


def _newest(tx: Tx) -> Mark:
    row = tx.row("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1")
    return Mark(row["id"], row["hash"]) if row else Mark()


def append(tx: Tx, entry: Entry) -> Mark:
    """Add an entry; the answer is its mark."""
    last, newest = _mark(tx, LAST), _newest(tx)
    before = max(last or Mark(), newest)
    if last is None:
        if newest == Mark() and not tx.value("SELECT count(*) FROM audit_marks"):
            _set_mark(tx, FIRST, before)
        else:
            _set_mark(tx, LAST, before)
            append(tx, by_hand(tx, "its end was not marked as Purveyor marks it"))
            before = _newest(tx)
    row: Row = {name: getattr(entry, name) for name in NAMES}
    row["at"] = entry.at.isoformat()
    made = Mark(before.entry + 1, _hash(tx, before.hash, before.entry + 1, row))
    tx.insert("audit", id=made.entry, **row, hash=made.hash)
    _set_mark(tx, LAST, made)
    return made


def by_hand(tx: Tx, how: str) -> Entry:
    """An entry that the log was changed by hand: what is written later hides nothing."""
    return Entry(at=tx.now, actor=OWN, origin="", action=BY_HAND, outcome="failed", detail=how)


def end(tx: Tx) -> Mark:
    """The newest entry, as the mark says."""
    return _mark(tx, LAST) or Mark()


def page(tx: Tx, wanted: Wanted, *, limit: int, offset: int) -> Page[AuditRecord]:
    """A part of the entries, newest first."""
    where, given = matching(actor=wanted.actor, target=wanted.target)
    conditions = [where]
    for word, moment in ((">=", wanted.since), ("<", wanted.until)):
        if moment is not None:
            conditions.append(f"at {word} ?")
            given.append(moment)
    found = tx.page(
        "*",
        f"audit WHERE {' AND '.join(conditions)}",
        given,
        order="id DESC",
        limit=limit,
        offset=offset,
    )
    return Page([convert(row, AuditRecord, tx.secrets) for row in found.items], found.total)


# ---------------------------------------------------------------- is it as it was written


def verify(tx: Tx, newest: int | None = None) -> Verdict:
    """Look whether the entries, or the newest so many, are as they were written."""
    found = list(_problems(tx, newest))
    start = _start(tx, newest)
    seen = tx.row(
        "SELECT count(*) AS entries, coalesce(min(id), 0) AS first, coalesce(max(id), 0) AS last "
        "FROM audit WHERE id > ?",
        [start.entry if start else -1],
    )
    assert seen is not None
    more = [f"and {len(found) - PROBLEMS} more"] if len(found) > PROBLEMS else []
    return Verdict(**seen, problems=found[:PROBLEMS] + more)


def _problems(tx: Tx, newest: int | None) -> Iterator[str]:
    first, last, end_ = _mark(tx, FIRST), _mark(tx, LAST), _newest(tx)
    if first is None or last is None:
        if (
            first is last is None
            and end_ == Mark()
            and not tx.value("SELECT count(*) FROM audit_marks")
        ):
            return  # nothing was ever written
        yield (
            "where the log begins and ends is not marked as Purveyor marks it: entries may be "
            "missing at both ends"
        )
    before = _start(tx, newest)
    for row in tx.rows(
        "SELECT * FROM audit WHERE id > ? ORDER BY id", [before.entry if before else -1]
    ):
        number = row["id"]
        if before is not None and number != before.entry + 1:
            yield _missing(before.entry + 1, number - 1)
        elif before is not None and not hmac.compare_digest(
            row["hash"], _hash(tx, before.hash, number, row)
        ):
            yield (
                f"entry {number} is not as it was written, or does not follow entry {before.entry}"
            )
        elif row["action"] == BY_HAND:
            yield f"entry {number} says that the log was changed by hand: {row['detail']}"
        before = Mark(number, row["hash"])
    if last is not None and last != before:
        if before is None or last.entry > before.entry:
            yield _missing((before or Mark()).entry + 1, last.entry)
        else:
            yield f"entry {before.entry} is not the one that was written last"


def _start(tx: Tx, newest: int | None) -> Mark | None:
    """The entry before those that are looked at, None when it is not known."""
    row = None
    if newest is not None:
        where = (
            "SELECT id, hash FROM audit WHERE id <= (SELECT max(id) FROM audit) - ? ORDER BY "
            "id DESC LIMIT 1"
        )
        row = tx.row(where, [newest])
    return Mark(row["id"], row["hash"]) if row else _mark(tx, FIRST)


def _missing(first: int, last: int) -> str:
    return (
        f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"
    )


# ---------------------------------------------------------------- what is let go


def cut(tx: Tx, before: datetime) -> Sequence[int]:
    """Let go the oldest entries, as far as all of them are from before a moment; the answer is the
    numbers of the first and the last, or nothing. The newest stays, for the chain goes on from
    it."""
    row: Row | None = None
    first, newest = 0, _newest(tx).entry
    for found in tx.rows("SELECT id, at, hash FROM audit ORDER BY id LIMIT ?", [BATCH]):
        if datetime.fromisoformat(found["at"]) >= before or found["id"] == newest:
            break
        first, row = first or found["id"], found
    if row is None:
        return ()
    _let_go(tx, Mark(row["id"], row["hash"]))
    return first, row["id"]


def begin_anew(tx: Tx) -> Sequence[int]:
    """Go on, from the last number, without the entries that stayed on a lost host; the answer is
    the numbers of the first and the last of those, or nothing."""
    first, last = _mark(tx, FIRST) or Mark(), end(tx)
    if _newest(tx) != Mark() or last.entry <= first.entry:
        return ()
    _let_go(tx, last)
    return first.entry + 1, last.entry


def _let_go(tx: Tx, mark: Mark) -> None:
    _set_mark(tx, FIRST, mark)  # first, for a trigger keeps what comes after it
    tx.db.execute("DELETE FROM audit WHERE id <= ?", [mark.entry])
