"""What the daemon does by itself is done when there is cause, and now and then without."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest

from fake.asked import asked
from fake.scene import Scene, do
from purveyor.app import App
from purveyor.archiving import store as archives
from purveyor.backups import store as backups
from purveyor.backups.scheduler import Scheduler
from purveyor.kernel.alarm import Alarm
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import store as operations
from purveyor.projects import endings
from purveyor.projects import store as projects
from purveyor.services.provisioning import Provisioner

pytestmark = pytest.mark.anyio
HOURLY = {
    "name": "hourly",
    "schedule_expression": "0 * * * *",
    "service_ids": ["main"],
}
NEVER = 3600.0


class Clock:
    """The wall clock of an installation, which a person may set."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return self._app.now() + self.ahead


async def until(what: Callable[[], Awaitable[Any]]) -> None:
    with anyio.fail_after(20):
        while not await what():  # noqa: ASYNC110
            await anyio.sleep(0.02)


@asynccontextmanager
async def scheduled(
    scene: Scene, *, resync: float = NEVER, deaf: bool = False
) -> AsyncIterator[tuple[Any, Scheduler, Clock]]:
    """A scheduler alone, whose clock can be set. One that is deaf hears of nothing."""
    async with asked(scene) as desk:
        app, clock = desk.app, Clock(desk.app)
        made = Scheduler(app.context, app.runner, app.operation_types, clock)
        made.alarm = Alarm(clock, resync=resync, glance=0.02)
        if not deaf:
            app.bus.wakes(lambda: made.alarm.wake(), "schedule.")
        async with anyio.create_task_group() as group:
            group.start_soon(made.run)
            await anyio.sleep(0.05)  # it glances all the time, and is never blocked for long
            yield desk, made, clock
            group.cancel_scope.cancel()


async def made_by_schedules(app: App) -> int:
    def count(tx: Tx) -> int:
        where = "schedule_id IS NOT NULL AND state = 'ok'"
        return int(tx.value(f"SELECT count(*) FROM backups WHERE {where}"))

    return await app.context.store.read(count)


async def test_a_schedule_that_is_made_now_runs_at_its_moment_without_a_poll(
    scene: Scene,
) -> None:
    async with scheduled(scene) as (desk, _, clock):
        answer = await desk.local.post("/api/backups/schedules", json=HOURLY)
        assert answer.status_code == 201
        await anyio.sleep(0.2)
        assert await made_by_schedules(desk.app) == 0
        due = datetime.fromisoformat(answer.json()["next_run"])
        clock.ahead = due - desk.app.now() + timedelta(seconds=1)

        async def made() -> bool:
            return await made_by_schedules(desk.app) == 1

        await until(made)


async def test_a_clock_that_is_set_forward_and_back_keeps_no_schedule_from_running(
    scene: Scene,
) -> None:
    async with scheduled(scene) as (desk, _, clock):
        assert (await desk.local.post("/api/backups/schedules", json=HOURLY)).status_code == 201

        async def runs(count: int) -> None:
            async def made() -> bool:
                return await made_by_schedules(desk.app) == count

            await until(made)

        clock.ahead = timedelta(days=3650)
        await runs(1)
        clock.ahead = timedelta()

        async def soon() -> bool:
            found = await desk.app.context.store.read(lambda tx: backups.schedule(tx, "hourly"))
            assert found.next_run is not None
            return bool(found.next_run <= desk.app.now() + timedelta(hours=1))

        await until(soon)
        clock.ahead = timedelta(hours=1)
        await runs(2)


async def test_a_wake_that_was_missed_is_caught_by_the_next_look_without_cause(
    scene: Scene,
) -> None:
    async with scheduled(scene, resync=0.3, deaf=True) as (desk, _, clock):
        clock.ahead = timedelta(hours=1)
        assert (await desk.local.post("/api/backups/schedules", json=HOURLY)).status_code == 201

        async def made() -> bool:
            return await made_by_schedules(desk.app) >= 1

        await until(made)


async def test_an_account_ends_when_its_grace_is_over_without_a_poll(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "PAUSE", 0.05)
    async with scene.open(serve=True) as app:
        await anyio.sleep(0.2)
        await do(app, "rotate", project="shop", grace=1)

        async def over() -> bool:
            return not await app.context.store.read(projects.list_outlived)

        await until(over)


async def test_an_archive_is_followed_as_soon_as_it_is_made_and_rests_while_its_service_is_stopped(
    scene: Scene,
) -> None:
    async with scene.open(serve=True) as app:
        await do(app, "archive", service="idle")
        number = (await app.context.store.read(archives.list_all))[-1].service_id

        async def shipped() -> bool:
            found = await app.context.store.read(lambda tx: archives.find(tx, number))
            return found is not None and found.until is not None

        await until(shipped)
        await do(app, "stop", service="idle")


async def test_what_is_unfinished_goes_on_when_the_engine_is_there_first_and_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("purveyor.services.reconciler.RECONNECT", 0.05)
    left = await _left(scene, monkeypatch)
    scene.away = "The engine is away."
    async with scene.open(serve=True) as app:

        async def state() -> str:
            return (await app.context.store.read(lambda tx: operations.get(tx, left))).state

        async def over() -> bool:
            return await state() == "succeeded"

        app.resumption.wake()  # a wake without the engine is no cause to fail it
        await anyio.sleep(0.3)
        assert await state() == "running"
        scene.engine.away = ""
        await until(over)


async def _left(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> int:
    """A restart that a process left in its first step."""
    entered = anyio.Event()

    async def hold(*_: object) -> None:
        entered.set()
        await anyio.sleep_forever()

    with monkeypatch.context() as patched:
        patched.setattr(Provisioner, "image", hold)
        async with scene.open() as app:
            kind = app.operation_type("restart")
            number = await app.begin("restart", kind.arguments(service="main"), "test")
            with anyio.fail_after(10):
                await entered.wait()
    return number
