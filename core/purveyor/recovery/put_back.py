"""The database alone put back from the newest copy of the state: its containers and data are there,
and go on.

What was done after the copy is not in it. Nothing is undone or deleted for that: what the engine
has and the copy does not know is named, and numbers that later things may carry are left out.
"""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread

from purveyor.audit.log import came_back
from purveyor.backups import store as backups
from purveyor.backups.repository import KEY_FILE, read_key, write_key
from purveyor.backups.storage import LocalStorage, S3Storage, Storage
from purveyor.context import Context, Core
from purveyor.deployments import store as deployments
from purveyor.docker import Engine, Labels
from purveyor.docker.labels import DEPLOYMENT, SERVICE, VOLUME, id_in
from purveyor.docker.models import FoundVolume
from purveyor.kernel.db import Store, Tx, copies
from purveyor.kernel.db.faults import translate_faults
from purveyor.kernel.db.lock import StateLock
from purveyor.kernel.db.secrets import open_secrets
from purveyor.kernel.operations import store as operations
from purveyor.migrations import migrations
from purveyor.recovery import beside, document, finding, layout
from purveyor.recovery.copier import StateCopies
from purveyor.recovery.retaken import in_place, installation_of, require_lost
from purveyor.recovery.sealing import Keys
from purveyor.services import hold
from purveyor.services import store as services
from purveyor.settings import FILE as SETTINGS_FILE
from purveyor.settings import Settings
from purveyor.settings import load as load_settings
from purveyor_hooks import BadInput, Conflict, NotFound, PurveyorError

LOST = "The database was lost, and put back from a copy of before."
ANSWER = 30.0  # seconds for a place to give its newest copy, and to take the first one

Build = Callable[[Path], AbstractAsyncContextManager[Core]]
MakeEngine = Callable[[str, Labels], Engine]


class Copy(NamedTuple):
    """One that could be put back. `body` is that of a sealed one, `path` that of one of Purveyor's
    own."""

    order: tuple[int, int, bool]  # by term and revision; of two alike, the one with its history
    label: str
    at: datetime
    incarnation: str
    host: str = ""  # that wrote it
    body: bytes = b""
    path: Path | None = None


class PutBack(NamedTuple):
    """What is there again. `unknown` is what the engine has and the copy does not know, `missing`
    the services of the copy of which the engine has no container, `ended` what was under way."""

    installation: str
    label: str
    at: datetime
    host: str
    services: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    ended: tuple[str, ...]
    passed_over: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """For people and programs; no secret is in it."""
        return {**self._asdict(), "at": self.at.isoformat()}


@asynccontextmanager
async def put_back(
    state: Path,
    place: Storage | None,
    key: bytes | None,
    build: Build,
    make_engine: MakeEngine,
    *,
    plan: bool,
    confirm: Callable[[str], None] = lambda host: None,
) -> AsyncIterator[PutBack]:
    """What would be put back; without `plan` it is in place once the block ends without an error.

    `place` is where to look for sealed copies; without one it is every place that the newest of
    Purveyor's own copies knows, and those themselves. `key` opens sealed ones; without it
    `backup.key` of the state directory does. `confirm` is asked with the host that wrote a sealed one.
    Raises `Conflict` for a database that is whole, and
    for a copy that is older than the data that runs; `NotFound` without a copy.
    """
    require_lost(state)
    part = state / beside.PART
    with StateLock(state):
        settings = load_settings(state)
        engine = make_engine(settings.namespace, Labels(""))
        try:
            try:
                installation = await installation_of(settings.folder_of_volumes(state), engine)
            except NotFound:  # it had no service: the copy says whose it is
                installation = ""
        finally:
            await engine.close()
        if key is None and (state / KEY_FILE).exists():
            key = read_key(state / KEY_FILE)
        found, passed_over = await _newest(state, settings, place, key, installation)
        try:
            await anyio.to_thread.run_sync(_write_part, state, part, found, key)
            async with build(part) as app:
                made = await _look(app.context, installation, found)
                ended: list[str] = []
                if plan:
                    await app.context.store.read(lambda tx: ended.extend(_under_way(tx)))
                else:
                    if made.host:
                        confirm(made.host)
                    await app.context.store.write(lambda tx: _go_on(tx, app, ended))
                    # else its own later copies would keep it from writing there
                    await app.part(StateCopies).take_over()
                    await app.part(StateCopies).flush(ANSWER)
                yield made._replace(ended=tuple(ended), passed_over=tuple(passed_over))
            if not plan:
                await anyio.to_thread.run_sync(in_place, part, state)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(part, ignore_errors=True))


