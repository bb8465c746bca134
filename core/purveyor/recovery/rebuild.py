"""From a copy at a place to a state directory of this machine: looked at first, then claimed, then
put in place whole."""

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import msgspec
from sqlite_utils import Database

from purveyor import __version__
from purveyor.audit.log import came_back
from purveyor.backups import paper
from purveyor.backups.manifest import key_id
from purveyor.backups.models import SourceRecord
from purveyor.backups.repository import KEY_FILE, write_key
from purveyor.backups.storage import LocalStorage, S3Storage, Storage
from purveyor.context import Core
from purveyor.kernel.db import Tx
from purveyor.kernel.db.database import find_unknown_migrations
from purveyor.kernel.db.faults import translate_faults
from purveyor.kernel.db.lock import StateLock
from purveyor.migrations import migrations
from purveyor.recovery import beside, document, finding, layout
from purveyor.recovery.copier import StateCopies, newest_mark
from purveyor.recovery.models import Recovering, recovering
from purveyor.recovery.outlook import Accepted, Outlook, look
from purveyor.recovery.sealing import Header, Keys, Mark
from purveyor_hooks import BadInput, Conflict, Failed, StateRefused

FIRST = 120.0  # seconds for the first copy to arrive
PART = ".recovering"


class Wanted(NamedTuple):
    """What a person asks for. The place is a bucket or a folder."""

    state: Path
    source: SourceRecord | None
    folder: Path | None
    key: bytes
    installation: str = ""
    at: datetime | None = None
    accepted: Accepted = Accepted()
    move_ports: bool = False
    keep_purged: bool = False
    on_paper: bool = False  # where the key came from

    @property
    def place(self) -> Storage:
        return (
            S3Storage(self.source, self.source.secret_key)
            if self.source
            else LocalStorage(self.folder or Path())
        )


@dataclass
class Prospect:
    """What would come back. `newest` is the newest copy that opens, `header` the one that is used;
    `owner` has claimed last."""

    app: Core
    header: Header
    newest: Header
    refused: tuple[str, ...]
    owner: Mark | None
    outlook: Outlook
    record: Recovering
    claimed: bool = False


Build = Callable[[Path], AbstractAsyncContextManager[Core]]


@asynccontextmanager
async def prospect(wanted: Wanted, build: Build) -> AsyncIterator[Prospect]:
    """What a recovery would do. Nothing but a folder beside the state directory is written, and
    that is taken away again; once it is claimed, it takes the place of the state directory."""
    part = wanted.state.with_name(wanted.state.name + PART)
    keys = Keys(wanted.key)
    async with wanted.place.held() as place:
        installation, paths = await finding.choose_copies(place, keys, wanted.installation)
        newest = await finding.newest(place, paths, keys)
        found = newest if wanted.at is None else await finding.newest(place, paths, keys, wanted.at)
        owner = await newest_mark(place, installation, keys)
    try:
        notes = await anyio.to_thread.run_sync(_write_part, part, found.body, wanted)
        async with build(part) as app:
            store = app.context.store
            if wanted.source is not None:
                source = wanted.source
                notes.append(await store.write(lambda tx: layout.take_source(tx, source)))
            await store.write(came_back)
            highest = await store.read(_highest)
            if wanted.at is not None:
                body = newest.body
                await store.write(lambda tx: _keep_revoked(tx, body))
            outlook = await look(
                app.context, wanted.state, at=wanted.at, accepted=wanted.accepted, highest=highest
            )
            record = Recovering(
                since=app.now(),
                place=wanted.place.label,
                state_of=found.header.moment,
                host=found.header.host,
                revision=found.header.revision,
                highest=highest,
                at=wanted.at,
                keep_purged=wanted.keep_purged,
                notes=[note for note in notes if note],
            )
            made = Prospect(app, found.header, newest.header, found.refused, owner, outlook, record)
            yield made
        if made.claimed:
            await anyio.to_thread.run_sync(_put_in_place, wanted.state)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(part, ignore_errors=True))


