"""The database is lost without a copy, and what is on the host is odd: each service and app is taken
in, left with its reason, or keeps all of it away until a person has said what is to be. On the fake
engine."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from fake.bench import Entry, Plugin
from fake.engine import Container, Volume
from fake.program import say, told
from fake.scene import Scene
from purveyor.docker.labels import INSTALLATION, SERVICE
from purveyor.recovery import retaken

CONTAINERS = ("recover", "containers")


def lose(scene: Scene, change: Callable[[Scene], Any] = lambda scene: None) -> None:
    """The database is gone, and the engine holds something else than it did."""

    async def work() -> None:
        async with scene.open():
            change(scene)
            scene.engine.save()

    anyio.run(work)
    for path in scene.state.glob("purveyor.db*"):
        path.unlink()
    shutil.rmtree(scene.state / "copies", ignore_errors=True)


def plan(scene: Scene) -> Any:
    return json.loads(say(scene, "--json", *CONTAINERS, "--plan").out)


def notes(scene: Scene, service: str) -> str:
    return " ".join(
        note
        for item in plan(scene)["services"]
        if item["service"] == service
        for note in item["notes"]
    )


def forget_password(scene: Scene) -> None:
    scene.engine.require("fk-main").environment.pop("ADMIN")


def test_a_password_that_nothing_holds_is_made_anew_and_the_data_stays(scene: Scene) -> None:
    lose(scene, forget_password)
    said = notes(scene, "main")
    assert "password of the administrator is made anew, and it is started again" in said
    assert "its accounts are seen then" in said
    before = scene.server("main").held
    assert scene.engine.require("fk-main").state == "running"
    told(scene, *CONTAINERS)
    after = scene.server("main").held
    assert after.admin not in ("", before.admin)
    assert after.resources == before.resources
    assert after.accounts == before.accounts
    told(scene, "restart", "main", "--yes")
    assert say(scene, "health", "main").code == 0


def test_one_that_stands_still_and_whose_password_is_lost_has_to_run_for_that(scene: Scene) -> None:
    def change(scene: Scene) -> None:
        forget_password(scene)
        scene.engine.die(scene.engine.require("fk-main"))

    lose(scene, change)
    refused = say(scene, *CONTAINERS)
    assert "docker start fk-main, then try again" in refused.err
    assert not (scene.state / "purveyor.db").exists()


def test_a_type_that_cannot_regain_its_administrator_is_told(scene: Scene) -> None:
    plugin: Any = Plugin()
    del plugin.regain
    lose(scene, forget_password)
    odd = Scene(scene.state)
    odd.plugins = [Entry(plugin)]
    refused = say(odd, *CONTAINERS)
    assert "does not offer new credentials for an administrator" in refused.err


def test_a_server_that_lets_nobody_in_keeps_it_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retaken, "PATIENCE", 0.1)

    def change(scene: Scene) -> None:
        scene.engine.require("fk-main").hangs = True

    lose(scene, change)
    refused = say(scene, *CONTAINERS)
    assert "its server denies access: no answer from fk-main" in refused.err
    assert "--leave fk-main" in refused.err


def test_what_stands_still_is_taken_in_as_it_is(scene: Scene) -> None:
    lose(scene)
    assert "purveyor start asleep --accept-data" in notes(scene, "asleep")
    told(scene, *CONTAINERS)
    refused = say(scene, "start", "asleep")
    assert refused.code != 0, "its data has not been looked at"
    assert told(scene, "start", "asleep", "--accept-data") == "asleep is ● running\n"


def test_one_that_was_renamed_is_named(scene: Scene) -> None:
    def change(scene: Scene) -> None:
        scene.engine.require("fk-idle").name = "somebody"

    lose(scene, change)
    refused = say(scene, *CONTAINERS)
    assert "its container was renamed, or has no volume of this installation" in refused.err


def test_helpers_and_apps_that_do_not_run_are_left_with_the_reason(scene: Scene) -> None:
    def change(scene: Scene) -> None:
        scene.engine.die(scene.engine.require("fk.shop.preview.2"))

    lose(scene, change)
    left = " ".join(plan(scene)["left"])
    assert "fk-tracked.archive: a helper of an operation that is lost as well" in left
    assert "fk.shop.preview.2: an app that does not run, or has another name" in left


def test_of_two_apps_of_one_environment_the_newer_one_is_taken_in(scene: Scene) -> None:
    def change(scene: Scene) -> None:
        new = scene.engine.require("fk.shop.production.1")
        labels = {
            name: "7" if name.endswith("deployment") else value
            for name, value in new.labels.items()
        }
        made: dict[str, Any] = {**{name: getattr(new, name) for name in new.__struct_fields__}}
        made |= {"id": "c7", "name": "fk.shop.production.7", "labels": labels, "ports": {}}
        scene.engine.world.containers.append(Container(**made))

    lose(scene, change)
    found = plan(scene)
    assert "fk.shop.production.7" in found["apps"]
    assert "fk.shop.production.1: an earlier app" in found["left"]


def test_an_app_that_was_given_something_else_keeps_them_and_that_is_said(
    scene: Scene,
) -> None:
    def change(scene: Scene) -> None:
        for name in ("fk.shop.production.1", "fk.shop.preview.2"):
            scene.engine.require(name).environment["FAKE_USER"] = "another"

    lose(scene, change)
    before = scene.server("main").held.accounts
    said = told(scene, *CONTAINERS)
    assert "shop: the passwords of its accounts are lost; its app runs on with them." in said
    assert "purveyor rotate shop, then deploy" in said
    assert scene.engine.require("fk.shop.production.1").state == "running"
    assert scene.server("main").held.accounts == before


def test_data_of_two_installations_in_one_folder_is_nobodys(scene: Scene) -> None:
    def change(scene: Scene) -> None:
        path = scene.state / "volumes" / "theirs"
        path.mkdir()
        labels = {INSTALLATION: "another", SERVICE: "1"}
        scene.engine.world.volumes.append(Volume(name="fk-theirs", path=str(path), labels=labels))

    lose(scene, change)
    refused = say(scene, *CONTAINERS)
    assert "is of 2 installations: " in refused.err
    assert "another" in refused.err
    assert not (scene.state / "purveyor.db").exists()


def test_a_folder_that_is_not_there_is_named(scene: Scene, tmp_path: Path) -> None:
    nowhere = Scene(tmp_path / "nowhere")
    refused = say(nowhere, *CONTAINERS)
    assert f"There is no state directory {nowhere.state}." in refused.err
    assert not nowhere.state.exists()
