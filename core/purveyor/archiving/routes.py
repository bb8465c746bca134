"""Archives and recovery to a point in time, over the API."""

from litestar import Router, get

from purveyor.archiving import store as archives
from purveyor.archiving.schemas import ArchiveView
from purveyor.backups import store as backups
from purveyor.context import Core
from purveyor.kernel.api.auth import reader
from purveyor.kernel.api.responses import Req
from purveyor.kernel.db import Tx
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import store as services


def _archives(tx: Tx, service: str | int | None = None) -> list[ArchiveView]:
    """Of one service, or of all."""
    one = archives.find(tx, services.get(tx, service).id) if service else None
    every = ([one] if one else []) if service else archives.list_all(tx)
    slugs = services.slugs(tx, [item.service_id for item in every])
    bases = backups.bases_since(tx, list(slugs))
    found = []
    for item in every:
        found.append(
            ArchiveView(
                service_id=item.service_id,
                service=slugs[item.service_id],
                s3_source_id=item.s3_source_id,
                state=item.state,
                reason=item.reason,
                since=bases.get(item.service_id),
                until=item.until,
                lag_seconds=round((tx.now - item.until).total_seconds(), 1) if item.until else None,
                queue_bytes=item.queue_bytes,
                base_at=item.base_at,
                keep_days=item.keep_days,
                encryption=item.encryption,
            )
        )
    return found


@get("/archives", guards=[reader])
async def list_archives(core: Core, service: str | None = None) -> list[ArchiveView]:
    return await core.context.store.read(lambda tx: _archives(tx, service))


async def archive_made(_: Req, core: Core, operation: OperationRecord) -> ArchiveView:
    (found,) = await core.context.store.read(lambda tx: _archives(tx, operation.service_id))
    return found


router = Router("/backups", route_handlers=[list_archives], tags=["backups"])
