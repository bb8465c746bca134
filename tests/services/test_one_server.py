"""One server on one data set, whatever somebody does to the containers by hand."""

import anyio
import pytest

from fake.engine import Container
from fake.scene import Scene, do
from fake.server import DATA
from purveyor.services import store as services
from purveyor.services.incidents import Subject
from purveyor_hooks import Conflict

pytestmark = pytest.mark.anyio

MAIN = Subject("service", 1)
GOLD = {"precious": "gold"}


def by_hand(
    scene: Scene,
    name: str,
    like: Container,
    *,
    image: str = "fake:1",
    bind: str = "",
    **more: object,
) -> Container:
    """Somebody starts a container on the volume (or a folder) of another."""
    made = Container(
        id=f"h{scene.engine.number():08d}",
        name=name,
        image=image,
        image_id=f"sha256:{image}-committed",
        labels=dict(like.labels),
        environment=dict(like.environment),
        command=list(like.command),
        entrypoint=[],
        mounts={} if bind else dict(like.mounts),
        binds={DATA: bind} if bind else {},
        ports={},
        networks={},
    )
    scene.engine.world.containers.append(made)
    scene.engine.launch(made)
    return made


async def test_a_renamed_container_gets_its_name_back_and_goes_on_running(scene: Scene) -> None:
    async with scene.open() as app:
        stolen = scene.engine.require("fk-main")
        stolen.name, since = "stolen", stolen.started_at
        await app.reconciler.sweep()
        back = scene.engine.require("fk-main")
        assert (back.id, back.state, back.started_at) == (stolen.id, "running", since)
        assert not scene.engine.world.wrongs


async def test_a_container_renamed_and_taken_from_the_network_comes_back_without_a_second_one(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        stolen = scene.engine.require("fk-main")
        stolen.name = "stolen"
        await scene.engine.containers.leave("stolen")
        await app.reconciler.sweep()
        back = scene.engine.require("fk-main")
        assert back.id == stolen.id
        assert "fk" in back.networks
        assert [item.name for item in scene.engine.world.containers if DATA in item.mounts].count(
            "fk-main"
        ) == 1
        assert not scene.engine.world.wrongs


@pytest.mark.parametrize("verb", ["update", "restart", "stop", "delete"])
async def test_a_verb_on_a_service_whose_container_was_renamed_means_that_container(
    verb: str, scene: Scene
) -> None:
    async with scene.open() as app:
        stolen = scene.engine.require("fk-idle")
        stolen.name = "stolen"
        await do(
            app, verb, service="idle", **({"parameters": {"size": 2}} if verb == "update" else {})
        )
        if verb == "stop":
            assert scene.engine.require("stolen").state == "exited"
            await do(app, "start", service="idle")
            assert scene.engine.require("fk-idle").id == stolen.id
        assert scene.engine.find("stolen") is None
        found = scene.engine.find("fk-idle")
        assert (
            (found is None)
            if verb == "delete"
            else (found is not None and found.state == "running")
        )
        assert not scene.engine.world.wrongs


async def test_one_that_was_made_in_its_place_and_never_ran_gives_way(scene: Scene) -> None:
    """What an earlier version left: the renamed one running, and a second one that did not get the
    port."""
    async with scene.open() as app:
        stolen = scene.engine.require("fk-main")
        stolen.name = "stolen"
        second = by_hand(scene, "fk-main", stolen)
        second.state, second.image_id = "created", stolen.image_id
        scene.engine.world.wrongs.clear()
        await do(app, "update", service="main", parameters={"port": 29998})
        assert scene.engine.find("stolen") is None
        assert scene.engine.find(second.id) is None
        assert not scene.engine.world.wrongs
        assert scene.server("main").held.resources["shop_production"] == GOLD


@pytest.mark.parametrize("how", ["committed", "folder", "folder below", "foreign"])
async def test_nothing_is_started_on_data_that_another_container_uses(
    how: str, scene: Scene
) -> None:
    async with scene.open() as app:
        await do(app, "stop", service="main")
        mine = scene.engine.require("fk-main")
        folder = str(scene.engine.folder(mine.mounts[DATA]))
        bind = {"folder": folder, "folder below": f"{folder}/18"}.get(how, "")
        other = by_hand(scene, "by-hand", mine, bind=bind)
        if how == "foreign":
            other.labels = {}
        with pytest.raises(
            Conflict, match=r"The data of main is in use by the container by-hand\."
        ) as raised:
            await do(app, "start", service="main")
        assert "docker stop by-hand" in raised.value.remedy
        assert scene.engine.require("fk-main").state == "exited"
        assert (
            await app.context.store.read(lambda tx: services.get(tx, "main"))
        ).desired == "stopped"
        assert not scene.engine.world.wrongs
        scene.engine.die(other)
        await do(app, "start", service="main")
        assert scene.engine.require("fk-main").state == "running"
        assert scene.server("main").held.resources["shop_production"] == GOLD


async def test_a_container_that_only_stopped_on_the_data_is_in_nobodys_way(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "stop", service="main")
        scene.engine.die(by_hand(scene, "by-hand", scene.engine.require("fk-main")))
        await do(app, "start", service="main")
        assert scene.engine.require("fk-main").state == "running"
        assert scene.engine.require("by-hand").state == "exited"


async def test_one_that_is_started_by_hand_beside_a_server_that_runs_is_told_until_it_is_gone(
    scene: Scene,
) -> None:
    """Nobody asks us before a ``docker run``."""
    async with scene.open(serve=True) as app:
        with anyio.fail_after(10):
            while app.observer.last_health(1) is None:  # noqa: ASYNC110
                await anyio.sleep(0.02)
            other = by_hand(scene, "by-hand", scene.engine.require("fk-main"))
            while not app.incidents.reason(MAIN):  # noqa: ASYNC110
                await anyio.sleep(0.02)
            assert app.incidents.reason(MAIN).startswith(
                "Its data is in use by the container by-hand as well."
            )
            found = (await app.observer.statuses(await app.context.store.read(services.list_all)))[
                1
            ]
            assert found.status == "unhealthy"
            assert "docker stop by-hand" in found.reason
            scene.engine.die(other)
            while app.incidents.reason(MAIN):  # noqa: ASYNC110
                await anyio.sleep(0.02)
        assert scene.engine.require("fk-main").state == "running"
