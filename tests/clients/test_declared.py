"""purveyor.toml: a plan that a person reads, an apply that is idempotent, an export that says what
is."""

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import Stage

FILE = """
[services.main]
type = "postgres"
parameters = {{ max_connections = {connections} }}

[services.cache]
type = "redis"

[projects.shop]
links = [{links}]
environments = ["preview"]

[schedules.nightly]
when = "{when}"
services = ["main"]
keep-days = 14
"""


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    with make_stage().serving() as made:
        made.cli("create", "redis", "old")
        made.cli("project", "create", "legacy")
        yield made


def write(
    folder: Path, *, connections: int = 50, links: str = '"main", "cache"', when: str = "0 3 * * *"
) -> str:
    path = folder / "purveyor.toml"
    path.write_text(FILE.format(connections=connections, links=links, when=when))
    return str(path)


def test_a_plan_shows_the_difference_and_changes_nothing(stage: Stage, tmp_path: Path) -> None:
    world = stage.world()
    said = stage.cli("plan", write(tmp_path))
    for line in (
        "+ service main: postgres",
        "+ project shop",
        "+ link cache → shop",
        "+ schedule nightly: 0 3 * * *",
    ):
        assert line in said
    assert "left as it is: service old" in said
    assert "--prune service.old" in said
    assert stage.world() == world


def test_applied_it_is_so_and_applied_again_there_is_nothing_to_do(
    stage: Stage, tmp_path: Path
) -> None:
    path = write(tmp_path)
    stage.cli("apply", path)
    assert {item["slug"]: item["status"] for item in stage.json("list")} == {
        "old": "running", "main": "running", "cache": "running",
    }  # fmt: skip
    assert stage.json("show", "main")["current_parameters"]["max_connections"] == "50"
    assert "POSTGRES_URL" in stage.variables("shop", "preview")
    assert stage.json("backup", "schedule", "list")[0]["retention_period"] == 14
    before = stage.json("operations")
    assert "as the file says" in stage.cli("apply", path)
    assert stage.json("operations") == before


def test_what_differs_is_changed_and_what_is_not_named_stays(stage: Stage, tmp_path: Path) -> None:
    path = write(tmp_path, connections=60, links='"main"', when="30 4 * * *")
    said = stage.cli("plan", path)
    assert "~ service main: max_connections 50 → 60" in said
    assert "~ schedule nightly: schedule_expression" in said
    assert "link cache → shop (its data is kept)  (--prune link.cache.shop)" in said
    stage.cli("apply", path)
    assert stage.json("show", "main")["current_parameters"]["max_connections"] == "60"
    assert "REDIS_URL" in stage.variables("shop")
    stage.cli(
        "apply",
        path,
        "--prune",
        "link.cache.shop",
        "--prune",
        "service.old",
        "--prune",
        "project.legacy",
    )
    assert "REDIS_URL" not in stage.variables("shop")
    assert "old" in stage.cli("list", "--deleted")
    assert [item["slug"] for item in stage.json("project", "list")] == ["shop"]


def test_what_is_exported_is_what_is(stage: Stage, tmp_path: Path) -> None:
    text = stage.cli("export")
    path = tmp_path / "exported.toml"
    path.write_text(text)
    found = tomllib.loads(text)
    assert found["services"]["main"]["parameters"] == {"max_connections": 60}
    assert found["projects"]["shop"] == {"links": ["main"], "environments": ["preview"]}
    assert "password" not in text
    assert "as the file says" in stage.cli("apply", str(path))
    assert stage.json("plan", str(path)) == {"changes": [], "left": []}


@pytest.mark.parametrize(("text", "says"), [
    ("services = 3", "services"),
    ("[services.x]\ntype = 'nothing'", "service type"),
    ("[services.main]\ntype = 'redis'", "cannot become"),
    ("[services.main]\ntype = 'postgres'\ncolour = 'red'", "colour"),
    ("[projects.shop]\nlinks = ['nobody']", "there is no service 'nobody'"),
    ("[schedules.x]\nwhen = 'often'", "not a valid cron expression"),
    ("[services.new]\ntype = 'redis'\nimage = 'a'\nversion = '8'", "not both"),
    ("this is = not [toml", "not TOML"),
])  # fmt: skip
def test_a_file_that_cannot_be_is_refused(
    text: str, says: str, stage: Stage, tmp_path: Path
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    world = stage.world()
    assert says in stage.cli("apply", str(path), code=2)
    assert stage.world() == world


@pytest.mark.parametrize(
    "arguments", [("apply", "/nowhere.toml"), ("apply", "FILE", "--prune", "service.main")]
)
def test_what_is_not_there_is_said(
    arguments: tuple[str, ...], stage: Stage, tmp_path: Path
) -> None:
    world: Any = stage.world()
    path = write(tmp_path, connections=60, links='"main"', when="30 4 * * *")
    assert "is no" in stage.cli(*[path if word == "FILE" else word for word in arguments], code=2)
    assert stage.world() == world