def _write_part(part: Path, body: bytes, wanted: Wanted) -> list[str]:
    shutil.rmtree(part, ignore_errors=True)
    with translate_faults(part):
        part.mkdir(parents=True, mode=0o700)
        files = document.write(body, part / beside.DATABASE)
        _require_known(part / beside.DATABASE)
        beside.put_back(files, part)
        write_key(part / KEY_FILE, wanted.key)
    if wanted.on_paper:
        paper.note_printed(part / KEY_FILE, key_id(wanted.key))
    return [layout.take_folder(part, wanted.folder)] if wanted.folder is not None else []


def _require_known(database: Path) -> None:
    """Raise `StateRefused` for the state of a later version, whose changes this one does not
    know."""
    with closing(sqlite3.connect(database)) as opened:
        names = find_unknown_migrations(migrations, Database(opened))
        theirs = _first(opened, "SELECT value FROM meta WHERE key = 'version'") or "a later version"
    if names:
        raise StateRefused(
            f"The copy of the state was written by Purveyor {theirs}, and this is {__version__}: "
            "it does not know the changes "
            f"{', '.join(names)}.",
            remedy=(
                f"Nothing was touched here or at the place. Install Purveyor {theirs} or a "
                "later one, and recover with that."
            ),
        )


def _highest(tx: Tx) -> int:
    """The last number of a binding that the lost host gave. A recovery that was interrupted has
    left numbers out since."""
    earlier = recovering(tx)
    if earlier is not None:
        return earlier.highest
    return int(tx.value("SELECT seq FROM sqlite_sequence WHERE name = 'bindings'") or 0)


async def claim(wanted: Wanted, found: Prospect) -> None:
    """Make the state of the lost host that of this one, and say so at the place: from then on the
    lost one is refused there.

    The claim and the first copy belong together: whoever comes next finds what was written here,
    and not what the lost host wrote after it. Raises `Failed` when the place has not got both.
    """
    app, context = found.app, found.app.context

    def work(tx: Tx) -> None:
        layout.lay_out(
            tx,
            context,
            app.operation_types,
            wanted.state,
            found.record,
            found.outlook,
            move_ports=wanted.move_ports,
        )

    await context.store.write(work)
    await app.part(StateCopies).take_over(anew=True)
    label, address = wanted.place.label, wanted.place.address
    missing = await app.part(StateCopies).flush(FIRST)
    status = app.part(StateCopies).statuses.get(address)
    if address in missing or status is None or status.at is None:
        raise Failed(
            f"{label} has not taken the first copy of the recovered state: "
            f"{status.error if status else 'no answer'}",
            remedy="Nothing was brought back. Try again when it can be written to.",
        )
    found.claimed = True


