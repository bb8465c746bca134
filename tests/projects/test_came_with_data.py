"""Accounts that come with data: nobody gets in by one that the service does not have on record."""

from typing import Any

import pytest

from fake.scene import Scene, do
from purveyor.app import App
from purveyor.backups.operations.restore import Restore
from purveyor.backups.repository import BackupRepository
from purveyor.kernel.db import Tx
from purveyor.projects import store as projects
from purveyor.services import store as services
from purveyor_hooks import Failed

pytestmark = pytest.mark.anyio
SHOP = {"shop_production", "shop_preview"}


async def _kept(app: App, origin: str) -> str:
    def work(tx: Tx) -> str:
        return next(item.id for item in services.volumes(tx, ["kept"]) if item.origin == origin)

    return await app.context.store.read(work)


async def _waiting(app: App, service: str) -> set[str]:
    """Whose data is on record there, linked or not."""

    def work(tx: Tx) -> set[str]:
        number = services.get(tx, service).id
        return {item.resource for item in projects.bindings(tx, service_id=number)}

    return await app.context.store.read(work)


def _accounts(scene: Scene, service: str) -> set[str]:
    return {*scene.server(service).held.accounts}


async def _restored_into_another(app: App) -> str:
    await do(app, "restore", backup="1", service_id="idle")
    return "idle"


async def _purged_and_restored(app: App) -> str:
    await do(app, "unlink", service="main", project="shop", purge=True)
    await do(app, "restore", backup="1", service_id="main")
    return "main"


async def _kept_purged_and_cloned(app: App) -> str:
    await do(app, "restore", backup="1", service_id="main")
    await do(app, "unlink", service="main", project="shop", purge=True)
    await do(app, "clone-volume", volume=await _kept(app, "main"), name="copy")
    return "copy"


async def _kept_purged_and_attached(app: App) -> str:
    await do(app, "restore", backup="1", service_id="main")
    await do(app, "unlink", service="main", project="shop", purge=True)
    await do(app, "attach-volume", volume=await _kept(app, "main"), service="main")
    return "main"


async def _attached_to_another(app: App) -> str:
    await do(app, "restore", backup="1", service_id="main")
    await do(app, "attach-volume", volume=await _kept(app, "main"), service="idle")
    return "idle"


@pytest.mark.parametrize(
    "comes",
    [
        _restored_into_another,
        _purged_and_restored,
        _kept_purged_and_cloned,
        _kept_purged_and_attached,
        _attached_to_another,
    ],
)
async def test_nobody_gets_in_by_it_and_a_link_brings_its_project_back(
    scene: Scene, comes: object
) -> None:
    async with scene.open() as app:
        service = await comes(app)  # type: ignore[operator]
        assert not _accounts(scene, service) & SHOP
        assert "shop_production" in await _waiting(app, service)
        assert scene.server(service).held.resources["shop_production"]["precious"]
        if service == "idle":
            await do(app, "unlink", service="main", project="shop", now=True)
        await do(app, "link", service=service, project="shop")
        await do(app, "bind", project="shop", environment="production")
        held = scene.server(service).held
        (account,) = [name for name in held.accounts if name.startswith("shop_production")]
        assert held.resources["shop_production"]["precious"]
        assert account in held.accounts


@pytest.mark.parametrize("given", [{"service_id": "idle"}, {"new_name": "fresh"}])
async def test_whose_data_came_is_known_when_the_backups_place_is_gone_by_then(
    scene: Scene, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore reads its backup until the data is there, and nothing of it afterwards."""
    async with scene.open() as app:
        inner = Restore.compare

        async def compared(self: Restore, *args: Any, **named: Any) -> None:
            await inner(self, *args, **named)
            monkeypatch.setattr(BackupRepository, "manifest", _gone)

        monkeypatch.setattr(Restore, "compare", compared)
        await do(app, "restore", backup="1", **given)
        assert "shop_production" in await _waiting(app, *given.values())
        assert not _accounts(scene, *given.values()) & SHOP


async def _gone(*_: object, **__: object) -> None:
    raise Failed("The place is gone.")


async def test_a_restore_that_fails_records_nothing_of_what_came(scene: Scene) -> None:
    async with scene.open() as app:
        before = await _waiting(app, "idle")

        def acted(name: str) -> None:
            if name == "unbind":
                raise RuntimeError("injected by the test")

        scene.engine.acted = acted
        with pytest.raises(Exception, match=r"idle|unexpectedly|injected"):
            await do(app, "restore", backup="1", service_id="idle")
        scene.engine.acted = lambda name: None
        assert await _waiting(app, "idle") == before
        assert not _accounts(scene, "idle") & SHOP
