"""Keeps a sealed copy of the state at every place of backups, a second or two behind.

One object is one whole document: nothing depends on an earlier one, there is no queue, and nothing
of this has to survive a crash but the database itself. Each place has a task of its own, so that
one that is away holds up nobody.

Who may write is a claimed term. Each process claims the next one; a recovery elsewhere claims above
all. Whoever sees a later term than its own writes and deletes nothing at that place any more, goes
on serving, and says so.
"""

import os
import platform
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from purveyor import __version__
from purveyor.backups import store as backups
from purveyor.backups.fence import Fence
from purveyor.backups.repository import BackupRepository, own_service
from purveyor.backups.storage import LocalStorage, Storage
from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.db.database import installation, note, read_note
from purveyor.recovery import beside, document
from purveyor.recovery.sealing import (
    OWNER,
    ROOT,
    Header,
    Keys,
    Mark,
    is_document,
    owner_path,
    read_mark,
    seal,
    write_mark,
)
from purveyor.recovery.thinning import surplus
from purveyor.services import hold
from purveyor_hooks import Backoff, Failed, NotFound, PurveyorError

# seconds between two looks for a later term, and for files beside the database that changed
LOOK = 60.0
# seconds after which the same is written again: it says that nothing newer was taken away
HEARTBEAT = 6 * 3600.0
THIN = 60.0  # seconds between two thinnings at least
PER_SECOND = 100_000  # bytes: larger documents are written less often,
SHORTEST, LONGEST = 1.0, 5.0  # but not less often than this, in seconds
DEADLINE = 60.0  # seconds for one document to arrive
LATE = 60.0  # seconds without a copy of what has changed, after which that is told
ANSWER = 10.0  # seconds for a place to say who writes there, when a person takes over
MARKS = 20  # owners' marks that stay
SILENT = "It does not answer."


class Superseded(Exception):
    """A later term than ours was claimed."""


class Target(NamedTuple):
    """A place, and what tells it from what it was before."""

    place: Storage
    known_by: Any


class Status(msgspec.Struct, kw_only=True):
    """How far the copy at one place is."""

    place: str
    revision: int = -1
    at: datetime | None = None  # when the last one arrived
    error: str = ""
    superseded: str = ""
    behind_since: datetime | None = None
    behind_from: float = 0.0  # the same, by a clock that nobody puts back
    told: bool = False
    size: int = 0
    path: str = ""  # of the last one

    def fall_behind(self, now: datetime) -> None:
        if self.behind_since is None:
            self.behind_since, self.behind_from = now, time.monotonic()

    @property
    def late(self) -> bool:
        """Whether something has been missing there for too long."""
        return self.behind_since is not None and time.monotonic() - self.behind_from >= LATE


class Identity(NamedTuple):
    """Who a process is: it writes in a term of its own."""

    installation: str
    incarnation: str
    term: int
    took_over: int  # terms of others up to this one are ours to ignore
    keys: Keys
    at: int

    @property
    def mark(self) -> Mark:
        return Mark(
            installation=self.installation,
            term=self.term,
            incarnation=self.incarnation,
            host=platform.node(),
            at=self.at,
        )