def _put_in_place(state: Path) -> None:
    """Have the state directory be what was made beside it, and nothing in between."""
    part = state.with_name(state.name + PART)
    (part / "lock").unlink(missing_ok=True)
    # the files' names, too, are on the disk before the folder's own
    for folder, _, _ in os.walk(part):
        _keep(Path(folder))
    if state.exists() and any(state.iterdir()):
        aside = state.with_name(f"{state.name}.before-recovery-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        state.rename(aside)
    try:
        part.rename(state)
    except OSError as error:
        remedy = "Call it again, or give another --state."
        raise Failed(f"{part} cannot be made {state}: {error.strerror}.", remedy=remedy) from None
    _keep(state.parent)


def _keep(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_empty(state: Path) -> Recovering | None:
    """Raise `Conflict` for a state directory that an installation lives in, `StateLocked` for one
    in use. The answer is the recovery that is under way there."""
    if os.path.ismount(state):
        raise Conflict(
            f"{state} is a file system of its own: a state directory is put in place whole, and "
            "that cannot be.",
            remedy=f"Give a folder in it: --state {state / 'purveyor'}",
        )
    database = state / beside.DATABASE
    if not database.exists():
        if (state / beside.KEY).exists():
            raise Conflict(
                f"{state} holds a key and no database: it is not an empty state directory.",
                remedy="Move it away first, or give another one (--state).",
            )
        return None
    with StateLock(state), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        found = _first(db, "SELECT value FROM meta WHERE key = 'recovering'")
        held = _first(db, "SELECT count(*) FROM services WHERE state != 'deleted'")
    if found is not None:
        return msgspec.json.decode(found, type=Recovering)
    if held:
        raise Conflict(
            f"{state} is the state directory of an installation with {held} services.",
            remedy="A recovery needs a machine, or a state directory, of its own: --state DIR",
        )
    return None


def _first(db: sqlite3.Connection, sql: str) -> Any:
    try:
        row = db.execute(sql).fetchone()
    except sqlite3.Error:
        return None
    return row[0] if row else None


def _keep_revoked(tx: Tx, newest: bytes) -> None:
    """With a state of the past: what was revoked since stays revoked, and apps have the passwords
    that they have today."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(newest)
        db.row_factory = sqlite3.Row
        tokens = {
            row["id"]: row
            for row in db.execute("SELECT id, hash, expires_at, revoked_at FROM tokens")
        }
        # not to an older version
        known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'users'").fetchone()
        left = (
            db.execute("SELECT * FROM users WHERE disabled_at IS NOT NULL").fetchall()
            if known
            else []
        )
        passwords = {
            row["id"]: row
            for row in db.execute(
                "SELECT id, service_id, resource, password FROM bindings WHERE state = 'bound'"
            )
        }
    for user in left:
        tx.update(
            "users",
            "name = ?",
            [user["name"]],
            disabled_at=user["disabled_at"],
            removed_at=user["removed_at"],
        )
    for row in list(tx.rows("SELECT id, hash FROM tokens")):
        now = tokens.get(row["id"])
        if now is None or now["hash"] != row["hash"]:
            tx.update("tokens", "id = ?", [row["id"]], revoked_at=tx.now)
        else:
            tx.update(
                "tokens",
                "id = ?",
                [row["id"]],
                revoked_at=now["revoked_at"],
                expires_at=now["expires_at"],
            )
    for row in list(tx.rows("SELECT id, service_id, resource FROM bindings")):
        now = passwords.get(row["id"])
        if now is not None and (now["service_id"], now["resource"]) == (
            row["service_id"],
            row["resource"],
        ):
            tx.update("bindings", "id = ?", [row["id"]], password=now["password"])


def problems(wanted: Wanted, found: Prospect) -> None:
    """Raise `Conflict` or `BadInput` for what has to be settled before anything is claimed."""
    outlook = found.outlook
    if outlook.in_the_way:
        names = ", ".join(sorted(outlook.in_the_way)[:5])
        raise Conflict(
            f"This machine has {len(outlook.in_the_way)} containers of that very installation: "
            f"{names}.",
            remedy=(
                "Their data is newer than any backup. If it is not to be kept, remove them; "
                "else recover on another machine."
            ),
        )
    taken = {item.name: item.ports_taken for item in outlook.services if item.ports_taken}
    if taken and not wanted.move_ports:
        named = "; ".join(
            f"{name}: {', '.join(map(str, numbers))}" for name, numbers in taken.items()
        )
        raise Conflict(
            f"Ports of this machine are taken by another program ({named}).",
            remedy=(
                "Free them, or have others chosen: --move-ports. Apps on the containers' "
                "network do not notice."
            ),
            errors={"ports": named},
        )
    if outlook.disk_free < outlook.disk_needed:
        raise BadInput(
            f"The disk has {outlook.disk_free >> 20} MB free, and about "
            f"{outlook.disk_needed >> 20} MB are needed.",
            remedy="Make room first.",
        )
