"""Add, change and forget backup destinations."""

from typing import Any, ClassVar, NamedTuple

import msgspec

from purveyor.backups import store as backups
from purveyor.backups.models import SourceRecord
from purveyor.backups.repository import require_elsewhere
from purveyor.backups.schemas import SourceChange, SourceRequest, source_view
from purveyor.backups.storage import S3Storage
from purveyor.context import Context
from purveyor.kernel.actors import Who
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import ImmediateOperation, Moved, Result, Target
from purveyor_hooks import BadInput


class SourceArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`source` is an id or name."""

    source: str


class UpdateSourceArguments(
    SourceChange, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    source: str


class _Change(NamedTuple):
    before: SourceRecord
    values: dict[str, Any]


class CreateSource(ImmediateOperation):
    """A test object is written and read first."""

    name: ClassVar[str] = "create-s3-source"
    arguments = SourceRequest

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._context = context

    async def prepare(self, given: SourceRequest) -> SourceRequest:
        values = _values(given)
        _check(values)
        if not given.accept_own:
            await self._context.store.read(lambda tx: require_elsewhere(tx, given.endpoint))
        now = await self._context.store.read(lambda tx: tx.now)
        record = SourceRecord(id=0, created_at=now, **values)
        await S3Storage(record, given.secret_key).check()
        return given

    def change(self, tx: Tx, given: SourceRequest, actor: Who) -> Result:
        number = backups.insert_source(tx, **_values(given))
        tx.emit("s3-source.created", data={"id": number, "name": given.name})
        return Result(answer=source_view(backups.source(tx, number)), subject=given.name)


class UpdateSource(ImmediateOperation):
    """What it is changed to is tried first, as a new one is."""

    name: ClassVar[str] = "update-s3-source"
    arguments = UpdateSourceArguments

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._context = context

    def target(self, tx: Tx, given: UpdateSourceArguments) -> Target:
        return Target(also=(("s3-source", backups.source(tx, given.source).id),))

    async def prepare(self, given: UpdateSourceArguments) -> _Change:
        record = await self._context.store.read(lambda tx: backups.source(tx, given.source))
        values = {
            name: value
            for name, value in msgspec.structs.asdict(given).items()
            if value is not None and name != "source"
        }
        changed = msgspec.structs.replace(record, **values)
        _check({name: getattr(changed, name) for name in SourceChange.__struct_fields__})
        await S3Storage(changed, changed.secret_key).check()
        return _Change(record, values)

    def change(self, tx: Tx, given: _Change, actor: Who) -> Result:
        number = given.before.id
        if backups.source(tx, number) != given.before:  # another combination was tried
            raise Moved
        backups.update_source(tx, number, **given.values)
        tx.emit("s3-source.updated", data={"id": number, "changes": sorted(given.values)})
        return Result(answer=source_view(backups.source(tx, number)), subject=given.before.name)


class DeleteSource(ImmediateOperation):
    """What is in the bucket stays."""

    name: ClassVar[str] = "delete-s3-source"
    arguments = SourceArguments

    def target(self, tx: Tx, given: SourceArguments) -> Target:
        return Target(also=(("s3-source", backups.source(tx, given.source).id),))

    def change(self, tx: Tx, given: SourceArguments, actor: Who) -> Result:
        record = backups.source(tx, given.source)
        backups.delete_source(tx, record.id)
        tx.emit("s3-source.deleted", data={"id": record.id, "name": record.name})
        return Result(answer=None, subject=record.name)


def _values(given: SourceRequest) -> dict[str, Any]:
    values = msgspec.structs.asdict(given)
    del values["accept_own"]
    return values


def _check(values: dict[str, Any]) -> None:
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
