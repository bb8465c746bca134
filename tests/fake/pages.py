"""The dashboard of an installation on the fake engine, as those who are signed in reach it."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import EntryPoint

import httpx

from browsing import base_of
from fake.scene import PLUGINS, Scene
from purveyor.app import App, open_app
from purveyor.asgi import create_api
from purveyor.kernel.api import tokens
from purveyor.kernel.api.server import listen_local, listen_tcp, serving

DASHBOARD = EntryPoint(name="dashboard", value="purveyor_dashboard:plugin", group="purveyor")


class Desk:
    """`address` is where a browser finds it."""

    def __init__(self, app: App, socket: str, address: str, stack: AsyncExitStack) -> None:
        self.app = app
        self.address = address
        self._socket = socket
        self._stack = stack

    async def token(self, name: str, scope: str = "admin") -> str:
        _, token = await self.app.context.store.write(
            lambda tx: tokens.create(tx, name=name, scope=scope, project_id=None, expires_at=None)
        )
        return token

    async def enter(self, name: str, scope: str = "admin") -> httpx.AsyncClient:
        """Somebody who signs in."""
        client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=self._socket, verify=False),
            base_url="http://purveyor",
            timeout=60,
        )
        await self._stack.enter_async_context(client)
        answer = await client.post("/sign-in", data={"token": await self.token(name, scope)})
        location = answer.headers["location"]
        assert location == f"{base_of(location)}/services"
        client.base_url = client.base_url.join(base_of(location))
        return client


@asynccontextmanager
async def dashboard(scene: Scene) -> AsyncIterator[Desk]:
    path, public = scene.state / "pages.sock", listen_tcp("127.0.0.1", 0)
    async with (
        open_app(
            scene.state,
            make_engine=scene.engine_of,
            plugins=[*PLUGINS, DASHBOARD],
            log_level=logging.CRITICAL,
        ) as app,
        serving(create_api(app), local=[listen_local(path)], public=[public]),
        AsyncExitStack() as stack,
    ):
        yield Desk(app, str(path), f"http://127.0.0.1:{public.getsockname()[1]}", stack)


@asynccontextmanager
async def signed_in(scene: Scene) -> AsyncIterator[httpx.AsyncClient]:
    """An administrator."""
    async with dashboard(scene) as desk:
        yield await desk.enter("ada")