# ---------------------------------------------------------------- which one


async def _newest(
    state: Path,
    settings: Settings,
    place: Storage | None,
    key: bytes | None,
    installation: str,
) -> tuple[Copy, list[str]]:
    """The newest copy, and why others were passed over."""
    passed_over: list[str] = []
    places = [place] if place else []
    found = await anyio.to_thread.run_sync(_own, state, installation)
    # who wrote here: another one took over
    ours = {item.incarnation for item in found if item.incarnation}
    if place is None:
        folder = settings.folder_of_backups(state)
        if not folder.resolve().is_relative_to(state.resolve()) and folder.is_dir():
            places.append(LocalStorage(folder))
        if found:
            places += await _buckets(state, max(found, key=_order))
    for item in places:
        if key is None:
            if place is not None:  # an older copy of Purveyor's own is not what was asked for
                raise BadInput(
                    f"The sealed copies at {item.label} need the key.",
                    remedy="Give backup.key, or the four lines from paper: --key FILE",
                    errors={"key": "needed"},
                )
            passed_over.append(f"{item.label}: its sealed copies need the key: --key FILE")
            continue
        try:
            found.append(await _sealed(item, Keys(key), installation, ours))
        except (PurveyorError, OSError, TimeoutError) as error:
            if place is not None:
                raise
            passed_over.append(f"{item.label}: {getattr(error, 'detail', error) or 'no answer'}")
    if not found:
        raise NotFound(
            f"There is no copy of the database of {state} to put back"
            f"{': ' + '; '.join(passed_over) if passed_over else '.'}",
            remedy=(
                "Name the place that its backups went to: purveyor recover database "
                "s3://BUCKET/PATH. Without any: purveyor recover containers --plan"
            ),
        )
    return max(found, key=_order), passed_over


def _order(item: Copy) -> tuple[int, int, bool]:
    return item.order


def _own(state: Path, installation: str) -> list[Copy]:
    """The copies beside the database that are whole, and of this installation."""
    found = []
    for path in (state / copies.FOLDER).glob("*.db"):
        kept = copies.identify_copy(path)
        if kept is None or (installation and kept.installation != installation):
            continue
        at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        order = (kept.term, kept.revision, True)
        found.append(Copy(order, str(path), at, kept.incarnation, path=path))
    return found


async def _buckets(state: Path, newest: Copy) -> list[Storage]:
    """The buckets that a copy knows, with their keys."""
    assert newest.path is not None
    part = state / beside.PART
    try:
        await anyio.to_thread.run_sync(_write_part, state, part, newest, None)
        store = Store(part, open_secrets(part), migrations)
        store.open()
        try:
            sources = await store.read(lambda tx: list(backups.sources(tx)))
        finally:
            store.close()
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return [S3Storage(source, source.secret_key) for source in sources]


async def _sealed(place: Storage, keys: Keys, installation: str, ours: set[str]) -> Copy:
    with anyio.fail_after(ANSWER):
        async with place.held() as held:
            _, paths = await finding.choose_copies(held, keys, installation)
            found = await finding.newest(held, paths, keys)
    header = found.header
    if ours and header.incarnation not in ours:
        raise Conflict(
            f"{header.host} has taken this installation over at {place.label}.",
            remedy=(
                "Its services run there. If they are to run here all the same, put back one of "
                "Purveyor's own copies: purveyor recover database; then purveyor takeover"
            ),
        )
    return Copy(
        (header.term, header.revision, False),
        place.label,
        header.moment,
        header.incarnation,
        header.host,
        found.body,
    )


