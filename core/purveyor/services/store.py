"""Services and the volumes that hold their data."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from purveyor.docker.port_registry import release_ports
from purveyor.kernel.db.database import Page, Row, Tx, convert
from purveyor.kernel.naming import number_of
from purveyor.services.models import Credentials, HeldBinding, ServiceRecord, VolumeRecord
from purveyor_hooks import Conflict, NotFound

SHORT_ID = 8  # characters of an id that are enough where they say which
FILLING = "filling"  # a fact of a volume: the operation that fills it
COLUMNS = "services.*, coalesce(volumes.major, '') AS major, "
COLUMNS += (
    "coalesce((SELECT group_concat(certificate, '') FROM (SELECT certificate FROM authorities "
    "ORDER BY id) "
)
COLUMNS += (
    "WHERE EXISTS (SELECT 1 FROM certificates WHERE service_id = services.id)), '') AS authorities"
)
SOURCE = "services LEFT JOIN volumes ON volumes.id = services.volume_id"
SELECT = f"SELECT {COLUMNS} FROM {SOURCE}"
ORDERS = {"id": "services.id", "name": "lower(services.name), services.id",
          "service_type": "services.service_type, lower(services.name), services.id"}  # fmt: skip


def _record(tx: Tx, row: Row) -> ServiceRecord:
    return convert(
        row,
        ServiceRecord,
        tx.secrets,
        plain=["image_environment", "given", "imported"],
        sealed=["parameters", "secrets"],
    )


def insert(tx: Tx, **values: Any) -> int:
    return tx.insert("services", **_stored(tx, values), created_at=tx.now, updated_at=tx.now)


def update(tx: Tx, service_id: int, **values: Any) -> None:
    """Change columns, given as the record has them."""
    tx.update("services", "id = ?", [service_id], **_stored(tx, values), updated_at=tx.now)


def _stored(tx: Tx, values: dict[str, Any]) -> dict[str, Any]:
    for name in ("parameters", "secrets"):
        if name in values:
            values[name] = tx.secrets.seal(values[name])
    for name in ("image_environment", "given", "imported"):
        if name in values:
            values[name] = msgspec.json.encode(values[name]).decode()
    return values


def find(tx: Tx, reference: str | int) -> ServiceRecord | None:
    """The service with this id, slug or name that is not deleted."""
    text = str(reference)
    if (number := number_of(text)) >= 0:
        row = tx.row(f"{SELECT} WHERE services.id = ? AND services.state != 'deleted'", [number])
        if row:
            return _record(tx, row)
    # one that an operation makes beside another has its name, and is not meant by it
    for where in ("services.slug = ?", "services.name = ? AND services.purpose = ''"):
        row = tx.row(f"{SELECT} WHERE {where} AND services.state != 'deleted'", [text])
        if row:
            break
    return _record(tx, row) if row else None


def get(tx: Tx, reference: str | int) -> ServiceRecord:
    """The service with this id or name. Raises `NotFound`."""
    record = find(tx, reference)
    if record is None:
        raise NotFound(
            f"There is no service {reference!r}.", remedy="List them with: purveyor list"
        )
    return record


def get_deleted(tx: Tx, reference: str) -> ServiceRecord:
    """The service of this name or id that was deleted and whose data is kept. Raises `NotFound`,
    and `Conflict` that lists them when several had the name."""
    where = (
        "services.state = 'deleted' AND volumes.state = 'kept' AND (services.slug = ? OR "
        "services.name = ? OR services.id = ?)"
    )
    number = number_of(reference)
    rows = tx.rows(
        f"{SELECT} WHERE {where} ORDER BY services.id DESC", [reference, reference, number]
    )
    found = [_record(tx, row) for row in rows]
    found = [item for item in found if item.id == number] or found
    if not found:
        remedy = "List what is kept with: purveyor list --deleted"
        raise NotFound(
            f"There is no deleted service {reference!r} whose data is kept.", remedy=remedy
        )
    if len(found) > 1:
        told = "; ".join(
            f"{item.id} (deleted {item.updated_at:%Y-%m-%d %H:%M} UTC, data in {item.volume_id})"
            for item in found
        )
        remedy = (
            f"Give the id of one: purveyor undelete {found[0].id}. Their sizes: purveyor list "
            "--deleted"
        )
        raise Conflict(
            f"{len(found)} services named {reference!r} were deleted: {told}.", remedy=remedy
        )
    return found[0]


def list_all(tx: Tx) -> list[ServiceRecord]:
    """All services that are not deleted, oldest first; those that an operation makes for itself
    left out."""
    where = "services.state != 'deleted' AND services.purpose = ''"
    return [_record(tx, row) for row in tx.rows(f"{SELECT} WHERE {where} ORDER BY services.id")]


def _shown(q: str, service_type: str) -> tuple[str, list[Any]]:
    """Those of `every` whose name holds a text, and of a type."""
    parts = [
        (q.lower(), "instr(lower(services.name), ?)"),
        (service_type, "services.service_type = ?"),
    ]
    asked = "".join(f" AND {condition}" for value, condition in parts if value)
    where = f"{SOURCE} WHERE services.state != 'deleted' AND services.purpose = ''{asked}"
    return where, [value for value, _ in parts if value]


def page(
    tx: Tx, *, q: str = "", service_type: str = "", order: str = "id", limit: int, offset: int
) -> Page[ServiceRecord]:
    """A part of them, in one of `ORDERS`."""
    where, given = _shown(q, service_type)
    found = tx.page(COLUMNS, where, given, order=ORDERS[order], limit=limit, offset=offset)
    return Page([_record(tx, row) for row in found.items], found.total)


def outlines(tx: Tx, *, q: str = "", service_type: str = "") -> list[ServiceRecord]:
    """All of them by name, what is sealed left out: parameters and secrets are empty."""
    where, given = _shown(q, service_type)
    rows = tx.rows(f"SELECT {COLUMNS} FROM {where} ORDER BY {ORDERS['name']}", given)
    plain = ["image_environment", "given", "imported"]
    return [
        convert({**row, "parameters": {}, "secrets": {}}, ServiceRecord, tx.secrets, plain=plain)
        for row in rows
    ]


def get_by_ids(tx: Tx, service_ids: Sequence[int]) -> dict[int, ServiceRecord]:
    """The services with these ids that are not deleted, by id."""
    marks = ", ".join("?" for _ in service_ids)
    rows = tx.rows(
        f"{SELECT} WHERE services.id IN ({marks}) AND services.state != 'deleted'", service_ids
    )
    return {row["id"]: _record(tx, row) for row in rows}


def slugs(tx: Tx, service_ids: Sequence[int]) -> dict[int, str]:
    """The slugs of the services with these ids, by id."""
    marks = ", ".join("?" for _ in service_ids)
    return {
        row["id"]: row["slug"]
        for row in tx.rows(f"SELECT id, slug FROM services WHERE id IN ({marks})", service_ids)
    }


def container_names(tx: Tx) -> set[str]:
    """The names of all their containers."""
    sql = "SELECT container_name FROM services WHERE state != 'deleted' AND purpose = ''"
    return {row["container_name"] for row in tx.rows(sql)}


def types(tx: Tx) -> list[str]:
    """The types of which there are services."""
    sql = (
        "SELECT DISTINCT service_type FROM services WHERE state != 'deleted' AND purpose = '' "
        "ORDER BY service_type"
    )
    return [row["service_type"] for row in tx.rows(sql)]


def delete(tx: Tx, service_id: int) -> None:
    """Forget a service that never came to be."""
    tx.db.execute("DELETE FROM services WHERE id = ?", [service_id])


# ---------------------------------------------------------------- volumes


def insert_volume(tx: Tx, *, id: str, name: str, path: str, service_type: str, origin: str) -> None:
    tx.insert(
        "volumes",
        id=id,
        name=name,
        path=path,
        service_type=service_type,
        state="new",
        origin=origin,
        created_at=tx.now,
    )


def volume(tx: Tx, volume_id: str) -> VolumeRecord:
    row = tx.row("SELECT * FROM volumes WHERE id = ?", [volume_id])
    if row is None:
        raise NotFound(f"There is no volume {volume_id!r}.")
    return convert(row, VolumeRecord, tx.secrets, plain=["facts"], sealed=["credentials"])


def find_volume(tx: Tx, reference: str) -> VolumeRecord:
    """The volume with this id or name; the beginning of an id will do where it is the only one.
    Raises `NotFound`."""
    number = tx.value("SELECT id FROM volumes WHERE id = ? OR name = ?", [reference, reference])
    if number is None and len(reference) >= SHORT_ID:
        found = list(
            tx.rows(
                "SELECT id FROM volumes WHERE substr(id, 1, ?) = ?", [len(reference), reference]
            )
        )
        number = found[0]["id"] if len(found) == 1 else None
    if number is None:
        raise NotFound(
            f"There is no volume {reference!r}.", remedy="List them with: purveyor volumes"
        )
    return volume(tx, number)


def image_of_volume(tx: Tx, record: VolumeRecord) -> str:
    """An image whose user may delete the volume's files: that of the service that has or had it."""
    found = tx.value("SELECT image FROM services WHERE volume_id = ?", [record.id])
    found = found or (record.facts or {}).get("image")
    found = found or tx.value(
        "SELECT image FROM services WHERE service_type = ? ORDER BY id DESC", [record.service_type]
    )
    return str(found or "")


