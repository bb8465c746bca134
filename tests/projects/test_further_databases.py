"""One more database of a project: recorded, made with the first for every environment, in the
variables, gone with a purge."""

from collections.abc import Callable, Iterator

import pytest

import data
from support import Stage


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    with make_stage().serving() as made:
        made.furnish({"main": "postgres"}, ["shop"])
        yield made


def databases(stage: Stage) -> set[str]:
    return set(stage.sql("main", "SELECT datname FROM pg_database WHERE datname ~ '^(shop|blog)'"))


def test_it_comes_with_a_link_that_there_is_and_with_every_later_environment(stage: Stage) -> None:
    assert "shop_production_test" in stage.cli(
        "link", "main", "shop", "--extra-database", "test", "--plan"
    )
    assert databases(stage) == {"shop_production"}
    before = stage.variables("shop")
    stage.cli("link", "main", "shop", "--extra-database", "test")
    found = stage.variables("shop")
    assert found.items() >= before.items()
    assert found["POSTGRES_TEST_DATABASE"] == "shop_production_test"
    data.ask({"DATABASE_URL": found["POSTGRES_TEST_URL"]}, "CREATE TABLE t (x int)")
    assert (
        "already, with test" in stage.run("link", "main", "shop", "--extra-database", "test").stderr
    )
    assert "is linked to shop already" in stage.run("link", "main", "shop").stderr
    stage.cli("project", "add-environment", "shop", "preview")
    stage.cli("env", "shop", "-e", "preview")
    assert databases(stage) == {
        "shop_production",
        "shop_production_test",
        "shop_preview",
        "shop_preview_test",
    }


def test_one_alone_is_dropped_with_its_data_when_that_is_said(stage: Stage) -> None:
    stage.cli("link", "main", "shop", "--extra-database", "drafts")
    found = stage.variables("shop")
    drafts = {"DATABASE_URL": found["POSTGRES_DRAFTS_URL"]}
    data.ask(drafts, "CREATE TABLE kept (x int)")
    both = {"shop_production_drafts", "shop_preview_drafts"}
    refused = stage.run("unlink", "main", "shop", "--extra-database", "drafts")
    assert refused.returncode == 2
    assert all(name in refused.stderr for name in ("--purge", *both))
    unknown = stage.run("unlink", "main", "shop", "--extra-database", "other", "--purge", "--yes")
    assert unknown.returncode == 4
    assert "It has: drafts, test" in unknown.stderr
    plan = stage.json("unlink", "main", "shop", "--extra-database", "drafts", "--plan")
    assert set(plan["resources"]) == both
    assert plan["variables"] == ["POSTGRES_DRAFTS_DATABASE", "POSTGRES_DRAFTS_URL"]
    data.ask(drafts, "SELECT * FROM kept")
    before = databases(stage)
    made = stage.json("backup", "run", "main")
    stage.cli("unlink", "main", "shop", "--extra-database", "drafts", "--purge", "--yes")
    assert databases(stage) == before - both
    left = {name: value for name, value in found.items() if "DRAFTS" not in name}
    assert stage.variables("shop") == left
    data.ask({"DATABASE_URL": left["POSTGRES_TEST_URL"]}, "SELECT * FROM t")
    assert "remove-database.succeeded" in stage.cli("events", "--service", "main")
    stage.cli("backup", "restore", str(made["id"]), "--in-place", "main")
    stage.cli("link", "main", "shop", "--extra-database", "drafts")
    data.ask(drafts, "SELECT * FROM kept")
    stage.cli("unlink", "main", "shop", "--extra-database", "drafts", "--purge", "--yes")
    assert databases(stage) == before - both


def test_it_waits_in_a_copy_for_its_project(stage: Stage) -> None:
    stage.cli("clone", "main", "again")
    stage.cli("unlink", "main", "shop", "--now")
    stage.cli("link", "again", "shop")
    data.ask({"DATABASE_URL": stage.variables("shop")["POSTGRES_TEST_URL"]}, "SELECT * FROM t")
    stage.cli("unlink", "again", "shop", "--purge", "--yes")
    assert not stage.sql(
        "again", "SELECT datname FROM pg_database WHERE datname ~ '^shop_production'"
    )


@pytest.mark.parametrize("name", ["Test", "a b", "x" * 21])
def test_a_name_that_is_none_is_refused(name: str, stage: Stage) -> None:
    done = stage.run("link", "main", "shop", "--extra-database", name)
    assert done.returncode
    assert "extra_databases" in done.stderr


def test_another_type_says_that_it_has_one(stage: Stage) -> None:
    stage.cli("create", "redis", "cache")
    stage.cli("project", "create", "blog")
    assert (
        "makes one resource"
        in stage.run("link", "cache", "blog", "--extra-database", "test").stderr
    )
