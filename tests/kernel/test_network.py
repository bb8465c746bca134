"""A network that was lost is made anew, and what belongs to it is on it again."""

import pytest

from fake.scene import Scene, do
from fake.server import DATA
from purveyor.kernel.events import store as events

pytestmark = pytest.mark.anyio


async def test_a_network_that_was_lost_is_made_anew_with_all_that_belongs_to_it(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        since = {
            item.name: (item.id, item.started_at)
            for item in scene.engine.world.containers
            if item.state == "running"
        }
        old = await scene.engine.network_id()
        scene.engine.lose_network()
        await app.reconciler.sweep()
        new = await scene.engine.network_id()
        assert new not in ("", old)
        for name in ("fk-main", "fk-idle", "fk-tracked", "lent-db"):
            found = scene.engine.require(name)
            assert found.network_ids["fk"] == new, name
            assert (found.id, found.started_at) == since[name], "it went on running"
        assert scene.engine.require("fk.shop.production.1").aliases == ["shop-production"]
        told = await app.context.store.read(lambda tx: events.after(tx, 0, 5000))
        lost = [
            event
            for event in told
            if event.type == "service.incident" and "is not on the network" in event.data["reason"]
        ]
        assert {event.service for event in lost} >= {1, 2, 3}


async def test_what_was_stopped_when_the_network_was_lost_starts_on_the_new_one(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        scene.engine.lose_network()
        await app.reconciler.sweep()
        asleep = scene.engine.require("fk-asleep")
        await do(app, "start", service="asleep")
        assert scene.engine.require("fk-asleep").id == asleep.id
        assert asleep.network_ids["fk"] == await scene.engine.network_id()


async def test_one_that_was_taken_from_the_network_is_put_back_without_a_restart(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        found = scene.engine.require("fk-main")
        since = found.started_at
        await scene.engine.containers.leave("fk-main")
        await app.reconciler.sweep()
        assert found.network_ids["fk"] == await scene.engine.network_id()
        assert (scene.engine.require("fk-main").id, found.started_at) == (found.id, since)
        assert DATA in found.mounts


async def test_the_new_network_is_asked_for_with_the_addresses_of_the_old_one(scene: Scene) -> None:
    """Apps know the host by its address there."""
    async with scene.open() as app:
        scene.engine.subnets = (("10.9.0.0/16", "10.9.0.1"),)
        await app.reconciler.sweep()
    async with scene.open():
        assert scene.engine.subnets == (("10.9.0.0/16", "10.9.0.1"),)
