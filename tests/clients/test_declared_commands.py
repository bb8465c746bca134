"""purveyor.toml at the command line: planned, applied, applied again, exported; and a file that says
what cannot be is refused whole. On the fake engine."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fake.program import say, told
from fake.scene import Scene

FILE = """
[services.main]
type = "fake"
parameters = { size = 5 }

[services.fresh]
type = "fake"

[projects.shop]
links = ["main"]
environments = ["preview", "staging"]

[projects.bare]
links = ["fresh"]

[schedules.nightly]
when = "0 3 * * *"
services = ["main"]
keep-days = 14
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "purveyor.toml"
    path.write_text(FILE)
    return path


def world(scene: Scene) -> Any:
    listed = json.loads(say(scene, "--json", "list").out)
    projects = json.loads(say(scene, "--json", "project", "list").out)
    return [{**item, "status_at": None} for item in listed], projects


def test_a_plan_shows_what_would_be_and_changes_nothing(scene: Scene, file: Path) -> None:
    before = world(scene)
    said = told(scene, "plan", str(file))
    for line in ("+ service fresh: fake", "+ link fresh → bare", "+ schedule nightly: 0 3 * * *"):
        assert line in said
    assert "left as it is: service idle" in said
    assert "--prune service.idle" in said
    assert world(scene) == before


def test_applied_it_is_so_and_applied_again_there_is_nothing_to_do(
    scene: Scene, file: Path
) -> None:
    asked = say(scene, "apply", str(file))
    assert asked.code != 0, "main is interrupted for another size"
    assert "fresh" not in told(scene, "list")
    told(scene, "apply", str(file), "--yes")
    shown = json.loads(say(scene, "--json", "show", "main").out)
    assert shown["current_parameters"]["size"] == "5"
    assert "fresh" in told(scene, "list")
    assert "staging" in told(scene, "project", "show", "shop")
    assert told(scene, "apply", str(file)).startswith("Everything is as the file says.")
    assert told(scene, "plan", str(file)).startswith("Everything is as the file says.")


def test_what_is_not_in_the_file_goes_when_it_is_named_alone(scene: Scene, file: Path) -> None:
    told(scene, "apply", str(file), "--yes", "--prune", "service.idle")
    listed = told(scene, "list")
    assert "idle" not in listed
    assert "risen" in listed
    kept = json.loads(say(scene, "--json", "list", "--deleted").out)
    assert "idle" in {item["origin"] for item in kept}, "its data is kept"


def test_an_export_is_a_file_that_says_what_is(scene: Scene, file: Path) -> None:
    told(scene, "apply", str(file), "--yes")
    text = say(scene, "export").out
    found = tomllib.loads(text)
    assert found["services"]["main"]["parameters"] == {"size": 5}
    assert found["projects"]["shop"]["links"] == ["main"]
    assert found["schedules"]["nightly"]["when"] == "0 3 * * *"
    assert "hunter" not in text
    file.write_text(text)
    assert told(scene, "plan", str(file)).startswith("Everything is as the file says.")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("[services.main]", "[services.main"), "purveyor.toml"),
        (('type = "fake"', 'type = "nosuch"'), "nosuch"),
        (("size = 5", "colour = 5"), "colour"),
        (("keep-days", "keep-days-or-so"), "keep-days-or-so"),
        (('links = ["main"]', 'links = ["nosuch"]'), "nosuch"),
        (('links = ["main"]', 'links = ["main", "fresh"]'), "main and fresh are of one type"),
        (("0 3 * * *", "often"), "not a valid cron expression"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused_whole(
    scene: Scene, file: Path, change: tuple[str, str], why: str
) -> None:
    file.write_text(FILE.replace(*change))
    before = world(scene)
    said = say(scene, "apply", str(file), "--yes")
    assert said.code not in (0, 1)
    assert why in said.err
    assert world(scene) == before


def schedules(scene: Scene) -> Any:
    return json.loads(say(scene, "--json", "backup", "schedule", "list").out)


def test_a_schedule_that_cannot_be_leaves_the_one_that_there_is(scene: Scene, file: Path) -> None:
    told(scene, "apply", str(file), "--yes")
    before = schedules(scene)
    file.write_text(FILE.replace("0 3 * * *", "0 33 * * *"))
    for command in ("plan", "apply"):
        assert "not a valid cron expression" in say(scene, command, str(file)).err
    assert schedules(scene) == before
    file.write_text(FILE.replace("0 3 * * *", "0 4 * * *"))
    told(scene, "apply", str(file))
    # the same one, whose backups are counted as its own: what the file does not name is as it was
    fresh = {key: schedules(scene)[0].pop(key) for key in ("schedule_expression", "next_run")}
    assert fresh["schedule_expression"] == "0 4 * * *"
    assert schedules(scene) == [before[0] | fresh]


def test_a_schedule_is_changed_at_once_and_keeps_what_the_file_cannot_say(
    scene: Scene, file: Path
) -> None:
    told(scene, "apply", str(file), "--yes")
    told(scene, "backup", "schedule", "update", "nightly", "--jitter", "60")
    before = schedules(scene)[0]
    file.write_text(
        FILE.replace("0 3 * * *", "0 5 * * *").replace("keep-days = 14", "keep-days = 9")
    )
    assert "~ schedule nightly: " in told(scene, "apply", str(file))
    after = schedules(scene)[0]
    assert (after["id"], after["jitter"], after["schedule_expression"]) == (
        before["id"],
        60,
        "0 5 * * *",
    )


def test_a_project_goes_from_one_service_to_another_of_its_type(scene: Scene, file: Path) -> None:
    file.write_text(FILE.replace('links = ["main"]', 'links = ["idle"]'))
    told(scene, "apply", str(file), "--yes", "--prune", "link.main.shop")
    assert "idle" in told(scene, "project", "show", "shop")
    assert "left as it is: link main" not in told(scene, "plan", str(file))


def test_a_schedule_for_nothing_but_what_is_deleted_is_not_exported_as_one_for_all(
    scene: Scene, file: Path
) -> None:
    told(scene, "apply", str(file), "--yes")
    assert " main " in told(scene, "backup", "schedule", "list")
    told(scene, "unlink", "main", "shop", "--yes", "--now")
    told(scene, "delete", "main", "--yes")
    assert "(deleted)" in told(scene, "backup", "schedule", "list")
    assert "schedules" not in tomllib.loads(say(scene, "export").out)
