"""What should run and does not is told, brought back, and told again when it is over: services."""

from collections.abc import Callable

import anyio
import pytest

from fake.engine import Container
from fake.scene import Scene, do
from fake.server import DATA
from purveyor.app import App
from purveyor.kernel.events import store as events
from purveyor.kernel.operations import store as operations
from purveyor.services import store as services
from purveyor.services.incidents import CALM, FIRST_PAUSE, LONGEST_PAUSE, Incidents, Subject
from purveyor_hooks import Conflict, Event, Failed

pytestmark = pytest.mark.anyio

MAIN = Subject("service", 1)


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def told(app: App, kind: str) -> list[Event]:
    found = await app.context.store.read(lambda tx: events.after(tx, 0, 5000))
    return [event for event in found if event.type == kind]


async def reasons(app: App, kind: str = "service.incident") -> list[str]:
    return [event.data.get("reason", "") for event in await told(app, kind)]


async def repairs(app: App) -> int:
    found = await app.context.store.read(lambda tx: operations.list_page(tx, limit=1000, offset=0))
    return sum(item.verb == "repair" for item in found.items)


def hurt(scene: Scene, how: str, name: str = "fk-main") -> Container:
    """Somebody else does something to a container."""
    engine, found = scene.engine, scene.engine.require(name)
    match how:
        case "stopped":
            engine.die(found, 0)
        case "killed":
            engine.die(found, 137)
        case "out of memory":
            engine.die(found, 137, killed=True)
        case "paused":
            engine.pause(found)
        case "removed":
            engine.world.containers.remove(found)
            engine.save()
            engine.tell("destroy", found)
        case "never started":
            found.state = "created"
            engine.save()
        case "not restarted by the engine":
            found.state, found.exit_code, found.error = "exited", 128, "port is already allocated"
            engine.save()
    return found


HOW = {
    "stopped": "It ended (exit code 0).",
    "killed": "It was killed (exit code 137).",
    "out of memory": "It was killed for want of memory (exit code 137).",
    "paused": "Its container was paused.",
    "removed": "Its container was removed.",
    "never started": "Its container was never started.",
    "not restarted by the engine": "The engine could not start it: port is already allocated.",
}


@pytest.mark.parametrize("how", HOW)
async def test_what_somebody_else_did_is_told_with_its_reason_and_brought_back_and_said_to_be_over(
    how: str, scene: Scene
) -> None:
    async with scene.open() as app:
        hurt(scene, how)
        await app.reconciler.sweep()
        assert scene.engine.require("fk-main").state == "running"
        assert scene.server("main").held.resources["shop_production"] == {"precious": "gold"}
        (incident,), (over,) = (
            await told(app, "service.incident"),
            await told(app, "service.recovered"),
        )
        assert (incident.service, incident.data) == (1, {"reason": HOW[how]})
        assert over.service == 1
        assert over.id > incident.id
        await app.reconciler.sweep()
        assert len(await told(app, "service.incident")) == 1
        assert not scene.engine.world.wrongs


@pytest.mark.parametrize("how", ["stopped", "paused", "removed"])
async def test_the_daemon_hears_of_it_and_acts_at_once(how: str, scene: Scene) -> None:
    async with scene.open(serve=True) as app:
        with anyio.fail_after(10):
            while app.observer.last_health(1) is None:  # noqa: ASYNC110
                await anyio.sleep(0.02)
            hurt(scene, how)
            while not await told(app, "service.recovered"):  # noqa: ASYNC110
                await anyio.sleep(0.02)
        assert scene.engine.require("fk-main").state == "running"


