"""What happened is forgotten when its time is over, and whoever would miss it is told."""

import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from bench_rows import Amounts, Kind, put

from fake.scene import NAMESPACE, SETTINGS, Scene
from purveyor.app import App
from purveyor.asgi import create_api
from purveyor.kernel.api import tokens
from purveyor.kernel.db import Tx
from purveyor.kernel.events import store as events
from purveyor.kernel.operations import store as operations
from purveyor.services.retention import Retention
from purveyor.services.retention_store import LEAST
from purveyor_deployhooks import outbox as outbox_module
from purveyor_deployhooks.outbox import Outbox
from purveyor_hooks import NotFound

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
AMOUNTS = Amounts(
    services=4, projects=4, operations=2_000, events=6_000, backups=0, looks=5, crowd=2
)
KEPT = 2_500


@pytest.fixture
def filled(tmp_path: Path) -> Scene:
    """Three events for each of 2,000 operations, a minute apart, of which 2,500 may be kept."""
    scene = Scene(tmp_path / "state")
    scene.begin()
    (scene.state / "settings.toml").write_text(f"{SETTINGS}\nhistory-events = {KEPT}\n")
    put(scene.state, AMOUNTS, [Kind("fake", "fake:1", {"password": "p", "size": 1})], NAMESPACE)
    return scene


async def held(app: App) -> tuple[int, int, int, int]:
    """The first event, how many there are, the first operation, and how many operations steps are
    kept of."""

    def work(tx: Tx) -> tuple[int, int, int, int]:
        return (
            events.first(tx),
            tx.value("SELECT count(*) FROM events"),
            tx.value("SELECT min(id) FROM operations"),
            tx.value("SELECT count(DISTINCT operation_id) FROM steps"),
        )

    return await app.context.store.read(work)


async def test_only_so_many_events_are_kept_and_an_operation_goes_with_its_own(
    filled: Scene,
) -> None:
    async with filled.open() as app:
        await app.retention.sweep()
        # the newest thousand operations stay, whatever becomes of their events
        assert await held(app) == (3_501, KEPT, 1_001, 1_000)
        assert await app.retention.sweep() == 0
        await app.context.store.write(lambda tx: tx.emit("token.revoked", data={"id": 1}))
        assert await app.bus.last() == 6_001, "numbers go on"


async def test_what_is_older_than_some_days_is_forgotten_and_the_newest_stay(filled: Scene) -> None:
    async with filled.open() as app:
        later = app.now() + timedelta(days=app.context.settings.history_days + 3)
        await Retention(app.context, lambda: later).sweep()
        assert await held(app) == (6_001 - LEAST, LEAST, 1_001, 1_000)


async def test_nothing_goes_that_an_unfinished_operation_needs(filled: Scene) -> None:
    async with filled.open() as app:
        await app.context.store.write(lambda tx: operations.set_state(tx, 10, "undoing"))
        await app.retention.sweep()
        first, count, operation, _ = await held(app)
        assert (first, count) == (28, 5_973), "the line has no gaps after it"
        assert operation == 10
        assert [
            event.id for event in await app.context.store.read(lambda tx: events.after(tx, 27, 3))
        ] == [28, 29, 30]
        await app.context.store.write(lambda tx: operations.set_state(tx, 10, "failed"))
        await app.retention.sweep()
        assert (await held(app))[0] == 3_501


async def test_looks_at_a_deleted_service_are_forgotten(filled: Scene) -> None:
    async with filled.open() as app:
        await app.context.store.write(
            lambda tx: tx.update("services", "id = ?", [2], state="deleted")
        )
        await app.retention.sweep()
        found = await app.context.store.read(
            lambda tx: [row["service_id"] for row in tx.rows("SELECT service_id FROM looks")]
        )
        assert {*found} == {1, 3, 4}
        assert len(found) == 30


async def test_a_client_that_comes_back_too_late_is_told_so(filled: Scene) -> None:
    async with filled.open() as app:
        await app.retention.sweep()

        def work(tx: Tx) -> str:
            return tokens.create(tx, name="t", scope="read", project_id=None, expires_at=None)[1]

        token = await app.context.store.write(work)
        transport: Any = httpx.ASGITransport(app=create_api(app))  # type: ignore[arg-type]
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://p/api", headers=headers
        ) as client:
            late = await client.get("/events", headers={"Last-Event-ID": "3499"})
            assert late.status_code == 410
            assert "first that is kept is number 3501" in late.json()["detail"]
            assert "after=3500" in late.json()["remedy"]
            as_json = {"Accept": "application/json"}
            assert (await client.get("/events?after=7", headers=as_json)).status_code == 410
            for after in (0, 3500):
                found = await client.get(f"/events?limit=2&after={after}", headers=as_json)
                assert [event["id"] for event in found.json()] == [3501, 3502]
            assert (
                await client.get("/events", headers={"Last-Event-ID": b"\xb2"})
            ).status_code == 400
            assert (await client.get("/operations/7")).status_code == NotFound.status


# ---------------------------------------------------------------- webhooks


async def test_deliveries_are_forgotten_but_for_those_that_wait_and_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "LEAST", 10)

    async def last_event() -> int:
        return 0

    core: Any = SimpleNamespace(
        folder=lambda name: tmp_path / name, history_days=90, last_event=last_event
    )
    box = Outbox(core)
    await box.open()
    now, old = time.time(), time.time() - 91 * 86400
    rows = [
        ("pending" if n == 5 else "delivered", now if n == 7 else old, n) for n in range(1, 1_201)
    ]

    def fill(db: Any) -> None:
        db.execute("INSERT INTO webhooks VALUES (1, 'w', 'http://w', '[]', '', 1, 1.0, 0)")
        sql = (
            "INSERT INTO deliveries (webhook, event, type, body, state, next_at, updated_at) "
            "VALUES (1, ?, 't', '{}', ?, 0, ?)"
        )
        db.conn.executemany(sql, [(number, state, at) for state, at, number in rows])

    await box._run(fill)
    assert await box.sweep(now) == 1_188
    found, total = await box.deliveries("w", None, 100)
    assert ([row["event"] for row in found], total) == ([*range(1_200, 1_190, -1), 7, 5], 12)
    found, total = await box.deliveries("w", "delivered", 2, 1)
    assert ([row["event"] for row in found], total) == ([1_199, 1_198], 11)
    await box.close()
