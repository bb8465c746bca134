"""What a recovery would bring back, and from where: looked at on this machine and at the places,
with nothing changed."""

import shutil
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread
import msgspec

from purveyor.archiving import pitr
from purveyor.archiving import store as archives
from purveyor.backups import store as backups
from purveyor.backups.kinds import BASE
from purveyor.backups.manifest import Manifest
from purveyor.backups.models import BackupRecord
from purveyor.backups.repository import UNSIGNED, BackupRepository, on_record
from purveyor.backups.storage import SUMS, Storage
from purveyor.context import Context
from purveyor.docker import ports
from purveyor.kernel.db import Tx
from purveyor.projects import store as projects
from purveyor.recovery.models import Choice
from purveyor.services import store as services
from purveyor.services.models import ServiceRecord
from purveyor_hooks import BadInput, Failed, PurveyorError

# good backups of a service that are looked for: the next one is used when the best one does not
# come
ENOUGH = 3
SAFETY = "safety"  # what a person threw away by restoring something else


class ServiceOutlook(msgspec.Struct, kw_only=True):
    """One service: what it comes from (`backup` is its backup_id, "" for none), and what is in the
    way.

    `bound` are its projects' resources that come with data, `late` those that were made after the
    backup and come back empty, `purged` those of the backup that were purged since.
    """

    id: int
    name: str
    service_type: str
    desired: str
    backup: str = ""
    base: bool = False
    of: datetime | None = None
    size_bytes: int = 0
    plain_bytes: int = 0
    image: str = ""
    image_here: bool = False
    ports_taken: list[int] = []
    bound: list[str] = []
    late: list[str] = []
    purged: list[str] = []
    passed_over: list[str] = []
    choice: Choice = Choice()


class Outlook(msgspec.Struct, kw_only=True):
    """All services; `notes` are for the person, `gone_backups` why a recorded backup is none any
    more, by its number.

    `in_the_way` are containers of this very installation that are on this machine.
    """

    services: list[ServiceOutlook] = []
    notes: list[str] = []
    gone_backups: dict[int, str] = {}
    in_the_way: list[str] = []
    disk_free: int = 0
    disk_needed: int = 0


class Accepted(NamedTuple):
    """Services of which a person takes backups that nothing vouches for, or that are suspect."""

    unsigned: frozenset[str] = frozenset()
    suspect: frozenset[str] = frozenset()

    def of(self, record: ServiceRecord) -> "Accepts":
        names = {record.slug, record.name}
        return Accepts(bool(names & self.unsigned), bool(names & self.suspect))


class Accepts(NamedTuple):
    """The same for one service."""

    unsigned: bool
    suspect: bool


async def look(
    context: Context, final: Path, *, at: datetime | None, accepted: Accepted, highest: int
) -> Outlook:
    """Look at everything that a recovery needs."""
    keeper = context.part(BackupRepository)
    found = Outlook()
    recorded = await context.store.read(services.list_all)
    for record in recorded:
        if record.imported is None and record.state in ("active", "creating"):
            found.services.append(
                await _service(context, keeper, record, at, accepted.of(record), highest)
            )
    found.in_the_way = [item.name for item in await context.engine.containers.listed()]
    found.disk_needed = int(sum(item.plain_bytes for item in found.services) * 1.3)
    folder = context.settings.folder_of_volumes(final)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    found.disk_free = shutil.disk_usage(there).free
    found.gone_backups = await _gone(context, keeper)
    return found


async def _gone(context: Context, keeper: BackupRepository) -> dict[int, str]:
    """Backups in a folder of the lost host."""
    if await anyio.to_thread.run_sync(keeper.folder.is_dir):
        return {}
    every = await context.store.read(backups.list_backups)
    return {
        item.id: f"it was in {keeper.folder} of the host that is lost."
        for item in every
        if item.s3_source_id is None and item.state in ("ok", "suspect")
    }