@pytest.mark.parametrize("how", HOW)
async def test_with_self_repair_off_it_is_only_told(how: str, scene: Scene) -> None:
    with (scene.state / "settings.toml").open("a") as file:
        file.write('self-repair = "off"\n')
    async with scene.open() as app:
        hurt(scene, how)
        await app.reconciler.sweep()
        await app.reconciler.sweep()
        assert await reasons(app) == [HOW[how]]
        assert await repairs(app) == 0
        found = (await app.observer.statuses(await app.context.store.read(services.list_all)))[1]
        word = {"paused": "paused", "removed": "missing"}.get(how, "down")
        assert found.status == word
        if how != "removed":
            assert found.reason == HOW[how]
        await do(app, "start", service="main")
        await app.reconciler.sweep()
        assert len(await told(app, "service.recovered")) == 1


async def test_a_stop_by_its_owner_is_no_incident_and_ends_one(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "stop", service="main")
        await app.reconciler.sweep()
        assert await told(app, "service.incident") == []
        await do(app, "start", service="main")
        hurt(scene, "stopped")
        scene.engine.acted = _refusing("start container")
        await app.reconciler.sweep()
        scene.engine.acted = lambda name: None
        await do(app, "stop", service="main")
        await app.reconciler.sweep()
        assert await reasons(app, "service.recovered") == ["It is stopped as its owner wants."]
        assert scene.engine.require("fk-main").state == "exited"


def _refusing(call: str) -> Callable[[str], None]:
    def acted(name: str) -> None:
        if name == call:
            raise Failed("The engine is in a bad mood.")

    return acted


