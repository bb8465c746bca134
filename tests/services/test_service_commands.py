"""What a person sees of services, and how each refusal names the way on: the commands on the fake
engine, without a daemon."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fake.program import say, told
from fake.scene import Scene
from fake.server import FRAGILE


def read(scene: Scene, *words: str) -> Any:
    """What a program reads."""
    return json.loads(say(scene, "--json", *words).out)


def services(scene: Scene) -> Any:
    """All of them, but for when they were looked at."""
    return [{**item, "status_at": None} for item in read(scene, "list")]


def names(scene: Scene) -> set[str]:
    return {item["name"] for item in read(scene, "list")}


# ---------------------------------------------------------------- made, shown, changed


def test_types_and_their_parameters_are_listed(scene: Scene) -> None:
    assert "A server for tests of the core" in told(scene, "types")
    lines = {line.split()[0]: line for line in told(scene, "types", "fake").splitlines()}
    assert "(port)" in lines["port"]
    assert "Anything that makes another container." in lines["size"]
    assert " no " in lines["password"], "it is not changed by hand"
    assert "size" in read(scene, "types", "fake")["properties"]
    unknown = say(scene, "types", "nosuch")
    assert (unknown.code, "nosuch" in unknown.err) == (4, True)


def test_a_service_is_planned_made_and_shown(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "size").write_text("7\n")
    words = ("create", "fake", "fresh", "-p", f"size=@{tmp_path / 'size'}", "--version", "2")
    plan = told(scene, *words, "--plan")
    assert "create fresh (a plan; nothing has been changed)" in plan
    assert "fresh" not in names(scene)
    said = told(scene, *words)
    assert "fresh (id " in said
    assert "  size" in said
    shown = read(scene, "show", "fresh")
    assert shown["current_parameters"]["size"] == "7"
    assert shown["service"]["docker_image"] == "fake:2"
    taken = say(scene, "create", "fake", "fresh")
    assert (taken.code, "fresh" in taken.err) == (5, True)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("create", "fake", "fresh", "-p", "size"), "'size' is not NAME=VALUE."),
        (("create", "fake", "fresh", "-p", "size=@/no/such/file"), "/no/such/file cannot be read"),
        (("create", "fake", "fresh", "-p", "size=many"), "size"),
        (("create", "fake", "fresh", "-p", "colour=red"), "colour"),
        (("create", "nosuch", "fresh"), "nosuch"),
        (("create", "fake", "Ümlaut!"), "name"),
        (("create", "fake", "fresh", "--image", "nowhere:1"), "nowhere:1"),
        (("update", "main"), "There is nothing to change."),
        (("update", "main", "-p", "password=x", "--yes"), "password"),
        (("update", "main", "--image", "fake:2", "--yes"), "purveyor upgrade"),
        (("clone", "main", "idle"), "idle"),
        (("undelete", "main"), "main"),
        (("start", "nosuch"), "nosuch"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name_and_changes_nothing(
    scene: Scene, words: tuple[str, ...], why: str
) -> None:
    before = services(scene)
    said = say(scene, *words)
    assert said.code not in (0, 1)
    assert why in said.err
    assert "Traceback" not in said.err
    assert services(scene) == before


def test_a_change_is_shown_as_it_is_then(scene: Scene) -> None:
    assert "  size        2\n" in told(scene, "update", "main", "-p", "size=2", "--yes")
    assert (
        read(scene, "update", "main", "-p", "size=3", "--yes")["current_parameters"]["size"] == "3"
    )


def test_an_image_whose_name_means_another_one_now_is_told_with_the_way_to_take_it(
    scene: Scene,
) -> None:
    told(scene, "list")
    scene.engine.world.tags["fake:1"] = "fake:1-b"
    scene.engine.save()
    said = told(scene, "show", "main")
    assert "fake:1 means another image now than the one that runs." in said
    assert "purveyor update main --image fake:1" in said
    told(scene, "update", "main", "--image", "fake:1", "--yes")
    assert "means another image" not in told(scene, "show", "main")


# ---------------------------------------------------------------- does it serve


def test_stopped_started_and_restarted_it_is_told_how_it_is_then(scene: Scene) -> None:
    assert told(scene, "stop", "main", "--yes") == "main is ○ stopped\n"
    unhealthy = say(scene, "health", "main")
    assert unhealthy.code == 1
    assert "main is ✖ unhealthy" in unhealthy.out
    assert read(scene, "health", "main")["healthy"] is False
    assert told(scene, "start", "main") == "main is ● running\n"
    assert read(scene, "restart", "main", "--yes")["status"] == "running"
    assert told(scene, "health", "main").startswith("main is ● healthy: 1 ")


def test_what_its_container_printed_is_shown_from_the_end(scene: Scene) -> None:
    told(scene, "list")
    scene.engine.require("fk-main").log = [f"line {number}" for number in range(9)]
    scene.engine.save()
    assert told(scene, "logs", "main", "-n", "2") == "line 7\nline 8\n"
    assert say(scene, "logs", "nosuch").code == 4


# ---------------------------------------------------------------- copied


def test_a_copy_is_told_and_so_is_what_differs_in_it(scene: Scene) -> None:
    assert told(scene, "clone", "main", "second").endswith("second is there, a copy.\n")
    assert scene.server("second").held.resources["shop_production"] == {"precious": "gold"}
    scene.put("main", "shop_production", **{FRAGILE: "glass"})
    said = say(scene, "clone", "main", "third")
    assert "Differs: " in said.err
    assert said.out == "third is there, a copy with the differences above.\n"
    told(scene, "clone", "main", "fourth", "--plan")
    assert "fourth" not in names(scene)


# ---------------------------------------------------------------- deleted, kept, gone


def kept(scene: Scene, origin: str) -> Mapping[str, Any]:
    """The data that is kept of a service."""
    found: Mapping[str, Any]
    (found,) = [item for item in read(scene, "list", "--deleted") if item["origin"] == origin]
    return found


def test_data_is_kept_listed_and_comes_back(scene: Scene) -> None:
    before = names(scene)
    assert "its data is kept: purveyor list --deleted" in told(scene, "delete", "idle", "--yes")
    assert names(scene) == before - {"idle"}
    assert kept(scene, "idle")["state"] == "kept"
    line = next(item for item in told(scene, "volumes").splitlines() if " idle " in item)
    assert " kept " in line
    assert told(scene, "undelete", "idle") == "idle is back.\n"
    assert names(scene) == before


def test_kept_data_goes_by_the_name_of_its_service_alone(scene: Scene) -> None:
    volume = kept(scene, "gone")["id"]
    unasked = say(scene, "purge", volume)
    assert "no terminal to ask at" in unasked.err
    assert "--confirm NAME" in unasked.err
    wrong = say(scene, "volume", "delete", volume, "--confirm", "main")
    assert wrong.code == 2
    assert kept(scene, "gone")["id"] == volume
    assert "purge" in told(scene, "purge", volume, "--plan")
    assert kept(scene, "gone")["id"] == volume
    assert told(scene, "purge", volume, "--confirm", "gone") == "The data is gone.\n"
    assert not [item for item in read(scene, "list", "--deleted") if item["origin"] == "gone"]
    again = say(scene, "purge", volume, "--confirm", "gone")
    assert again.code != 0


def test_kept_data_is_copied_into_a_new_service_or_taken_by_one_that_there_is(scene: Scene) -> None:
    volume = kept(scene, "gone")["id"]
    assert (
        told(scene, "volume", "clone", volume, "anew")
        == "anew is there, with a copy of that data.\n"
    )
    assert kept(scene, "gone")["id"] == volume, "it was copied"
    refused = say(scene, "volume", "attach", volume, "idle")
    assert "idle gets other data" in refused.err
    said = told(scene, "volume", "attach", volume, "idle", "--yes")
    assert "idle now uses the data of that volume. What it held is kept" in said
    assert {item["origin"] for item in read(scene, "list", "--deleted")} >= {"idle"}


# ---------------------------------------------------------------- somebody else's


def test_what_could_be_imported_is_listed_and_imported_untouched(scene: Scene) -> None:
    listed = told(scene, "import")
    line = next(item for item in listed.splitlines() if item.startswith("theirs"))
    assert "password" in line
    assert "hunter22" not in listed
    assert "import theirs" in told(scene, "import", "theirs", "--use-found", "--plan")
    wrong = say(scene, "import", "theirs", "mine", "-p", "password=not-it-at-all")
    assert wrong.code != 0
    assert "mine" not in names(scene)
    before = scene.engine.require("theirs").started_at
    said = told(scene, "import", "theirs", "mine", "--use-found")
    assert said == "mine is imported. Its container is untouched, and stays yours.\n"
    assert scene.engine.require("theirs").started_at == before
    unknown = say(scene, "import", "nobodys")
    assert "Could not determine what nobodys is." in unknown.err
    assert "--type postgres" in unknown.err
    none = say(scene, "import", "nobodys", "--type", "fake")
    assert (none.code, "nobodys" in none.err) == (4, True)
