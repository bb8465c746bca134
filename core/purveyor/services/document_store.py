"""What plugins keep of services, by key."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from purveyor.kernel.db import Tx
from purveyor_hooks import BadInput

MOST = 1000  # documents of one plugin on one service
LARGEST = 64 * 1024  # bytes of one, as JSON
LONGEST_KEY = 200  # characters
OWN = "plugin = ? AND service_id = ?"


def get(tx: Tx, plugin: str, service_id: int, key: str) -> Any:
    """A document, None when there is none."""
    row = tx.row(
        f"SELECT value, sealed FROM plugin_documents WHERE {OWN} AND key = ?",
        [plugin, service_id, key],
    )
    if row is None:
        return None
    text = tx.secrets.open(row["value"]) if row["sealed"] else row["value"]
    return msgspec.json.decode(text)


def write(
    tx: Tx, plugin: str, service_id: int, changes: Mapping[str, str | None], *, sealed: bool
) -> None:
    """Write documents that are JSON already; None deletes one. Raises `BadInput` for too many."""
    for key, text in changes.items():
        tx.db.execute(
            f"DELETE FROM plugin_documents WHERE {OWN} AND key = ?", [plugin, service_id, key]
        )
        if text is not None:
            tx.insert(
                "plugin_documents",
                plugin=plugin,
                service_id=service_id,
                key=key,
                value=tx.secrets.seal(text) if sealed else text,
                sealed=int(sealed),
            )
    if (
        tx.value(f"SELECT count(*) FROM plugin_documents WHERE {OWN}", [plugin, service_id])
    ) > MOST:
        raise BadInput(f"A plugin may keep {MOST} documents of a service.")


def keys(
    tx: Tx, plugin: str, service_id: int, *, prefix: str, after: str, limit: int
) -> Sequence[str]:
    """Keys that begin with a prefix, after a key."""
    rows = tx.rows(
        f"SELECT key FROM plugin_documents WHERE {OWN} AND key > ? AND substr(key, 1, ?) = ? "
        "ORDER BY key LIMIT ?",
        [plugin, service_id, after, len(prefix), prefix, limit],
    )
    return [row["key"] for row in rows]


def forget(tx: Tx, service_id: int) -> None:
    """The data of a service is gone: so is what was kept of it."""
    tx.db.execute("DELETE FROM plugin_documents WHERE service_id = ?", [service_id])


def forget_of_volume(tx: Tx, volume_id: str) -> None:
    """The same, by the volume that a deleted service left."""
    for row in tx.rows(
        "SELECT id FROM services WHERE volume_id = ? AND state = 'deleted'", [volume_id]
    ):
        forget(tx, row["id"])
