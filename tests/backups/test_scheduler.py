"""Scheduled backups."""

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from fake.scene import Scene, do
from purveyor.app import App
from purveyor.backups import store as backups
from purveyor.backups.models import BackupRecord, LastResult, ScheduleRecord
from purveyor.backups.operations.verify import VerifyBackup
from purveyor.backups.repository import BackupRepository
from purveyor.backups.routes import view
from purveyor.backups.scheduler import Scheduler, following, next_run
from purveyor.kernel.db import Tx
from purveyor.kernel.events import store as events
from purveyor.services import store as services
from purveyor_hooks import BadInput, Conflict, Interrupted, StorageFull

pytestmark = pytest.mark.anyio
NIGHT = datetime(2030, 1, 1, 3, tzinfo=UTC)


async def schedule(app: App, **values: Any) -> int:
    """One that is due at NIGHT, and each night after it."""
    facts: dict[str, Any] = {
        "name": "nightly",
        "backup_type": "scheduled",
        "retention_period": 30,
        "retention_count": 0,
        "schedule_expression": "0 3 * * *",
        "enabled": True,
        "description": "",
        "tags": [],
        "s3_source_id": None,
        "service_ids": [1],
        "verify": False,
        "next_run": NIGHT,
        **values,
    }
    return await app.context.store.write(lambda tx: backups.insert_schedule(tx, **facts))


async def turn(app: App, now: datetime) -> None:
    await Scheduler(app.context, app.runner, app.operation_types, lambda: now).turn()


async def made(app: App, number: int) -> list[BackupRecord]:
    return await app.context.store.read(lambda tx: backups.list_backups(tx, schedule_id=number))


async def shown(app: App, number: int) -> ScheduleRecord:
    return await app.context.store.read(lambda tx: backups.schedule(tx, number))


async def test_what_is_due_is_made_and_what_is_not_is_not(scene: Scene) -> None:
    async with scene.open() as app:
        number = await schedule(app)
        await turn(app, NIGHT - timedelta(seconds=1))
        assert await made(app, number) == []
        await turn(app, NIGHT)
        (backup,) = await made(app, number)
        assert (backup.service_name, backup.state) == ("main", "ok")
        assert (await shown(app, number)).next_run == NIGHT + timedelta(days=1)
        await turn(app, NIGHT + timedelta(hours=1))
        assert len(await made(app, number)) == 1


async def test_a_time_that_passed_while_nothing_ran_is_made_up_for_once(scene: Scene) -> None:
    async with scene.open() as app:
        number = await schedule(app)
        await turn(app, NIGHT + timedelta(days=9, hours=1))
        assert len(await made(app, number)) == 1
        assert (await shown(app, number)).next_run == NIGHT + timedelta(days=10)


