"""The doctor looks at what is: the running app's own variables, what should run, backups,
schedules, disks."""

from datetime import timedelta
from typing import Any, NamedTuple

import anyio
import httpx
import pytest

from fake.engine import FakeContainers
from fake.scene import Scene, do
from purveyor import checks
from purveyor.app import App
from purveyor.asgi import create_api
from purveyor.backups import store as backups
from purveyor.checks import Check
from purveyor.doctor import examine
from purveyor.kernel.api import tokens
from purveyor.kernel.db import Tx

pytestmark = pytest.mark.anyio


async def wrong(app: App) -> list[str]:
    found = [check for check in await examine(app, None, "production") if not check.ok]
    assert all(check.remedy for check in found)
    return [f"{check.subject}: {check.name}" for check in found]


async def of_app(app: App) -> dict[str, Check]:
    return {check.name: check for check in await checks.of_app(app, "shop", "production")}


async def test_an_app_that_has_what_a_deploy_would_give_it_is_well(scene: Scene) -> None:
    async with scene.open() as app:
        found = await of_app(app)
        assert set(found) == {"app", "variables"}
        assert all(check.ok for check in found.values())
        await do(app, "deploy", project="shop", image="app:2", variables={"TOPPING": "cheese"})
        assert (await of_app(app))["variables"].ok, "its own variables are nobody else's"


@pytest.mark.parametrize("verb", ["rotate", "unlink"])
async def test_an_app_that_was_deployed_before_the_last_change_is_told_by_the_names_that_differ(
    verb: str, scene: Scene
) -> None:
    async with scene.open() as app:
        given: dict[str, Any] = {"project": "shop"} | (
            {"service": "main"} if verb == "unlink" else {}
        )
        secret = scene.engine.require("fk.shop.production.1").environment["FAKE_PASSWORD"]
        await do(app, verb, **given)
        found = (await of_app(app))["variables"]
        assert not found.ok
        assert "FAKE_PASSWORD" in found.detail
        assert ("FAKE_HOST" in found.detail) == (verb == "unlink")
        assert secret not in found.detail
        assert "purveyor deploy shop -e production" in found.remedy
        await do(app, "deploy", project="shop", image="app:1")
        assert (await of_app(app))["variables"].ok


async def test_an_app_that_does_not_run_is_told(scene: Scene) -> None:
    async with scene.open() as app:
        scene.engine.die(scene.engine.require("fk.shop.production.1"), 3)
        found = (await of_app(app))["app"]
        assert (found.ok, found.detail) == (False, "It ended (exit code 3).")
        assert await wrong(app) == ["shop/production: app"]


async def test_services_that_should_run_and_do_not_are_told_and_those_that_rest_are_not(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        assert await wrong(app) == []
        scene.engine.die(scene.engine.require("fk-main"))
        scene.engine.pause(scene.engine.require("fk-idle"))
        assert await wrong(app) == ["main: down", "idle: paused"]


async def test_a_last_backup_that_is_no_good_is_told_until_another_is_made(scene: Scene) -> None:
    async with scene.open() as app:
        await app.context.store.write(
            lambda tx: backups.update(tx, 1, state="suspect", error_message="a byte was altered")
        )
        (found,) = [check for check in await checks.of_backups(app) if not check.ok]
        assert (found.subject, found.name) == ("main", "last backup")
        assert "a byte was altered" in found.detail
        await do(app, "backup", service="main")
        assert await wrong(app) == []


async def test_a_schedule_that_is_late_is_told(scene: Scene) -> None:
    async with scene.open() as app:
        await app.context.store.write(lambda tx: _schedule(tx, late=timedelta(minutes=1)))
        assert await wrong(app) == []
        await app.context.store.write(
            lambda tx: backups.update_schedule(tx, 1, next_run=tx.now - timedelta(hours=1))
        )
        assert await wrong(app) == ["schedule: nightly"]
        await app.context.store.write(lambda tx: backups.update_schedule(tx, 1, enabled=False))
        assert await wrong(app) == []


def _schedule(tx: Tx, *, late: timedelta) -> None:
    backups.insert_schedule(
        tx,
        name="nightly",
        backup_type="full",
        retention_period=7,
        retention_count=0,
        schedule_expression="0 3 * * *",
        enabled=True,
        description="",
        tags=[],
        s3_source_id=None,
        service_ids=[],
        verify=False,
        next_run=tx.now - late,
    )


class Usage(NamedTuple):
    total: int
    used: int
    free: int


async def test_a_disk_that_is_as_good_as_full_is_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene.open() as app:
        monkeypatch.setattr(
            checks.shutil, "disk_usage", lambda _: Usage(100 * 1024**3, 99 * 1024**3, 1024**3)
        )
        (found,) = [check for check in await checks.of_disks(app) if not check.ok]
        assert found.detail.startswith("1.0 of 100 GB free at ")


async def test_a_state_directory_that_others_may_enter_is_told(scene: Scene) -> None:
    async with scene.open() as app:
        assert not [
            item
            for item in await examine(app, None, "production", quick=True)
            if item.name == "folder"
        ]
        scene.state.chmod(0o755)
        (told,) = [
            item
            for item in await examine(app, None, "production", quick=True)
            if item.name == "folder"
        ]
        assert told.ok
        assert "755" in told.detail
        assert told.remedy == f"chmod 700 {scene.state}"


async def test_an_engine_that_is_away_is_one_check_and_the_rest_is_looked_at(scene: Scene) -> None:
    async with scene.open() as app:
        scene.engine.away = "The engine is away."
        found = await examine(app, None, "production")
        assert [check.name for check in found if not check.ok] == ["answers"]
        assert {"backups", "disk"} <= {check.subject for check in found}


async def test_two_who_look_from_one_network_at_once_see_the_same(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[str] = []
    most: list[int] = []
    wait = FakeContainers.wait

    async def slow(self: FakeContainers, name: str) -> int:
        running.append(name)
        most.append(len(running))
        await anyio.sleep(0.01)
        running.remove(name)
        return await wait(self, name)

    monkeypatch.setattr(FakeContainers, "wait", slow)
    found: list[list[tuple[str, bool, str]]] = []

    async def look() -> None:
        checks = await examine(app, "shop", "production")
        found.append([(item.name, item.ok, item.detail) for item in checks])

    async with scene.open() as app, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(look)
    assert found[0] == found[1] == found[2]
    assert "resolve" in {name for name, _, _ in found[0]}
    assert max(most) == 1


async def test_who_may_only_read_starts_no_container(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene.open() as app:

        def make(tx: Tx) -> dict[str, str]:
            return {
                scope: tokens.create(tx, name=scope, scope=scope, project_id=None, expires_at=None)[
                    1
                ]
                for scope in ("read", "admin")
            }

        made = await app.context.store.write(make)
        transport: Any = httpx.ASGITransport(app=create_api(app))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://p") as client:

            async def ask(scope: str, **params: Any) -> httpx.Response:
                acts: list[str] = []
                monkeypatch.setattr(scene.engine, "acted", acts.append)
                answer = await client.get(
                    "/api/doctor",
                    params={"project": "shop", **params},
                    headers={"Authorization": f"Bearer {made[scope]}"},
                )
                started.append("start container" in acts)
                return answer

            started: list[bool] = []
            refused = await ask("read")
            assert refused.status_code == 403
            assert "quick" in refused.json()["remedy"]
            assert (await ask("read", quick=True)).status_code == 200
            assert started == [False, False]
            assert (await ask("admin")).status_code == 200
            assert started[-1]
