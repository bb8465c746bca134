"""A further database of a link is dropped alone, when that is said, and nothing else with it. On
the fake engine."""

import json

import anyio
import pytest

from fake.program import say, told
from fake.scene import Scene, do


@pytest.fixture
def further(scene: Scene) -> Scene:
    """The shop has two more on main, in production and in its preview."""

    async def work() -> None:
        async with scene.open() as app:
            await do(
                app, "link", service="main", project="shop", extra_databases=["test", "drafts"]
            )
            await do(app, "bind", project="shop", environment="production")
            await do(app, "bind", project="shop", environment="preview")

    anyio.run(work)
    scene.put("main", "shop_production_test", kept="gold")
    return scene


def drop(name: str, *words: str) -> tuple[str, ...]:
    return ("unlink", "main", "shop", "--extra-database", name, *words)


def resources(scene: Scene) -> dict[str, dict[str, str]]:
    return scene.server("main").held.resources


def test_what_goes_is_named_and_nothing_goes_until_that_is_said(further: Scene) -> None:
    before = resources(further)
    refused = say(further, *drop("test"))
    assert refused.code == 2
    assert "All that is in shop_production_test, shop_preview_test would be deleted." in refused.err
    assert "--extra-database test --purge" in refused.err
    asked = say(further, *drop("test", "--purge"))
    assert "no terminal to ask at" in asked.err
    plan = json.loads(say(further, "--json", *drop("test", "--purge", "--plan")).out)
    assert plan["resources"] == ["shop_production_test", "shop_preview_test"]
    assert plan["variables"] == ["FAKE_TEST_RESOURCE"]
    assert plan["steps"] == ["purge"]
    assert {item["environment"] for item in plan["apps"]} == {"production", "preview"}
    assert "loses the database test at once" in plan["apps"][0]["effect"]
    assert resources(further) == before


def test_it_goes_in_every_environment_and_all_else_stays(further: Scene) -> None:
    before = resources(further)
    accounts = further.server("main").held.accounts
    said = told(further, *drop("test", "--purge", "--yes"))
    assert "The database test of shop on main is gone, in every environment." in said
    gone = {"shop_production_test", "shop_preview_test"}
    assert resources(further) == {name: held for name, held in before.items() if name not in gone}
    assert further.server("main").held.accounts == accounts
    assert "FAKE_TEST_RESOURCE" not in told(further, "env", "shop")
    assert "FAKE_DRAFTS_RESOURCE" in told(further, "env", "shop")
    again = say(further, *drop("test", "--purge", "--yes"))
    assert again.code == 4
    assert "It has: drafts." in again.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("unlink", "main", "shop", "--extra-database", "test"), "It has none there."),
        (("unlink", "idle", "shop", "--extra-database", "test"), "It has none there."),
        (("unlink", "main", "shop", "--extra-database", "x", "--now"), "dropped at once"),
    ],
)
def test_what_is_not_there_is_told(scene: Scene, words: tuple[str, ...], why: str) -> None:
    said = say(scene, *words, "--purge", "--yes")
    assert said.code != 0
    assert why in said.err


def test_a_server_that_stands_still_drops_nothing(further: Scene) -> None:
    told(further, "stop", "main", "--yes")
    before = resources(further)
    refused = say(further, *drop("test", "--purge", "--yes"))
    assert refused.code == 5
    assert "purveyor start main" in refused.err
    assert resources(further) == before
