"""/api/backups: backups, where they go, and when they are made."""

from typing import Any

import msgspec
from litestar import Request, Response, Router, delete, get, post, put
from litestar.response import Stream

from purveyor.backups import scheduler
from purveyor.backups import store as backups
from purveyor.backups.models import BackupRecord, ScheduleRecord, SourceRecord
from purveyor.backups.operations import adopt
from purveyor.backups.operations.backup import (
    BackupArguments,
    ProveArguments,
    VerifyArguments,
    readable,
)
from purveyor.backups.operations.restore import RestoreArguments
from purveyor.backups.repository import BackupRepository, require_elsewhere
from purveyor.backups.schemas import (
    BackupView,
    FoundBackup,
    RestoreRequest,
    RunRequest,
    ScheduleRequest,
    SourceChange,
    SourceRequest,
    SourceView,
)
from purveyor.backups.storage import MANIFEST, S3Storage
from purveyor.context import Core
from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.api.notes import note
from purveyor.kernel.api.responses import Limit, Offset, answer, nothing, page
from purveyor.kernel.api.streaming import begun, flow
from purveyor.kernel.db import Page, Tx
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import routes as service_routes
from purveyor.services import store as services
from purveyor_hooks import BadInput
from purveyor_hooks.streams import attachment

Req = Request[Any, Any, Any]
MASK = "***"


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


def source_view(record: SourceRecord) -> SourceView:
    values = {name: getattr(record, name) for name in SourceView.__struct_fields__}
    return SourceView(**{**values, "secret_key": MASK})


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
    chunks = await begun(
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


@post("/s3-sources", guards=[admin])
async def create_source(request: Req, core: Core, data: SourceRequest) -> SourceView:
    note(request, target=data.name)
    values = msgspec.structs.asdict(data)
    accept_own = values.pop("accept_own")
    _check_source(values)
    if not accept_own:
        await core.context.store.read(lambda tx: require_elsewhere(tx, data.endpoint))
    now = core.now()
    await S3Storage(SourceRecord(id=0, created_at=now, **values), data.secret_key).check()

    def work(tx: Tx) -> SourceRecord:
        number = backups.insert_source(tx, **values)
        tx.emit("s3-source.created", data={"id": number, "name": data.name})
        return backups.source(tx, number)

    return source_view(await core.context.store.write(work))


def _check_source(values: dict[str, Any]) -> None:
    empty = [
        name
        for name in ("name", "bucket_name", "access_key_id", "secret_key")
        if not str(values[name]).strip()
    ]
    errors = dict.fromkeys(empty, "must not be empty")
    if values["endpoint"] and not values["endpoint"].startswith(("http://", "https://")):
        errors["endpoint"] = "must begin with http:// or https://"
    if values["name"].isdecimal():
        errors["name"] = "must not be a number"
    if errors:
        raise BadInput("Invalid S3 source.", remedy="Fix the fields listed.", errors=errors)


@get("/s3-sources/{reference:str}", guards=[reader])
async def show_source(core: Core, reference: str) -> SourceView:
    return source_view(await core.context.store.read(lambda tx: backups.source(tx, reference)))


@put("/s3-sources/{reference:str}", guards=[admin])
async def update_source(core: Core, reference: str, data: SourceChange) -> SourceView:
    record = await core.context.store.read(lambda tx: backups.source(tx, reference))
    changes = {
        name: value for name, value in msgspec.structs.asdict(data).items() if value is not None
    }
    changed = msgspec.structs.replace(record, **changes)
    _check_source({name: getattr(changed, name) for name in SourceRequest.__struct_fields__})
    await S3Storage(changed, changed.secret_key).check()

    def work(tx: Tx) -> SourceRecord:
        backups.update_source(tx, record.id, **changes)
        tx.emit("s3-source.updated", data={"id": record.id, "changes": sorted(changes)})
        return backups.source(tx, record.id)

    return source_view(await core.context.store.write(work))


@delete("/s3-sources/{reference:str}", guards=[admin])
async def delete_source(core: Core, reference: str) -> None:
    def work(tx: Tx) -> None:
        record = backups.source(tx, reference)
        backups.delete_source(tx, record.id)
        tx.emit("s3-source.deleted", data={"id": record.id, "name": record.name})

    await core.context.store.write(work)


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
    core: Core, reference: str, accept_unsigned: bool = False
) -> Response[list[BackupView]]:
    """Register the backups in the bucket that have no record, so that they can be restored.
    ``X-Refused`` says how many were not: see what the bucket holds."""
    return await _adopted(
        core,
        await core.context.store.read(lambda tx: backups.source(tx, reference)),
        accept_unsigned,
    )


