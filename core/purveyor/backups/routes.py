"""/api/backups: backups, where they go, and when they are made."""

from typing import Any

import msgspec
from litestar import Request, Response, Router, delete, get, post, put
from litestar.response import Stream

from purveyor.backups import store as backups
from purveyor.backups.models import BackupRecord, ScheduleRecord
from purveyor.backups.operations.adopt import AdoptArguments, Adopted
from purveyor.backups.operations.backup import (
    BackupArguments,
    ProveArguments,
    VerifyArguments,
    readable,
)
from purveyor.backups.operations.restore import RestoreArguments
from purveyor.backups.operations.schedules import ScheduleArguments
from purveyor.backups.operations.sources import SourceArguments, UpdateSourceArguments
from purveyor.backups.repository import BackupRepository
from purveyor.backups.schemas import (
    BackupView,
    FoundBackup,
    RestoreRequest,
    RunRequest,
    ScheduleRequest,
    SourceChange,
    SourceRequest,
    SourceView,
    source_view,
)
from purveyor.backups.storage import MANIFEST
from purveyor.context import Core
from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.api.responses import (
    PLANNED,
    Limit,
    Offset,
    answer,
    changed,
    nothing,
    page,
)
from purveyor.kernel.api.streaming import flow, prefetch_first
from purveyor.kernel.db import Page, Tx
from purveyor.kernel.operations import Plan
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import routes as service_routes
from purveyor.services import store as services
from purveyor_hooks import BadInput
from purveyor_hooks.streams import attachment

Req = Request[Any, Any, Any]


def view(record: BackupRecord) -> BackupView:
    return BackupView(
        id=record.id,
        backup_id=record.backup_id,
        service_id=record.service_id,
        service_name=record.service_name,
        service_type=record.service_type,
        state="skipped" if record.skipped else record.state,
        backup_type=record.backup_type,
        started_at=record.started_at,
        completed_at=record.completed_at,
        size_bytes=record.size_bytes,
        checksum=record.checksum,
        compression_type="zstd",
        encryption=record.encryption,
        location=record.location,
        expires_at=record.expires_at,
        error_message=record.error_message,
        proven_at=record.proven_at,
        proven_seconds=record.proven_seconds,
        metadata=record.metadata,
    )


# ---------------------------------------------------------------- backups


@get("/", guards=[reader])
async def list_backups(
    core: Core, service: str | None = None, limit: Limit = 100, offset: Offset = 0
) -> Response[list[BackupView]]:
    def work(tx: Tx) -> Page[BackupRecord]:
        return backups.page(
            tx,
            service_id=services.get(tx, service).id if service else None,
            limit=limit,
            offset=offset,
        )

    found = await core.context.store.read(work)
    return page([view(item) for item in found.items], found.total)


@get("/{reference:str}", guards=[reader])
async def show_backup(core: Core, reference: str) -> BackupView:
    return view(await core.context.store.read(lambda tx: backups.get(tx, reference)))


@post("/external-services/{service:str}/run", guards=[admin])
async def run_backup(
    request: Req, core: Core, service: str, data: RunRequest | None = None, plan: bool = False
) -> Response[Any]:
    given = BackupArguments(service=service, **msgspec.structs.asdict(data or RunRequest()))
    return await answer(request, core, "backup", given, plan=plan, status=201, then=_made(core))


def _made(core: Core) -> Any:
    async def then(operation: OperationRecord) -> BackupView:
        return view(
            await core.context.store.read(lambda tx: backups.get(tx, operation.arguments["backup"]))
        )

    return then


@post("/{reference:str}/restore", guards=[admin])
async def restore_backup(
    request: Req, core: Core, reference: str, data: RestoreRequest, plan: bool = False
) -> Response[Any]:
    async def then(operation: OperationRecord) -> Any:
        return await service_routes.service_view(core, operation.service)

    given = RestoreArguments(
        backup=reference,
        new_name=data.new_name,
        service_id=data.service_id,
        at=data.at,
        databases=tuple(data.databases),
        keep_going=data.keep_going,
        accept_unsigned=data.accept_unsigned,
    )
    return await answer(request, core, "restore", given, plan=plan, status=201, then=then)


