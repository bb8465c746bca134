"""An API of a plugin that stands on one service of its type: enabled, changed, disabled, and told
how it stands. On the fake engine."""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click
import click.testing
import pytest
from litestar import Router

from fake.asked import asked
from fake.scene import PLUGINS, Scene
from purveyor.asgi import create_api
from purveyor.cli.client import SOCKET
from purveyor.cli.options import Options
from purveyor.kernel.api.server import listen_local, serving
from purveyor_hooks import BadInput, hookimpl, standing

TYPE = "fake"


class Api:
    """A plugin whose API stands on a service of the fake type."""

    name, dist = "api", None

    def load(self) -> "Api":
        return self

    @hookimpl
    def http_routes(self, app: Any) -> list[Any]:
        handlers = standing.routes(app.core, TYPE)
        return [Router(f"/api/{TYPE}", route_handlers=handlers, middleware=[app.authentication])]


@pytest.fixture
def bare(room: Path) -> Iterator[Scene]:
    """An installation with nothing in it but the plugin."""
    scene = Scene(room / "standing")
    shutil.rmtree(scene.state, ignore_errors=True)
    scene.begin()
    scene.plugins = [*PLUGINS, Api()]
    yield scene
    shutil.rmtree(scene.state)


def said(scene: Scene, *words: str, as_json: bool = False) -> click.testing.Result:
    """What one of the plugin's commands says."""
    group = click.Group("fake")
    standing.add_commands(group, TYPE, "Fakes")
    options = Options(str(scene.state), None, as_json)
    return click.testing.CliRunner().invoke(group, words, obj=options)


@pytest.mark.anyio
async def test_it_is_enabled_told_disabled_and_enabled_again_with_what_it_held(bare: Scene) -> None:
    async with (
        bare.open() as app,
        serving(create_api(app), local=[listen_local(bare.state / SOCKET)]),
    ):

        async def say(*words: str, as_json: bool = False) -> Any:
            done = await anyio.to_thread.run_sync(partial(said, bare, *words, as_json=as_json))
            if done.exception is not None:
                raise done.exception
            return json.loads(done.output) if as_json else done.output

        assert await say("status") == "Fakes is not enabled. Enable it: purveyor fake enable\n"
        image = ("--image", "fake:1-b")
        assert await say("enable", *image) == "Fakes is enabled and healthy: fake:1-b, version 1.\n"
        kept = bare.server(TYPE)
        kept.held.resources["kept"] = {"precious": "gold"}
        kept.save()
        assert await say("status", as_json=True) == {
            "enabled": True,
            "healthy": True,
            "version": "1",
            "docker_image": "fake:1-b",
        }
        with pytest.raises(BadInput, match="No app reaches Fakes until it is enabled again"):
            await say("disable")
        assert (await say("status")).startswith("Fakes is enabled and healthy")
        assert await say("disable", "--yes") == "Fakes is disabled. Its data is kept.\n"
        assert await say("status") == "Fakes is not enabled. Enable it: purveyor fake enable\n"
        assert (await say("disable", "--yes", as_json=True))["enabled"] is False, "twice"
        assert (await say("enable")).startswith("Fakes is enabled and healthy")
        assert bare.server(TYPE).held.resources["kept"] == {"precious": "gold"}
        bare.engine.require(f"fk-{TYPE}").hangs = True
        told = "Fakes is enabled and not healthy: fake:1-b, version unknown.\n"
        assert await say("status") == told


@pytest.mark.anyio
async def test_its_service_is_changed_by_the_api_and_what_is_not_there_is_told(bare: Scene) -> None:
    async with asked(bare) as found:
        path = f"/api/{TYPE}"
        none = await found.local.patch(f"{path}/update", json={"parameters": {"size": 2}})
        assert (none.status_code, none.json()["detail"]) == (404, "fake is not enabled.")
        assert none.json()["remedy"] == "Enable it: POST /api/fake/enable"
        assert (await found.local.delete(f"{path}/disable")).status_code == 404
        made = await found.local.post(f"{path}/enable", json={"parameters": {"size": 5}})
        assert made.json() == {
            "enabled": True,
            "healthy": True,
            "version": "1",
            "docker_image": "fake:1",
        }
        twice = await found.local.post(f"{path}/enable")
        assert twice.json() == made.json()
        listed = (await found.local.get("/api/external-services/")).json()
        assert [item["name"] for item in listed] == [TYPE]
        changed = await found.local.patch(f"{path}/update", json={"docker_image": "fake:1-b"})
        assert changed.json()["docker_image"] == "fake:1-b"
        odd = await found.local.patch(f"{path}/update", json={"colour": "red"})
        assert odd.status_code == 400
        assert "colour" in odd.text
        shown = (await found.local.get(f"/api/external-services/{TYPE}")).json()
        assert shown["current_parameters"]["size"] == "5"
        bare.engine.away = "The engine is away."
        away = await found.local.get(f"{path}/status")
        assert away.json()["enabled"] is True
        assert away.json()["healthy"] is False


@pytest.mark.anyio
async def test_who_is_no_administrator_changes_nothing_of_what_all_apps_stand_on(
    bare: Scene,
) -> None:
    async with asked(bare) as found:
        await found.local.post("/api/projects", json={"name": "shop"})
        tokens = [
            await found.token("reads", scope="read"),
            await found.token("shop", scope="project", project="shop"),
        ]
        for made in tokens:
            client = await found.by(made["token"])
            for method, path in (("POST", "enable"), ("PATCH", "update"), ("DELETE", "disable")):
                body = {"json": {}} if method != "DELETE" else {}
                answer = await client.request(method, f"/api/{TYPE}/{path}", **body)
                assert answer.status_code == 403, (made["name"], path, answer.text)
        assert (await found.local.get("/api/external-services/")).json() == []
