"""Verbs that would hurt each other on one service take turns, and one that is stuck is in nobody
else's way."""

from functools import partial
from typing import Any

import anyio
import pytest

from fake.scene import Scene, do
from purveyor.app import App
from purveyor.backups.repository import BackupRepository
from purveyor.kernel.db import Tx
from purveyor.kernel.events import store as events
from purveyor.kernel.operations import store as operations
from purveyor_hooks import Failed

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

    return await app.house.store.read(work)


def _first_step(app: App, verb: str) -> Held:
    """Where to hold each verb."""
    return {
        "backup": lambda: Held(app.part(BackupRepository), "write"),
        "update": lambda: Held(app.provision, "image"),
        "rotate": lambda: Held(app.house.registry.provider("fake"), "run", "rotate"),
        "rotate-administrator": lambda: Held(
            app.house.registry.provider("fake"), "run", "rotate_administrator"
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
            assert [item.verb for item in await app.house.store.read(operations.unfinished)] == [
                first
            ]
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
        left = [item.service_id for item in await app.house.store.read(operations.unfinished)]
        assert len(left) == 3
    async with scene.open(resume=False) as app:
        held = Held(app.provision, "container")  # the first of them hangs
        async with anyio.create_task_group() as group:
            group.start_soon(app.runner.recover)
            await held.reached.wait()
            with anyio.fail_after(20):
                while len(await app.house.store.read(operations.unfinished)) > 1:  # noqa: ASYNC110
                    await anyio.sleep(0.02)
            (last,) = await app.house.store.read(operations.unfinished)
            free = next(
                name
                for name, number in (("main", left[0]), ("idle", left[1]))
                if number != last.service_id
            )
            await do(app, "restart", service=free)
            held.go_on.set()
        assert await app.house.store.read(operations.unfinished) == []
