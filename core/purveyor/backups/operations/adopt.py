"""Backups found in a folder or a bucket, taken into the database."""

from typing import ClassVar, NamedTuple

import msgspec

from purveyor.backups import store as backups
from purveyor.backups.manifest import Verified
from purveyor.backups.models import BackupRecord
from purveyor.backups.repository import BackupRepository, facts
from purveyor.backups.storage import MANIFEST
from purveyor.context import Context
from purveyor.kernel.actors import Who
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import ImmediateOperation, Result, Target
from purveyor_hooks import BadInput, NotFound


class AdoptArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`source` is an id or name, None for the folder of backups."""

    source: str | None = None
    accept_unsigned: bool = False


class Adopted(NamedTuple):
    """What was registered, and what was refused: path -> why."""

    backups: list[BackupRecord]
    refused: dict[str, str]


class _Seen(NamedTuple):
    """What a place holds: folder -> its manifest; paths that were refused -> why."""

    label: str
    source: int | None
    whole: dict[str, Verified]
    refused: dict[str, str]


class AdoptBackups(ImmediateOperation):
    """Record every whole backup of a place that there is no record of: all that were read, or
    none."""

    name: ClassVar[str] = "adopt-backups"
    arguments = AdoptArguments

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._context = context

    def target(self, tx: Tx, given: AdoptArguments) -> Target:
        if given.source is None:
            return Target()
        return Target(also=(("s3-source", backups.source(tx, given.source).id),))

    async def prepare(self, given: AdoptArguments) -> _Seen:
        named = given.source
        source = (
            await self._context.store.read(lambda tx: backups.source(tx, named))
            if named is not None
            else None
        )
        keeper = self._context.part(BackupRepository)
        place = keeper.place(source)
        seen = _Seen(place.label.rstrip("/"), source.id if source else None, {}, {})
        for path in await place.list():
            folder = path.removesuffix(f"/{MANIFEST}")
            try:
                seen.whole[folder] = await keeper.verified(
                    place, folder, accept_unsigned=given.accept_unsigned
                )
            except (BadInput, NotFound) as error:
                seen.refused[path] = error.detail
        return seen

    def change(self, tx: Tx, given: _Seen, actor: Who) -> Result:
        if given.source is not None:
            backups.source(tx, given.source)  # it may have been forgotten meanwhile
        made = [
            backups.get(tx, number)
            for folder, item in given.whole.items()
            if (number := _record(tx, item, folder, given)) is not None
        ]
        known = {f"{item.folder}/{MANIFEST}" for item in backups.list_backups(tx)}
        refused = {path: why for path, why in given.refused.items() if path not in known}
        return Result(
            answer=Adopted(made, refused),
            subject=given.label,
            resources=[f"backup {item.backup_id} of {item.service_name}" for item in made],
            warnings=[f"{path} is refused: {why}" for path, why in refused.items()],
        )


def _record(tx: Tx, verified: Verified, folder: str, seen: _Seen) -> int | None:
    """It has the times that it says, so that it expires when it was to."""
    item = verified.manifest
    if backups.find(tx, item.backup_id):
        return None
    number = backups.insert(
        tx,
        backup_id=item.backup_id,
        service_id=None,
        service_name=item.service,
        service_type=item.service_type,
        backup_type=item.backup_type,
        s3_source_id=seen.source,
        folder=folder,
        location=f"{seen.label}/{folder}",
        encryption=item.encryption,
    )
    state = "suspect" if item.state == "suspect" else "ok"
    times = {"started_at": item.started_at, "expires_at": item.expires_at}
    backups.update(tx, number, **facts(item, verified.mac), **times, state=state)
    tx.emit(
        "backup.adopted", data={"id": number, "backup_id": item.backup_id, "service": item.service}
    )
    return number
