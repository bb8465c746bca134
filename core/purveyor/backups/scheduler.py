"""Backups that are made by themselves: when they are due, what is verified, and what may go."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import uniform
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import anyio
from croniter import CroniterError, croniter

from purveyor.backups import store as backups
from purveyor.backups.models import BackupRecord, LastResult, ScheduleRecord
from purveyor.backups.operations.backup import (
    BackupArguments,
    ProveArguments,
    VerifyArguments,
    insert_backup,
)
from purveyor.context import Context
from purveyor.kernel.alarm import Alarm
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.runner import Runner
from purveyor.services import hold
from purveyor.services import store as services
from purveyor.services.models import ServiceRecord
from purveyor_hooks import BadInput, Interrupted, PurveyorError, StateUnavailable

PAUSE = 15.0  # seconds after which a turn that failed is tried again
# What makes something due. A deletion that failed is none: it would be tried without a rest.
WAKING = (
    "schedule.",
    "backup.adopted",
    "service.backup.succeeded",
    "recovery.",
    "service.recover.",
)
LONGEST = 3650  # days
LONGEST_JITTER = 6 * 3600  # seconds
ACTOR = "schedule"


def following(expression: str, after: datetime, zone: str = "UTC") -> datetime:
    """When a cron line, read in a time zone, comes next; the answer is in UTC. Raises `BadInput`
    for what is none.

    A moment that the clocks skip comes at the next one that there is, one that they repeat comes
    once.
    """
    try:
        where = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        why = f"there is no time zone {zone!r}"
        raise BadInput(
            f"The schedule cannot be used: {why}.",
            remedy="For example: Europe/Berlin",
            errors={"timezone": why},
        ) from None
    try:
        if len(expression.split()) != 5:
            raise ValueError("it must have five fields")
        found: datetime = croniter(expression, after.astimezone(where)).get_next(datetime)
    except (CroniterError, ValueError, KeyError) as error:
        why = f"not a valid cron expression: {error}"
        raise BadInput(
            f"The schedule cannot be used: {why}.",
            remedy='Five fields: minute hour day month weekday. Every night at 3: "0 3 * * *"',
            errors={"schedule_expression": why},
        ) from None
    return found.astimezone(UTC)


def next_run(
    schedule: ScheduleRecord, after: datetime, random: Callable[[float, float], float] = uniform
) -> datetime:
    """When a schedule is due next, its jitter included."""
    due = following(schedule.schedule_expression, after, schedule.timezone)
    return due + timedelta(seconds=random(0, schedule.jitter)) if schedule.jitter else due


def check(name: str, days: int, count: int, jitter: int) -> None:
    """Raise `BadInput` for a schedule that makes no sense."""
    errors = {}
    if not name.strip() or name.isdecimal():
        errors["name"] = "must be text that is not a number"
    if not 1 <= days <= LONGEST:
        errors["retention_period"] = f"must be from 1 to {LONGEST} days"
    if not 0 <= count <= 10_000:
        errors["retention_count"] = "must be from 0 (any number) to 10000"
    if not 0 <= jitter <= LONGEST_JITTER:
        errors["jitter"] = f"must be from 0 to {LONGEST_JITTER} seconds"
    if errors:
        raise BadInput("Invalid schedule.", remedy="Fix the fields listed.", errors=errors)


def _beyond(schedule: ScheduleRecord, now: datetime) -> bool:
    """Whether a time was noted while the clock went ahead: it may be years away, and nothing would
    be made until then."""
    latest = following(schedule.schedule_expression, now, schedule.timezone) + timedelta(
        seconds=schedule.jitter
    )
    return schedule.next_run is not None and schedule.next_run > latest


class Scheduler:
    """Runs what is due, in turn, for as long as the daemon serves."""

    def __init__(
        self,
        context: Context,
        runner: Runner,
        operation_types: Mapping[str, OperationType],
        now: Callable[[], datetime],
    ) -> None:
        self._context = context
        self._runner = runner
        self._operation_types = operation_types
        self.alarm = Alarm(now)

    async def run(self) -> None:
        """Run what is due when it is, and look when schedules, or what hinders them, change."""
        while True:
            try:
                await self.turn()
                await self.alarm.wait(await self._context.store.read(_next_due))
            except PurveyorError as error:
                self._context.logger.warning("schedule", error=error.detail)
                await anyio.sleep(PAUSE)

    async def turn(self) -> None:
        """What is due now; a schedule whose time passed while nothing ran is made up for once.
        Nothing is while services are being brought back. Raises what kept a schedule from its turn
        when all others have had theirs."""
        if await self._context.store.read(hold.coming):
            return
        failed: PurveyorError | None = None
        for listed in await self._context.store.read(backups.schedules):
            try:
                await self._attend(listed.id)
            except Interrupted:  # the daemon ends
                raise
            except PurveyorError as error:
                failed = failed or error
        await self._expire()
        if failed is not None:
            raise failed

    async def _attend(self, number: int) -> None:
        """One schedule's turn."""
        # those before it took as long as their backups: it may be another one by now, or gone
        schedule = await self._still(number)
        now = self.alarm.now()
        if schedule is None:
            return
        if schedule.enabled and _beyond(schedule, now):
            after = next_run(schedule, now)
            await self._context.store.write(
                lambda tx: backups.update_schedule(tx, number, next_run=after)
            )
        elif schedule.enabled and schedule.next_run is not None and schedule.next_run <= now:
            after = next_run(schedule, now)
            await self._context.store.write(lambda tx: backups.begin_run(tx, number, after))
        # this one, or one that a kill or a full disk has cut off
        if await self._context.store.read(lambda tx: backups.has_begun(tx, number)):
            await self._go_on(schedule)

    async def _go_on(self, schedule: ScheduleRecord) -> None:
        """Make what the run under way has not made yet, and end it; it stays under way for as long
        as a backup does that an earlier process has begun."""
        result = await self._make(schedule)

        def work(tx: Tx) -> None:
            # it may have been deleted meanwhile
            if backups.find_schedule(tx, schedule.id) is not None:
                backups.end_run(tx, schedule.id, result if schedule.enabled else None)

        if result is not None:
            await self._context.store.write(work)

    async def _still(self, number: int) -> ScheduleRecord | None:
        return await self._context.store.read(lambda tx: backups.find_schedule(tx, number))

    async def _make(self, schedule: ScheduleRecord) -> LastResult | None:
        """Back up its services, one after the other, until it is disabled or deleted. None while a
        backup of it is not over."""
        ended: Counter[str] = Counter()
        for listed in await self._context.store.read(services.list_all):
            now = await self._still(schedule.id)
            if now is None or not now.enabled:
                break
            schedule, number = now, listed.id
            service = await self._context.store.read(lambda tx: services.find(tx, number))  # noqa: B023
            if service is None:
                continue
            provider = self._context.registry.find(service.service_type)
            wanted = (
                service.id in schedule.service_ids
                if schedule.service_ids
                else bool(provider and provider.offers("backup"))
            )
            if wanted:
                try:
                    ended[await self._make_one(schedule, service)] += 1
                except (StateUnavailable, Interrupted):
                    raise  # the run goes on, later
                except PurveyorError as error:  # one service keeps no other from its backup
                    self._context.logger.warning(
                        "schedule.failed", service=service.slug, error=error.detail
                    )
                    ended["failed"] += 1
        if ended["running"]:
            return None
        return LastResult(
            made=ended["ok"],
            suspect=ended["suspect"],
            failed=ended["failed"],
            skipped=ended["skipped"],
        )

    async def _make_one(self, schedule: ScheduleRecord, service: ServiceRecord) -> str:
        """Back one service up, unless the run under way has done so; the answer is what came of
        it."""
        made = await self._context.store.read(lambda tx: _made(tx, schedule, service))
        if made is None and (service.desired != "running" or service.state != "active"):
            why = "it is stopped" if service.state == "active" else f"it is {service.state}"
            await self._context.store.write(
                lambda tx: _skip(tx, self._context, schedule, service, why)
            )
            return "skipped"
        if made is None:
            given = BackupArguments(
                service=str(service.id),
                s3_source_id=schedule.s3_source_id,
                backup_type=schedule.backup_type,
                keep_days=schedule.retention_period,
                schedule=schedule.id,
            )
            made = await self._find(await self._run("backup", given))
        if made is None or made.state not in ("ok", "suspect"):
            return _outcome(made)
        number = made.id
        if (schedule.verify or schedule.verify_deep) and not await self._context.store.read(
            lambda tx: _was_verified(tx, number)
        ):
            await self._run(
                "verify-backup", VerifyArguments(backup=str(number), deep=schedule.verify_deep)
            )
        if schedule.retention_count:
            await self._thin(schedule.id, service.id)
        return _outcome(made)

    async def _find(self, number: int | None) -> BackupRecord | None:
        if number is None:
            return None
        return await self._context.store.read(lambda tx: backups.find(tx, number))

    async def _run(self, verb: str, given: BackupArguments | ProveArguments) -> int | None:
        """Run an operation; its failure is told by its own events, and stops nothing else. Raises
        `StateUnavailable` when it could not even be begun, `Interrupted` when the daemon ends."""
        try:
            handle = await self._runner.submit(self._operation_types[verb], given, ACTOR)
        except (StateUnavailable, Interrupted):
            raise
        except PurveyorError as error:
            self._context.logger.warning("schedule.failed", verb=verb, error=error.detail)
            return None
        try:
            await handle.wait()
        except Interrupted:
            raise
        except PurveyorError as error:
            self._context.logger.warning("schedule.failed", verb=verb, error=error.detail)
        found = await self._context.store.read(lambda tx: operations.get(tx, handle.operation_id))
        return int(found.arguments["backup"])

    async def _thin(self, number: int, service_id: int) -> None:
        """Delete what is more than the schedule keeps of a service; the last good one always
        stays, and all do once there is no such schedule any more."""
        if await self._context.store.read(hold.keeps_all):
            return

        def work(tx: Tx) -> list[BackupRecord]:
            schedule = backups.find_schedule(tx, number)
            if schedule is None or not schedule.retention_count:
                return []
            made = [
                item
                for item in backups.list_backups(tx, service_id=service_id, schedule_id=schedule.id)
                if item.state != "running"
            ]
            kept = [item for item in made if item.state == "ok"][: schedule.retention_count]
            oldest = kept[-1].id if kept else 0
            return (
                [item for item in made if item.id < oldest]
                if len(kept) == schedule.retention_count
                else []
            )

        for item in await self._context.store.read(work):
            await self._run("delete-backup", ProveArguments(backup=str(item.id)))

    async def _expire(self) -> None:
        """Delete what has passed its time, unless it is the last good backup of its service. What a
        recovery came from stays until a person has looked at what came."""
        if await self._context.store.read(hold.keeps_all):
            return
        for number in await self._context.store.read(backups.list_expired):
            await self._run("delete-backup", ProveArguments(backup=str(number)))