class StateCopies:
    """The copies of one installation's state."""

    def __init__(self, context: Context, now: Callable[[], datetime]) -> None:
        self._context = context
        self._keeper = context.part(BackupRepository)
        self._now = now
        self._changed = anyio.Event()
        self._made: tuple[Any, bytes] | None = None
        self._making = anyio.Lock()
        self._claiming = anyio.Lock()
        self._reached: dict[str, Storage] = {}  # where this process has claimed its term
        self._wanted: dict[str, tuple[Target, anyio.CancelScope]] = {}
        self._settled: dict[str, anyio.Event] = {}
        self._identity: Identity | None = None
        self.statuses: dict[str, Status] = {}  # by the address of the place
        self.follows = False  # whether it is kept up, or brought up to date at the end alone
        self._left_out = [context.volumes, self._keeper.folder]
        self._found = document.revision(context.store.path)  # what an earlier process left

    def changed(self) -> None:
        """Something was committed. It only wakes."""
        self._changed.set()
        self._changed = anyio.Event()

    # ---------------------------------------------------------------- running

    async def run(self) -> None:
        """Ship for as long as the daemon serves."""
        self.follows = True
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch_late)
            while True:
                changed = self._changed
                await self._follow(group)
                with anyio.move_on_after(LOOK):
                    await changed.wait()

    async def settle(self, seconds: float) -> None:
        """Wait until every place has what an earlier process left, or has failed once: what is
        begun from now on cannot pile up on it in a row of crashes."""
        targets = await self._targets()
        with anyio.move_on_after(seconds):
            for address in targets:
                await self._settled.setdefault(address, anyio.Event()).wait()

    async def flush(self, seconds: float) -> list[str]:
        """Have every place get what this process changed; the answer is those that did not. For a
        process that ends."""
        missing: list[str] = []

        async def ship(target: Target) -> None:
            status = self._status(target.place)
            try:
                async with target.place.held() as place:
                    await self._claim(place)
                    await self._ship(place, status)
                missing.remove(target.place.address)
            except Superseded as error:
                await self._give_way(target.place, str(error))
            except Exception as error:  # whatever a place does, the others get theirs
                await self._note(status, error)
                self._context.logger.warning("state-copy", place=status.place, error=status.error)

        try:
            number = await anyio.to_thread.run_sync(document.revision, self._context.store.path)
            targets = await self._targets()
        except (sqlite3.Error, PurveyorError) as error:  # a disk that is gone has been told of
            self._context.logger.warning("state-copy", error=str(error))
            return missing
        for address in targets:
            known = self.statuses.get(address)
            if number > (known.revision if known else self._found) and not (
                known and known.superseded
            ):
                missing.append(address)
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as group:
                for address in list(missing):
                    group.start_soon(ship, targets[address])
        return missing

    async def _follow(self, group: anyio.abc.TaskGroup) -> None:
        """Have a task for each place that there is, as it is now."""
        targets = await self._targets()
        for address, (target, scope) in list(self._wanted.items()):
            if address not in targets or targets[address].known_by != target.known_by:
                scope.cancel()
                del self._wanted[address]
                self._reached.pop(address, None)
                self._context.part(Fence).open(address)
                if address not in targets:
                    self.statuses.pop(address, None)
                else:
                    self._status(target.place).superseded = ""
        for address, target in targets.items():
            if address not in self._wanted:
                scope = anyio.CancelScope()
                self._wanted[address] = (target, scope)
                group.start_soon(self._keep, target, scope)

    async def places(self) -> dict[str, str]:
        """The places that a copy is kept at: their names by their addresses."""
        return {address: target.place.label for address, target in (await self._targets()).items()}

    async def too_large(self) -> dict[Path, int]:
        """What of the state directory no copy has, since it is larger than any state, and its
        bytes."""
        return await anyio.to_thread.run_sync(beside.too_large, self._context.state, self._left_out)

    async def _targets(self) -> dict[str, Target]:
        def work(tx: Tx) -> dict[str, Target]:
            found = []
            # else it is lost with the state
            if not self._keeper.folder.resolve().is_relative_to(self._context.state.resolve()):
                found.append(Target(LocalStorage(self._keeper.folder), "folder"))
            for source in backups.sources(tx):
                if own_service(tx, source.endpoint) is None:
                    found.append(Target(self._keeper.place(source), source))
            return {target.place.address: target for target in found}

        return await self._context.store.read(work)

    def _status(self, place: Storage) -> Status:
        return self.statuses.setdefault(place.address, Status(place=place.label))

    # ---------------------------------------------------------------- one place

    async def _keep(self, target: Target, scope: anyio.CancelScope) -> None:
        """Ship to one place; whatever it does, it is tried again. One that somebody took over is
        left alone."""
        place, failures, backoff = target.place, 0, Backoff(SHORTEST, LONGEST)
        settled = self._settled.setdefault(place.address, anyio.Event())
        with scope:
            while True:
                status = self._status(place)
                try:
                    await self._live(place, status, settled)
                except Superseded as error:
                    # else a person has said meanwhile that it is this one that goes on
                    if not scope.cancel_called:
                        await self._give_way(place, str(error))
                    settled.set()
                    return
                except Exception as error:
                    await self._note(status, error)
                    settled.set()
                failures = failures + 1 if status.error else 0
                await anyio.sleep(backoff.pause(failures))

    async def _live(self, place: Storage, status: Status, settled: anyio.Event) -> None:
        """Claim this process's term there, then write whatever changes."""
        if status.at is None:
            status.fall_behind(self._now())
        with anyio.fail_after(DEADLINE):
            async with place.held() as held:
                await self._claim(held)
        self._reached[place.address] = place
        shipped, shipped_at, looked, thinned = None, 0.0, anyio.current_time(), anyio.current_time()
        while True:
            self._require_ours(place)
            changed = self._changed
            what = await self._state()
            # a clock that was put back makes what arrived a thing of the future
            late = (
                status.at is None or not 0 <= (self._now() - status.at).total_seconds() < HEARTBEAT
            )
            # what lies beside the database may change with every event: it goes with the next
            # change, or after a while
            rest = (
                max(0.0, shipped_at + LOOK - anyio.current_time())
                if shipped and what[0] == shipped[0]
                else 0.0
            )
            if late or (what != shipped and not rest):
                status.fall_behind(self._now())
                with anyio.fail_after(DEADLINE):
                    async with place.held() as held:
                        if anyio.current_time() - looked >= LOOK:
                            await self._look(held)
                            looked = anyio.current_time()
                        shipped, shipped_at = await self._ship(held, status), anyio.current_time()
                        settled.set()
                        await self._told_again(status)
                        if anyio.current_time() - thinned >= THIN:
                            await self._thin(held, status.path)
                            thinned = anyio.current_time()
                await anyio.sleep(min(max(status.size / PER_SECOND, SHORTEST), LONGEST))
                continue
            if anyio.current_time() - looked >= LOOK:
                with anyio.fail_after(DEADLINE):
                    await self._look(place)
                looked = anyio.current_time()
            with anyio.move_on_after(min(rest, LOOK) if what != shipped else LOOK):
                await changed.wait()

    async def _state(self) -> Any:
        """What tells this state from another."""

        def look() -> Any:
            return document.revision(self._context.store.path), beside.stamp(
                self._context.state, self._left_out
            )

        return await anyio.to_thread.run_sync(look)

    async def _document(self) -> tuple[Any, int, bytes]:
        """The state, one for all places: what it is known by, its revision, its bytes."""
        async with self._making:
            known_by = await self._state()
            if self._made is None or self._made[0] != known_by:

                def make() -> tuple[int, bytes]:
                    return document.make(
                        self._context.store.path,
                        beside.read_files(self._context.state, self._left_out),
                    )

                number, body = await anyio.to_thread.run_sync(make)
                known_by = (number, known_by[1])
                self._made = (known_by, body)
            return self._made[0], self._made[0][0], self._made[1]

    async def _ship(self, place: Storage, status: Status) -> Any:
        """Write the state as it is now; the answer is what it is known by."""
        known_by, number, body = await self._document()
        who = await self.identity()
        now = self._now()
        header = Header(
            installation=who.installation,
            incarnation=who.incarnation,
            term=who.term,
            revision=number,
            at=int(now.timestamp() * 1000),
            key=who.keys.id,
            name=self._context.settings.namespace,
            host=platform.node(),
            program=__version__,
        )
        content = await anyio.to_thread.run_sync(seal, header, body, who.keys)
        self._require_ours(place)
        await place.put(header.path, content)
        status.revision, status.at, status.error, status.size = number, now, "", len(content)
        status.behind_since, status.path = None, header.path
        return known_by

    # ---------------------------------------------------------------- terms

    async def identity(self) -> Identity:
        """Who this process is: its term is the next one, claimed at each place when that is first
        reached."""
        async with self._claiming:
            if self._identity is None:
                key = await self._keeper.key(create=True)
                assert key is not None
                keys = Keys(key)
                self._identity = await self._context.store.write(lambda tx: begin_term(tx, keys))
            return self._identity

    async def _claim(self, place: Storage) -> None:
        """Take this process's term at a place. Raises `Superseded`: a later one of another
        incarnation is a recovery elsewhere, one of our own a copy of this very state that runs."""
        who = await self.identity()
        newest = await newest_mark(place, who.installation, who.keys)
        if newest is not None:
            foreign = newest.incarnation != who.incarnation and newest.term > who.took_over
            if foreign or newest.term > who.term:
                raise Superseded(f"{newest.who} (term {newest.term})")
        mark = who.mark
        content = write_mark(mark, who.keys)
        # it is ours already when the place was away meanwhile
        if not await place.claim(mark.path, content):
            taken = read_mark(await place.get(mark.path), mark.path, who.keys)
            if taken is not None:
                raise Superseded(f"{taken.who} (term {who.term})")
            # whoever may write there could keep every backup from it by a mark that says nothing
            self._context.logger.warning("state-copy.forged", place=place.label, path=mark.path)
            await place.put(mark.path, content)

    async def look(self, address: str) -> None:
        """See who writes at a place now, for the fence. One that cannot be reached lets nobody
        delete either."""
        place = self._reached.get(address)
        if place is None:
            target = (await self._targets()).get(address)
            if target is None:  # no copy is kept there, and nobody claims it
                return
            place = target.place
        who = await self.identity()
        try:
            with anyio.fail_after(DEADLINE):
                await (self._look(place) if address in self._reached else self._claim(place))
        except TimeoutError:
            raise Failed(
                f"{place.label} does not answer.", remedy="Is it there? Try again."
            ) from None
        except Superseded as error:
            # else a person has said meanwhile that it is this one that goes on
            if who == self._identity:
                await self._give_way(place, str(error))
        else:
            self._reached[address] = place

    def _require_ours(self, place: Storage) -> None:
        """Raise `Superseded` when somebody has looked, and seen another one."""
        if who := self._context.part(Fence).closed.get(place.address):
            raise Superseded(who)

    async def _look(self, place: Storage) -> None:
        """Is there a later term? A mark that our key did not make stops nobody."""
        who = await self.identity()
        own = owner_path(who.installation, who.term)
        for path in await place.below(f"{ROOT}/{who.installation}", after=f"{own}~"):
            if path.endswith(f"/{OWNER}"):
                try:
                    mark = read_mark(await place.get(path), path, who.keys)
                except NotFound:  # thinned meanwhile, by whoever has a later one
                    continue
                if mark is not None and mark.term > who.term:
                    raise Superseded(f"{mark.who} (term {mark.term})")

    async def _thin(self, place: Storage, newest: str) -> None:
        """Take away what need not stay. What has a later name than our own last one is not ours,
        and counts for nothing."""
        await self._look(place)  # never delete what another one relies on
        if await self._context.store.read(hold.is_held):
            return  # a person may find that another copy is the right one
        who = await self.identity()
        paths = await place.below(f"{ROOT}/{who.installation}")
        own = owner_path(who.installation, who.term)
        marks = sorted(path for path in paths if path.endswith(f"/{OWNER}") and path <= own)
        for path in [
            *surplus([path for path in paths if is_document(path) and path <= newest]),
            *marks[:-MARKS],
        ]:
            await place.delete(path)

    # ---------------------------------------------------------------- telling

    async def take_over(self, *, anew: bool = False) -> int:
        """A person says that this is the one that goes on: claim above all others at every place
        that answers, and write there again. The answer is the term. `anew` is for a recovery: what
        wrote before is another one from now on."""
        targets = await self._targets()
        who = await self.identity()
        terms = [who.term]

        async def ask(place: Storage) -> None:
            try:
                with anyio.fail_after(ANSWER):
                    newest = await newest_mark(place, who.installation, who.keys)
            except Exception as error:  # it is away: it sees the term when it is back
                self._context.logger.warning(
                    "take-over", place=place.label, error=error_text(error)
                )
            else:
                terms.append(newest.term if newest else 0)

        async with anyio.create_task_group() as group:
            for target in targets.values():
                group.start_soon(ask, target.place)
        highest = max(terms)
        async with self._claiming:
            keys = who.keys
            self._identity = await self._context.store.write(
                lambda tx: begin_term(tx, keys, above=highest, anew=anew)
            )
        for _, scope in self._wanted.values():
            scope.cancel()
        self._wanted.clear()
        self._reached.clear()
        self.statuses.clear()
        self._found = -1  # a process that ends has all places told
        for address in self._context.part(Fence).closed:
            self._context.part(Fence).open(address)
        self.changed()
        return self._identity.term

    async def _give_way(self, place: Storage, who: str) -> None:
        status = self._status(place)
        self._context.part(Fence).close(place.address, who)
        if not status.superseded:
            status.superseded = who
            await self._say("state-copy.superseded", {"place": status.place, "by": who})

    async def _note(self, status: Status, error: Exception) -> None:
        """A place that does not take the copy."""
        status.error = error_text(error)
        status.fall_behind(self._now())

    async def _watch_late(self) -> None:
        """Tell of a place once it is late, whether it refuses or hangs. What it lacks is seen here:
        it may hang at anything."""
        while True:
            with suppress(sqlite3.Error):  # a disk that is gone is told of elsewhere
                number = await anyio.to_thread.run_sync(document.revision, self._context.store.path)
                for status in list(self.statuses.values()):
                    if status.at is not None and status.revision < number:
                        status.fall_behind(self._now())
            for status in list(self.statuses.values()):
                if status.late and not status.told and not status.superseded:
                    status.told = True
                    await self._say(
                        "state-copy.late", {"place": status.place, "error": status.error or SILENT}
                    )
            await anyio.sleep(LATE / 12)

    async def _told_again(self, status: Status) -> None:
        if status.told:
            status.told = False
            await self._say("state-copy.current", {"place": status.place})

    async def _say(self, kind: str, data: dict[str, Any]) -> None:
        self._context.logger.warning(kind, **data)
        try:
            await self._context.store.write(lambda tx: tx.emit(kind, data=data))
        except PurveyorError as error:  # a disk that is full takes no event either
            self._context.logger.warning("state-copy.untold", error=error.detail)