async def test_what_does_not_come_up_is_tried_later_and_later_and_each_reason_is_told_once(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        clock = app.incidents.clock = Clock()
        hurt(scene, "killed")
        scene.engine.acted = _refusing("start container")
        await app.reconciler.sweep()
        assert await repairs(app) == 1
        assert await reasons(app) == [HOW["killed"], "The engine is in a bad mood."]
        await app.reconciler.sweep()
        assert await repairs(app) == 1, "not before its time"
        clock.now += FIRST_PAUSE
        await app.reconciler.sweep()
        assert await repairs(app) == 2
        clock.now += FIRST_PAUSE
        await app.reconciler.sweep()
        assert await repairs(app) == 2, "later than the time before"
        scene.engine.acted = lambda name: None
        clock.now += FIRST_PAUSE
        await app.reconciler.sweep()
        assert scene.engine.require("fk-main").state == "running"
        assert len(await reasons(app)) == 2
        assert len(await told(app, "service.recovered")) == 1


async def test_the_pauses_grow_up_to_a_limit_and_begin_anew_when_all_was_calm(scene: Scene) -> None:
    async with scene.open() as app:
        clock = Clock()
        incidents = Incidents(app.context, clock)
        pauses = []
        for _ in range(10):
            assert incidents.due(MAIN)
            incidents.tried(MAIN)
            begun = clock.now
            while not incidents.due(MAIN):
                clock.now += 1
            pauses.append(clock.now - begun)
        for pause, whole in zip(
            pauses, [5, 10, 20, 40, 80, 160, 320, *[LONGEST_PAUSE] * 3], strict=True
        ):
            assert whole / 2 <= pause <= whole
        await incidents.tell(MAIN, "It ended.")
        await incidents.over(MAIN)
        incidents.tried(MAIN)
        assert not incidents.due(MAIN)
        await incidents.tell(MAIN, "It ended.")
        await incidents.over(MAIN)
        clock.now += CALM + 1
        incidents.tried(MAIN)
        clock.now += FIRST_PAUSE
        assert incidents.due(MAIN)


async def test_what_comes_up_and_ends_again_is_brought_back_later_and_later_too(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        clock = app.incidents.clock = Clock()
        for pauses in range(3):
            hurt(scene, "killed")
            await app.reconciler.sweep()
            for _ in range(pauses):
                assert scene.engine.require("fk-main").state == "exited"
                clock.now += FIRST_PAUSE
                await app.reconciler.sweep()
            assert scene.engine.require("fk-main").state == "running"


async def test_an_incident_that_was_told_is_not_told_again_by_the_next_start_and_its_end_is(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        hurt(scene, "killed")
        scene.engine.acted = _refusing("start container")
        await app.reconciler.sweep()
        known = await reasons(app)
    async with scene.open() as app:
        assert app.incidents.reason(MAIN) == known[-1]
        await app.reconciler.sweep()
        assert await reasons(app) == known
        assert len(await told(app, "service.recovered")) == 1


async def test_a_server_that_the_engine_has_to_start_again_is_told_until_it_stays_up(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        await app.reconciler.sweep()
        found = scene.engine.require("fk-main")
        scene.engine.crash(found, 3)
        app.reconciler._note(  # what the engine says, without waiting for it
            {
                "Type": "container",
                "Action": "die",
                "Actor": {"ID": found.id, "Attributes": {**found.labels, "exitCode": "3"}},
            }
        )
        await app.reconciler.sweep()
        assert await reasons(app) == [
            "It ended with exit code 3 and was started again by the engine."
        ]
        assert await repairs(app) == 0
        assert await told(app, "service.recovered") == []
        assert found.started_at is not None
        found.started_at = found.started_at.replace(year=2020)
        await app.reconciler.sweep()
        assert len(await told(app, "service.recovered")) == 1


async def test_after_a_crash_of_the_engine_all_that_should_run_is_up_again_services_before_their_apps(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        engine = scene.engine
        for number, item in enumerate(engine.world.containers):
            if item.state == "running":
                item.state, item.exit_code = (
                    ("created", 0) if number % 3 == 0 else ("exited", 128 if number % 2 else 0)
                )
        engine.save()
        started: list[str] = []
        launch = engine.run
        engine.run = lambda on, container: (started.append(container.name), launch(on, container))[
            1
        ]
        await app.reconciler.sweep()
        running = {item.name for item in engine.world.containers if item.state == "running"}
        assert {
            "fk-main",
            "fk-idle",
            "fk-tracked",
            "fk-risen",
            "fk.shop.production.1",
            "fk.shop.preview.2",
        } <= running
        assert "fk-asleep" not in running
        assert started.index("fk-main") < min(
            started.index("fk.shop.production.1"), started.index("fk.shop.preview.2")
        )
        assert {event.service for event in await told(app, "service.incident")} >= {1, 2, 3, 4}
        assert len(await told(app, "app.incident")) == 2
        assert not engine.world.wrongs


async def test_when_the_engine_was_away_the_daemon_brings_all_up_without_being_asked(
    scene: Scene,
) -> None:
    scene.away = "The engine is away."
    async with scene.open(serve=True) as app:
        for item in scene.engine.world.containers:
            if item.state == "running" and DATA in item.mounts:
                item.state = "exited"
        scene.engine.away = ""
        with anyio.fail_after(15):
            while not {1, 2, 3} <= {  # noqa: ASYNC110
                event.service for event in await told(app, "service.recovered")
            }:
                await anyio.sleep(0.05)


async def test_an_imported_container_that_is_gone_is_told_and_left_to_its_owner(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        hurt(scene, "stopped", "lent-db")
        await app.reconciler.sweep()
        assert await reasons(app) == [
            "It ended (exit code 0). It is managed externally: restart it there."
        ]
        assert scene.engine.require("lent-db").state == "exited"
        scene.engine.launch(scene.engine.require("lent-db"))
        await app.reconciler.sweep()
        assert len(await told(app, "service.recovered")) == 1


async def test_a_repair_that_comes_after_its_owners_stop_starts_nothing(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "stop", service="main")
        with pytest.raises(Conflict, match="stopped as its owner wants"):
            await do(app, "repair", service="main")
        assert scene.engine.require("fk-main").state == "exited"


async def test_a_repair_keeps_the_image_that_the_container_was_made_of(scene: Scene) -> None:
    """The tag may have come to mean another one, or be gone."""
    async with scene.open() as app:
        scene.engine.world.images = {
            name: found for name, found in scene.engine.world.images.items() if name != "fake:1"
        }
        before = hurt(scene, "killed")
        await app.reconciler.sweep()
        found = scene.engine.require("fk-main")
        assert (found.id, found.state) == (before.id, "running")