@get("/{reference:str}/extract", guards=[admin], opt={"reveals": "backup"})
async def extract_database(core: Core, reference: str, database: str) -> Stream:
    """One database or bucket of a backup, in the form that its server's own tools read. A body that
    ends early is none: the data is checked while it is read."""
    backup = await core.context.store.read(lambda tx: readable(tx, reference, database))
    keeper = core.context.part(BackupRepository)
    verified = await keeper.manifest(backup)
    assert core.workers is not None
    chunks = await prefetch_first(
        flow(core.workers, lambda sink: keeper.extract(backup, verified, database, sink))
    )
    headers = {
        "Content-Disposition": attachment(f"{backup.backup_id}-{database}"),
        "X-Content-Type-Options": "nosniff",
    }
    return Stream(chunks, media_type="application/octet-stream", headers=headers)


@post("/{reference:str}/verify", guards=[admin])
async def verify_backup(
    request: Req,
    core: Core,
    reference: str,
    plan: bool = False,
    accept_unsigned: bool = False,
    deep: bool = False,
) -> Response[Any]:
    given = VerifyArguments(backup=reference, accept_unsigned=accept_unsigned, deep=deep)
    return await answer(
        request, core, "verify-backup", given, plan=plan, status=200, then=_made(core)
    )


@delete("/{reference:str}", guards=[admin], status_code=200)
async def delete_backup(
    request: Req, core: Core, reference: str, plan: bool = False
) -> Response[Any]:
    given = ProveArguments(backup=reference)
    return await answer(request, core, "delete-backup", given, plan=plan, status=204, then=nothing)


# ---------------------------------------------------------------- buckets


@get("/s3-sources", guards=[reader])
async def list_sources(core: Core) -> list[SourceView]:
    return [source_view(item) for item in await core.context.store.read(backups.sources)]


@post("/s3-sources", guards=[admin], responses=PLANNED)
async def create_source(
    request: Req, core: Core, data: SourceRequest, plan: bool = False
) -> Response[SourceView]:
    return await changed(request, core, "create-s3-source", data, plan=plan, status=201)


@get("/s3-sources/{reference:str}", guards=[reader])
async def show_source(core: Core, reference: str) -> SourceView:
    return source_view(await core.context.store.read(lambda tx: backups.source(tx, reference)))


@put("/s3-sources/{reference:str}", guards=[admin])
async def update_source(
    request: Req, core: Core, reference: str, data: SourceChange, plan: bool = False
) -> Response[SourceView | Plan]:
    given = UpdateSourceArguments(source=reference, **msgspec.structs.asdict(data))
    return await changed(
        request, core, "update-s3-source", given, plan=plan, status=200, target=reference
    )


@delete("/s3-sources/{reference:str}", guards=[admin], responses=PLANNED)
async def delete_source(
    request: Req, core: Core, reference: str, plan: bool = False
) -> Response[None]:
    given = SourceArguments(source=reference)
    return await changed(
        request, core, "delete-s3-source", given, plan=plan, status=204, target=reference
    )


@get("/s3-sources/{reference:str}/backups", guards=[reader])
async def found_backups(core: Core, reference: str) -> list[FoundBackup]:
    """What the bucket itself holds, also after our own records are lost."""
    record = await core.context.store.read(lambda tx: backups.source(tx, reference))
    keeper = core.context.part(BackupRepository)
    place, found = keeper.place(record), []
    for path in await place.list():
        try:
            verified = await keeper.verified(
                place, path.removesuffix(f"/{MANIFEST}"), accept_unsigned=True
            )
            item = verified.manifest
            found.append(
                FoundBackup(
                    path=path,
                    signed=verified.signed,
                    backup_id=item.backup_id,
                    service=item.service,
                    service_type=item.service_type,
                    completed_at=item.completed_at,
                    size_bytes=item.size_bytes,
                    state=item.state,
                )
            )
        except BadInput as error:
            found.append(FoundBackup(path=path, problem=error.detail))
    return found


