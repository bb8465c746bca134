"""Backups found in a folder or a bucket, taken into the database."""

from purveyor.backups import store as backups
from purveyor.backups.manifest import Verified
from purveyor.backups.models import BackupRecord, SourceRecord
from purveyor.backups.repository import BackupRepository, facts
from purveyor.backups.storage import MANIFEST
from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor_hooks import BadInput, NotFound


async def adopt(
    context: Context, source: SourceRecord | None, *, accept_unsigned: bool
) -> tuple[list[BackupRecord], dict[str, str]]:
    """Record every whole backup of a place that there is no record of. The answer is these, and
    what was refused: path -> why."""
    keeper = context.part(BackupRepository)
    place, adopted, refused = keeper.place(source), [], {}
    for path in await place.list():
        folder = path.removesuffix(f"/{MANIFEST}")
        try:
            item = await keeper.verified(place, folder, accept_unsigned=accept_unsigned)
        except (BadInput, NotFound) as error:
            refused[path] = error.detail
            continue
        number = await context.store.write(
            lambda tx: _record(tx, item, folder, f"{place.label.rstrip('/')}/{folder}", source)  # noqa: B023
        )
        if number is not None:
            adopted.append(await context.store.read(lambda tx: backups.get(tx, number)))  # noqa: B023
    known = await context.store.read(
        lambda tx: {f"{item.folder}/{MANIFEST}" for item in backups.listed(tx)}
    )
    return adopted, {path: why for path, why in refused.items() if path not in known}


def _record(
    tx: Tx, verified: Verified, folder: str, location: str, source: SourceRecord | None
) -> int | None:
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
        s3_source_id=source.id if source else None,
        folder=folder,
        location=location,
        encryption=item.encryption,
    )
    state = "suspect" if item.state == "suspect" else "ok"
    times = {"started_at": item.started_at, "expires_at": item.expires_at}
    backups.update(tx, number, **facts(item, verified.mac), **times, state=state)
    tx.emit(
        "backup.adopted", data={"id": number, "backup_id": item.backup_id, "service": item.service}
    )
    return number
