"""Make, switch and delete schedules."""

from typing import ClassVar

import msgspec

from purveyor.backups import scheduler
from purveyor.backups import store as backups
from purveyor.backups.schemas import ScheduleRequest
from purveyor.kernel.actors import Who
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import ImmediateOperation, Result, Target
from purveyor.services import store as services


class ScheduleArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`schedule` is an id or name."""

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

    arguments = ScheduleArguments

    def target(self, tx: Tx, given: ScheduleArguments) -> Target:
        return Target(also=(("schedule", backups.schedule(tx, given.schedule).id),))


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
