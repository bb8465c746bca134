"""A deploy that fails takes back what it made, and nothing that was there before it."""

import msgspec
import pytest

from fake import server
from fake.scene import Scene, do
from purveyor.kernel.api import address
from purveyor.projects import store as projects
from purveyor.projects import tokens
from purveyor.services import store as services
from purveyor_hooks import Failed, ServiceType, hookimpl

pytestmark = pytest.mark.anyio


async def test_an_account_that_lacked_only_its_token_stays_when_the_deploy_fails(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = server.service_type()

    @hookimpl
    def service_type() -> ServiceType:
        return msgspec.structs.replace(plain, uses_api=True)

    # as after an update of the plugin: nobody has a token yet
    monkeypatch.setattr(server, "service_type", service_type)
    async with scene.open() as app:
        await app.context.store.write(
            lambda tx: (address.note_port(tx, 1), address.note_gateway(tx, "10.9.0.1"))
        )
        before = scene.server("main").held.accounts

        def acted(name: str) -> None:
            if name == "start container":
                raise Failed("injected")

        scene.engine.acted = acted
        with pytest.raises(Failed):
            await do(app, "deploy", project="shop", image="app:2")
        scene.engine.acted = lambda name: None
        assert scene.server("main").held.accounts == before
        bound = await app.context.store.read(
            lambda tx: [
                item.state for item in projects.bindings(tx, service_id=services.get(tx, "main").id)
            ]
        )
        assert bound == ["bound", "bound"]
        assert await app.context.store.read(lambda tx: tokens.of_environment(tx, 1))
        await do(app, "deploy", project="shop", image="app:2")
        assert scene.server("main").held.accounts == before
