"""Networks of environments: their addresses, who is on them, and when they go; on the fake
engine."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest

from fake.engine import BRIDGE, Container
from fake.scene import Scene, create, do
from purveyor.app import App
from purveyor.kernel.db.database import note
from purveyor.services import networks
from purveyor.services.networks import CANDIDATES, RANGE, NetworkRecord
from purveyor_hooks import Conflict, ImageMissing

SUM = f"{networks.TOLD}.sum"
pytestmark = pytest.mark.anyio


async def recorded(app: App) -> dict[str, NetworkRecord]:
    def work(tx: Any) -> dict[str, NetworkRecord]:
        found = (
            networks.find(tx, row["environment_id"])
            for row in tx.rows("SELECT environment_id FROM networks")
        )
        return {item.name: item for item in found if item}

    return await app.context.store.read(work)


def of(scene: Scene, container: str) -> set[str]:
    return set(scene.engine.require(container).networks)


async def test_an_app_is_on_its_environments_network_alone_and_services_are_on_those_that_use_them(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        assert of(scene, "fk.shop.production.1") == {"fk.shop.production"}
        assert of(scene, "fk.shop.preview.2") == {"fk.shop.preview"}
        assert of(scene, "fk-main") == {"fk", "fk.shop.production", "fk.shop.preview"}
        assert of(scene, "fk-tracked") == {"fk"}, "its project has no app"
        first, second = (await recorded(app)).values()
        assert (first.subnet, first.gateway) == ("10.213.0.0/26", "10.213.0.1")
        assert (second.subnet, second.gateway) == ("10.213.0.64/26", "10.213.0.65")


async def test_what_is_linked_later_joins_and_what_is_unlinked_leaves(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "unlink", service="main", project="shop")
        assert of(scene, "fk-main") == {"fk", "fk.shop.production", "fk.shop.preview"}, (
            "apps use it until their next deploy"
        )
        await do(app, "link", service="idle", project="shop")
        assert of(scene, "fk-idle") == {"fk", "fk.shop.production"}, (
            "the link makes accounts for production"
        )
        await do(app, "deploy", project="shop", image="app:2")
        assert of(scene, "fk-main") == {"fk", "fk.shop.preview"}
        await do(app, "deploy", project="shop", environment="preview", image="app:2")
        assert of(scene, "fk-main") == {"fk"}
        assert of(scene, "fk-idle") == {"fk", "fk.shop.production", "fk.shop.preview"}


async def test_an_account_of_an_environment_without_a_network_costs_no_look_at_the_others(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        looked: list[str] = []
        ids = app.context.engine.networks.ids

        async def counted() -> dict[str, str]:
            looked.append("networks")
            return await ids()

        setattr(app.context.engine.networks, "ids", counted)
        await do(app, "bind", project="shop", environment="third")
        await do(app, "deploy", project="shop", environment="third", image="app:1")
        assert looked == [], "nor does its first app, whose network its services join"
        assert "fk.shop.third" in of(scene, "fk-main")
        await do(app, "unlink", service="main", project="shop")
        await do(app, "link", service="idle", project="shop")
        assert looked
        assert "fk.shop.production" in of(scene, "fk-idle")


async def test_a_container_that_is_to_know_whose_networks_it_is_on_is_told_before_it_joins(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        provider = app.context.registry.provider("fake")
        provider.kind = msgspec.structs.replace(provider.kind, told_networks=True, slots=(1, 9))
        joined: list[dict[str, str]] = []
        join = app.context.engine.containers.join

        async def noted(name: str, network: str = "") -> None:
            joined.append(dict(scene.engine.require("fk-idle").put))
            await join(name, network)

        setattr(app.context.engine.containers, "join", noted)
        await do(app, "unlink", service="main", project="shop")
        await do(app, "link", service="idle", project="shop")
        await do(app, "deploy", project="shop", environment="preview", image="app:2")
        assert [item[networks.TOLD] for item in joined] == [
            "1 10.213.0.0/26\n",
            "1 10.213.0.0/26\n2 10.213.0.64/26\n",
        ]
        last = joined[-1]
        assert f"{sha256(last[networks.TOLD][:-1].encode()).hexdigest()}\n" == last[SUM]
        assert networks.TOLD not in scene.engine.require("fk-tracked").put


async def test_a_service_that_was_stopped_leaves_what_is_gone_and_joins_what_is_recorded_before_it_starts(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        await do(app, "stop", service="main")
        scene.engine.lose_network("fk.shop.production")
        await app.reconciler.sweep()
        await do(app, "start", service="main")
        found = scene.engine.require("fk-main")
        assert set(found.networks) == {"fk", "fk.shop.production", "fk.shop.preview"}
        assert found.network_ids == {
            name: scene.engine.world.networks[name] for name in found.networks
        }


async def test_somebody_who_takes_a_service_or_an_app_from_its_network_is_told_of_and_undone(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        for name in ("fk-main", "fk.shop.production.1"):
            await scene.engine.containers.leave(name, "fk.shop.production")
        await app.reconciler.sweep()
        assert "fk.shop.production" in of(scene, "fk-main")
        assert scene.engine.require("fk.shop.production.1").aliases == ["shop-production"]


async def test_who_was_put_on_a_network_that_is_not_its_own_is_taken_off(scene: Scene) -> None:
    async with scene.open() as app:
        await scene.engine.containers.join("fk-idle", "fk.shop.production")
        await app.reconciler.sweep()
        assert of(scene, "fk-idle") == {"fk"}


async def test_a_network_goes_with_its_environment_and_stays_for_what_somebody_put_there(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        world = scene.engine.world
        guest = Container(
            id="c9", name="guest", image="app:1", image_id="sha256:app:1", labels={},
            environment={}, command=[], entrypoint=[],
            mounts={}, ports={}, networks={BRIDGE: "10.9.0.99", "fk.shop.preview": "10.9.0.98"},
            state="running",
            network_ids={"fk.shop.preview": world.networks["fk.shop.preview"]},
        )  # fmt: skip
        world.containers.append(guest)
        await do(app, "delete-environment", project="shop", environment="preview")
        assert "fk.shop.preview" in world.networks
        assert "fk.shop.preview" in guest.networks
        world.containers.remove(guest)
        await app.reconciler.sweep()
        assert "fk.shop.preview" not in world.networks
        assert set(await recorded(app)) == {"fk.shop.production"}
        assert of(scene, "fk-main") == {"fk", "fk.shop.production"}


async def test_a_network_that_cannot_be_made_keeps_nobody_from_the_others(scene: Scene) -> None:
    async with scene.open() as app:
        await app.context.store.write(lambda tx: note(tx, RANGE, "10.213.0.0/25"))
        first = (await recorded(app))["fk.shop.production"].subnet
        for name in ("fk.shop.production", "fk.shop.preview"):
            scene.engine.lose_network(name)
            scene.engine.world.subnets.pop(name)
        scene.engine.world.strangers = [first]
        await app.reconciler.sweep()
        assert "fk.shop.preview" in scene.engine.world.networks
        assert "fk.shop.production" not in scene.engine.world.networks
        assert "fk.shop.preview" in of(scene, "fk-main")
        scene.engine.world.strangers = []
        await app.reconciler.sweep()
        assert "fk.shop.production" in scene.engine.world.networks


async def test_a_first_deploy_that_fails_leaves_no_network(scene: Scene) -> None:
    async with scene.open() as app:
        with pytest.raises(ImageMissing):
            await do(app, "deploy", project="bare", image="nowhere:1")
        await app.reconciler.sweep()
        assert "fk.bare.production" not in scene.engine.world.networks
        assert "fk.bare.production" not in await recorded(app)


async def test_addresses_that_somebody_has_are_not_taken(scene: Scene) -> None:
    async with scene.open() as app:
        scene.engine.world.strangers = ["10.213.0.128/26", "not a range"]
        await do(app, "deploy", project="bare", image="app:1")
        assert (await recorded(app))["fk.bare.production"].subnet == "10.213.0.192/26"


async def test_a_wider_route_that_came_later_ends_no_deploys(scene: Scene) -> None:
    async with scene.open() as app:
        scene.engine.world.strangers = ["10.0.0.0/8"]
        await do(app, "deploy", project="bare", image="app:1")
        assert (await recorded(app))["fk.bare.production"].subnet == "10.213.0.128/26"


async def test_a_network_whose_addresses_were_taken_meanwhile_gets_others(scene: Scene) -> None:
    """As on the host of a recovery."""
    async with scene.open() as app:
        before = (await recorded(app))["fk.shop.production"].subnet
        scene.engine.lose_network("fk.shop.production")
        scene.engine.world.subnets.pop("fk.shop.production")
        scene.engine.world.strangers = [before]
        await app.reconciler.sweep()
        after = (await recorded(app))["fk.shop.production"].subnet
        assert after not in (before, "")
        assert scene.engine.world.subnets["fk.shop.production"] == after
        assert "fk.shop.production" in of(scene, "fk-main")


@pytest.mark.parametrize(("used", "expected"), [
    ([], CANDIDATES[0]), (["10.213.7.0/24"], CANDIDATES[1]),
    (["10.213.0.0/16", "10.199.1.1"], CANDIDATES[2]),
    (["10.0.0.0/8", "172.31.4.0/24"], "172.30.0.0/16"), (["10.0.0.0/8", "172.16.0.0/12"], None),
])  # fmt: skip
async def test_the_first_range_that_nobody_on_the_host_uses_is_chosen(
    scene: Scene, used: list[str], expected: str | None
) -> None:
    async with scene.open() as app:

        def work(tx: Any) -> str:
            tx.db.execute("DELETE FROM networks")
            tx.db.execute("DELETE FROM meta WHERE key = ?", [RANGE])
            return str(networks._allocated(tx, 77, "fk.x.y", used).subnet)

        if expected is None:
            with pytest.raises(Conflict, match="No range of addresses is free") as caught:
                await app.context.store.write(work)
            assert "network-range" in caught.value.remedy
        else:
            assert await app.context.store.write(work) == expected.replace("/16", "/26")


async def test_a_range_that_is_full_is_said_with_the_setting(scene: Scene) -> None:
    async with scene.open() as app:
        await app.context.store.write(lambda tx: note(tx, RANGE, "10.213.0.0/25"))
        with pytest.raises(Conflict, match="no free addresses") as caught:
            await do(app, "deploy", project="bare", image="app:1")
        assert "network-range" in caught.value.remedy
        assert "fk.bare.production.3" not in {item.name for item in scene.engine.world.containers}


async def test_there_is_an_end_of_networks_of_a_host_and_of_a_service(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene.open() as app:
        monkeypatch.setattr(networks, "MOST_OF_SERVICE", 2)
        await do(app, "bind", project="shop", environment="third")
        with pytest.raises(Conflict, match="main is on the networks of 2 environments"):
            await do(app, "deploy", project="shop", environment="third", image="app:1")
        monkeypatch.setattr(networks, "MOST", 2)
        with pytest.raises(Conflict, match="2 environments have apps"):
            await do(app, "deploy", project="bare", image="app:1")
        await do(app, "deploy", project="shop", image="app:2")


async def test_an_app_of_before_is_taken_in_under_its_name(scene: Scene) -> None:
    async with scene.open() as app:
        found = scene.engine.require("fk.shop.production.1")
        await app.context.store.write(lambda tx: tx.db.execute("DELETE FROM networks"))
        scene.engine.world.networks = {"fk": scene.engine.world.networks["fk"]}
        scene.engine.world.subnets = {}
        for item in scene.engine.world.containers:
            for name in [name for name in item.networks if name.startswith("fk.")]:
                item.networks.pop(name)
                item.network_ids.pop(name)
        await scene.engine.containers.connect(found.id, ["shop-production"])
        since = found.started_at
        await app.reconciler.sweep()
        assert set(found.networks) == {"fk", "fk.shop.production"}
        assert (found.aliases, found.started_at) == (["shop-production"], since)
        assert {"fk.shop.production", "fk.shop.preview"} <= of(scene, "fk-main")
        await do(app, "deploy", project="shop", image="app:2")
        assert of(scene, "fk.shop.production.3") == {"fk.shop.production"}


async def test_an_imported_container_is_on_them_and_is_given_back_without(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "link", service="lent", project="bare")
        await do(app, "deploy", project="bare", image="app:1")
        assert of(scene, "lent-db") == {BRIDGE, "fk", "fk.bare.production"}
        await scene.engine.containers.leave("lent-db", "fk.bare.production")
        await app.reconciler.sweep()
        assert of(scene, "lent-db") == {BRIDGE, "fk", "fk.bare.production"}
        await do(app, "unlink", service="lent", project="bare", now=True)
        await do(app, "delete", service="lent")
        assert of(scene, "lent-db") == {BRIDGE}


async def test_a_new_service_that_takes_an_old_ones_place_is_on_its_networks(scene: Scene) -> None:
    async with scene.open() as app:
        await create(app, "more")
        await do(app, "update", service="main", parameters={"size": 2})
        assert of(scene, "fk-main") == {"fk", "fk.shop.production", "fk.shop.preview"}
        await do(app, "upgrade", service="main", docker_image="fake:2")
        assert of(scene, "fk-main") == {"fk", "fk.shop.production", "fk.shop.preview"}
        assert of(scene, "fk-more") == {"fk"}