@post("/s3-sources/{reference:str}/adopt", guards=[admin], status_code=200)
async def adopt_from_bucket(
    request: Req, core: Core, reference: str, accept_unsigned: bool = False, plan: bool = False
) -> Response[list[BackupView] | Plan]:
    """Register the backups in the bucket that have no record, so that they can be restored.
    ``X-Refused`` says how many were not: see what the bucket holds."""
    given = AdoptArguments(source=reference, accept_unsigned=accept_unsigned)
    return await _adopted(request, core, given, plan, reference)


async def _adopted(
    request: Req, core: Core, given: AdoptArguments, plan: bool, target: str
) -> Response[Any]:
    found = await changed(
        request, core, "adopt-backups", given, plan=plan, status=200, target=target
    )
    if plan:
        return found
    adopted: Adopted = found.content
    for path, why in adopted.refused.items():
        core.context.logger.warning("backup.refused", path=path, why=why)
    headers = {"X-Refused": str(len(adopted.refused))}
    return Response([view(item) for item in adopted.backups], headers=headers)


@post("/adopt", guards=[admin], status_code=200)
async def adopt_from_folder(
    request: Req, core: Core, accept_unsigned: bool = False, plan: bool = False
) -> Response[list[BackupView] | Plan]:
    """Register the backups in the folder of backups that have no record."""
    given = AdoptArguments(accept_unsigned=accept_unsigned)
    return await _adopted(request, core, given, plan, "")


# ---------------------------------------------------------------- schedules


@get("/schedules", guards=[reader])
async def list_schedules(core: Core) -> list[ScheduleRecord]:
    return await core.context.store.read(backups.schedules)


@post("/schedules", guards=[admin], responses=PLANNED)
async def create_schedule(
    request: Req, core: Core, data: ScheduleRequest, plan: bool = False
) -> Response[ScheduleRecord]:
    return await changed(request, core, "create-schedule", data, plan=plan, status=201)


@get("/schedules/{reference:str}", guards=[reader])
async def show_schedule(core: Core, reference: str) -> ScheduleRecord:
    return await core.context.store.read(lambda tx: backups.schedule(tx, reference))


@delete("/schedules/{reference:str}", guards=[admin], responses=PLANNED)
async def delete_schedule(
    request: Req, core: Core, reference: str, plan: bool = False
) -> Response[None]:
    given = ScheduleArguments(schedule=reference)
    return await changed(
        request, core, "delete-schedule", given, plan=plan, status=204, target=reference
    )


@post("/schedules/{reference:str}/{word:str}", guards=[admin], status_code=200)
async def switch_schedule(
    request: Req, core: Core, reference: str, word: str, plan: bool = False
) -> Response[ScheduleRecord | Plan]:
    """``/enable`` and ``/disable``."""
    if word not in ("enable", "disable"):
        raise BadInput(
            "A schedule can be enabled or disabled.",
            errors={"path": "must end with /enable or /disable"},
        )
    given = ScheduleArguments(schedule=reference)
    target = f"{reference}/{word}"
    return await changed(
        request, core, f"{word}-schedule", given, plan=plan, status=200, target=target
    )


router = Router(
    "/backups",
    route_handlers=[
        list_backups,
        list_sources,
        create_source,
        show_source,
        update_source,
        delete_source,
        found_backups,
        adopt_from_bucket,
        adopt_from_folder,
        list_schedules,
        create_schedule,
        show_schedule,
        delete_schedule,
        switch_schedule,
        show_backup,
        run_backup,
        restore_backup,
        extract_database,
        verify_backup,
        delete_backup,
    ],
    tags=["backups"],
)
