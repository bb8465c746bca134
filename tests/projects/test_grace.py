"""What a rotation replaces goes on working for as long as was asked, and then ends by itself."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from attacks.told import attack
from fake.scene import Scene, do, look_after
from purveyor import doctor
from purveyor.app import App
from purveyor.kernel.db import Store
from purveyor.projects import store as projects
from purveyor.projects.endings import Endings
from purveyor.projects.models import BindingRecord
from purveyor.services import routes as service_routes
from purveyor.services import store as services
from purveyor_hooks import Conflict

pytestmark = pytest.mark.anyio


async def bound(app: App) -> BindingRecord:
    return await app.context.store.read(
        lambda tx: projects.bindings(tx, service_id=services.get(tx, "main").id)[0]
    )


def former(scene: Scene) -> dict[str, str]:
    return dict(scene.server("main").held.former)


async def test_it_outlives_the_daemon_and_ends_in_its_time(scene: Scene) -> None:
    async with scene.open() as app:
        old = (await bound(app)).password
        given: dict[str, Any] = {"project": "shop", "service": "main", "grace": 600}
        plan = await app.plan(
            "rotate", msgspec.convert(given, app.operation_type("rotate").arguments)
        )
        assert "deploy the app before" in plan.warnings[0]
        assert "unless it is deployed again" in plan.apps[0].effect
        await do(app, "rotate", **given)
        assert former(scene) == {"shop_production": old}
        assert (await bound(app)).password != old
        with pytest.raises(Conflict, match="already"):
            await do(app, "rotate", **given)
    async with scene.open() as app:
        await look_after(app)
        assert former(scene) == {"shop_production": old}
        details = await service_routes.service_details(app, "main")
        assert [(item.project, item.until is not None) for item in details.endings] == [
            ("shop", True)
        ]
        assert "Former credentials of shop/production work until" in str(await doctor.endings(app))
    later = partial(Store, clock=lambda: datetime.now(UTC) + timedelta(seconds=601))
    async with scene.open(make_store=later) as app:
        await look_after(app)
        assert former(scene) == {}
        assert (await service_routes.service_details(app, "main")).endings == []


@pytest.mark.parametrize("verb", ["rotate", "unlink"])
async def test_what_comes_before_ends_it_too(verb: str, scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "rotate", project="shop", service="main", grace=600)
        more = {"now": True} if verb == "unlink" else {}
        await do(app, verb, project="shop", service="main", **more)
        assert former(scene) == {}
        assert (await bound(app)).former_until is None


EXCHANGES: dict[str, dict[str, Any]] = {
    "restore": {"backup": "1", "service_id": "main"},
    "upgrade": {"service": "main", "docker_image": "fake:2"},
}


@pytest.mark.parametrize("name", EXCHANGES)
async def test_other_data_ends_it_before_its_time_and_the_plan_says_so(
    name: str, scene: Scene
) -> None:
    async with scene.open() as app:
        await do(app, "rotate", project="shop", service="main", grace=600)
        given = msgspec.convert(EXCHANGES[name], app.operation_type(name).arguments)
        plan = await app.plan(name, given)
        assert "The former credentials of shop/production, which were to work until" in str(
            plan.warnings
        )
        await do(app, name, **EXCHANGES[name])
        assert former(scene) == {}
        await look_after(app)
        assert (await service_routes.service_details(app, "main")).endings == []
        await do(app, "rotate", project="shop", service="main", grace=600)


async def test_data_of_before_brings_nothing_back_that_has_ended(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "rotate", project="shop", service="main", grace=600)
        await do(app, "restore", backup="1", service_id="main")
        kept = await app.context.store.read(lambda tx: services.volumes(tx, ["kept"]))
        volume = next(item.id for item in kept if item.origin == "main")
        await do(app, "attach-volume", service="main", volume=volume)
        assert former(scene) == {}


@attack(
    "rotation",
    "have more time by a clock that is set back",
    honest="has its time although the clock says less",
)
async def test_a_clock_that_is_set_back_gives_it_no_more_time(scene: Scene) -> None:
    passed, off = 0.0, timedelta()
    moved = partial(Store, clock=lambda: datetime.now(UTC) + off)
    async with scene.open(make_store=moved) as app:
        endings = Endings(
            app.context, app.runner, app.operation_types, app.now, passed=lambda: passed
        )
        await do(app, "rotate", project="shop", service="main", grace=600)
        await endings.turn()
        off, passed = timedelta(days=-1), 599.0
        await endings.turn()
        assert set(former(scene)) == {"shop_production"}
        passed = 601.0
        await endings.turn()
        assert former(scene) == {}
        assert (await bound(app)).former_until is None
