"""Archives and recovery to a point in time, over the API."""

from typing import Any

from litestar import Request, Response, Router, delete, get, post

from purveyor.archiving import store as archives
from purveyor.archiving.operations.archive import ArchiveArguments
from purveyor.archiving.schemas import ArchiveRequest, ArchiveView, MomentRequest
from purveyor.backups import store as backups
from purveyor.backups.operations.restore import RestoreArguments
from purveyor.context import Core
from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.api.responses import answer, nothing
from purveyor.kernel.db import Tx
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import routes as service_routes
from purveyor.services import store as services
from purveyor.services.operations.lifecycle import ServiceArguments

Req = Request[Any, Any, Any]


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


@post("/archives", guards=[admin])
async def begin_archive(
    request: Req, core: Core, data: ArchiveRequest, plan: bool = False
) -> Response[Any]:
    async def then(operation: OperationRecord) -> ArchiveView:
        (found,) = await core.context.store.read(lambda tx: _archives(tx, operation.service_id))
        return found

    given = ArchiveArguments(
        service=str(data.service_id),
        s3_source_id=data.s3_source_id,
        encrypt=data.encrypt,
        keep_days=data.keep_days,
    )
    return await answer(request, core, "archive", given, plan=plan, status=201, then=then)


@delete("/archives/{service:str}", guards=[admin], status_code=200)
async def end_archive(request: Req, core: Core, service: str, plan: bool = False) -> Response[Any]:
    return await answer(
        request,
        core,
        "end-archive",
        ServiceArguments(service=service),
        plan=plan,
        status=204,
        then=nothing,
    )


@post("/archives/{service:str}/restore", guards=[admin])
async def restore_moment(
    request: Req, core: Core, service: str, data: MomentRequest, plan: bool = False
) -> Response[Any]:
    async def then(operation: OperationRecord) -> Any:
        return await service_routes.service_view(core, operation.service)

    given = RestoreArguments(
        archive=service,
        at=data.at,
        new_name=data.new_name,
        service_id=data.service_id,
        keep_going=data.keep_going,
    )
    return await answer(request, core, "restore", given, plan=plan, status=201, then=then)


router = Router(
    "/backups",
    route_handlers=[list_archives, begin_archive, end_archive, restore_moment],
    tags=["backups"],
)
