"""Apps know the API by a name that stays, whatever address the host has on the containers'
network."""

import msgspec
import pytest

from fake import server
from fake.scene import Scene, do
from purveyor.kernel.api import address
from purveyor.projects import variables
from purveyor_hooks import Binding, Service, ServiceType, Variable, hookimpl

pytestmark = pytest.mark.anyio
APP = "fk.shop.production"


@pytest.fixture
def with_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services that apps use through the API."""
    plain, plainly = server.service_type(), server.environment

    @hookimpl
    def service_type() -> ServiceType:
        return msgspec.structs.replace(plain, uses_api=True)

    @hookimpl
    def environment(service: Service, binding: Binding) -> list[Variable]:
        where = binding.api.url if binding.api else ""
        return [
            *plainly(service, binding),
            Variable(name=f"{service.name.upper()}_API_URL", value=where),
        ]

    monkeypatch.setattr(server, "service_type", service_type)
    monkeypatch.setattr(server, "environment", environment)


async def test_a_deployed_app_has_the_name_and_what_is_joined_by_hand_the_address(
    scene: Scene, with_api: None
) -> None:
    async with scene.open() as app:
        await app.context.store.write(
            lambda tx: (address.note_port(tx, 8500), address.note_gateway(tx, "10.9.0.1"))
        )
        await do(app, "deploy", project="shop", image="app:2")
        [running] = [
            item for item in scene.engine.world.containers if item.name.startswith(f"{APP}.")
        ]
        assert running.environment["MAIN_API_URL"] == "http://purveyor-api:8500"
        assert running.hosts == {"purveyor-api": "10.9.0.1"}
        by_hand = await app.context.store.read(
            lambda tx: variables.merge_variables(tx, variables.variables_of(tx, app.context, 1, 1))
        )
        assert [item.value for item in by_hand if item.name == "MAIN_API_URL"] == [
            "http://10.9.0.1:8500"
        ]


async def test_an_app_whose_name_for_the_api_leads_astray_is_made_anew_with_the_address_of_now(
    scene: Scene, with_api: None
) -> None:
    async with scene.open() as app:
        await app.context.store.write(
            lambda tx: (address.note_port(tx, 8500), address.note_gateway(tx, "10.9.0.1"))
        )
        await do(app, "deploy", project="shop", image="app:2", variables={"OWN": "kept"})
        older = [
            item.id
            for item in scene.engine.world.containers
            if item.name.startswith("fk.shop.preview.")
        ]
        # the network was lost, and is elsewhere
        await app.context.store.write(lambda tx: address.note_gateway(tx, "10.9.7.1"))
        await app.reconciler.sweep()
        running = [item for item in scene.engine.world.containers if item.hosts]
        assert [(item.name.startswith(f"{APP}."), item.state) for item in running] == [
            (True, "running")
        ]
        assert running[0].hosts == {"purveyor-api": "10.9.7.1"}
        assert (running[0].environment["MAIN_API_URL"], running[0].environment["OWN"]) == (
            "http://purveyor-api:8500",
            "kept",
        )
        assert running[0].aliases == ["shop-production"]
        assert older == [
            item.id
            for item in scene.engine.world.containers
            if item.name.startswith("fk.shop.preview.")
        ]
        [told] = await app.context.store.read(
            lambda tx: list(tx.rows("SELECT data FROM events WHERE type = 'app.incident'"))
        )
        assert "looks for purveyor-api at 10.9.0.1, and that is at 10.9.7.1 now" in told["data"]
