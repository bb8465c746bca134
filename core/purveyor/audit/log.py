"""What is written into the audit log, and when: at once, counted within a minute, or as soon as the
disk lets us."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import anyio
import msgspec

from purveyor.audit import store as audit
from purveyor.audit.models import Entry
from purveyor.kernel.db import Store, Tx
from purveyor_hooks import Logger, PurveyorError

WINDOW = timedelta(minutes=1)
TURN = 10.0  # seconds between two looks at what has been counted
SWEEP = 3600.0  # seconds between two looks at what is too old
KINDS = 2_000  # of what is counted apart; whatever comes beyond that is counted together
HELD = 1_000  # entries that wait for the disk; the oldest are told as a number then


@dataclass
class Repeat:
    """What came again within a minute: its last entry, and how many more there were than the one
    that was written."""

    entry: Entry
    since: datetime
    more: int = 0


class AuditLog:
    """Writes entries. What cannot be written now keeps nobody from reading: it waits, and the
    daemon's own log has it."""

    def __init__(
        self, store: Store, logger: Logger, now: Callable[[], datetime], days: int
    ) -> None:
        self._store = store
        self._logger = logger
        self._now = now
        self._days = days
        self._repeats: dict[Hashable, Repeat] = {}
        self._waiting: list[Entry] = []
        self._lost = 0
        self._end: audit.Mark | None = None  # the newest entry, as this process has written it

    @property
    def waiting(self) -> int:
        """How many entries could not be written yet."""
        return len(self._waiting) + self._lost

    def entry(self, action: str, **fields: Any) -> Entry:
        """An entry of something that Purveyor does by itself."""
        return Entry(at=self._now(), **{"actor": audit.OWN, "origin": "", **fields}, action=action)

    async def record(self, entry: Entry, kind: Hashable = None) -> None:
        """Write an entry. Of those of one `kind` the first within a minute is written, and then how
        many more there were."""
        if kind is not None:
            if kind not in self._repeats and len(self._repeats) >= KINDS:
                kind = ("many", entry.outcome)
                entry = msgspec.structs.replace(
                    entry, actor="", token_id=None, origin="many", action="many kinds", target=""
                )
            if (repeat := self._repeats.get(kind)) is not None:
                repeat.entry, repeat.more = entry, repeat.more + 1
                return
            self._repeats[kind] = Repeat(entry, entry.at)
        await self._write([entry])

    async def run(self) -> None:
        """Write what was counted, and let go what is too old, for as long as this runs."""
        due = anyio.current_time()
        while True:
            await self.turn()
            if anyio.current_time() >= due:
                await self.sweep()
                due = anyio.current_time() + SWEEP
            await anyio.sleep(TURN)

    async def turn(self, *, all_of_them: bool = False) -> None:
        """Write what was counted in minutes that are over, and what the disk did not take
        before."""
        now = self._now()
        over = {
            kind: item
            for kind, item in self._repeats.items()
            if all_of_them or not now - WINDOW < item.since <= now
        }
        for kind in over:
            del self._repeats[kind]
        told = [
            msgspec.structs.replace(item.entry, times=item.more)
            for item in over.values()
            if item.more
        ]
        if told or self._waiting or self._lost:
            await self._write(told)

    async def sweep(self) -> None:
        """Let go what is older than `audit-days`. An entry of its own says so."""
        before = self._now() - timedelta(days=self._days)

        def work(tx: Tx) -> audit.Mark | None:
            gone = audit.cut(tx, before)
            return cut_off(tx, gone, f"older than {self._days} days") if gone else None

        while end := await self._store.write(work):
            self._end = end

    async def _write(self, entries: Sequence[Entry]) -> None:
        batch, lost = [*self._waiting, *entries], self._lost
        self._waiting, self._lost = [], 0
        if lost:
            batch.append(
                self.entry(
                    "entries lost",
                    times=lost,
                    outcome="failed",
                    detail="the state could not be written",
                )
            )

        def work(tx: Tx) -> audit.Mark:
            there = audit.end(tx)
            if self._end is not None and there != self._end:
                how = (
                    f"it ended with entry {self._end.entry}, and ended with entry "
                    f"{there.entry} then"
                )
                audit.append(tx, audit.by_hand(tx, how))
            for entry in batch:
                made = audit.append(tx, entry)
            return made

        try:
            self._end = await self._store.write(work)
        except PurveyorError as error:
            for entry in entries:
                self._logger.warning("audit.unwritten", error=error.detail, **_fields(entry))
            held = [item for item in batch if item.action != "entries lost"]
            self._waiting = [*held, *self._waiting]
            self._lost += lost + max(0, len(self._waiting) - HELD)
            self._waiting = self._waiting[-HELD:]


def cut_off(tx: Tx, gone: Sequence[int], why: str) -> audit.Mark:
    """Say in the log itself what is not in it any more; the answer is the entry that says so."""
    first, last = gone
    tx.emit("audit.cut", data={"first": first, "last": last})
    detail = f"entries {first} to {last}: {why}"
    return audit.append(
        tx, Entry(at=tx.now, actor=audit.OWN, origin="", action="entries let go", detail=detail)
    )


def came_back(tx: Tx) -> None:
    """Say in the log of an installation that was brought back which entries stayed on the lost
    host."""
    if gone := audit.begin_anew(tx):
        cut_off(tx, gone, "they stayed on the lost host")


def _fields(entry: Entry) -> dict[str, str]:
    shown = {
        name: getattr(entry, name)
        for name in ("actor", "token_id", "origin", "action", "target", "outcome", "reveals")
    }
    return {name: str(value) for name, value in shown.items() if value not in ("", None)}