def error_text(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return SILENT
    return (
        error.detail
        if isinstance(error, PurveyorError)
        else f"{type(error).__name__}: {error}".rstrip(": ")
    )


def begin_term(tx: Tx, keys: Keys, *, above: int = 0, anew: bool = False) -> Identity:
    """Record the next term: after the last one of this database, and above all that somebody else
    has claimed. `anew` is for a recovery: whoever wrote before is another one from now on."""
    term = max(int(read_note(tx, "term") or 0), above) + 1
    incarnation = "" if anew else read_note(tx, "incarnation") or ""
    incarnation = incarnation or os.urandom(8).hex()
    took_over = max(int(read_note(tx, "took-over") or 0), above)
    for name, value in (("term", term), ("incarnation", incarnation), ("took-over", took_over)):
        note(tx, name, str(value))
    return Identity(
        installation(tx), incarnation, term, took_over, keys, int(tx.now.timestamp() * 1000)
    )


async def newest_mark(place: Storage, installation_id: str, keys: Keys) -> Mark | None:
    """Who claimed the last term of an installation at a place."""
    paths = [
        path
        for path in await place.below(f"{ROOT}/{installation_id}")
        if path.endswith(f"/{OWNER}")
    ]
    for path in sorted(paths, reverse=True):
        try:
            mark = read_mark(await place.get(path), path, keys)
        except NotFound:
            continue
        if mark is not None:
            return mark
    return None
