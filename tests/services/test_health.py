"""Health checks: side by side, one at a time of each service, and those that hang delay nobody
else."""

from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any

import anyio
import pytest

from fake import server
from fake.scene import Scene, create, do
from purveyor.app import App
from purveyor.kernel.db import Store, Tx
from purveyor.services import store as services
from purveyor.services.health import Sample
from purveyor.services.models import ServiceRecord
from purveyor.services.routes import service_view
from purveyor_hooks import Health, hookimpl

pytestmark = pytest.mark.anyio


class Round:
    """A `ready` of one's own, in the place of the fake server's."""

    def __init__(self) -> None:
        self.under_way: dict[int, int] = {}
        self.most = 0
        self.checked: dict[int, int] = {}
        self.hanging: set[int] = set()
        self.pause = 0.02
        self.answers = True
        self.parameters: dict[str, Any] = {}

    @hookimpl
    async def ready(self, service: Any, access: Any) -> Health:
        number = service.id
        self.under_way[number] = self.under_way.get(number, 0) + 1
        self.most = max(self.most, self.under_way[number])
        answers = self.answers
        self.parameters = dict(service.parameters)
        try:
            if number in self.hanging:
                await anyio.sleep_forever()
            await anyio.sleep(self.pause)
            self.checked[number] = self.checked.get(number, 0) + 1
            return Health(healthy=answers, stage="write" if answers else "tcp", version="1")
        finally:
            self.under_way[number] -= 1


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Round:
    made = Round()
    monkeypatch.setattr(server, "ready", made.ready)
    return made


async def test_checks_that_are_asked_for_during_one_share_the_next(
    scene: Scene, rounds: Round
) -> None:
    async with scene.open() as app:
        record = await app.context.store.read(lambda tx: services.get(tx, "main"))
        seen = []

        async def check() -> None:
            seen.append(await app.observer.check(record))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(check)
        assert rounds.most == 1
        assert rounds.checked[1] == 2
        assert len(seen) == 5
        assert all(item.healthy for item in seen)


async def test_what_happens_during_a_check_is_seen_by_who_asks_after_it(
    scene: Scene, rounds: Round
) -> None:
    async with scene.open() as app:
        record = await app.context.store.read(lambda tx: services.get(tx, "main"))
        first = []

        async def early() -> None:
            first.append(await app.observer.check(record))

        async with anyio.create_task_group() as group:
            group.start_soon(early)
            await anyio.sleep(0.01)
            rounds.answers = False
            assert not (await app.observer.check(record)).healthy
        assert first[0].healthy


async def test_a_check_goes_by_what_is_recorded_when_it_begins(scene: Scene, rounds: Round) -> None:
    async with scene.open() as app:
        record = await app.context.store.read(lambda tx: services.get(tx, "main"))
        changed = {**record.parameters, "size": "7"}
        await app.context.store.write(lambda tx: services.update(tx, 1, parameters=changed))
        assert (await app.observer.check(record)).healthy
        assert rounds.parameters == changed


async def test_who_asks_while_one_is_under_way_gets_an_outcome_even_when_the_first_is_called_away(
    scene: Scene, rounds: Round
) -> None:
    async with scene.open() as app:
        record = await app.context.store.read(lambda tx: services.get(tx, "main"))
        async with anyio.create_task_group() as group:
            rounds.hanging.add(1)
            first = anyio.CancelScope()

            async def called_away() -> None:
                with first:
                    await app.observer.check(record)

            group.start_soon(called_away)
            await anyio.sleep(0.02)
            rounds.hanging.clear()
            with anyio.fail_after(5):
                group.start_soon(_later, first)
                assert (await app.observer.check(record)).healthy


async def _later(scope: anyio.CancelScope) -> None:
    await anyio.sleep(0.02)
    scope.cancel()


async def test_a_check_and_a_wait_for_readiness_take_turns(scene: Scene, rounds: Round) -> None:
    async with scene.open() as app:
        record = await app.context.store.read(lambda tx: services.get(tx, "main"))
        async with anyio.create_task_group() as group:
            group.start_soon(app.observer.check, record)
            group.start_soon(app.provision.ready, 1)
        assert rounds.most == 1
        assert rounds.checked[1] == 2


async def test_ten_that_hang_delay_nobody_else(scene: Scene, rounds: Round) -> None:
    with (scene.state / "settings.toml").open("a") as file:
        file.write("health-interval = 0.2\n")
    async with scene.open() as app:
        for number in range(10):
            await create(app, f"hang-{number}")
        rounds.hanging = {item.id for item in await _every(app) if item.name.startswith("hang-")}
        rounds.checked.clear()
    async with scene.open(serve=True) as app:
        begun = monotonic()
        with anyio.fail_after(4):  # a type's check may take 10 s before it is given up
            while rounds.checked.get(1, 0) < 3:  # noqa: ASYNC110
                await anyio.sleep(0.05)
        assert monotonic() - begun < 4
        assert not rounds.hanging & rounds.checked.keys()


async def _every(app: App) -> list[Any]:
    return await app.context.store.read(services.list_all)


async def test_what_is_unhealthy_is_told_when_the_clock_was_put_back_and_no_more_after_a_change(
    scene: Scene,
) -> None:
    later = partial(Store, clock=lambda: datetime.now(UTC) + timedelta(hours=1))

    def main(tx: Tx) -> ServiceRecord:
        return services.get(tx, "main")

    async with scene.open(make_store=later) as app:

        async def status() -> str:
            record = await app.context.store.read(main)
            return (await app.observer.statuses([record]))[record.id].status

        # an hour ahead of every check
        await do(app, "update", service="main", parameters={"size": 2})
        held = scene.server("main")
        held.held.admin = "changed by hand"
        held.save()
        assert not (await app.observer.check(await app.context.store.read(main))).healthy
        assert await status() == "unhealthy"
        await app.context.store.write(lambda tx: services.update(tx, main(tx).id, refusal=""))
        assert await status() == "running"


async def test_what_a_stopped_service_used_is_not_told_as_what_it_uses(scene: Scene) -> None:
    async with scene.open() as app:
        for _ in range(2):
            record = await app.context.store.read(lambda tx: services.get(tx, "main"))
            await app.observer.sample(record)
        app.observer._note(record.id, Sample(at=datetime.now(UTC), memory_bytes=7, cpu_percent=1.0))
        assert (await service_view(app, "main")).memory_bytes == 7
        await do(app, "stop", service="main")
        seen = await service_view(app, "main")
        assert (seen.status, seen.memory_bytes, seen.cpu_percent) == ("stopped", None, None)
        await app.reconciler.sweep()
        await do(app, "start", service="main")
        assert (await service_view(app, "main")).memory_bytes is None, "of before"
