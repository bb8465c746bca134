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
