"""Apps are watched like services: what does not run is told, and brought back from its recorded
deployment."""

from typing import Any

import pytest

from fake.engine import Container
from fake.scene import Scene, do
from purveyor.app import App
from purveyor.deployments import routes as deployment_routes
from purveyor.deployments import store as deployment_store
from purveyor.deployments.models import DeploymentRecord
from purveyor.deployments.status import statuses
from purveyor.kernel.events import store as events
from purveyor.services import routes as service_routes
from purveyor_hooks import Event

pytestmark = pytest.mark.anyio

APP = "fk.shop.production.1"


async def told(app: App, kind: str) -> list[Event]:
    found = await app.context.store.read(lambda tx: events.after(tx, 0, 5000))
    return [event for event in found if event.type == kind]


async def reasons(app: App) -> list[str]:
    return [event.data["reason"] for event in await told(app, "app.incident")]


def hurt(scene: Scene, how: str) -> Container:
    engine, found = scene.engine, scene.engine.require(APP)
    match how:
        case "stopped":
            engine.die(found, 0)
        case "ended":
            engine.die(found, 3)
        case "paused":
            engine.pause(found)
        case "removed":
            engine.world.containers.remove(found)
            engine.save()
        case "renamed":
            found.name = "stolen"
        case "taken from the network":
            found.networks.clear()
            found.network_ids.clear()
            found.aliases.clear()
    return found


HOW = {
    "stopped": "It ended (exit code 0).",
    "ended": "It ended (exit code 3).",
    "paused": "Its container was paused.",
    "removed": "Its container was removed.",
    "renamed": "Its container was renamed to stolen.",
    "taken from the network": "It is not on the network fk.shop.production any more.",
}


@pytest.mark.parametrize("how", HOW)
async def test_an_app_that_does_not_run_is_told_and_brought_back(how: str, scene: Scene) -> None:
    async with scene.open() as app:
        before = hurt(scene, how)
        await app.reconciler.sweep()
        found = scene.engine.require(APP)
        assert (found.state, found.environment) == ("running", before.environment)
        assert (found.id == before.id) == (how != "removed")
        assert list(found.networks) == ["fk.shop.production"]
        assert found.aliases == ["shop-production"]
        (incident,) = await told(app, "app.incident")
        assert incident.project == 1
        assert incident.data == {"environment": "production", "deployment": 1, "reason": HOW[how]}
        (over,) = await told(app, "app.recovered")
        assert over.data == {"environment": "production", "deployment": 1}
        await app.reconciler.sweep()
        assert len(await told(app, "app.incident")) == 1


