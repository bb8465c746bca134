"""Backups, where they go, and when they are made."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from purveyor.backups.kinds import BASE
from purveyor.backups.models import BackupRecord, LastResult, ScheduleRecord, SourceRecord
from purveyor.kernel.db.database import Page, Row, Tx, convert, matching
from purveyor.kernel.naming import number_of
from purveyor_hooks import Conflict, NotFound

# ---------------------------------------------------------------- backups


def _backup(tx: Tx, row: Row) -> BackupRecord:
    return convert(row, BackupRecord, tx.secrets, plain=["metadata"])


def insert(tx: Tx, **values: Any) -> int:
    return tx.insert("backups", **_stored(values), state="running", started_at=tx.now)


def update(tx: Tx, number: int, **values: Any) -> None:
    """What is not good is not verified, whatever was found before."""
    if values.get("state", "ok") != "ok":
        values |= {"proven_at": None, "proven_seconds": None}
    tx.update("backups", "id = ?", [number], **_stored(values))


def _stored(values: dict[str, Any]) -> dict[str, Any]:
    for name in ("metadata", "tags", "service_ids", "last_result"):
        if name in values:
            values[name] = msgspec.json.encode(values[name]).decode()
    return values


def find(tx: Tx, reference: str | int) -> BackupRecord | None:
    """The backup with this id or backup_id."""
    text = str(reference)
    row = tx.row("SELECT * FROM backups WHERE backup_id = ? OR id = ?", [text, number_of(text)])
    return _backup(tx, row) if row else None


def get(tx: Tx, reference: str | int) -> BackupRecord:
    """Raises `NotFound`."""
    found = find(tx, reference)
    if found is None:
        raise NotFound(
            f"There is no backup {reference!r}.", remedy="List them with: purveyor backup list"
        )
    return found


def list_backups(
    tx: Tx, *, service_id: int | None = None, schedule_id: int | None = None
) -> list[BackupRecord]:
    """All backups of a service or a schedule, newest first."""
    where, given = matching(service_id=service_id, schedule_id=schedule_id)
    return [
        _backup(tx, row)
        for row in tx.rows(f"SELECT * FROM backups WHERE {where} ORDER BY id DESC", given)
    ]


def page(tx: Tx, *, service_id: int | None = None, limit: int, offset: int) -> Page[BackupRecord]:
    """A part of them."""
    where, given = matching(service_id=service_id)
    found = tx.page(
        "*", f"backups WHERE {where}", given, order="id DESC", limit=limit, offset=offset
    )
    return Page([_backup(tx, row) for row in found.items], found.total)


def list_expired(tx: Tx) -> list[int]:
    """The numbers of backups whose time has passed and that may go: never the last good one of a
    service, nor its last good base copy, of which neither stands for the other."""
    last = (
        "SELECT max(id) FROM backups AS good "
        "WHERE good.service_id IS backups.service_id AND good.service_name = backups.service_name "
        "AND good.state = 'ok' "
        "AND (good.backup_type = ?) = (backups.backup_type = ?)"
    )
    where = f"expires_at <= ? AND state != 'running' AND id IS NOT ({last})"
    found = tx.rows(f"SELECT id FROM backups WHERE {where} ORDER BY id DESC", [tx.now, BASE, BASE])
    return [row["id"] for row in found]


def next_expiry(tx: Tx) -> datetime | None:
    """When the time of the next backup has passed; those that are over and stay do not count."""
    found = tx.value("SELECT min(expires_at) FROM backups WHERE expires_at > ?", [tx.now])
    return datetime.fromisoformat(found) if found else None


def bases_since(tx: Tx, service_ids: Sequence[int]) -> dict[int, datetime]:
    """When the first base copy that a moment can be restored from was completed, by service."""
    marks = ", ".join("?" for _ in service_ids)
    where = (
        f"service_id IN ({marks}) AND state = 'ok' AND completed_at IS NOT NULL "
        "AND coalesce(json_extract(metadata, '$.changes'), '') != ''"
    )
    rows = tx.rows(
        f"SELECT service_id, min(completed_at) AS at FROM backups WHERE {where} GROUP BY "
        "service_id",
        service_ids,
    )
    return {row["service_id"]: datetime.fromisoformat(row["at"]) for row in rows}


def delete(tx: Tx, number: int) -> None:
    tx.db.execute("DELETE FROM backups WHERE id = ?", [number])


# ---------------------------------------------------------------- sources


def _source(tx: Tx, row: Row) -> SourceRecord:
    return convert(row, SourceRecord, tx.secrets, sealed=["secret_key"])


def insert_source(tx: Tx, *, secret_key: str, **values: Any) -> int:
    if tx.value("SELECT 1 FROM s3_sources WHERE name = ?", [values["name"]]):
        raise Conflict(
            f"There is an S3 source named {values['name']!r} already.", errors={"name": "taken"}
        )
    return tx.insert(
        "s3_sources", **values, secret_key=tx.secrets.seal(secret_key), created_at=tx.now
    )


def update_source(tx: Tx, number: int, **values: Any) -> None:
    if "secret_key" in values:
        values["secret_key"] = tx.secrets.seal(values["secret_key"])
    tx.update("s3_sources", "id = ?", [number], **values)


def source(tx: Tx, reference: str | int) -> SourceRecord:
    """The source with this id or name. Raises `NotFound`."""
    text = str(reference)
    row = tx.row("SELECT * FROM s3_sources WHERE name = ? OR id = ?", [text, number_of(text)])
    if row is None:
        raise NotFound(
            f"There is no S3 source {reference!r}.",
            remedy="List them with: purveyor backup source list",
        )
    return _source(tx, row)


def sources(tx: Tx) -> list[SourceRecord]:
    return [_source(tx, row) for row in tx.rows("SELECT * FROM s3_sources ORDER BY id")]


def delete_source(tx: Tx, number: int) -> None:
    used = tx.value("SELECT count(*) FROM backups WHERE s3_source_id = ?", [number])
    used += tx.value("SELECT count(*) FROM schedules WHERE s3_source_id = ?", [number])
    used += tx.value("SELECT count(*) FROM archives WHERE s3_source_id = ?", [number])
    if used:
        raise Conflict(
            "Backups, schedules or archives use this S3 source.",
            remedy="Delete or stop them first; what is in the bucket stays.",
        )
    tx.db.execute("DELETE FROM s3_sources WHERE id = ?", [number])


# ---------------------------------------------------------------- schedules


def _schedule(tx: Tx, row: Row) -> ScheduleRecord:
    return convert(row, ScheduleRecord, tx.secrets, plain=["tags", "service_ids", "last_result"])


def insert_schedule(tx: Tx, **values: Any) -> int:
    _require_free(tx, values["name"], 0)
    return tx.insert("schedules", **_stored(values), created_at=tx.now)


def _require_free(tx: Tx, name: str, number: int) -> None:
    if tx.value("SELECT 1 FROM schedules WHERE name = ? AND id <> ?", [name, number]):
        raise Conflict(f"There is a schedule named {name!r} already.", errors={"name": "taken"})


def update_schedule(tx: Tx, number: int, **values: Any) -> None:
    if "name" in values:
        _require_free(tx, values["name"], number)
    tx.update("schedules", "id = ?", [number], **_stored(values))


def schedule(tx: Tx, reference: str | int) -> ScheduleRecord:
    """The schedule with this id or name. Raises `NotFound`."""
    text = str(reference)
    row = tx.row("SELECT * FROM schedules WHERE name = ? OR id = ?", [text, number_of(text)])
    if row is None:
        raise NotFound(
            f"There is no schedule {reference!r}.",
            remedy="List them with: purveyor backup schedule list",
        )
    return _schedule(tx, row)


def find_schedule(tx: Tx, number: int) -> ScheduleRecord | None:
    row = tx.row("SELECT * FROM schedules WHERE id = ?", [number])
    return _schedule(tx, row) if row is not None else None


def schedules(tx: Tx) -> list[ScheduleRecord]:
    return [_schedule(tx, row) for row in tx.rows("SELECT * FROM schedules ORDER BY id")]


def begin_run(tx: Tx, number: int, next_run: datetime) -> None:
    """Note that a schedule's run is under way, and when the one after it is due."""
    newest = tx.value("SELECT coalesce(max(id), 0) FROM backups")
    update_schedule(tx, number, under_way=newest, next_run=next_run, last_run=tx.now)


def has_begun(tx: Tx, number: int) -> bool:
    """Whether a run of a schedule has begun and not ended."""
    return tx.value("SELECT under_way FROM schedules WHERE id = ?", [number]) is not None


def made_by_run(tx: Tx, number: int, service_id: int) -> list[BackupRecord]:
    """The backups of a service that the run under way has made, or begun, newest first."""
    rows = tx.rows(
        "SELECT backups.* FROM backups JOIN schedules ON schedules.id = backups.schedule_id "
        "WHERE schedules.id = ? AND service_id = ? AND backups.id > under_way ORDER BY backups.id DESC",
        [number, service_id],
    )
    return [_backup(tx, row) for row in rows]


def end_run(tx: Tx, number: int, result: LastResult | None) -> None:
    """A run is over; without a result it was given up."""
    said = {} if result is None else {"last_result": result}
    update_schedule(tx, number, under_way=None, **said)


def delete_schedule(tx: Tx, number: int) -> None:
    tx.db.execute("DELETE FROM schedules WHERE id = ?", [number])