async def _adopted(
    core: Core, source: SourceRecord | None, accept_unsigned: bool
) -> Response[list[BackupView]]:
    made, refused = await adopt.adopt(core.context, source, accept_unsigned=accept_unsigned)
    for path, why in refused.items():
        core.context.logger.warning("backup.refused", path=path, why=why)
    return Response([view(item) for item in made], headers={"X-Refused": str(len(refused))})


@post("/adopt", guards=[admin], status_code=200)
async def adopt_from_folder(
    core: Core, accept_unsigned: bool = False
) -> Response[list[BackupView]]:
    """Register the backups in the folder of backups that have no record."""
    return await _adopted(core, None, accept_unsigned)


# ---------------------------------------------------------------- schedules


@get("/schedules", guards=[reader])
async def list_schedules(core: Core) -> list[ScheduleRecord]:
    return await core.context.store.read(backups.schedules)


@post("/schedules", guards=[admin])
async def create_schedule(request: Req, core: Core, data: ScheduleRequest) -> ScheduleRecord:
    note(request, target=data.name)

    def work(tx: Tx) -> ScheduleRecord:
        values = msgspec.structs.asdict(data)
        values["service_ids"] = [services.get(tx, item).id for item in data.service_ids]
        values["next_run"] = scheduler.following(data.schedule_expression, tx.now, data.timezone)
        scheduler.check(data.name, data.retention_period, data.retention_count, data.jitter)
        if data.s3_source_id is not None:
            values["s3_source_id"] = backups.source(tx, data.s3_source_id).id
        number = backups.insert_schedule(tx, **values)
        tx.emit("schedule.created", data={"id": number, "name": data.name})
        return backups.schedule(tx, number)

    return await core.context.store.write(work)


@get("/schedules/{reference:str}", guards=[reader])
async def show_schedule(core: Core, reference: str) -> ScheduleRecord:
    return await core.context.store.read(lambda tx: backups.schedule(tx, reference))


@delete("/schedules/{reference:str}", guards=[admin])
async def delete_schedule(core: Core, reference: str) -> None:
    def work(tx: Tx) -> None:
        record = backups.schedule(tx, reference)
        backups.delete_schedule(tx, record.id)
        tx.emit("schedule.deleted", data={"id": record.id, "name": record.name})

    await core.context.store.write(work)


@post("/schedules/{reference:str}/{word:str}", guards=[admin], status_code=200)
async def switch_schedule(core: Core, reference: str, word: str) -> ScheduleRecord:
    """``/enable`` and ``/disable``."""
    if word not in ("enable", "disable"):
        raise BadInput(
            "A schedule can be enabled or disabled.",
            errors={"path": "must end with /enable or /disable"},
        )

    def work(tx: Tx) -> ScheduleRecord:
        record = backups.schedule(tx, reference)
        due = scheduler.next_run(record, tx.now)
        backups.update_schedule(tx, record.id, enabled=word == "enable", next_run=due)
        tx.emit(f"schedule.{word}d", data={"id": record.id, "name": record.name})
        return backups.schedule(tx, record.id)

    return await core.context.store.write(work)


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
