"""/api/backups: backups, where they go, and when they are made."""

from litestar import Response, Router, get, post
from litestar.response import Stream

from purveyor.backups import store as backups
from purveyor.backups.models import BackupRecord, ScheduleRecord
from purveyor.backups.operations.adopt import Adopted
from purveyor.backups.operations.backup import readable
from purveyor.backups.operations.schedules import ScheduleArguments
from purveyor.backups.repository import BackupRepository
from purveyor.backups.schemas import (
    BackupView,
    FoundBackup,
    SourceView,
    source_view,
)
from purveyor.backups.storage import MANIFEST
from purveyor.context import Core
from purveyor.exposed.routes import perform
from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.api.responses import Limit, Offset, Req, page
from purveyor.kernel.api.streaming import flow, prefetch_first
from purveyor.kernel.db import Page, Tx
from purveyor.kernel.operations import Plan
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import store as services
from purveyor_hooks import BadInput
from purveyor_hooks.streams import attachment


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


async def backup_made(_: Req, core: Core, operation: OperationRecord) -> BackupView:
    number = operation.arguments["backup"]
    return view(await core.context.store.read(lambda tx: backups.get(tx, number)))


@get(
    "/{reference:str}/extract",
    guards=[admin],
    media_type="application/octet-stream",
    opt={"reveals": "backup"},
)
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


# ---------------------------------------------------------------- buckets


@get("/s3-sources", guards=[reader])
async def list_sources(core: Core) -> list[SourceView]:
    return [source_view(item) for item in await core.context.store.read(backups.sources)]


@get("/s3-sources/{reference:str}", guards=[reader])
async def show_source(core: Core, reference: str) -> SourceView:
    return source_view(await core.context.store.read(lambda tx: backups.source(tx, reference)))


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


async def adopted(_: Req, core: Core, found: Adopted) -> Response[list[BackupView]]:
    """Answers with what was taken up; the log tells of the rest."""
    for path, why in found.refused.items():
        core.context.logger.warning("backup.refused", path=path, why=why)
    headers = {"X-Refused": str(len(found.refused))}
    return Response([view(item) for item in found.backups], headers=headers)


# ---------------------------------------------------------------- schedules


@get("/schedules", guards=[reader])
async def list_schedules(core: Core) -> list[ScheduleRecord]:
    return await core.context.store.read(backups.schedules)


@get("/schedules/{reference:str}", guards=[reader])
async def show_schedule(core: Core, reference: str) -> ScheduleRecord:
    return await core.context.store.read(lambda tx: backups.schedule(tx, reference))


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
    return await perform(
        request,
        core,
        f"{word}-schedule",
        ScheduleArguments(schedule=reference),
        plan=plan,
        answers=ScheduleRecord,
        target=f"{reference}/{word}",
    )


router = Router(
    "/backups",
    route_handlers=[
        list_backups,
        list_sources,
        show_source,
        found_backups,
        list_schedules,
        show_schedule,
        switch_schedule,
        show_backup,
        extract_database,
    ],
    tags=["backups"],
)