async def test_a_clock_that_went_ahead_and_was_put_back_keeps_no_backup_from_being_made(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        number = await schedule(app, jitter=60)
        await turn(app, NIGHT + timedelta(days=3650))
        assert len(await made(app, number)) == 1
        assert (await shown(app, number)).next_run >= NIGHT + timedelta(days=3650)
        await turn(app, NIGHT + timedelta(hours=1))
        due = (await shown(app, number)).next_run
        assert NIGHT + timedelta(days=1) <= due <= NIGHT + timedelta(days=1, seconds=60)
        await turn(app, NIGHT + timedelta(hours=2))
        assert (await shown(app, number)).next_run == due, "what is as it should be stays"
        await turn(app, due)
        assert len(await made(app, number)) == 2


async def test_one_that_is_disabled_makes_nothing(scene: Scene) -> None:
    async with scene.open() as app:
        number = await schedule(app, enabled=False)
        await turn(app, NIGHT)
        assert await made(app, number) == []


async def test_without_services_it_means_every_one_that_runs(scene: Scene) -> None:
    async with scene.open() as app:
        number = await schedule(app, service_ids=[])
        await turn(app, NIGHT)
        found = {item.service_name: view(item).state for item in await made(app, number)}
        assert {name for name, state in found.items() if state == "ok"} == {
            "main",
            "idle",
            "tracked",
            "risen",
            "lent",
        }
        assert {name: state for name, state in found.items() if state != "ok"} == {
            "asleep": "skipped"
        }


async def test_a_stopped_service_is_skipped_with_a_row_an_event_and_a_result(scene: Scene) -> None:
    async with scene.open() as app:
        asleep = (await app.context.store.read(lambda tx: services.get(tx, "asleep"))).id
        number = await schedule(app, service_ids=[1, asleep])
        await turn(app, NIGHT)
        skipped, good = await made(app, number)
        assert (view(skipped).state, skipped.error_message) == (
            "skipped",
            "asleep was not backed up: it is stopped.",
        )
        assert good.state == "ok"
        assert (await shown(app, number)).last_result == LastResult(made=1, skipped=1)
        told = [
            item
            for item in await app.context.store.read(lambda tx: events.after(tx, 0))
            if item.type == "backup.skipped"
        ]
        assert [item.data["reason"] for item in told] == ["it is stopped"]
        with pytest.raises(Conflict, match="was not made"):
            await do(app, "restore", backup=str(skipped.id), new_name="again")
        await do(app, "delete-backup", backup=str(skipped.id))
        assert (scene.state / "backups" / good.folder / "manifest.json").exists()


@pytest.mark.parametrize(
    ("line", "zone", "after", "due"),
    [
        ("0 3 * * *", "Europe/Berlin", "2026-01-10T12:00", "2026-01-11T02:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-07-10T12:00", "2026-07-11T01:00"),
        # the clocks skip it: at the next moment
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00", "2026-03-29T01:00"),
        ("0 3 * * *", "America/St_Johns", "2026-01-10T00:00", "2026-01-10T06:30"),
    ],
)
def test_a_cron_line_is_read_in_its_time_zone(line: str, zone: str, after: str, due: str) -> None:
    found = following(line, datetime.fromisoformat(after).replace(tzinfo=UTC), zone)
    assert abs(found - datetime.fromisoformat(due).replace(tzinfo=UTC)) <= timedelta(
        hours=1 if "30 2" in line else 0
    )


def test_a_time_zone_that_is_none_is_named() -> None:
    for zone in ("Mars/Base", "", "../etc/passwd", "UTC+1"):
        with pytest.raises(BadInput) as told:
            following("0 3 * * *", NIGHT, zone)
        assert set(told.value.errors) == {"timezone"}


async def test_jitter_moves_a_run_by_less_than_it_says_and_never_skips_one(scene: Scene) -> None:
    async with scene.open() as app:
        number = await schedule(app, jitter=600)
        record = await shown(app, number)
        assert next_run(record, NIGHT, lambda low, high: high) == NIGHT + timedelta(
            days=1, seconds=600
        )
        assert next_run(
            record, NIGHT + timedelta(seconds=599), lambda low, high: low
        ) == NIGHT + timedelta(days=1)


async def test_it_proves_what_it_made_when_it_is_asked_to(scene: Scene) -> None:
    async with scene.open() as app:
        number = await schedule(app, verify=True)
        await turn(app, NIGHT)
        (backup,) = await made(app, number)
        assert backup.proven_at is not None
        assert {
            item.name for item in scene.engine.world.containers if "verify" in item.name
        } == set()


async def test_one_service_that_fails_stops_no_other(scene: Scene) -> None:
    async with scene.open() as app:
        server = scene.server("main")
        server.held.admin = "changed behind our back"
        server.save()
        number = await schedule(app, service_ids=[1, 2])
        await turn(app, NIGHT)
        assert {item.service_name: item.state for item in await made(app, number)} == {
            "main": "failed",
            "idle": "ok",
        }


async def test_only_so_many_good_ones_are_kept(scene: Scene) -> None:
    async with scene.open() as app:
        number = await schedule(app, retention_count=2)
        for day in range(5):
            await turn(app, NIGHT + timedelta(days=day))
        kept = await made(app, number)
        assert len(kept) == 2
        assert sorted(path.name for path in (scene.state / "backups/main").iterdir()) == sorted(
            [
                *(item.backup_id for item in kept),
                (await app.context.store.read(lambda tx: backups.get(tx, 1))).backup_id,
            ]
        )


class Cut(Exception):
    """The daemon ends here."""


class CutOff(Scheduler):
    """It comes as far as so many operations."""

    left = 1

    async def _run(self, verb: str, given: Any) -> int | None:
        if self.left == 0:
            raise Cut
        self.left -= 1
        return await super()._run(verb, given)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
async def test_a_run_that_was_cut_off_is_gone_on_with_and_makes_nothing_twice(
    scene: Scene, after: int
) -> None:
    async with scene.open() as app:
        number = await schedule(app, service_ids=[1, 2], verify=True)
        cut = CutOff(app.context, app.runner, app.operation_types, lambda: NIGHT)
        cut.left = after
        with pytest.raises(Cut):
            await cut.turn()
    async with scene.open() as app:  # another daemon
        assert (await shown(app, number)).last_result is None
        await turn(app, NIGHT + timedelta(minutes=1))
        found = await made(app, number)
        assert {item.service_name: item.state for item in found} == {"main": "ok", "idle": "ok"}
        assert len(found) == 2
        assert all(item.proven_at for item in found)
        assert (await shown(app, number)).last_result == LastResult(made=2)
        await turn(app, NIGHT + timedelta(minutes=2))
        assert len(await made(app, number)) == 2
        await turn(app, NIGHT + timedelta(days=1))
        assert len(await made(app, number)) == 4


@pytest.mark.parametrize("times", [1, 2])
async def test_a_backup_that_was_cut_off_is_made_once_more(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """The daemon ends while it is written: so often, and then no more."""
    written = BackupRepository.write

    async def hanging(*_: Any) -> None:
        await anyio.sleep_forever()

    async with scene.open() as app:
        number = await schedule(app, service_ids=[1, 2])
    for _ in range(times):
        monkeypatch.setattr(BackupRepository, "write", hanging)
        async with scene.open() as app, anyio.create_task_group() as group:
            group.start_soon(_interrupted_soon, app)
            with pytest.raises(Interrupted):
                await turn(app, NIGHT)
    monkeypatch.setattr(BackupRepository, "write", written)
    async with scene.open() as app:
        await turn(app, NIGHT + timedelta(minutes=1))
        found = [(item.service_name, item.state) for item in await made(app, number)]
        cut, again = ("main", "failed"), [("main", "ok")] if times == 1 else []
        assert found[::-1] == [cut] * times + again + [("idle", "ok")]
        result = LastResult(made=2) if times == 1 else LastResult(made=1, failed=1)
        assert (await shown(app, number)).last_result == result


async def _interrupted_soon(app: App) -> None:
    while not any("begun" in item.metadata for item in await all_running(app)):  # noqa: ASYNC110
        await anyio.sleep(0.01)
    app.runner.interrupt()


async def all_running(app: App) -> list[BackupRecord]:
    found = await app.context.store.read(backups.list_backups)
    return [item for item in found if item.state == "running"]


async def test_a_service_that_cannot_be_skipped_keeps_no_other_and_no_schedule_from_its_turn(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        asleep = (await app.context.store.read(lambda tx: services.get(tx, "asleep"))).id
        first = await schedule(app, service_ids=[1, asleep], backup_type="base")
        later = await schedule(app, name="later", service_ids=[2])
        await turn(app, NIGHT)
        assert [item.service_name for item in await made(app, later)] == ["idle"]
        assert (await shown(app, first)).last_result is not None


async def test_a_verification_that_lacks_room_is_tried_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    async def full(self: VerifyBackup, *_: Any) -> None:
        tried.append(1)
        raise StorageFull("The disk is full.")

    monkeypatch.setattr(VerifyBackup, "_restore", full)
    async with scene.open() as app:
        number = await schedule(app, service_ids=[1, 2], verify=True)
        later = await schedule(app, name="later", service_ids=[2])
        for _ in range(3):
            await turn(app, NIGHT)
        assert len(await made(app, number)) == 2
        assert len(await made(app, later)) == 1
        assert len(tried) == 2


async def test_what_is_due_or_was_missed_is_so_after_a_change_of_something_else(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        number = await schedule(app)
        kind = app.immediate["update-schedule"]

        async def change(**values: Any) -> None:
            await app.runner.change(kind, kind.arguments(schedule="nightly", **values), "test")

        await change(retention_period=60, enabled=True, timezone="UTC")
        assert (await shown(app, number)).next_run == NIGHT
        await change(jitter=5)
        assert (await shown(app, number)).next_run != NIGHT


async def test_a_backup_that_is_under_way_still_is_waited_for_and_holds_no_other_schedule_up(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        number = await schedule(app, service_ids=[1, 2])
        later = await schedule(app, name="later", service_ids=[2])
        cut = CutOff(app.context, app.runner, app.operation_types, lambda: NIGHT)
        with pytest.raises(Cut):
            await cut.turn()
        (first,) = await made(app, number)

        def become(state: str) -> Any:
            return lambda tx: backups.update(tx, first.id, state=state)

        await app.context.store.write(become("running"))
        for _ in range(2):
            await turn(app, NIGHT + timedelta(minutes=1))
            assert {item.service_name for item in await made(app, number)} == {"main", "idle"}
            assert (await shown(app, number)).last_result is None
            assert len(await made(app, later)) == 1
        await app.context.store.write(become("ok"))
        await turn(app, NIGHT + timedelta(minutes=2))
        assert (await shown(app, number)).last_result == LastResult(made=2)
        assert len(await made(app, number)) == 2


@pytest.mark.parametrize("word", ["disable", "delete"])
async def test_a_run_that_was_cut_off_ends_with_its_schedule(scene: Scene, word: str) -> None:
    async with scene.open() as app:
        number = await schedule(app, service_ids=[1, 2])
        cut = CutOff(app.context, app.runner, app.operation_types, lambda: NIGHT)
        with pytest.raises(Cut):
            await cut.turn()
        kind = app.immediate[f"{word}-schedule"]
        await app.runner.change(kind, kind.arguments(schedule="nightly"), "test")
        await turn(app, NIGHT + timedelta(minutes=1))
        if word == "disable":
            kind = app.immediate["enable-schedule"]
            await app.runner.change(kind, kind.arguments(schedule="nightly"), "test")
            await app.context.store.write(
                lambda tx: backups.update_schedule(tx, number, next_run=NIGHT + timedelta(days=1))
            )
            await turn(app, NIGHT + timedelta(minutes=2))
        all_of_them = await app.context.store.read(backups.list_backups)
        found = [item.service_name for item in all_of_them if item.backup_type == "scheduled"]
        assert found == ["main"]


async def test_a_run_that_could_not_begin_its_backup_is_tried_again(scene: Scene) -> None:
    async with scene.open() as app:
        number = await schedule(app)
        write = app.context.store.write

        async def full(work: Any) -> Any:
            if not await app.context.store.read(lambda tx: backups.has_begun(tx, number)):
                return await write(work)
            raise StorageFull("The disk is full.")

        setattr(app.context.store, "write", full)
        with pytest.raises(StorageFull):
            await turn(app, NIGHT)
        setattr(app.context.store, "write", write)
        assert await made(app, number) == []
        await turn(app, NIGHT + timedelta(minutes=1))
        assert [item.state for item in await made(app, number)] == ["ok"]


@pytest.mark.parametrize("change", ["deleted", "disabled"])
async def test_one_that_is_ended_under_way_makes_and_deletes_no_more(
    scene: Scene, change: str
) -> None:
    async with scene.open() as app:
        first = await schedule(app, service_ids=[1, 2], retention_count=1)
        later = await schedule(app, name="later", service_ids=[2])
        await turn(app, NIGHT)
        assert {item.service_name for item in await made(app, first)} == {"main", "idle"}

        class Ended(Scheduler):
            """Somebody ends both schedules while the first service is backed up."""

            async def _run(self, *given: Any) -> int | None:
                number = await super()._run(*given)

                def work(tx: Tx) -> None:
                    for item in (first, later):
                        if change == "deleted":
                            backups.delete_schedule(tx, item)
                        else:
                            backups.update_schedule(tx, item, enabled=False)

                await app.context.store.write(work)
                return number

        def scheduled(tx: Tx) -> list[BackupRecord]:
            return [item for item in backups.list_backups(tx) if item.backup_type == "scheduled"]

        before = await app.context.store.read(scheduled)
        day = NIGHT + timedelta(days=1)
        await Ended(app.context, app.runner, app.operation_types, lambda: day).turn()
        after = await app.context.store.read(scheduled)
        new = [item for item in after if item.id > max(known.id for known in before)]
        assert [item.service_name for item in new] == ["main"]
        gone = {item.id for item in before} - {item.id for item in after}
        # what a disabled one keeps is still said
        assert len(gone) == (1 if change == "disabled" else 0)


async def test_what_has_expired_goes_but_never_the_last_good_one(scene: Scene) -> None:
    async with scene.open() as app:

        def expire(tx: Tx) -> None:
            for item in backups.list_backups(tx):
                backups.update(tx, item.id, expires_at=datetime(2020, 1, 1, tzinfo=UTC))

        await do(app, "backup", service="main")
        await app.context.store.write(expire)
        await turn(app, NIGHT)
        left = await app.context.store.read(backups.list_backups)
        assert sorted((item.service_name, item.backup_type) for item in left) == [
            ("main", "manual"),
            ("tracked", "base"),
        ]
        assert left[0].id == max(item.id for item in left), "the newest one stays"


async def test_a_base_copy_does_not_stand_for_the_last_good_backup(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "backup", service="tracked")
        await do(app, "backup", service="tracked", backup_type="base")
        past = datetime(2020, 1, 1, tzinfo=UTC)
        await app.context.store.write(
            lambda tx: [
                backups.update(tx, item.id, expires_at=past) for item in backups.list_backups(tx)
            ]
        )
        await turn(app, NIGHT)
        left = await app.context.store.read(backups.list_backups)
        assert [item.backup_type for item in left if item.service_name == "tracked"] == [
            "base",
            "manual",
        ]
