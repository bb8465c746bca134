"""A disk that is full: the daemon goes on, says so, reads, and has lost nothing when there is room
again."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from fake.scene import Scene, do
from purveyor.app import App
from purveyor.archiving import controller as archivist
from purveyor.backups import scheduler
from purveyor.backups import store as backups
from purveyor.doctor import examine
from purveyor.kernel.db import Store
from purveyor.kernel.events import store as events
from purveyor.kernel.logs import make_logger
from purveyor.kernel.operations import store as operations
from purveyor.services import reconciler
from purveyor.services import store as services
from purveyor_hooks import StorageFull


class Cramped(Store):
    """A store on a disk that can be full."""

    def fill(self, *, yes: bool = True) -> None:
        assert self._writer is not None
        pages = self._writer.execute("PRAGMA page_count").fetchone()[0]
        self._writer.execute(f"PRAGMA max_page_count = {pages if yes else 1_000_000}")


@asynccontextmanager
async def serving(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[App, Cramped]]:
    """The daemon's loops, at a quick pace."""
    monkeypatch.setattr(scheduler, "PAUSE", 0.05)
    settings = scene.state / "settings.toml"
    settings.write_text(f"health-interval = 0.2\n{settings.read_text()}")
    async with scene.open(serve=True, make_store=Cramped) as app:
        app.context.supervisor.first, app.context.supervisor.settled = 0.05, 0.2
        assert isinstance(app.context.store, Cramped)
        yield app, app.context.store


async def until(what: Any, seconds: float = 20) -> None:
    with anyio.fail_after(seconds):
        while not await what():  # noqa: ASYNC110
            await anyio.sleep(0.05)


async def write_until_full(store: Store) -> None:
    for _ in range(200):
        await store.write(lambda tx: tx.emit("x", data={"text": "x" * 5_000}))


async def make_projects(app: App) -> None:
    for number in range(50):
        await do(app, "create-project", name=f"more-{number}")


@pytest.mark.anyio
async def test_a_schedule_that_is_due_on_a_full_disk_ends_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(scene, monkeypatch) as (app, store):
        await store.write(
            lambda tx: backups.insert_schedule(
                tx, name="nightly", backup_type="scheduled", retention_period=30, retention_count=0,
                schedule_expression="0 3 * * *", enabled=True, description="", tags=[],
                s3_source_id=None, service_ids=[1],
                verify=False,
                next_run=datetime(2020, 1, 1, tzinfo=UTC),
            )
        )  # fmt: skip
        store.fill()
        with pytest.raises(StorageFull):
            await write_until_full(store)
        await anyio.sleep(1)
        assert await store.read(services.list_all), "reading goes on"
        with pytest.raises(StorageFull) as told:
            await make_projects(app)
        assert told.value.status == 507
        store.fill(yes=False)
        await do(app, "create-project", name="enough")

        async def made() -> bool:
            return any(item.schedule_id for item in await store.read(backups.list_backups))

        await until(made)

        async def over() -> bool:
            return not app.context.supervisor.troubles and not await store.read(
                operations.list_unfinished
            )

        await until(over)


@pytest.mark.anyio
async def test_every_loop_of_the_daemon_survives_a_fault_and_the_doctor_tells_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True
    done: set[str] = set()

    def breaking(name: str, work: Any) -> Any:
        async def instead(self: Any, *given: Any) -> Any:
            if broken:
                raise RuntimeError("a bug")
            done.add(name)
            return await work(self, *given)

        return instead

    for owner, name in (
        (scheduler.Scheduler, "turn"), (archivist.ArchiveController, "run"),
        (reconciler.Reconciler, "_follow"),
        (reconciler.Reconciler, "_settle"), (reconciler.Reconciler, "_check_regularly"),
        (reconciler.Reconciler, "_retry_unverified"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, breaking(name, getattr(owner, name)))
    async with serving(scene, monkeypatch) as (app, store):

        async def all_told() -> bool:
            return len(app.context.supervisor.troubles) >= 6

        await until(all_told)
        checks = [
            item for item in await examine(app, None, "production") if item.subject == "daemon"
        ]
        assert {"schedules", "archives", "health checks", "the engine's events"} <= {
            item.name for item in checks
        }
        assert not any(item.ok for item in checks)
        assert [
            item.ok for item in await examine(app, None, "production") if item.subject == "disk"
        ] == [True]
        assert "RuntimeError" in checks[0].detail
        broken = False

        async def all_well() -> bool:
            return len(done) == 6 and not app.context.supervisor.troubles

        await until(all_well, 90)
        told = {event.type for event in await store.read(lambda tx: events.latest(tx, 1000))}
        assert {"daemon.trouble", "daemon.recovered"} <= told


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    full = open("/dev/full", "w")  # noqa: SIM115
    try:
        make_logger(logging.INFO, full).warning("something", detail="x")
    finally:
        with suppress(OSError):  # what it holds back does not fit either
            full.close()