def _next_due(tx: Tx) -> datetime | None:
    """When the next schedule, or the end of a backup, is due; None while nothing may be done."""
    if hold.coming(tx):
        return None
    due = [item.next_run for item in backups.schedules(tx) if item.enabled and item.next_run]
    if not hold.keeps_all(tx) and (expiry := backups.next_expiry(tx)) is not None:
        due.append(expiry)
    return min(due, default=None)


def _skip(
    tx: Tx, context: Context, schedule: ScheduleRecord, service: ServiceRecord, why: str
) -> None:
    """A backup that was due and not made has a row as every other, and an event."""
    given = BackupArguments(
        service=str(service.id),
        s3_source_id=schedule.s3_source_id,
        backup_type=schedule.backup_type,
        keep_days=schedule.retention_period,
        schedule=schedule.id,
    )
    number = insert_backup(tx, context, service, given)
    said = f"{service.name} was not backed up: {why}."
    backups.update(
        tx,
        number,
        state="failed",
        metadata={"skipped": True},
        error_message=said,
        completed_at=tx.now,
    )
    tx.emit(
        "backup.skipped",
        service=service.id,
        data={"id": number, "schedule": schedule.name, "reason": why},
    )


def _made(tx: Tx, schedule: ScheduleRecord, service: ServiceRecord) -> BackupRecord | None:
    """What the run under way has made of a service. A backup that was cut off by the daemon's end is
    made once more, and no more than that: it may be what ends the daemon."""
    made = backups.made_by_run(tx, schedule.id, service.id)
    if len(made) == 1 and made[0].state == "failed" and made[0].interrupted:
        return None
    return made[0] if made else None


def _was_verified(tx: Tx, number: int) -> bool:
    """Whether a backup's verification was begun, whatever came of it."""
    return bool(
        tx.value(
            "SELECT 1 FROM operations WHERE verb = 'verify-backup' "
            "AND json_extract(arguments, '$.backup') = ?",
            [number],
        )
    )


def _outcome(made: BackupRecord | None) -> str:
    """As what a run counts a backup; None is one that was refused."""
    if made is None:
        return "failed"
    return "skipped" if made.skipped else made.state
