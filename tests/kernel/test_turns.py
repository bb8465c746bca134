"""Verbs that would hurt each other on one service take turns, and one that is stuck is in nobody
else's way."""

from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest

from attacks.told import attack
from fake.scene import Scene, do
from purveyor.app import App
from purveyor.backups.repository import BackupRepository
from purveyor.kernel.db import Tx
from purveyor.kernel.events import store as events
from purveyor.kernel.operations import by_hand
from purveyor.kernel.operations import store as operations
from purveyor.projects import store as projects
from purveyor.services import store as services
from purveyor_hooks import Cancelled, Failed, ImageMissing

pytestmark = pytest.mark.anyio


class Held:
    """The first call of a step, or of one `hook`, is held until it is let go; later ones pass."""

    def __init__(self, owner: Any, name: str, hook: str = "") -> None:
        self._hook = hook
        self.reached, self.go_on = anyio.Event(), anyio.Event()
        self._original = getattr(owner, name)
        setattr(owner, name, self)

    async def __call__(self, *given: Any, **more: Any) -> Any:
        if not self.reached.is_set() and (not self._hook or self._hook == given[0]):
            self.reached.set()
            await self.go_on.wait()
        return await self._original(*given, **more)


async def ends(app: App) -> list[str]:
    def work(tx: Tx) -> list[str]:
        return [
            event.type
            for event in events.after(tx, 0)
            if event.type.endswith((".started", ".succeeded", ".failed"))
        ]

    return await app.context.store.read(work)


def _first_step(app: App, verb: str) -> Held:
    """Where to hold each verb."""
    return {
        "backup": lambda: Held(app.part(BackupRepository), "write"),
        "update": lambda: Held(app.provision, "image"),
        "rotate": lambda: Held(app.context.registry.provider("fake"), "run", "rotate"),
        "rotate-administrator": lambda: Held(
            app.context.registry.provider("fake"), "run", "rotate_administrator"
        ),
        "restart": lambda: Held(app.provision, "stop"),
    }[verb]()


MAIN: dict[str, dict[str, Any]] = {
    "backup": {"service": "main"},
    "update": {"service": "main", "parameters": {"size": 4}},
    "rotate": {"project": "shop"},
    "rotate-administrator": {"service": "main"},
    "restart": {"service": "main"},
}


@pytest.mark.parametrize(("first", "second"), [
    ("backup", "rotate-administrator"), ("rotate-administrator", "backup"), ("rotate", "update"),
    ("update", "rotate"),
    ("rotate", "rotate-administrator"), ("restart", "rotate"), ("update", "restart"),
])  # fmt: skip
async def test_these_take_turns_on_one_service(scene: Scene, first: str, second: str) -> None:
    async with scene.open() as app:
        before = len(await ends(app))
        held = _first_step(app, first)
        async with anyio.create_task_group() as group:
            group.start_soon(partial(do, app, first, **MAIN[first]))
            await held.reached.wait()
            group.start_soon(partial(do, app, second, **MAIN[second]))
            await anyio.sleep(0.2)
            assert [
                item.verb for item in await app.context.store.read(operations.list_unfinished)
            ] == [first]
            held.go_on.set()
        told = (await ends(app))[before:]
        assert [kind.rpartition(".")[2] for kind in told] == [
            "started",
            "succeeded",
            "started",
            "succeeded",
        ]
        assert all(await scene_is_whole(scene, app))


async def scene_is_whole(scene: Scene, app: App) -> list[bool]:
    """Whatever was renewed, the server and the record agree."""
    from fake.scene import picture

    found = (await picture(scene, app))["servers"]["fk-main"]
    return [found["administrator"], *found["accounts"].values()]