def volumes(tx: Tx, states: Sequence[str]) -> list[VolumeRecord]:
    """The volumes in these states, oldest first."""
    marks = ", ".join("?" for _ in states)
    rows = tx.rows(f"SELECT * FROM volumes WHERE state IN ({marks}) ORDER BY created_at", states)
    return [
        convert(row, VolumeRecord, tx.secrets, plain=["facts"], sealed=["credentials"])
        for row in rows
    ]


def volumes_page(
    tx: Tx, state: str | None, *, limit: int, offset: int
) -> Page[tuple[VolumeRecord, int | None]]:
    """A part of the volumes in a state, or of all whose data is there, each with the service whose
    data it is now.

    Oldest first, but of the kept ones the last first.
    """
    owner = (
        "(SELECT id FROM services WHERE volume_id = volumes.id AND state != 'deleted' AND "
        "purpose = '')"
    )
    order = "kept_at DESC, volumes.rowid DESC" if state == "kept" else "volumes.rowid"
    where, given = ("state = ?", [state]) if state else ("state != 'purged'", [])
    found = tx.page(
        f"*, {owner} AS owner",
        f"volumes WHERE {where}",
        given,
        order=order,
        limit=limit,
        offset=offset,
    )
    return Page(
        [
            (
                convert(row, VolumeRecord, tx.secrets, plain=["facts"], sealed=["credentials"]),
                row["owner"],
            )
            for row in found.items
        ],
        found.total,
    )


