"""Users: who did what has a name, and whoever is disabled is out at once."""

from typing import Any

import anyio
import httpx
import pytest

from fake.asked import Asked, asked
from fake.scene import Scene
from purveyor.kernel.operations import store as operations

pytestmark = pytest.mark.anyio


async def add(desk: Asked, name: str, **given: Any) -> httpx.AsyncClient:
    assert (await desk.local.post("/api/users", json={"name": name})).status_code == 201
    return await desk.by((await desk.token("laptop", user=name, **given))["token"])


async def actors(desk: Asked, verb: str) -> list[tuple[str, int | None]]:
    """Who asked for a verb, as its operations and its events say."""
    found = await desk.app.context.store.read(lambda tx: operations.list_page(tx, limit=500))
    told = [(item.actor, item.token_id) for item in found.items if item.verb == verb]
    started = (
        await desk.local.get(
            "/api/events", params={"type": f"service.{verb}.started"}, headers=JSON
        )
    ).json()
    assert told == [
        (item["data"]["actor"], item["data"].get("token")) for item in reversed(started)
    ]
    return told


JSON = {"Accept": "application/json"}


async def test_what_is_done_with_a_user_s_token_is_done_in_that_name(scene: Scene) -> None:
    async with asked(scene) as desk:
        ada = await add(desk, "ada")
        assert (await ada.post("/api/external-services/main/restart")).status_code == 200
        number = await desk.app.context.store.read(
            lambda tx: tx.value("SELECT max(id) FROM tokens")
        )
        assert await actors(desk, "restart") == [("ada", number)]


async def test_two_tokens_of_one_name_are_told_apart_and_one_called_local_is_not_local(
    scene: Scene,
) -> None:
    async with asked(scene) as desk:
        made = [await desk.token(name) for name in ("ci", "ci", "local")]
        for token in made:
            await (await desk.by(token["token"])).post("/api/external-services/main/restart")
        await desk.local.post("/api/external-services/main/restart")
        numbers = [token["id"] for token in made]
        assert (await actors(desk, "restart"))[:4] == [
            ("local", None), ("token:local", numbers[2]), ("token:ci", numbers[1]),
            ("token:ci", numbers[0])
        ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["local", "plugin", "token:ci", "Ada", "a b", "", "1", "x" * 81, "a/b", "ada\n", "purveyor"],
)
async def test_a_name_that_could_be_taken_for_another_is_refused(name: str, scene: Scene) -> None:
    async with asked(scene) as desk:
        answer = await desk.local.post("/api/users", json={"name": name})
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"]["name"]
        assert answer.json()["remedy"]
        assert (await desk.local.get("/api/users")).json() == []


async def test_a_disabled_user_is_refused_at_once_and_has_no_new_token_until_enabled(
    scene: Scene,
) -> None:
    async with asked(scene) as desk:
        ada, grace = await add(desk, "ada"), await add(desk, "grace")
        assert (await ada.get("/api/projects")).status_code == 200, "so that it is remembered"
        async with ada.stream("GET", "/api/events") as stream:
            lines = stream.aiter_lines()
            assert "following" in await anext(lines)
            assert (await grace.post("/api/users/ada/disable")).json()["tokens"] == 0
            with anyio.fail_after(5):
                assert not [line async for line in lines if "user." in line], (
                    "a stream ends with its token"
                )
        assert (await ada.get("/api/projects")).status_code == 401
        assert (await grace.get("/api/projects")).status_code == 200
        refused = await desk.local.post("/api/tokens", json={"name": "again", "user": "ada"})
        assert refused.status_code == 409
        assert "disabled" in refused.json()["detail"]
        assert (await desk.local.post("/api/users/ada/enable")).json()["disabled_at"] is None
        assert (await ada.get("/api/projects")).status_code == 401, "what was ended stays so"
        again = await desk.by((await desk.token("again", user="ada"))["token"])
        assert (await again.get("/api/projects")).status_code == 200


async def test_a_removed_user_is_out_and_nobody_is_ever_called_so_again(scene: Scene) -> None:
    async with asked(scene) as desk:
        ada = await add(desk, "ada")
        assert (await desk.local.delete("/api/users/ada")).status_code == 204
        assert (await ada.get("/api/projects")).status_code == 401
        assert (await desk.local.get("/api/users")).json() == []
        answer = await desk.local.post("/api/users", json={"name": "ada"})
        assert (answer.status_code, answer.json()["errors"]) == (409, {"name": "it was somebody's"})
        assert (await desk.local.post("/api/users/ada/enable")).status_code == 404
        assert (
            await desk.local.post("/api/tokens", json={"name": "x", "user": "ada"})
        ).status_code == 404


async def test_users_are_the_administrators_business_alone(scene: Scene) -> None:
    async with asked(scene) as desk:
        await add(desk, "ada")
        project = (await desk.local.get("/api/projects/shop")).json()["slug"]
        for given in ({"scope": "read"}, {"scope": "project", "project": project}):
            other = await desk.by((await desk.token("t", **given))["token"])
            for method, path in (
                ("GET", ""),
                ("POST", ""),
                ("POST", "/ada/disable"),
                ("POST", "/ada/enable"),
                ("DELETE", "/ada"),
            ):
                assert (
                    await other.request(method, f"/api/users{path}", json={"name": "eve"})
                ).status_code == 403, path
        assert [item["name"] for item in (await desk.local.get("/api/users")).json()] == ["ada"]


async def test_a_token_says_whose_it_is_and_those_from_before_are_nobody_s(scene: Scene) -> None:
    async with asked(scene) as desk:
        await desk.token("old")
        await add(desk, "ada", scope="read")
        found = {
            item["name"]: item["user"]
            for item in (await desk.local.get("/api/tokens?people=true")).json()
        }
        assert found == {"old": None, "laptop": "ada"}
        told = (await desk.local.get("/api/events?type=token.created", headers=JSON)).json()[-1]
        assert (told["data"]["user"], told["data"]["actor"]) == ("ada", "local")
