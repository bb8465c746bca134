"""Services whose every change is written down."""

from typing import Any

from purveyor.archiving.models import ArchiveRecord
from purveyor.kernel.db.database import Tx, convert


def find(tx: Tx, service_id: int) -> ArchiveRecord | None:
    """The archive of a service."""
    row = tx.row("SELECT * FROM archives WHERE service_id = ?", [service_id])
    return convert(row, ArchiveRecord, tx.secrets) if row else None


def list_all(tx: Tx) -> list[ArchiveRecord]:
    return [
        convert(row, ArchiveRecord, tx.secrets)
        for row in tx.rows("SELECT * FROM archives ORDER BY id")
    ]


def insert(tx: Tx, **values: Any) -> int:
    return tx.insert("archives", **values, created_at=tx.now)


def update(tx: Tx, service_id: int, **values: Any) -> None:
    tx.update("archives", "service_id = ?", [service_id], **values)


def delete(tx: Tx, service_id: int) -> None:
    tx.db.execute("DELETE FROM archives WHERE service_id = ?", [service_id])