@attack(
    "tokens and sign-in",
    "keep everybody from a service by an app that never comes up",
    honest="waits for its app as long as it said, and others work on the service meanwhile",
)
async def test_an_app_that_takes_long_to_come_up_is_in_nobody_elses_way(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "create-project", name="other")
        await do(app, "link", service="main", project="other")
        shop, main = await app.context.store.read(
            lambda tx: (projects.get(tx, "shop").id, services.get(tx, "main").id)
        )
        held = Held(app.context.engine.images, "ensure")
        async with anyio.create_task_group() as group:
            group.start_soon(partial(do, app, "deploy", project="shop", image="app:2"))
            await held.reached.wait()
            await do(app, "deploy", project="other", image="app:1")
            await do(app, "rotate-administrator", service="main")
            await do(app, "restart", service="main")
            assert app.runner.busy(shop, "project")
            assert not app.runner.busy(main)
            held.go_on.set()
        assert not app.runner.busy(shop, "project")
        assert scene.engine.require("fk.shop.production.3").state == "running"
        assert all(await scene_is_whole(scene, app))


@pytest.mark.parametrize("ending", ["done", "cancelled", "failed"])
async def test_what_a_deploy_does_to_services_waits_for_its_turn(scene: Scene, ending: str) -> None:
    """Whatever becomes of the app: the account of a new environment stays, or is taken back, when
    whoever works on the service meanwhile is done."""
    async with scene.open() as app:
        main = await app.context.store.read(lambda tx: services.get(tx, "main").id)
        started, updated = Held(app.context.engine.images, "ensure"), Held(app.provision, "stop")
        image = "nowhere:1" if ending == "failed" else "app:2"
        given = {"project": "shop", "environment": "third", "create": True, "image": image}

        async def deploy() -> None:
            with suppress(Cancelled, ImageMissing):
                await do(app, "deploy", **given)

        async with anyio.create_task_group() as group:
            group.start_soon(deploy)
            await started.reached.wait()
            assert "shop_third" in scene.server("main").held.resources
            group.start_soon(partial(do, app, "restart", service="main"))
            await updated.reached.wait()
            (number,) = (
                item.id
                for item in await app.context.store.read(operations.list_unfinished)
                if item.verb == "deploy"
            )
            if ending == "cancelled":
                group.start_soon(by_hand.cancel, app.runner, number, "ada")
            else:
                started.go_on.set()
            with anyio.fail_after(10):
                while "(restart)" not in app.runner.waiting(number):  # noqa: ASYNC110
                    await anyio.sleep(0.02)
            assert "shop_third" in scene.server("main").held.resources
            updated.go_on.set()
        assert not app.runner.busy(main)
        assert ("shop_third" in scene.server("main").held.resources) == (ending == "done")
        assert all(await scene_is_whole(scene, app))


async def test_recovery_goes_on_past_a_service_that_is_stuck(scene: Scene) -> None:
    async with scene.open() as app:
        stuck = True

        def acted(name: str) -> None:
            if stuck and name in ("stop container", "start container"):
                raise Failed("It cannot be done now.")

        scene.engine.acted = acted
        for service in ("main", "idle", "tracked"):
            with pytest.raises(Failed):
                await do(app, "update", service=service, parameters={"size": 7})
        left = [
            item.service_id for item in await app.context.store.read(operations.list_unfinished)
        ]
        assert len(left) == 3
    async with scene.open(resume=False) as app:
        held = Held(app.provision, "container")  # the first of them hangs
        async with anyio.create_task_group() as group:
            group.start_soon(app.runner.recover)
            await held.reached.wait()
            with anyio.fail_after(20):
                while len(await app.context.store.read(operations.list_unfinished)) > 1:  # noqa: ASYNC110
                    await anyio.sleep(0.02)
            (last,) = await app.context.store.read(operations.list_unfinished)
            free = next(
                name
                for name, number in (("main", left[0]), ("idle", left[1]))
                if number != last.service_id
            )
            await do(app, "restart", service=free)
            held.go_on.set()
        assert await app.context.store.read(operations.list_unfinished) == []
