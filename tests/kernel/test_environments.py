"""Environments are made by whoever says so, never by asking."""

import httpx
import pytest

from fake.scene import Scene, do
from purveyor.app import App, PluginCore
from purveyor.asgi import create_api
from purveyor.kernel.api.server import listen_local, serving
from purveyor.projects import store as projects
from purveyor_hooks import Actor, NotFound

pytestmark = pytest.mark.anyio
ADMIN = Actor(name="test", scope="admin")


async def environments(app: App) -> list[str]:
    return await app.context.store.read(
        lambda tx: [item.slug for item in projects.environments(tx, projects.get(tx, "shop").id)]
    )


async def test_asking_makes_no_environment_and_names_the_nearest(scene: Scene) -> None:
    path = scene.state / "s.sock"
    async with scene.open() as app, serving(create_api(app), local=[listen_local(path)]):
        before = await environments(app)
        transport = httpx.AsyncHTTPTransport(uds=str(path), verify=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://purveyor/api", timeout=60
        ) as client:
            for place in (
                "/projects/shop/environments/prodcution/variables",
                "/external-services/main/projects/shop/environment?environment=prodcution",
                "/external-services/projects/shop/environment?environment=prodcution",
            ):
                answer = await client.get(place)
                assert (answer.status_code, answer.json()["detail"]) == (
                    404,
                    "shop has no environment 'prodcution'.",
                ), place
                assert "Did you mean production?" in answer.json()["remedy"]
            refused = await client.post(
                "/projects/shop/deployments", json={"environment": "prevew", "image": "app:1"}
            )
            assert (refused.status_code, "preview" in refused.json()["remedy"]) == (404, True)
            assert await environments(app) == before
            made = await client.post("/projects/shop/environments", json={"name": "Review 1"})
            assert (made.status_code, made.json()["slug"]) == (201, "review-1")
            found = await client.get("/projects/shop/environments/review-1/variables")
            assert found.status_code == 200
            done = await client.post(
                "/projects/shop/deployments",
                json={"environment": "qa", "create": True, "image": "app:1"},
            )
            assert done.status_code == 201
        assert await environments(app) == [*before, "review-1", "qa"]


async def test_an_app_that_names_an_environment_that_there_is_not_makes_none(scene: Scene) -> None:
    async with scene.open() as app:
        before = await environments(app)
        with pytest.raises(NotFound, match="no environment"):
            await PluginCore(app).bound("fake", ADMIN, "shop", "prodcution")
        assert await environments(app) == before


async def test_a_deploy_makes_an_environment_when_it_says_so(scene: Scene) -> None:
    async with scene.open() as app:
        with pytest.raises(NotFound, match="no environment"):
            await do(app, "deploy", project="shop", environment="new", image="app:1")
        await do(app, "deploy", project="shop", environment="new", create=True, image="app:1")
        assert "new" in await environments(app)
