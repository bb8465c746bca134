"""The state of a lost host made into that of this one: one transaction over what a copy holds."""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from purveyor.backups import store as backups
from purveyor.backups.models import SourceRecord
from purveyor.backups.operations.backup import mark_failed
from purveyor.context import Context
from purveyor.docker import port_registry, ports
from purveyor.kernel.db import Tx
from purveyor.kernel.db.faults import translate_faults
from purveyor.kernel.operations import OperationType
from purveyor.kernel.operations import store as operations
from purveyor.recovery.models import Recovering, keep
from purveyor.recovery.outlook import Outlook
from purveyor.services import hold
from purveyor.services import store as services
from purveyor.services.models import ServiceRecord
from purveyor.settings import FILE

# numbers that are left out: what was made after the copy may carry them, in data or at other places
SPACE = 1000
LOST = "The host was lost."


def take_source(tx: Tx, given: SourceRecord) -> str:
    """Have the place that is recovered from under the address and with the keys that work here; the
    answer says what changed."""
    for source in backups.sources(tx):
        if (source.bucket_name, source.bucket_path.strip("/")) != (
            given.bucket_name,
            given.bucket_path.strip("/"),
        ):
            continue
        names = ("endpoint", "region", "access_key_id", "secret_key", "force_path_style")
        changed = {
            name: getattr(given, name)
            for name in names
            if getattr(given, name) != getattr(source, name)
        }
        if changed:
            backups.update_source(tx, source.id, **changed)
        told_of = sorted(set(changed) - {"secret_key"})
        return (
            f"The S3 source {source.name} has changed: {', '.join(told_of) or 'its secret key'}."
            if changed
            else ""
        )
    name = f"recovered-{given.bucket_name}"
    backups.insert_source(
        tx,
        name=name,
        bucket_name=given.bucket_name,
        bucket_path=given.bucket_path,
        access_key_id=given.access_key_id,
        secret_key=given.secret_key,
        region=given.region,
        endpoint=given.endpoint,
        force_path_style=given.force_path_style,
    )
    return f"The S3 source {name} was added: the copy knew none of that bucket."


def take_folder(state: Path, folder: Path) -> str:
    """Have backups that go to no bucket in a folder: the one that is recovered from."""
    path = state / FILE
    line = f"backups = {json.dumps(str(folder), ensure_ascii=False)}"  # quoted alike in TOML
    before = path.read_text() if path.exists() else ""
    kept, table = [], False
    for item in before.splitlines():
        table = table or item.lstrip().startswith("[")
        if table or item.partition("=")[0].strip() != "backups":
            kept.append(item)
        elif item.strip() == line:
            return ""
    with translate_faults(path):
        path.write_text("\n".join([line, *kept]) + "\n")
        with path.open() as opened:
            os.fsync(opened.fileno())
    return f"The setting backups has changed: {folder}."


def lay_out(
    tx: Tx,
    context: Context,
    operation_types: Mapping[str, OperationType],
    final: Path,
    record: Recovering,
    outlook: Outlook,
    *,
    move_ports: bool,
) -> None:
    """Write what holds on this machine: nothing runs, no data is there yet, and what is to be
    brought back from where.

    `final` is the state directory to be; `context` may have another one.
    """
    end_unfinished(tx, context, operation_types)
    wanted = [
        item
        for item in services.list_all(tx)
        if item.state in ("active", "creating") and item.imported is None
    ]
    for volume in services.volumes(tx, ("kept",)):
        services.update_volume(tx, volume.id, state="purged")
        record.notes.append(f"The data of before that was kept in {volume.name} is lost.")
    images = {item.id: item.choice.image for item in outlook.services}
    for service in wanted:
        lose(tx, context, final, service)
        if images.get(service.id):
            services.update(tx, service.id, image=images[service.id])
        if move_ports:
            _move_ports(tx, context, service, record)
    for service in services.list_all(tx):
        if service.imported is not None:
            why = "its container was made by somebody else, and cannot be made by Purveyor"
            services.update(tx, service.id, refusal=f"It was not brought back: {why}.")
            record.notes.append(
                f"{service.name} is not back: {why}. Its backups can be restored into new services."
            )
    for number, reason in outlook.gone_backups.items():
        mark_failed(tx, number, {"detail": f"It is lost: {reason}"})
    leave_numbers_out(tx)
    record.choices = {item.id: item.choice for item in outlook.services}
    sizes = {item.id: item.plain_bytes for item in outlook.services}
    record.pending = sorted(
        (item.id for item in wanted), key=lambda number: (sizes.get(number, 0), number)
    )
    keep(tx, record)
    hold.begin(tx)


def leave_numbers_out(tx: Tx) -> None:
    """Have what is made from now on have other numbers than what was made after the copy."""
    tx.db.execute("UPDATE sqlite_sequence SET seq = seq + ?", [SPACE])


def end_unfinished(
    tx: Tx, context: Context, operation_types: Mapping[str, OperationType], why: str = LOST
) -> None:
    """What was under way is not: of what it had made nothing is left that had to be taken back, or
    nothing that may be."""
    error: dict[str, Any] = {"code": "failed", "detail": why, "remedy": "Begin it again."}
    for operation in operations.list_unfinished(tx):
        kind = operation_types.get(operation.verb)
        if kind is not None:
            try:
                kind.on_failure(tx, operation, error)
            except Exception as raised:
                # what it is about may be gone, and an older version may have begun it
                context.logger.warning(
                    "recover.unfinished", operation=operation.id, error=type(raised).__name__
                )
        operations.set_state(tx, operation.id, "failed", error)


def lose(tx: Tx, context: Context, final: Path, service: ServiceRecord) -> None:
    """Give a service a new volume, which holds nothing; the one that it had is lost."""
    if service.volume_id:
        services.update_volume(tx, service.volume_id, state="purged")
    number = uuid.uuid4().hex
    services.insert_volume(
        tx,
        id=number,
        name=f"{service.container_name}-{number[:8]}",
        path=str(context.settings.folder_of_volumes(final) / number),
        service_type=service.service_type,
        origin=service.name,
    )
    services.update(tx, service.id, volume_id=number, image_id="", state="creating", refusal="")


def _move_ports(tx: Tx, context: Context, service: ServiceRecord, record: Recovering) -> None:
    provider = context.registry.find(service.service_type)
    parameters = dict(service.parameters)
    for item in provider.kind.parameters if provider else ():
        if item.generated == "port" and not ports.is_free(int(parameters[item.name])):
            before = parameters[item.name]
            parameters[item.name] = ports.lowest_free(
                int(before) + 1, port_registry.ports_taken(tx)
            )
            port_registry.move_port(tx, service.id, item.name, parameters[item.name])
            record.notes.append(
                f"{service.name} listens on port {parameters[item.name]} of this host, and not on "
                f"{before}."
            )
    if parameters != service.parameters:
        services.update(tx, service.id, parameters=parameters)
