"""The database is lost without a copy: what is on the host is taken in again, and runs on
meanwhile."""

import logging
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from fake.scene import PLUGINS, Scene, do, look_after
from purveyor.app import App, built
from purveyor.projects import store as projects
from purveyor.recovery.retaken import Taken, retaken
from purveyor.services import store as services
from purveyor_hooks import Conflict, NotFound, StateRefused
from support import Stage, docker, eventually


def lose(scene: Scene) -> None:
    (scene.state / "purveyor.db").unlink()
    shutil.rmtree(scene.state / "copies", ignore_errors=True)


async def take_in(scene: Scene, *, plan: bool = False) -> Taken:
    def build(part: Path) -> AbstractAsyncContextManager[App]:
        return built(part, make_engine=scene.engine_of, plugins=PLUGINS, log_level=logging.CRITICAL)

    async with retaken(scene.state, build, scene.engine_of, plan=plan) as taken:
        return taken


def files(scene: Scene) -> set[str]:
    return {str(path.relative_to(scene.state)) for path in scene.state.rglob("*")}


@pytest.mark.anyio
@pytest.mark.daily
async def test_what_runs_is_taken_in_and_runs_on(scene: Scene) -> None:
    async with scene.open() as app:
        before = {item.id: item for item in await app.context.store.read(services.list_all)}
        bound = {
            item.id: item
            for number in before
            for item in await app.context.store.read(partial(projects.bindings, service_id=number))
        }
    running = {
        item.name: item.id for item in scene.engine.world.containers if item.state == "running"
    }
    lose(scene)
    with pytest.raises(StateRefused, match="not a new installation") as refused:
        async with scene.open():
            pass
    assert "purveyor recover containers" in refused.value.remedy

    there = files(scene)
    planned = await take_in(scene, plan=True)
    assert {item.slug for item in planned.services} >= {"main", "tracked", "idle", "asleep"}
    assert files(scene) == there, "a plan writes nothing"

    taken = await take_in(scene)
    assert taken.rotate == ()
    with pytest.raises(Conflict, match="has a database"):
        await take_in(scene)
    async with scene.open() as app:
        after = {item.id: item for item in await app.context.store.read(services.list_all)}
        for number, record in after.items():
            same = (
                "slug",
                "service_type",
                "parameters",
                "image",
                "image_id",
                "container_name",
                "volume_id",
                "major",
            )
            assert {name: getattr(record, name) for name in same} == {
                name: getattr(before[number], name) for name in same
            }
        assert {item.slug for item in after.values()} == {item.slug for item in planned.services}
        main = next(item for item in after.values() if item.slug == "main")
        for item in await app.context.store.read(partial(projects.bindings, service_id=main.id)):
            assert (item.project, item.state, item.password) == (
                "shop",
                "bound",
                bound[item.id].password,
            )
        await look_after(app)
        await app.reconciler.sweep()
        still = {
            item.name: item.id for item in scene.engine.world.containers if item.state == "running"
        }
        assert {name: still.get(name) for name in running if ".archive" not in name} == {
            name: number for name, number in running.items() if ".archive" not in name
        }
        await do(app, "restart", service="main")
        await do(app, "rotate", project="shop")
        await do(app, "deploy", project="shop", image="app:1")
        await do(app, "start", service="asleep", accept_data=True)
        # nobody's app told of it: it waits for its project
        await do(app, "create-project", name="blog")
        await do(app, "link", service="tracked", project="blog")
        await do(app, "bind", project="blog", environment="production")
    assert scene.server("tracked").held.resources["blog_production"]["precious"] == "gold"
    assert scene.server("main").held.resources["shop_production"]["precious"] == "gold"


@pytest.mark.anyio
@pytest.mark.daily
async def test_data_of_nobody_is_not_taken_in(scene: Scene) -> None:
    lose(scene)
    scene.engine.world.volumes.clear()
    scene.engine.save()
    with pytest.raises(NotFound, match="No volume"):
        await take_in(scene)
    assert not (scene.state / "purveyor.db").exists()


TYPES = {"main": "postgres", "cache": "redis"}
OTHERS = {"files": "s3", "papers": "mongodb", "values": "kv"}


@pytest.mark.parametrize(
    "types", [TYPES, pytest.param(TYPES | OTHERS, marks=pytest.mark.nightly)], ids=["two", "all"]
)
def test_every_type_is_taken_in_on_the_real_engine(
    make_stage: Callable[..., Stage], types: dict[str, str]
) -> None:
    """The app runs on with the passwords that it has; those that nothing holds are others from now
    on."""
    made = make_stage()
    with made.serving() as stage:
        stage.furnish(types, ["shop"])
        stage.cli("update", "main", "-p", "max_connections=50", "-p", "ssl_mode=prefer", "--yes")
        stage.cli(
            "deploy", "shop", "purveyor-test/demo:1", "--port", "8000", "--health-path", "/healthz"
        )
        stage.sql("main", "CREATE TABLE kept AS SELECT 7 AS number")
        variables = stage.variables("shop")
        known = dict(stage.rows("SELECT slug, volume_id FROM services"))
    running = docker("ps", "-q", "--filter", f"name=^/{made.namespace}[-.]").split()
    for path in [*made.state.glob("purveyor.db*"), *made.state.glob("copies/*")]:
        path.unlink()

    assert "Without one: purveyor recover containers" in made.run("list").stderr
    planned = made.json("recover", "containers", "--plan")
    assert {item["service"]: item["service_type"] for item in planned["services"]} == types
    assert not (made.state / "purveyor.db").exists()
    said = made.cli("recover", "containers")
    assert "password of the administrator is made anew" in said
    assert docker("ps", "-q", "--filter", f"name=^/{made.namespace}[-.]").split() == running
    with made.serving() as stage:
        assert dict(stage.rows("SELECT slug, volume_id FROM services")) == known
        assert stage.sql("main", "SELECT number FROM kept") == ["7"]
        eventually(
            lambda: (
                {item["status"] for item in stage.call("GET", "/external-services/")} == {"running"}
            )
        )
        again = stage.variables("shop")
        # its key was lost with the record: another one signs from the next start on
        authority = ("_CA_CERT", "_CA_PEM")
        same = [
            name
            for name in variables
            if name.startswith(("POSTGRES_", "REDIS_")) and not name.endswith(authority)
        ]
        assert same
        assert {name: again.get(name) for name in same} == {name: variables[name] for name in same}
        for service in types:
            stage.cli("restart", service, "--yes")
        assert stage.sql("main", "SHOW max_connections") == ["50"]
        assert stage.sql("main", "SHOW ssl") == ["on"]
        told = stage.variables("shop")["POSTGRES_CA_PEM"]
        assert told == (made.state / "ca.crt").read_text() != variables["POSTGRES_CA_PEM"]
