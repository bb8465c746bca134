"""What a rotation replaces goes on working for as long as was asked, and then ends by itself."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from fake.scene import Scene, do, look_after
from purveyor import doctor
from purveyor.app import App
from purveyor.kernel.db import Store
from purveyor.projects import store as projects
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
