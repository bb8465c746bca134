"""What a person sees of the installation's own authority, and what keeps it from being replaced too
early. On the fake engine."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from fake.asked import asked
from fake.program import say, told
from fake.scene import Scene, do, look_after


def shown(scene: Scene) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = json.loads(say(scene, "ca", "show", "--json").out)
    return found


async def deployed_anew(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "deploy", project="shop", image="app:2")
        await do(app, "deploy", project="shop", environment="preview", image="app:2")


async def a_round(scene: Scene) -> None:
    async with scene.open() as app:
        await look_after(app)
        await app.renewals.turn()


def test_an_installation_without_a_service_has_no_authority_yet(room: Path) -> None:
    bare = Scene(room / "authority")
    bare.begin()
    assert "There is none yet: it comes with the first service." in told(bare, "ca", "show")
    shutil.rmtree(bare.state)


def test_who_signs_until_when_and_who_shows_it(scene: Scene) -> None:
    (only,) = shown(scene)
    assert only["state"] == "current"
    assert "main" in only["services"]
    line = told(scene, "ca", "show").splitlines()[1]
    assert line.split()[:4] == ["1", "current", only["expires_at"][:10], only["sha256"][:16]]
    assert "main" in line


def test_another_one_signs_once_every_app_knows_it_or_at_a_persons_word(scene: Scene) -> None:
    none = say(scene, "ca", "finish")
    assert "No other authority waits to sign." in none.err
    assert "purveyor ca rotate" in none.err

    told(scene, "ca", "rotate", "--plan")
    assert len(shown(scene)) == 1
    said = told(scene, "ca", "rotate")
    assert "Another authority is there." in said
    assert "Not yet: shop/preview, shop/production, blog/production (elsewhere)" in said
    again = say(scene, "ca", "rotate")
    assert "The authority is being replaced already." in again.err
    assert "purveyor ca finish" in again.err

    refused = say(scene, "ca", "finish")
    assert "Apps of shop/preview, shop/production do not know it" in refused.err
    assert "Variables of blog/production, news/production were given out before" in refused.err
    assert [item["state"] for item in shown(scene)] == ["current", "next"]
    told(scene, "ca", "finish", "--plan")
    assert [item["state"] for item in shown(scene)] == ["current", "next"]

    anyio.run(deployed_anew, scene)
    refused = say(scene, "ca", "finish")
    assert "do not know it" not in refused.err, "the apps have it now"
    assert "Variables of blog/production" in refused.err
    said = told(scene, "ca", "finish", "--yes")
    assert "It signs from now on." in said
    anyio.run(a_round, scene)
    states = {item["id"]: item["state"] for item in shown(scene)}
    assert states[2] == "current"
    signing = next(item for item in shown(scene) if item["id"] == 2)
    assert "main" in signing["services"], "what runs shows its certificate"


def test_over_the_api_the_same_is_refused_without_the_word(scene: Scene) -> None:
    told(scene, "ca", "rotate")

    async def ask() -> None:
        async with asked(scene) as found:
            answer = await found.local.post("/api/authorities/finish")
            assert answer.status_code == 409
            assert "do not know it" in answer.json()["detail"]
            assert "purveyor ca finish --yes" in answer.json()["remedy"]

    anyio.run(ask)
    assert [item["state"] for item in shown(scene)] == ["current", "next"]
