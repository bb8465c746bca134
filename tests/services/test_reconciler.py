"""What the daemon does by itself when the world is another than it should be."""

from collections.abc import Callable

import anyio
import pytest

from fake.engine import Container
from fake.scene import Scene, do, look_after
from fake.server import Server
from purveyor.app import App
from purveyor.kernel.events import store as events
from purveyor.services import store as services
from purveyor.services.models import ServiceRecord

pytestmark = pytest.mark.anyio


async def record_of(app: App, service: str) -> ServiceRecord:
    return await app.context.store.read(lambda tx: services.get(tx, service))


async def told(app: App, kind: str) -> list[str]:
    """The reasons of all events of a type."""
    found = await app.context.store.read(lambda tx: events.after(tx, 0))
    return [event.data.get("reason", "") for event in found if event.type == kind]


async def eventually(what: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not what():  # noqa: ASYNC110
            await anyio.sleep(0.02)


def remove(scene: Scene, name: str) -> Container:
    """By hand, behind our back."""
    found = scene.engine.require(name)
    scene.engine.world.containers.remove(found)
    scene.engine.save()
    return found


async def test_a_container_removed_by_hand_comes_back_on_its_data(scene: Scene) -> None:
    async with scene.open() as app:
        remove(scene, "fk-main")
        await app.reconciler.sweep()
        assert scene.engine.require("fk-main").state == "running"
        assert scene.server("main").held.resources["shop_production"] == {"precious": "gold"}


async def test_what_is_taken_back_while_a_sweep_looks_ends_no_sweep(scene: Scene) -> None:
    async with scene.open() as app:
        every = [await record_of(app, name) for name in ("main", "idle")]
        await app.context.store.write(
            lambda tx: (
                services.update(tx, every[1].id, volume_id=None),
                services.drop_volume(tx, every[1].volume_id or ""),
            )
        )
        assert await app.service_controller.watch_data(every) == set()


async def test_the_daemon_hears_of_a_removal_and_repairs_it_at_once(scene: Scene) -> None:
    async with scene.open(serve=True) as app:
        await eventually(lambda: app.observer.last_health(1))
        scene.engine.tell("destroy", remove(scene, "fk-main"))
        await eventually(lambda: scene.engine.find("fk-main"))


async def test_what_its_owner_stopped_stays_stopped_even_when_its_container_is_removed(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        remove(scene, "fk-asleep")
        await app.reconciler.sweep()
        assert scene.engine.find("fk-asleep") is None


async def test_an_emptied_volume_is_refused_and_nothing_is_started_on_it(scene: Scene) -> None:
    async with scene.open() as app:
        file = scene.engine.folder(remove(scene, "fk-main").mounts["/data"]) / "server.json"
        held = file.read_bytes()
        file.unlink()
        await app.reconciler.sweep()
        assert scene.engine.find("fk-main") is None
        assert "is missing in" in (await record_of(app, "main")).refusal
        await app.reconciler.sweep()
        assert scene.engine.find("fk-main") is None, "it is not tried again and again"
        file.write_bytes(held)
        await do(app, "start", service="main")
        assert (await record_of(app, "main")).refusal == ""


async def test_another_data_set_is_stopped_and_said(scene: Scene) -> None:
    async with scene.open() as app:
        server = scene.server("main")
        server.held.identity = "somebody else's"
        server.save()
        await app.reconciler.sweep()
        assert scene.engine.require("fk-main").state == "exited"
        assert len(await told(app, "service.refused")) == 1
        await do(app, "start", service="main", accept_data=True)
        assert scene.engine.require("fk-main").state == "running"


async def test_a_server_that_stops_answering_and_answers_again_is_an_event_each(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        await app.reconciler.sweep()
        server = scene.server("main")
        server.held.admin, right = "changed behind our back", server.held.admin
        server.save()
        await app.reconciler.sweep()
        await app.reconciler.sweep()
        assert await told(app, "service.unhealthy") == ["the administrator's password is refused"]
        server.held.admin = right
        server.save()
        healthy = len(await told(app, "service.healthy"))
        await app.reconciler.sweep()
        assert len(await told(app, "service.healthy")) == healthy + 1


async def test_apps_that_are_over_are_swept_up_and_the_current_one_stays(scene: Scene) -> None:
    async with scene.open() as app:
        old = scene.engine.require("fk.shop.production.1")
        await do(app, "deploy", project="shop", image="app:2")
        scene.engine.world.containers.append(old)  # could not be removed at the time
        await app.reconciler.sweep()
        names = {
            item.name
            for item in scene.engine.world.containers
            if item.name.startswith("fk.shop.production")
        }
        assert names == {"fk.shop.production.3"}


async def test_an_archive_goes_on_when_its_helper_was_removed(scene: Scene) -> None:
    async with scene.open() as app:
        remove(scene, "fk-tracked.archive")
        await look_after(app)
        assert scene.engine.require("fk-tracked.archive").state == "running"
        assert Server.of(scene.engine, "fk-tracked").held.slot


async def test_an_engine_that_is_away_makes_every_status_unknown(scene: Scene) -> None:
    async with scene.open() as app:
        records = await app.context.store.read(services.list_all)
        scene.engine.away = "The engine is away."
        found = await app.observer.statuses(records)
        assert {status.status for status in found.values()} == {"unknown"}
        assert {status.reason for status in found.values()} == {"The engine is away."}