def update_volume(tx: Tx, volume_id: str, **values: Any) -> None:
    if "facts" in values:
        values["facts"] = msgspec.json.encode(values["facts"]).decode()
    tx.update("volumes", "id = ?", [volume_id], **values)


def keep_volume(
    tx: Tx,
    volume_id: str,
    owner: ServiceRecord,
    facts: Mapping[str, Any],
    bindings: Sequence[HeldBinding],
    *,
    image: str = "",
    image_id: str = "",
    until: datetime | None = None,
) -> None:
    """Put a volume away with its data, what opens it beside it: a service's credentials may be
    others by the time that somebody wants it back, and so may its `bindings`. `facts` say why it is
    kept."""
    opened = Credentials(
        parameters=owner.parameters, secrets=owner.secrets, bindings=tuple(bindings)
    )
    said = {
        **facts,
        "service": owner.id,
        "image": image or owner.image,
        "image_id": image_id or owner.image_id,
    }
    sealed = tx.secrets.seal(msgspec.to_builtins(opened))
    update_volume(
        tx,
        volume_id,
        state="kept",
        kept_at=tx.now,
        kept_until=until,
        facts=said,
        credentials=sealed,
    )


def owner_of(tx: Tx, record: VolumeRecord) -> ServiceRecord | None:
    """The service that a kept volume's data was written by, deleted or not; None for one that is
    not on record any more."""
    number = (record.facts or {}).get("service", -1)
    row = tx.row(
        f"{SELECT} WHERE services.volume_id = ? OR services.id = ? ORDER BY services.volume_id = ? "
        "DESC",
        [record.id, number, record.id],
    )
    return _record(tx, row) if row else None


def begin_filling(tx: Tx, service_id: int, operation_id: int) -> bool:
    """Note that an operation begins to fill a service's volume; False when it, or an earlier
    process, had begun before."""
    record = volume(tx, get(tx, service_id).volume_id or "")
    facts = record.facts or {}
    if facts.get(FILLING) == operation_id:
        return False
    update_volume(tx, record.id, facts={**facts, FILLING: operation_id})
    return True


def end_filling(tx: Tx, service_id: int) -> None:
    """What came is whole, and was compared."""
    record = volume(tx, get(tx, service_id).volume_id or "")
    if FILLING in (record.facts or {}):
        update_volume(
            tx,
            record.id,
            facts={name: value for name, value in (record.facts or {}).items() if name != FILLING},
        )


def forget_scratch(tx: Tx, service_id: int) -> None:
    """Forget a service that an operation made for itself, and its volume."""
    record = get(tx, service_id)
    assert record.purpose
    release_ports(tx, service=service_id)
    tx.db.execute("DELETE FROM services WHERE id = ?", [service_id])
    if record.volume_id:
        tx.db.execute("DELETE FROM volumes WHERE id = ?", [record.volume_id])


def drop_made_volume(tx: Tx, service_id: int) -> None:
    """Take the volume that was recorded with a new service from it again: it will be lent
    another's."""
    volume_id = get(tx, service_id).volume_id
    update(tx, service_id, volume_id=None)
    delete_volume(tx, volume_id or "")


def drop_volume(tx: Tx, volume_id: str) -> None:
    """Forget a volume whose folder has been deleted."""
    tx.db.execute("DELETE FROM volumes WHERE id = ?", [volume_id])


def delete_volume(tx: Tx, volume_id: str) -> None:
    """Forget a volume that never held data."""
    tx.db.execute("DELETE FROM volumes WHERE id = ? AND state = 'new'", [volume_id])
