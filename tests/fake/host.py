"""Hosts that burn: each has an engine and a state directory of its own, and all of them the same
place for backups."""

import base64
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from fake import server
from fake.engine import FakeEngine
from fake.scene import IMAGES, PLUGINS, SETTINGS, Scene, do, furnish
from purveyor.app import App, StoreFactory, built
from purveyor.docker import Labels
from purveyor.kernel.db import Store
from purveyor.recovery import rebuild
from purveyor.recovery.rebuild import Prospect, Wanted


class Host(Scene):
    """A machine: `folder` is all of it. What its engine holds is not in the state directory, and no
    copy carries it."""

    def __init__(self, folder: Path, place: Path) -> None:
        super().__init__(folder / "state")
        self.folder, self.place = folder, place
        self.make_store: StoreFactory = Store
        self.changed: Any = lambda: None

    def begin(self) -> None:
        self.state.mkdir(parents=True)
        (self.state / "settings.toml").write_text(f'{SETTINGS}\nbackups = "{self.place}"\n')

    def engine_of(self, namespace: str, labels: Labels) -> FakeEngine:
        world = self.folder / "engine"
        world.mkdir(parents=True, exist_ok=True)
        self.engine = FakeEngine(namespace, labels, world)
        self.engine.world.images = IMAGES
        self.engine.run = server.run
        self.engine.changed = self.changed
        return self.engine

    def build(self, state: Path) -> AbstractAsyncContextManager[App]:
        return built(
            state,
            make_store=self.make_store,
            make_engine=self.engine_of,
            plugins=PLUGINS,
            log_level=logging.CRITICAL,
        )

    def burn(self) -> None:
        shutil.rmtree(self.folder)

    def key(self) -> bytes:
        return base64.b64decode((self.state / "backup.key").read_bytes())

    def wanted(self, key: bytes, **given: Any) -> Wanted:
        return Wanted(state=self.state, source=None, folder=self.place, key=key, **given)

    @asynccontextmanager
    async def look(self, key: bytes, **given: Any) -> AsyncIterator[Prospect]:
        """What a recovery onto this host would do."""
        async with rebuild.prospect(self.wanted(key, **given), self.build) as found:
            yield found

    async def claim(self, key: bytes, **given: Any) -> None:
        """Everything of a recovery but what comes after the claim."""
        wanted = self.wanted(key, **given)
        async with rebuild.prospect(wanted, self.build) as found:
            rebuild.problems(wanted, found)
            await rebuild.claim(wanted, found)

    async def recover(self, key: bytes, **given: Any) -> None:
        """As ``purveyor recover`` does it: from the beginning, or from where an earlier one was
        interrupted."""
        if rebuild.require_empty(self.state) is None:
            await self.claim(key, **given)
        async with self.open(make_store=self.make_store) as app:
            await app.recovery.run()


async def prepare(host: Host) -> bytes:
    """A furnished installation of which everything that can be is backed up; the answer is its
    key."""
    host.begin()
    async with host.open() as app:
        await furnish(host, app)
        for name in ("main", "tracked", "risen", "idle"):
            await do(app, "backup", service=name)
        await do(app, "start", service="asleep")
        await do(app, "backup", service="asleep")
        await do(app, "stop", service="asleep")
    return host.key()
