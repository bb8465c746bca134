"""Unlinking takes nothing from an app that runs: its account ends with its next deploy, or when
somebody says now."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from fake.scene import Scene, do, look_after
from purveyor import doctor
from purveyor.app import App
from purveyor.kernel.db import Store
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.plan import PlannedApp
from purveyor.projects import resolve
from purveyor.projects import store as projects
from purveyor.services import routes as service_routes
from purveyor.services import store as services
from purveyor_hooks import Actor, BadInput, Conflict, NotFound

pytestmark = pytest.mark.anyio


async def plan(app: App, verb: str, **given: Any) -> Any:
    return await app.plan(verb, msgspec.convert(given, app.operation_type(verb).arguments))


def accounts(scene: Scene, service: str = "main") -> Mapping[str, Any]:
    return scene.server(service).held.accounts


def effects(apps: list[PlannedApp]) -> dict[str, str]:
    return {f"{item.project}/{item.environment}": item.effect for item in apps}


async def passwords(app: App) -> list[str]:
    return await app.context.store.read(
        lambda tx: [
            item.password for item in projects.bindings(tx, service_id=services.get(tx, "main").id)
        ]
    )


async def test_an_app_that_runs_keeps_its_account_until_its_own_next_deploy(scene: Scene) -> None:
    async with scene.open() as app:
        said = await plan(app, "unlink", service="main", project="shop")
        assert said.downtime == "none"
        assert effects(said.apps) == dict.fromkeys(
            ("shop/production", "shop/preview"), "keeps its account on main until its next deploy"
        )
        assert "--now" in said.warnings[0]
        before = dict(accounts(scene))
        await do(app, "unlink", service="main", project="shop")
        await look_after(app)
        assert accounts(scene) == before
        details = await service_routes.service_details(app, "main")
        assert [
            (item.project, item.environment, item.deployment is not None)
            for item in details.endings
        ] == [
            ("shop", "production", True),
            ("shop", "preview", True),
        ]
        assert "has its account until its next deploy" in str(await doctor.endings(app))
        assert (await plan(app, "deploy", project="shop", image="app:2")).warnings == [
            "Its account on main ends: it is not linked any more."
        ]
        await do(app, "deploy", project="shop", image="app:2")
        assert set(accounts(scene)) == {"shop_preview"}
        assert scene.server("main").held.resources["shop_production"] == {"precious": "gold"}
        await do(app, "deploy", project="shop", environment="preview", image="app:2")
        assert accounts(scene) == {}
        assert await doctor.endings(app) == []


async def test_an_app_that_was_deployed_after_the_clock_was_put_back_keeps_its_account(
    scene: Scene,
) -> None:
    earlier = partial(Store, clock=lambda: datetime.now(UTC) - timedelta(days=1))
    async with scene.open(make_store=earlier) as app:
        await do(app, "deploy", project="shop", image="app:2")
        await do(app, "unlink", service="main", project="shop")
        assert set(accounts(scene)) == {"shop_production", "shop_preview"}


async def test_an_app_from_before_a_link_was_made_anew_uses_nothing_of_it(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "unlink", service="main", project="shop", now=True)
        await do(app, "link", service="main", project="shop")
        assert (await plan(app, "unlink", service="main", project="shop")).apps == []


async def test_now_ends_it_at_once_and_the_plan_names_who_loses_it(scene: Scene) -> None:
    async with scene.open() as app:
        said = await plan(app, "unlink", service="main", project="shop", now=True)
        assert effects(said.apps) == dict.fromkeys(
            ("shop/production", "shop/preview"), "loses main at once"
        )
        assert said.downtime == "of the apps named, until they are deployed without main"
        await do(app, "unlink", service="main", project="shop", now=True)
        assert accounts(scene) == {}


async def test_what_was_unlinked_can_be_ended_before_its_time(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "unlink", service="main", project="shop")
        with pytest.raises(NotFound, match="has its account until the next deploy") as refused:
            await do(app, "unlink", service="main", project="shop")
        assert "purveyor unlink main shop --now" in refused.value.remedy
        await do(app, "unlink", service="main", project="shop", now=True)
        assert accounts(scene) == {}
        with pytest.raises(NotFound, match="is not linked"):
            await do(app, "unlink", service="main", project="shop", now=True)
        with pytest.raises(BadInput, match="force excludes"):
            await do(app, "unlink", service="tracked", project="blog", now=True, force=True)


async def test_without_an_active_deployment_it_ends_at_once(scene: Scene) -> None:
    async with scene.open() as app:
        said = await plan(app, "unlink", service="tracked", project="blog")
        assert (said.apps, said.downtime) == ([], "none")
        await do(app, "unlink", service="tracked", project="blog")
        assert accounts(scene, "tracked") == {}


async def test_a_deployment_from_before_the_link_uses_nothing_of_it(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "deploy", project="bare", image="app:1")
        await do(app, "link", service="idle", project="bare")
        assert (await plan(app, "unlink", service="idle", project="bare")).apps == []
        await do(app, "unlink", service="idle", project="bare")
        assert accounts(scene, "idle") == {}


async def test_a_new_link_within_that_time_keeps_account_and_password(scene: Scene) -> None:
    async with scene.open() as app:
        known, before = await passwords(app), dict(accounts(scene))
        await do(app, "unlink", service="main", project="shop")
        await do(app, "link", service="main", project="shop")
        assert (await passwords(app), accounts(scene)) == (known, before)
        await look_after(app)
        await do(app, "deploy", project="shop", image="app:2")
        assert accounts(scene) == before


async def test_another_service_takes_its_place_and_the_old_account_ends_with_the_deploy(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        await do(app, "unlink", service="main", project="shop")
        await do(app, "link", service="idle", project="shop")
        assert set(accounts(scene)) == {"shop_production", "shop_preview"}
        await do(app, "deploy", project="shop", image="app:2")
        assert set(accounts(scene)) == {"shop_preview"}
        assert set(accounts(scene, "idle")) == {"shop_production"}


async def test_an_app_that_goes_takes_its_account_along(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "unlink", service="main", project="shop")
        await do(app, "delete-environment", project="shop", environment="preview")
        assert set(accounts(scene)) == {"shop_production"}
        await do(app, "delete-project", project="shop")
        await look_after(app)
        assert accounts(scene) == {}
        assert scene.server("main").held.resources["shop_production"] == {"precious": "gold"}


async def test_what_could_not_be_ended_is_ended_when_its_service_serves_again(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "unlink", service="main", project="shop")
        await do(app, "stop", service="main")
        await do(app, "deploy", project="shop", image="app:2")
        assert "until it serves" in str(await doctor.endings(app))
        with pytest.raises(Conflict):
            await do(app, "end-access", service="main")
        await do(app, "start", service="main")
        assert set(accounts(scene)) == {"shop_production", "shop_preview"}
        await look_after(app)
        assert set(accounts(scene)) == {"shop_preview"}
        last = (await app.context.store.read(operations.list_page)).items[0]
        assert (last.verb, last.actor) == ("end-access", "sweep")


async def test_a_service_that_does_not_serve_is_left_by_force_and_its_accounts_end_later(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        await do(app, "stop", service="tracked")
        with pytest.raises(Conflict, match="is stopped"):
            await do(app, "unlink", service="tracked", project="blog")
        await do(app, "unlink", service="tracked", project="blog", force=True)
        await do(app, "start", service="tracked")
        await look_after(app)
        assert accounts(scene, "tracked") == {}


async def test_purging_is_done_at_once_and_says_what_goes(scene: Scene) -> None:
    async with scene.open() as app:
        said = await plan(app, "unlink", service="main", project="shop", purge=True)
        assert "The data of shop on main is deleted." in said.warnings
        assert len(said.apps) == 2
        await do(app, "unlink", service="main", project="shop", purge=True)
        assert scene.server("main").held.resources == {}


async def test_an_app_that_uses_the_api_goes_on_until_its_next_deploy(scene: Scene) -> None:
    admin = Actor(name="token:shop", scope="admin")
    async with scene.open() as app:
        await do(app, "unlink", service="main", project="shop")
        found = await app.context.store.read(
            lambda tx: resolve.find(tx, app.context, "fake", admin, "shop", "production")
        )
        assert found.binding.resource == "shop_production"  # type: ignore[union-attr]
        await do(app, "deploy", project="shop", image="app:2")
        with pytest.raises(NotFound):
            await app.context.store.read(
                lambda tx: resolve.find(tx, app.context, "fake", admin, "shop", "production")
            )


@pytest.mark.parametrize(("verb", "given", "effect"), [
    ("stop", {"service": "main"}, "does not reach main until it is started again"),
    ("restart", {"service": "main"}, "does not reach main until it is up again"),
    ("update", {"service": "main", "parameters": {"size": 3}},
    "does not reach main until it is up again"),
    ("upgrade", {"service": "main", "docker_image": "fake:2"},
    "does not reach main until the new server is up"),
    ("restore", {"backup": "1", "service_id": "main"}, "finds the data of the backup in main"),
    ("rotate-administrator", {"service": "main"}, "does not reach main until it is up again"),
])  # fmt: skip
async def test_a_plan_names_the_apps_that_it_hits(
    scene: Scene, verb: str, given: dict[str, Any], effect: str
) -> None:
    async with scene.open() as app:
        said = await plan(app, verb, **given)
        assert effects(said.apps) == {"shop/production": effect, "shop/preview": effect}


async def test_the_plans_of_a_rotation_and_a_deletion_name_theirs(scene: Scene) -> None:
    async with scene.open() as app:
        said = await plan(app, "rotate", project="shop")
        assert effects(said.apps) == {"shop/production": "loses main until it is deployed again"}
        await do(app, "unlink", service="main", project="shop")
        said = await plan(app, "delete", service="main")
        assert effects(said.apps) == dict.fromkeys(
            ("shop/production", "shop/preview"), "loses main permanently"
        )
        said = await plan(app, "upgrade", service="main", docker_image="fake:2", rehearse=True)
        assert said.apps == []
