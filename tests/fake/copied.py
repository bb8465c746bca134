"""An installation on the fake engine whose state is copied to folders, and places that are away or
hang when they are told to."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import msgspec

from fake.scene import Scene
from purveyor.app import App, StoreFactory
from purveyor.backups.fence import Fence
from purveyor.backups.storage import LocalStorage, Storage
from purveyor.context import Context
from purveyor.kernel.db import Store
from purveyor.kernel.db.database import installation
from purveyor.kernel.events import store as events
from purveyor.recovery import document, finding
from purveyor.recovery.copier import StateCopies, Status, Target
from purveyor.recovery.sealing import Keys
from purveyor_hooks import Event

PATIENCE = 10.0


class Fickle(LocalStorage):
    """A folder that hangs for as long as it is `frozen`, or a file `flag` is there."""

    def __init__(self, root: Path, flag: Path | None = None) -> None:
        super().__init__(root)
        self.frozen = False
        self._flag = flag

    async def _wait(self) -> None:
        while self.frozen or (self._flag is not None and self._flag.exists()):  # noqa: ASYNC110 - set from outside
            await anyio.sleep(0.02)

    async def begin(self, path: str) -> Any:
        await self._wait()
        return await super().begin(path)

    async def below(self, folder: str, after: str = "") -> Sequence[str]:
        await self._wait()
        return await super().below(folder, after)

    async def claim(self, path: str, content: bytes) -> bool:
        await self._wait()
        return await super().claim(path, content)


class Copies(StateCopies):
    """Those of an installation that has other places beside the one of its settings."""

    def __init__(
        self, house: Context, now: Callable[[], datetime], more: Sequence[Storage]
    ) -> None:
        super().__init__(house, now)
        self._more = more

    async def _targets(self) -> dict[str, Target]:
        found = await super()._targets()
        return {**found, **{place.address: Target(place, place.address) for place in self._more}}


def keep_at(scene: Scene, folder: Path) -> None:
    """Have an installation keep its backups in a folder."""
    path = scene.state / "settings.toml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("backups")]
    path.write_text("\n".join([*lines, f'backups = "{folder}"', ""]))


@asynccontextmanager
async def living(
    scene: Scene, *more: Storage, follow: bool = True, make_store: StoreFactory = Store
) -> AsyncIterator[App]:
    """An installation whose copies are kept up, or brought up to date at the end alone."""
    async with scene.open(make_store=make_store) as app:
        copies = Copies(app.context, app.now, more)
        parts = app.context.parts
        parts._all = [copies if part is app.copies else part for part in parts._all]
        parts._found.clear()
        app.copies = copies
        app.context.store.committed, app.context.part(Fence).look = copies.changed, copies.look
        async with anyio.create_task_group() as group:
            if follow:
                group.start_soon(copies.run)
            yield app
            group.cancel_scope.cancel()


async def until(holds: Callable[[], Any]) -> None:
    with anyio.fail_after(PATIENCE):
        while not holds():  # noqa: ASYNC110
            await anyio.sleep(0.01)


def status(app: App, place: Storage | Path) -> Status:
    address = str(place) if isinstance(place, Path) else place.address
    return app.copies.statuses.get(address) or Status(place="none yet")


async def current(app: App, *places: Storage | Path) -> None:
    """Wait until each place has all that has changed."""
    number = document.revision(app.context.store.path)
    await until(lambda: all(status(app, place).revision >= number for place in places))


async def told(app: App, kind: str) -> list[Event]:
    """The events of a type so far."""
    last = await app.context.store.read(events.last)

    def work(tx: Any) -> list[Event]:
        rows = tx.rows("SELECT * FROM events WHERE type = ? AND id <= ? ORDER BY id", [kind, last])
        return [
            msgspec.convert({**row, "data": msgspec.json.decode(row["data"])}, Event)
            for row in rows
        ]

    return await app.context.store.read(work)


async def keys_of(app: App) -> Keys:
    return (await app.copies.identity()).keys


async def newest(app: App, place: Storage) -> finding.Found:
    """The newest copy of an installation at a place."""
    paths = (await finding.documents(place))[await app.context.store.read(installation)]
    return await finding.newest(place, paths, await keys_of(app))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
