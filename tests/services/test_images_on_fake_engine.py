"""A name is not the thing: what is recorded by an image's id is what runs, until somebody asks for
another."""

import pytest

from fake.scene import Scene, do
from purveyor import doctor
from purveyor.app import App
from purveyor.services import routes as service_routes
from purveyor.services import store as services
from purveyor.services.models import ServiceRecord
from purveyor_hooks import BadInput, Failed

pytestmark = pytest.mark.anyio
ID, OTHER = "sha256:fake:1", "sha256:fake:2"


async def of(app: App, name: str) -> ServiceRecord:
    return await app.context.store.read(lambda tx: services.get(tx, name))


@pytest.mark.parametrize("verb", ["restart", "start", "repair", "update"])
async def test_a_name_that_means_another_image_now_changes_nothing_that_runs(
    scene: Scene, verb: str
) -> None:
    async with scene.open() as app:
        scene.engine.world.tags["fake:1"] = "fake:2"
        if verb == "start":
            await do(app, "stop", service="main")
        if verb == "repair":
            scene.engine.world.containers.remove(scene.engine.require("fk-main"))
        await do(
            app, verb, service="main", **({"parameters": {"size": 2}} if verb == "update" else {})
        )
        container = scene.engine.require("fk-main")
        assert (container.state, container.image_id) == ("running", ID)
        assert scene.server("main").held.resources["shop_production"] == {"precious": "gold"}
        made = container.id
        await do(app, "restart", service="main")
        assert scene.engine.require("fk-main").id == made, "nothing differs: it is not made anew"


async def test_a_newer_image_under_the_same_name_is_told_and_taken_when_asked_for(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        assert await doctor.newer(app) == []
        scene.engine.world.tags["fake:1"] = "fake:1-b"
        assert (await service_routes.service_details(app, "main")).newer_image == "sha256:fake:1-b"
        assert ("main", "fake:1 means another image now than the one that runs. "
                "Take it: purveyor update main --image fake:1") in await doctor.newer(app)  # fmt: skip
        await do(app, "update", service="main", docker_image="fake:1")
        assert scene.engine.require("fk-main").image_id == "sha256:fake:1-b"
        assert (await service_routes.service_details(app, "main")).newer_image == ""


async def test_an_image_whose_name_is_gone_runs_on_by_its_id(scene: Scene) -> None:
    async with scene.open() as app:
        scene.engine.world.tags["fake:1"] = "nothing"
        await do(app, "restart", service="main")
        scene.engine.world.containers.remove(scene.engine.require("fk-idle"))
        await do(app, "repair", service="idle")
        assert scene.engine.require("fk-idle").image_id == ID


async def test_an_image_that_is_gone_is_said_before_the_server_is_stopped(scene: Scene) -> None:
    async with scene.open() as app:
        images = scene.engine.world.images
        scene.engine.world.images = {
            name: found for name, found in images.items() if name != "fake:1"
        }
        with pytest.raises(Failed, match="cannot be pulled"):
            await do(app, "restart", service="main")
        assert scene.engine.require("fk-main").state == "running"
        scene.engine.world.tags["fake:1"] = "fake:2"
        with pytest.raises(
            BadInput, match="holds data of version 1; the image fake:1 is of version 2"
        ):
            await do(app, "restart", service="main")
        assert scene.engine.require("fk-main").state == "running"


@pytest.mark.parametrize("name", ["r/p:2", "r/fake:0.8.1-v2", "host:5000/fake"])
async def test_update_looks_into_the_image_and_not_at_its_name(scene: Scene, name: str) -> None:
    async with scene.open() as app:
        scene.engine.world.tags[name] = "fake:1-b"
        await do(app, "update", service="main", docker_image=name)
        await do(app, "update", service="main", parameters={"size": 5})
        assert (await of(app, "main")).image == name
        assert scene.engine.require("fk-main").image_id == "sha256:fake:1-b"
        scene.engine.world.tags["r/q:1"] = "fake:2"
        with pytest.raises(
            BadInput, match="holds data of version 1; the image r/q:1 is of version 2"
        ):
            await app.plan(
                "update",
                app.operation_type("update").arguments(service="main", docker_image="r/q:1"),
            )


async def test_going_back_from_an_upgrade_takes_the_image_of_before_by_its_id(scene: Scene) -> None:
    async with scene.open() as app:
        scene.engine.world.tags["fake:1"] = "fake:2"
        await do(app, "undo-upgrade", service="risen")
        assert scene.engine.require("fk-risen").image_id == ID
