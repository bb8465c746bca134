"""The HTTP API of an installation on the fake engine, asked by the local socket and by whoever has
a token."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from fake.scene import Scene
from purveyor.app import App, StoreFactory
from purveyor.asgi import create_api
from purveyor.audit import store as audit
from purveyor.audit.models import AuditRecord, Verdict, Wanted
from purveyor.kernel.api.server import listen_local, listen_tcp, serving
from purveyor.kernel.db import Store


class Asked:
    """`local` is the owner of the state directory; `by` is a client with a token, from
    127.0.0.1."""

    def __init__(
        self, app: App, local: httpx.AsyncClient, address: str, stack: AsyncExitStack
    ) -> None:
        self.app = app
        self.local = local
        self._address = address
        self._stack = stack

    async def by(self, token: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = httpx.AsyncClient(base_url=self._address, headers=headers, timeout=10)
        return await self._stack.enter_async_context(client)

    async def token(self, name: str, **given: Any) -> dict[str, Any]:
        answer = await self.local.post("/api/tokens", json={"name": name, **given})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def entries(self, **wanted: Any) -> list[AuditRecord]:
        """The audit log, oldest first."""
        found = await self.app.context.store.read(
            lambda tx: audit.page(tx, Wanted(**wanted), limit=1000, offset=0)
        )
        return found.items[::-1]

    async def verdict(self, newest: int | None = None) -> Verdict:
        return await self.app.context.store.examine(lambda tx: audit.verify(tx, newest))


@asynccontextmanager
async def asked(
    scene: Scene, make_store: StoreFactory = Store, called: str = "local socket"
) -> AsyncIterator[Asked]:
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(scene.open(make_store=make_store))
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "s"
        public = listen_tcp("127.0.0.1", 0)
        sockets = serving(
            create_api(app), local=[listen_local(path)], public=[public], called=called
        )
        await stack.enter_async_context(sockets)
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        local = httpx.AsyncClient(transport=transport, base_url="http://purveyor", timeout=20)
        await stack.enter_async_context(local)
        yield Asked(app, local, f"http://127.0.0.1:{public.getsockname()[1]}", stack)