async def test_an_app_that_was_removed_comes_back_with_the_variables_that_it_was_given(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        await do(
            app, "deploy", project="shop", image="app:2", port=8000, variables={"TOPPING": "cheese"}
        )
        found = scene.engine.require("fk.shop.production.3")
        scene.engine.world.containers.remove(found)
        await app.reconciler.sweep()
        again = scene.engine.require("fk.shop.production.3")
        assert again.id != found.id
        assert again.environment["TOPPING"] == "cheese"
        assert (again.image, again.ports, again.environment) == (
            found.image,
            found.ports,
            found.environment,
        )


async def test_what_an_app_was_given_is_forgotten_when_it_is_over(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "deploy", project="shop", image="app:2", variables={"TOPPING": "cheese"})
        await do(app, "deploy", project="shop", image="app:1")
        kept = await app.context.store.read(
            lambda tx: [item.variables for item in deployment_store.deployments(tx, project_id=1)]
        )
        assert kept == [{}, None, {}, None]


async def test_one_whose_variables_were_never_recorded_is_told_and_not_made_up(
    scene: Scene,
) -> None:
    """Of a version that did not record them."""
    async with scene.open() as app:
        await app.context.store.write(
            lambda tx: deployment_store.update_deployment(tx, 1, variables=None)
        )
        hurt(scene, "removed")
        await app.reconciler.sweep()
        assert scene.engine.find(APP) is None
        assert await reasons(app) == [
            "Its container was removed.",
            "Its container was removed, and the variables that were given to it are not recorded.",
        ]


async def test_an_app_in_a_crash_loop_is_told_with_what_it_ends_with(scene: Scene) -> None:
    async with scene.open() as app:
        await app.reconciler.sweep()
        found = scene.engine.require(APP)
        scene.engine.crash(found, 3)
        await app.reconciler.sweep()
        found.state = "restarting"
        found.exit_code = 3
        await app.reconciler.sweep()
        assert await reasons(app) == [
            "It ended and was started again by the engine.",
            "It ends again and again (exit code 3).",
        ]
        found.state = "running"
        await app.reconciler.sweep()
        assert await told(app, "app.recovered") == []
        assert found.started_at is not None
        found.started_at = found.started_at.replace(year=2020)
        await app.reconciler.sweep()
        assert len(await told(app, "app.recovered")) == 1


async def test_an_app_that_is_retired_or_removed_with_its_environment_is_not_brought_back(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        await do(app, "delete-environment", project="shop", environment="preview")
        await do(app, "deploy", project="shop", image="app:2")
        await app.reconciler.sweep()
        assert {
            item.name for item in scene.engine.world.containers if item.name.startswith("fk.shop")
        } == {"fk.shop.production.3"}
        assert await told(app, "app.incident") == []


async def test_the_incident_of_an_app_that_is_retired_ends_with_the_place_it_was_told_of(
    scene: Scene,
) -> None:
    """Its deployment may be gone by then, and the process that told of it too."""
    with (scene.state / "settings.toml").open("a") as file:
        file.write('self-repair = "off"\n')
    async with scene.open() as app:
        hurt(scene, "paused")
        await app.reconciler.sweep()
        (began,) = await told(app, "app.incident")
    async with scene.open() as app:
        await do(app, "deploy", project="shop", image="app:2")
        await app.reconciler.sweep()
        ended = await told(app, "app.recovered")
        assert {"environment": "production", "deployment": 1}.items() <= ended[-1].data.items()
        assert ended[-1].project == began.project == 1


async def test_an_active_deployment_is_shown_as_what_its_app_is(scene: Scene) -> None:
    async with scene.open() as app:

        async def shown() -> dict[int, tuple[str, str]]:
            records = await app.context.store.read(
                lambda tx: deployment_store.deployments(tx, project_id=1)
            )
            seen = await statuses(app.observer, records)
            return {number: (status.status, status.reason) for number, status in seen.items()}

        await do(app, "deploy", project="shop", image="app:2")
        assert await shown() == {1: ("retired", ""), 2: ("active", ""), 3: ("active", "")}
        found = scene.engine.require("fk.shop.production.3")
        scene.engine.die(found, 3)
        assert (await shown())[3] == ("down", "Its container is exited.")
        scene.engine.world.containers.remove(found)
        assert (await shown())[3] == ("missing", "Its container is gone.")
        scene.engine.away = "The engine is away."
        assert await shown() == {
            1: ("retired", ""),
            2: ("unknown", "The engine is away."),
            3: ("unknown", "The engine is away."),
        }


async def test_an_app_that_comes_up_while_others_are_swept_up_stays(scene: Scene) -> None:
    async with scene.open() as app:
        old = scene.engine.require(APP)
        await do(app, "deploy", project="shop", image="app:2")
        scene.engine.world.containers.append(old)  # could not be removed at the time
        containers, read = scene.engine.containers, app.context.store.read
        listed, reads = containers.listed, 0

        async def meanwhile(*given: Any) -> Any:
            nonlocal reads
            answer = await read(*given)
            if given[0].__name__ == "active":
                reads += 1
                app.context.store.read = read  # type: ignore[method-assign]
                await do(app, "deploy", project="shop", environment="preview", image="app:2")
            return answer

        app.context.store.read = meanwhile  # type: ignore[method-assign]
        await app.app_controller.remove_others()
        assert (reads, containers.listed) == (1, listed)
        names = {
            item.name for item in scene.engine.world.containers if item.name.startswith("fk.shop")
        }
        assert names == {"fk.shop.production.3", "fk.shop.preview.4"}


@pytest.mark.parametrize("label", ["1", "abc", "", "9" * 30])
async def test_an_image_that_brings_labels_of_ours_is_taken_for_nothing_else(
    scene: Scene, label: str
) -> None:
    async with scene.open() as app:
        scene.engine.world.labels["app:2"] = {
            f"dev.purveyor.{word}": label for word in ("service", "purpose", "deployment")
        }
        scene.engine.world.labels["fake:1"] = {
            f"dev.purveyor.{word}": label for word in ("deployment", "environment", "project")
        }
        before = await service_routes.list_services.fn(app)
        await do(app, "deploy", project="shop", image="app:2")
        await do(app, "stop", service="main")
        scene.engine.world.containers.remove(scene.engine.require("fk-main"))
        await do(app, "start", service="main")
        await app.reconciler.sweep()
        after = await service_routes.list_services.fn(app)
        assert [(item.name, item.status) for item in after.content] == [
            (item.name, item.status) for item in before.content
        ]
        names = {item.name for item in scene.engine.world.containers}
        assert {"fk-main", "fk.shop.production.3", "fk.shop.preview.2"} <= names
        await do(app, "delete-environment", project="shop", environment="preview")
        names = {item.name for item in scene.engine.world.containers}
        assert {"fk-main", "fk.shop.production.3"} <= names


async def test_a_container_that_somebody_labelled_by_hand_breaks_nothing(scene: Scene) -> None:
    async with scene.open() as app:
        for number, label in enumerate(("abc", "", "-1", "9" * 30)):
            made = scene.engine.foreign(f"copy-{number}", "fake:1", {}, "/nowhere")
            made.labels = app.context.engine.labels.of(
                service=label, deployment=label, environment=label
            )
        await app.reconciler.sweep()
        assert len((await service_routes.list_services.fn(app)).content) == 6
        assert {item.status for item in await deployment_routes._views(app, await active(app))} == {
            "active"
        }
        await do(app, "deploy", project="shop", image="app:2")
        assert scene.engine.require("fk.shop.production.3").aliases == ["shop-production"]


async def active(app: App) -> list[DeploymentRecord]:
    return await app.context.store.read(lambda tx: deployment_store.deployments(tx, state="active"))
