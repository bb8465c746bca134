"""Backups that are made by themselves: when they are due, what is proven, and what may go."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import anyio
from croniter import CroniterError, croniter

from purveyor.archive import manifest as manifests
from purveyor.archive.keeper import Keeper, facts
from purveyor.archive.manifest import Manifest
from purveyor.archive.places import MANIFEST
from purveyor.house import House
from purveyor.operations import Verb
from purveyor.operations.runner import Runner
from purveyor.store import Tx, backups, operations, services
from purveyor.store.records import BackupRecord, ScheduleRecord, SourceRecord
from purveyor.verbs.backup import BackupArguments, ProveArguments
from purveyor_hooks import BadInput, NotFound, PurveyorError

PAUSE = 15.0  # seconds
LONGEST = 3650  # days
ACTOR = "schedule"


def following(expression: str, after: datetime) -> datetime:
    """When a cron line comes next (UTC). Raises `BadInput` for what is none."""
    try:
        if len(expression.split()) != 5:
            raise ValueError("it must have five fields")
        found: datetime = croniter(expression, after).get_next(datetime)
    except (CroniterError, ValueError, KeyError) as error:
        why = f"it is no cron line: {error}"
        raise BadInput(
            f"The schedule cannot be used: {why}.",
            remedy='Five fields: minute hour day month weekday. Every night at 3: "0 3 * * *"',
            errors={"schedule_expression": why},
        ) from None
    return found.astimezone(UTC)


def check(name: str, days: int, count: int) -> None:
    """Raise `BadInput` for a schedule that makes no sense."""
    errors = {}
    if not name.strip() or name.isdecimal():
        errors["name"] = "must be text that is not a number"
    if not 1 <= days <= LONGEST:
        errors["retention_period"] = f"must be from 1 to {LONGEST} days"
    if not 0 <= count <= 10_000:
        errors["retention_count"] = "must be from 0 (any number) to 10000"
    if errors:
        raise BadInput("The schedule cannot be used as it is.", remedy="Correct what is named.", errors=errors)


class Scheduler:
    """Runs what is due, in turn, for as long as the daemon serves."""

    def __init__(self, house: House, runner: Runner, verbs: Mapping[str, Verb], now: Callable[[], datetime]) -> None:
        self._house = house
        self._runner = runner
        self._verbs = verbs
        self._now = now

    async def run(self) -> None:
        while True:
            try:
                await self.turn()
            except PurveyorError as error:
                self._house.logger.warning("schedule", error=error.detail)
            await anyio.sleep(PAUSE)

    async def turn(self) -> None:
        """What is due now; a schedule whose time passed while nothing ran is made up for once."""
        for schedule in await self._house.store.read(backups.schedules):
            now = self._now()
            if schedule.enabled and schedule.next_run is not None and schedule.next_run <= now:
                after = following(schedule.schedule_expression, now)
                number = schedule.id
                await self._house.store.write(lambda tx: backups.update_schedule(tx, number, next_run=after, last_run=tx.now))  # noqa: B023
                await self._make(schedule)
        await self._expire()

    async def _make(self, schedule: ScheduleRecord) -> None:
        for service in await self._house.store.read(services.every):
            provider = self._house.registry.find(service.service_type)
            wanted = service.id in schedule.service_ids if schedule.service_ids else bool(provider and provider.offers("backup"))
            if not wanted or service.desired != "running" or service.state != "active":
                continue
            given = BackupArguments(
                service=str(service.id),
                s3_source_id=schedule.s3_source_id,
                backup_type=schedule.backup_type,
                keep_days=schedule.retention_period,
                schedule=schedule.id,
            )
            made = await self._run("backup", given)
            if made is not None and schedule.verify:
                await self._run("verify-backup", ProveArguments(backup=str(made)))
            if schedule.retention_count:
                await self._thin(schedule, service.id)

    async def _run(self, verb: str, given: BackupArguments | ProveArguments) -> int | None:
        """Run a verb; its failure is told by its own events, and stops nothing else."""
        try:
            handle = await self._runner.submit(self._verbs[verb], given, ACTOR)
            await handle.wait()
        except PurveyorError as error:
            self._house.logger.warning("schedule.failed", verb=verb, error=error.detail)
            return None
        found = await self._house.store.read(lambda tx: operations.get(tx, handle.operation_id))
        return int(found.arguments["backup"])

    async def _thin(self, schedule: ScheduleRecord, service_id: int) -> None:
        """Delete what is more than the schedule keeps of a service; the last good one always stays."""

        def work(tx: Tx) -> list[BackupRecord]:
            made = [
                item for item in backups.listed(tx, service_id=service_id, schedule_id=schedule.id) if item.state != "running"
            ]
            kept = [item for item in made if item.state == "ok"][: schedule.retention_count]
            oldest = kept[-1].id if kept else 0
            return [item for item in made if item.id < oldest] if len(kept) == schedule.retention_count else []

        for item in await self._house.store.read(work):
            await self._run("delete-backup", ProveArguments(backup=str(item.id)))

    async def _expire(self) -> None:
        """Delete what has passed its time, unless it is the last good backup of its service."""
        for number in await self._house.store.read(backups.expired):
            await self._run("delete-backup", ProveArguments(backup=str(number)))


async def adopt(house: House, source: SourceRecord | None) -> list[BackupRecord]:
    """Record every whole backup of a place that there is no record of."""
    place = Keeper(house).place(source)
    adopted = []
    for path in await place.list():
        try:
            item = manifests.decode(await place.get(path))
        except (BadInput, NotFound):
            continue
        folder = path.removesuffix(f"/{MANIFEST}")
        number = await house.store.write(lambda tx: _record(tx, item, folder, f"{place.label.rstrip('/')}/{folder}", source))  # noqa: B023
        if number is not None:
            adopted.append(await house.store.read(lambda tx: backups.get(tx, number)))  # noqa: B023
    return adopted


def _record(tx: Tx, item: Manifest, folder: str, location: str, source: SourceRecord | None) -> int | None:
    if backups.find(tx, item.backup_id):
        return None
    number = backups.insert(
        tx,
        backup_id=item.backup_id,
        service_id=None,
        service_name=item.service,
        service_type=item.service_type,
        backup_type=item.backup_type,
        s3_source_id=source.id if source else None,
        folder=folder,
        location=location,
        encryption=item.encryption,
    )
    backups.update(tx, number, **facts(item), state="suspect" if item.state == "suspect" else "ok")
    tx.emit("backup.adopted", data={"id": number, "backup_id": item.backup_id, "service": item.service})
    return number