async def _service(
    context: Context,
    keeper: BackupRepository,
    record: ServiceRecord,
    at: datetime | None,
    accepts: Accepts,
    highest: int,
) -> ServiceOutlook:
    seen = ServiceOutlook(
        id=record.id,
        name=record.name,
        service_type=record.service_type,
        desired=record.desired,
        image=record.image,
    )
    good: list[tuple[BackupRecord, Manifest]] = []
    reasons: list[str] = []
    for backup in await context.store.read(lambda tx: _candidates(tx, record, at)):
        if len(good) >= ENOUGH:
            break
        try:
            good.append((backup, await _checked(context, keeper, backup, accepts)))
        except PurveyorError as error:
            reasons.append(f"{backup.backup_id}: {error.detail}")
            if not good:
                seen.passed_over.append(reasons[-1])
    seen.choice = Choice(
        backups=tuple(backup.id for backup, _ in good),
        reason="" if good else (reasons[0] if reasons else "No backup of it was made."),
        accept_unsigned=accepts.unsigned,
    )
    if good:
        backup, manifest = good[0]
        seen.backup, seen.base, seen.of = (
            backup.backup_id,
            backup.backup_type == BASE,
            manifest.completed_at,
        )
        seen.size_bytes, seen.plain_bytes = manifest.size_bytes, manifest.plain_bytes
        if seen.base:  # its server reads what its own major wrote
            seen.image = record.image if record.major == manifest.major else manifest.image
        held = {item.number: item for item in manifest.bindings}
        rows = await context.store.read(lambda tx: projects.bindings(tx, service_id=record.id))
        ours = {item.origin or item.id: item for item in rows}
        seen.bound = [
            item.resource for number, item in sorted(ours.items()) if number in held or seen.base
        ]
        seen.late = [
            item.resource
            for number, item in sorted(ours.items())
            if number not in held and not seen.base
        ]
        seen.purged = [
            item.resource
            for number, item in sorted(held.items())
            if number not in ours and number <= highest
        ]
    if seen.image != record.image:
        seen.choice = msgspec.structs.replace(seen.choice, image=seen.image)
    seen.image_here = await context.engine.images.inspect(seen.image) is not None
    provider = context.registry.find(record.service_type)
    if provider is None:
        seen.choice = Choice(
            reason=f"The plugin of the type {record.service_type} is not installed here."
        )
        return seen
    wanted = [
        int(record.parameters[item.name])
        for item in provider.kind.parameters
        if item.generated == "port"
    ]
    seen.ports_taken = [port for port in wanted if not ports.is_free(port)]
    return seen


def _candidates(tx: Tx, record: ServiceRecord, at: datetime | None) -> list[BackupRecord]:
    """The backups that may be used, the best one first: an archive's newest base copy, for what was
    written since follows."""
    made = [
        item
        for item in backups.list_backups(tx, service_id=record.id)
        if item.state in ("ok", "suspect")
        and item.backup_type != SAFETY
        and item.completed_at is not None
        and (at is None or item.completed_at <= at)
    ]
    archive = archives.find(tx, record.id)
    current = [
        item
        for item in made
        if archive and item.backup_type == BASE and item.metadata.get("changes") == archive.folder
    ]
    whole = [item for item in made if item not in current]
    return [
        *current,
        *sorted(whole, key=lambda item: item.completed_at or item.started_at, reverse=True),
    ]


async def _checked(
    context: Context, keeper: BackupRepository, backup: BackupRecord, accepts: Accepts
) -> Manifest:
    """What a backup says of itself, once it is known to be ours and whole. Raises what is wrong
    with it."""
    place = await keeper.place_of(backup)
    known = None if backup.metadata.get(UNSIGNED) else on_record(backup)
    verified = await keeper.verified(
        place, backup.folder, known=known, accept_unsigned=accepts.unsigned
    )
    manifest = verified.manifest
    if manifest.state != "ok" and not accepts.suspect:
        raise BadInput(f"It is suspect: {manifest.note}")
    await keeper.opening_key(manifest)
    await _require_whole(place, backup, manifest)
    if backup.backup_type == BASE and manifest.changes:
        await pitr.require_whole(context, backup, verified)
    return manifest


async def _require_whole(place: Storage, backup: BackupRecord, manifest: Manifest) -> None:
    size = await place.size(f"{backup.folder}/{manifest.data}")
    if size != manifest.size_bytes:
        raise Failed(f"Its data has {size} bytes, and had {manifest.size_bytes}.")
    if manifest.sums:
        await place.size(f"{backup.folder}/{SUMS}")