def _write_part(state: Path, part: Path, found: Copy, key: bytes | None) -> None:
    """A state directory of the same settings and keys, with the copy for a database."""
    shutil.rmtree(part, ignore_errors=True)
    with translate_faults(part):
        part.mkdir(mode=0o700)
        files = {}
        if found.path is not None:
            shutil.copyfile(found.path, part / beside.DATABASE)
            (part / beside.DATABASE).chmod(0o600)
        else:
            files = document.write(found.body, part / beside.DATABASE)
        for name in (beside.KEY, SETTINGS_FILE, KEY_FILE):
            if (state / name).exists():
                shutil.copy2(state / name, part / name)
            elif name in files:  # it was lost together with the database
                beside.put_back({name: files[name]}, part)
        if key is not None and not (part / KEY_FILE).exists():
            write_key(part / KEY_FILE, key)


# ---------------------------------------------------------------- what there is


async def _look(context: Context, installation: str, found: Copy) -> PutBack:
    """Hold the copy against the engine. Raises `Conflict` when data that it does not know of
    serves."""
    engine = context.engine
    if installation and engine.labels.installation != installation:
        raise Conflict(
            f"{found.label} is of installation {engine.labels.installation}, and the data here of "
            f"{installation}.",
            remedy="Give the place that the backups of this one went to.",
        )
    known = await context.store.read(
        lambda tx: (
            services.list_all(tx),
            services.volumes(tx, ("new", "used", "kept")),
            deployments.active(tx),
        )
    )
    records, volumes, deployed = known
    # of an archive's helper: its own, known by the service
    named = {*(item.id for item in volumes), *(f"archive-{record.id}" for record in records)}
    there = [item for item in await engine.volumes.listed() if engine.labels.ours(item.labels)]
    users = await engine.containers.users({item.name: item.path for item in there})
    containers = {item.name: item for item in await engine.containers.listed()}
    by_number = {record.id: record for record in records}
    known_as = {record.container_name for record in records}
    unknown = [f"the volume {item.name}" for item in there if _number(item) not in named]
    for item in containers.values():
        service, deployment = id_in(item.labels, SERVICE), id_in(item.labels, DEPLOYMENT)
        helps = item.name.partition(".")[0] in known_as  # an archive's, which is made anew
        if deployment not in deployed if deployment else service not in by_number and not helps:
            unknown.append(f"the container {item.name}")
    for volume in there:
        for item in users.get(volume.name, ()):
            record = by_number.get(id_in(item.labels, SERVICE) or 0)
            if (
                record is None
                or item.name != record.container_name
                or record.volume_id == _number(volume)
            ):
                continue
            raise Conflict(
                f"{record.name} serves from {volume.name}, which the newest copy ({found.label}, "
                f"of {found.at:%Y-%m-%d %H:%M:%S} UTC) does not know as its data: it was restored "
                "or upgraded since.",
                remedy=(
                    "Nothing was touched. Name a place with a newer copy, or take the services in "
                    "from their containers: purveyor recover containers --plan"
                ),
            )
    return PutBack(
        engine.labels.installation,
        found.label,
        found.at,
        found.host,
        tuple(record.name for record in records if record.state == "active"),
        tuple(
            record.name
            for record in records
            if record.state == "active"
            and record.imported is None
            and record.container_name not in containers
        ),
        tuple(sorted(unknown)),
        (),
        (),
    )


def _number(volume: FoundVolume) -> str:
    return volume.labels.get(VOLUME) or Path(volume.path).name


def _under_way(tx: Tx) -> list[str]:
    return [f"{item.verb} (operation {item.id})" for item in operations.list_unfinished(tx)]


def _go_on(tx: Tx, app: Core, ended: list[str]) -> None:
    """What holds from now on: nothing that was under way is gone on with, for it may have ended
    since, and data may stand on how; nothing at the places of backups expires for a week."""
    ended += _under_way(tx)
    layout.end_unfinished(tx, app.context, app.operation_types, LOST)
    layout.leave_numbers_out(tx)
    came_back(tx)
    hold.end(tx)
