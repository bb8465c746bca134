"""Projects, their links, variables and apps at the command line: what is told, and what is refused
with nothing changed. On the fake engine."""

import json
import os
import sys
from typing import Any

import pytest

import forkserver
from fake import program
from fake.program import say, told
from fake.scene import Scene


def read(scene: Scene, *words: str) -> Any:
    """What a program reads."""
    return json.loads(say(scene, "--json", *words).out)


def test_a_project_is_made_shown_and_deleted(scene: Scene) -> None:
    told(scene, "project", "create", "fresh", "--plan")
    assert "fresh" not in told(scene, "project", "list")
    assert told(scene, "project", "create", "fresh").startswith("Created project fresh (id ")
    assert "fresh" in told(scene, "project", "list")
    taken = say(scene, "project", "create", "fresh")
    assert (taken.code, "fresh" in taken.err) == (5, True)
    linked = say(scene, "project", "delete", "shop", "--yes")
    assert linked.code != 0
    assert "main" in linked.err
    told(scene, "project", "delete", "fresh", "--yes")
    assert "fresh" not in told(scene, "project", "list")


def test_an_environment_comes_and_goes_with_what_is_only_its_own(scene: Scene) -> None:
    told(scene, "project", "add-environment", "shop", "staging")
    told(scene, "env", "shop", "-e", "staging")
    assert "shop_staging" in scene.server("main").held.resources
    refused = say(scene, "project", "remove-environment", "shop", "staging", "--purge")
    assert "no terminal to ask at" in refused.err
    assert "shop_staging" in scene.server("main").held.resources
    said = told(scene, "project", "remove-environment", "shop", "staging", "--purge", "--yes")
    assert "The environment staging of shop is gone." in said
    assert "shop_staging" not in scene.server("main").held.resources
    assert "shop_production" in scene.server("main").held.resources


def test_a_link_says_what_the_next_deploy_gets_and_an_unlink_what_is_kept(scene: Scene) -> None:
    said = told(scene, "link", "idle", "bare")
    assert "idle is linked to bare." in said
    twice = say(scene, "link", "idle", "bare")
    assert "is linked to bare already" in twice.err
    assert "idle is unlinked from bare; its data is kept." in told(scene, "unlink", "idle", "bare")
    assert say(scene, "unlink", "idle", "bare").code != 0


@pytest.mark.parametrize("form", ["dotenv", "json", "shell", "docker"])
def test_variables_are_written_in_the_form_that_is_asked_for(scene: Scene, form: str) -> None:
    said = told(scene, "env", "shop", "--format", form)
    password = scene.server("main").held.accounts["shop_production"][0]
    assert password in said
    expected = {
        "json": f'"FAKE_PASSWORD": "{password}"',
        "shell": "export FAKE_PASSWORD=",
        "dotenv": "FAKE_PASSWORD=",
        "docker": f"FAKE_PASSWORD={password}",
    }
    assert expected[form] in said


def test_a_command_is_run_with_the_variables_and_ends_as_it_ends(scene: Scene) -> None:
    code = "import os, sys; print(os.environ['FAKE_USER']); sys.exit(7)"
    command = [sys.executable, program.__file__, str(scene.state), "run", "shop", "--"]
    done = forkserver.run([*command, sys.executable, "-c", code], env=dict(os.environ))
    assert (done.returncode, done.stdout) == (7, "shop_production\n"), done.stderr
    done = forkserver.run([*command, "no-such-command"], env=dict(os.environ))
    assert done.returncode not in (0, 1)
    assert "no-such-command" in done.stderr


def test_credentials_are_rotated_with_and_without_a_grace(scene: Scene) -> None:
    before = scene_accounts(scene)
    asked = say(scene, "rotate", "shop")
    assert "no terminal to ask at" in asked.err
    assert scene_accounts(scene) == before
    told(scene, "rotate", "shop", "--grace", "1h", "--yes")
    held = scene.server("main").held
    assert held.former["shop_production"] == before["shop_production"][0]
    assert held.accounts["shop_production"][0] != before["shop_production"][0]
    assert "work until" in told(scene, "show", "main")
    told(scene, "rotate", "--administrator", "idle", "--yes")
    assert say(scene, "health", "idle").code == 0
    odd = say(scene, "rotate", "shop", "--administrator", "idle", "--yes")
    assert odd.code not in (0, 1)


def scene_accounts(scene: Scene) -> Any:
    told(scene, "list")
    return dict(scene.server("main").held.accounts)


def test_an_app_is_deployed_again_as_another_image(scene: Scene) -> None:
    told(scene, "deploy", "shop", "app:2", "--plan")
    assert read(scene, "project", "show", "shop") is not None
    said = told(scene, "deploy", "shop", "app:2", "--set", "COLOUR=red", "--memory", "64")
    assert "● active" in said
    running = [
        item
        for item in scene.engine.world.containers
        if item.name.startswith("fk.shop.production.") and item.state == "running"
    ]
    assert [item.image for item in running] == ["app:2"]
    assert running[0].environment["COLOUR"] == "red"
    missing = say(scene, "deploy", "shop", "nowhere:1")
    assert missing.code not in (0, 1)
    assert [item.state for item in running] == ["running"], "the one before runs on"


def test_an_upgrade_is_rehearsed_made_and_taken_back(scene: Scene) -> None:
    said = told(scene, "upgrade", "main", "fake:2", "--rehearse")
    assert read(scene, "show", "main")["service"]["version"] == "1", said
    plan = told(scene, "upgrade", "main", "fake:2", "--plan")
    assert "fake:2" in plan
    told(scene, "upgrade", "main", "fake:2", "--yes")
    assert read(scene, "show", "main")["service"]["docker_image"] == "fake:2"
    assert scene.server("main").held.resources["shop_production"] == {"precious": "gold"}
    told(scene, "upgrade", "main", "--undo", "--yes")
    assert read(scene, "show", "main")["service"]["docker_image"] == "fake:1"
    nothing = say(scene, "upgrade", "main")
    assert nothing.code not in (0, 1)
