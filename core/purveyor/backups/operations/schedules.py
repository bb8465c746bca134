"""Make, change, switch and delete schedules."""

from typing import ClassVar

import msgspec

from purveyor.backups import scheduler
from purveyor.backups import store as backups
from purveyor.backups.models import ScheduleRecord
from purveyor.backups.schemas import ScheduleChange, ScheduleRequest
from purveyor.kernel.actors import Who
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import ImmediateOperation, Result, Target
from purveyor.services import store as services


class ScheduleArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`schedule` is an id or name."""

    schedule: str


class UpdateScheduleArguments(
    ScheduleChange, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    schedule: str


class CreateSchedule(ImmediateOperation):
    name: ClassVar[str] = "create-schedule"
    arguments = ScheduleRequest

    def change(self, tx: Tx, given: ScheduleRequest, actor: Who) -> Result:
        values = msgspec.structs.asdict(given)
        values["service_ids"] = [services.get(tx, item).id for item in given.service_ids]
        values["next_run"] = scheduler.following(given.schedule_expression, tx.now, given.timezone)
        scheduler.check(given.name, given.retention_period, given.retention_count, given.jitter)
        if given.s3_source_id is not None:
            values["s3_source_id"] = backups.source(tx, given.s3_source_id).id
        number = backups.insert_schedule(tx, **values)
        tx.emit("schedule.created", data={"id": number, "name": given.name})
        return Result(answer=backups.schedule(tx, number), subject=given.name)


class _OnSchedule(ImmediateOperation):
    """What is done with one that is there."""

    arguments: ClassVar[type[msgspec.Struct]] = ScheduleArguments

    def target(self, tx: Tx, given: ScheduleArguments | UpdateScheduleArguments) -> Target:
        return Target(also=(("schedule", backups.schedule(tx, given.schedule).id),))


class UpdateSchedule(_OnSchedule):
    """What it has made stays its own: `retention_count` counts it, and each is kept for as many days
    as was said when it was made."""

    name: ClassVar[str] = "update-schedule"
    arguments = UpdateScheduleArguments

    def change(self, tx: Tx, given: UpdateScheduleArguments, actor: Who) -> Result:
        record = backups.schedule(tx, given.schedule)
        values = {
            name: value
            for name, value in msgspec.structs.asdict(given).items()
            if value is not None and name != "schedule"
        }
        if given.service_ids is not None:
            values["service_ids"] = [services.get(tx, item).id for item in given.service_ids]
        if given.s3_source_id is not None:
            where = given.s3_source_id
            values["s3_source_id"] = None if where == "" else backups.source(tx, where).id
        new = msgspec.structs.replace(record, **values)
        scheduler.check(new.name, new.retention_period, new.retention_count, new.jitter)
        due = scheduler.next_run(new, tx.now)  # refuses one that cannot be read
        if _times(new) != _times(record):  # else what is due, or was missed, stays due
            values["next_run"] = due
        backups.update_schedule(tx, record.id, **values)
        changes = sorted(values.keys() - {"next_run"})
        tx.emit("schedule.updated", data={"id": record.id, "changes": changes})
        return Result(answer=backups.schedule(tx, record.id), subject=new.name)


def _times(record: ScheduleRecord) -> tuple[object, ...]:
    """What decides when a schedule runs."""
    return record.schedule_expression, record.timezone, record.jitter, record.enabled


class DeleteSchedule(_OnSchedule):
    """Its backups stay."""

    name: ClassVar[str] = "delete-schedule"

    def change(self, tx: Tx, given: ScheduleArguments, actor: Who) -> Result:
        record = backups.schedule(tx, given.schedule)
        backups.delete_schedule(tx, record.id)
        tx.emit("schedule.deleted", data={"id": record.id, "name": record.name})
        return Result(answer=None, subject=record.name)


class _Switch(_OnSchedule):
    word: ClassVar[str]

    def change(self, tx: Tx, given: ScheduleArguments, actor: Who) -> Result:
        record = backups.schedule(tx, given.schedule)
        due = scheduler.next_run(record, tx.now)
        enabled = self.word == "enabled"
        backups.update_schedule(tx, record.id, enabled=enabled, next_run=due)
        tx.emit(f"schedule.{self.word}", data={"id": record.id, "name": record.name})
        return Result(answer=backups.schedule(tx, record.id), subject=record.name)


class EnableSchedule(_Switch):
    name: ClassVar[str] = "enable-schedule"
    word: ClassVar[str] = "enabled"


class DisableSchedule(_Switch):
    name: ClassVar[str] = "disable-schedule"
    word: ClassVar[str] = "disabled"
