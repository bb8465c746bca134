"""What a list, a page and a look cost does not grow with the installation, nor with the time that
the daemon runs."""

import gc
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from bench_rows import Amounts, Kind, put
from litestar import Litestar
from sqlite_utils import Database

from fake import scene as fake_scene
from fake.engine import Container
from fake.scene import NAMESPACE, PLUGINS, SETTINGS, Scene, create
from purveyor.app import App
from purveyor.asgi import create_api
from purveyor.kernel.api import tokens
from purveyor.kernel.db import Store, Tx
from purveyor.kernel.db.database import READERS
from purveyor.projects import store as projects
from purveyor.services import samples
from purveyor.services.routes import service_page
from purveyor.services.schemas import Listed

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

FAKE = Kind("fake", "fake:1", {"password": "p", "size": 1})
ONE = Amounts(
    services=60, projects=237, operations=300, events=900, backups=3_600, looks=12, crowd=60
)
FOUR = Amounts(
    services=240, projects=777, operations=1_200, events=3_600, backups=14_400, looks=12, crowd=60
)
DASHBOARD = [
    EntryPoint(name="dashboard", value="purveyor_dashboard:plugin", group="purveyor"),
    EntryPoint(name="deployhooks", value="purveyor_deployhooks:plugin", group="purveyor"),
]
SERVICES = "/api/external-services"
LISTS = [
    f"{SERVICES}/?limit=30",
    f"{SERVICES}/?sort=name&limit=5",
    f"{SERVICES}/?sort=service_type&limit=5",
    f"{SERVICES}/?service_type=fake&limit=5",
    f"{SERVICES}/service-3",
    f"{SERVICES}/service-3/history",
    f"{SERVICES}/service-1/projects?limit=5",
    f"{SERVICES}/projects/project-7",
    "/api/sessions?limit=5",
    "/api/projects?limit=5",
    "/api/projects/project-7",
    "/api/projects/project-7/environments",
    "/api/projects/project-7/deployments?limit=2",
    "/api/projects/project-7/environments/production/masked",
    "/api/projects/project-7/environments/production/variables",
    "/api/operations?limit=5",
    "/api/operations?limit=3&service=service-3",
    "/api/operations?limit=1&project=project-7",
    "/api/operations?limit=3&state=failed",
    "/api/operations/100",
    "/api/events?limit=5",
    "/api/events?limit=5&after=10",
    "/api/events?limit=5&service=service-3",
    "/api/events?limit=5&operation=100",
    "/api/events?limit=5&type=service.create",
    "/api/events?limit=5&type=service",
    "/api/events?limit=5&type=nothing.like.it",
    "/api/backups?limit=5",
    "/api/backups?limit=5&service=service-3",
    "/api/backups/archives",
    "/api/backups/archives?service=service-3",
    "/api/volumes?limit=5",
    "/api/volumes?limit=5&state=kept",
    "/api/tokens?limit=5",
    "/api/tokens?limit=1&people=true",
    "/api/users?limit=5",
    "/api/audit?limit=5",
    "/api/audit?limit=5&user=ada",
    "/api/doctor?quick=true",
    "/api/webhooks",
]
PAGES = [
    "/services",
    "/services?sort=service_type&offset=5",
    "/services/service-3",
    "/services/service-1/links",
    "/services/service-3/backups",
    "/services/service-3/events",
    "/services/service-3/settings",
    "/projects",
    "/projects/project-7",
    "/activity",
    "/audit",
    "/operations/100",
    "/kept",
    "/server",
    "/sessions",
    "/backups/100/restore",
]


class Counted(Store):
    """Counts statements, and the instructions that SQLite takes for them; those that count a whole
    list are left out."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.begin()

    def _connect(self) -> Database:
        db = super()._connect()
        db.conn.set_trace_callback(self._statement)
        db.conn.set_progress_handler(self._instruction, 1)
        return db

    def begin(self) -> None:
        self.statements: list[str] = []
        self.instructions: Counter[str] = Counter()

    def _statement(self, sql: str) -> None:
        self.statements.append(sql)

    def _instruction(self) -> int:
        self.instructions[self.statements[-1] if self.statements else ""] += 1
        return 0

    def cost(self) -> int:
        return sum(
            count
            for sql, count in self.instructions.items()
            if not sql.startswith("SELECT count(*)")
        )


@asynccontextmanager
async def asked(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Scene, App, Litestar]]:
    """An installation with a dashboard, whose store counts."""
    monkeypatch.setattr(fake_scene, "PLUGINS", [*PLUGINS, *DASHBOARD])
    scene = Scene(state)
    async with scene.open(make_store=Counted) as app:
        yield scene, app, create_api(app)


@asynccontextmanager
async def signed_in(app: App, api: Litestar) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A client that may ask the API and sees the dashboard, below what its addresses begin with."""

    def work(tx: Tx) -> str:
        return tokens.create(tx, name="test", scope="admin", project_id=None, expires_at=None)[1]

    token = await app.context.store.write(work)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    transport: Any = httpx.ASGITransport(app=api)  # type: ignore[arg-type]
    async with httpx.AsyncClient(
        transport=transport, base_url="http://p", headers=headers
    ) as client:
        answer = await client.post("/sign-in", data={"token": token})
        yield client, answer.headers["location"].removesuffix("/services")


def furnish(state: Path, amounts: Amounts) -> None:
    scene = Scene(state)
    scene.begin()
    (state / "settings.toml").write_text(f"{SETTINGS}\nhealth-samples = 10\n")
    put(state, amounts, [FAKE], NAMESPACE)


async def costs(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[int, int, list[str]]]:
    """By path: how many statements, how many instructions, and what the engine was asked."""
    found = {}
    async with (
        asked(state, monkeypatch) as (scene, app, api),
        signed_in(app, api) as (client, base),
    ):
        called: list[str] = []
        scene.engine.acted = called.append
        store = app.context.store
        assert isinstance(store, Counted)
        for path in [*LISTS, *PAGES]:
            address = path if path in LISTS else f"{base}{path}"
            # what is asked once, is asked
            assert (await client.get(address)).status_code == 200, path
            store.begin()
            called.clear()
            assert (await client.get(address)).status_code == 200
            found[path] = len(store.statements), store.cost(), list(called)
    return found


@pytest.fixture(scope="module")
def of_both(room: Path) -> Any:
    made = []
    for name, amounts in (("one", ONE), ("four", FOUR)):
        furnish(room / name, amounts)
        with pytest.MonkeyPatch.context() as monkeypatch:
            made.append(anyio.run(costs, room / name, monkeypatch))
    return made


@pytest.mark.parametrize("path", [*LISTS, *PAGES])
def test_what_a_list_costs_does_not_depend_on_how_much_there_is(of_both: Any, path: str) -> None:
    (statements, instructions, called), (more_statements, more_instructions, more_called) = (
        one[path] for one in of_both
    )
    assert more_statements == statements
    assert more_called == called
    assert more_instructions <= instructions * 1.05 + 50, (instructions, more_instructions)


def test_every_list_of_the_api_is_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> set[str]:
        Scene(tmp_path / "state").begin()
        async with asked(tmp_path / "state", monkeypatch) as (_, _, api):
            paths: Any = api.openapi_schema.to_schema()["paths"]
            return {
                path
                for path, item in paths.items()
                if any(
                    parameter["name"] == "limit"
                    for parameter in item.get("get", {}).get("parameters", ())
                )
            }

    measured = {path.partition("?")[0].rstrip("/") for path in LISTS}
    for path in anyio.run(work):
        known = (
            path.replace("{reference}", "service-1").replace("{project}", "project-7").rstrip("/")
        )
        assert known in measured or path.startswith("/api/webhooks"), path


async def test_one_service_is_asked_about_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(tmp_path / "state", ONE)
    async with (
        asked(tmp_path / "state", monkeypatch) as (scene, app, api),
        signed_in(app, api) as (client, base),
    ):
        for number in range(1, 61):
            scene.engine.world.containers.append(container(scene, number))
        told: list[int] = []
        listed = app.context.engine.containers.listed

        async def heard(**fields: object) -> Any:
            found = await listed(**fields)
            told.append(len(found))
            return found

        monkeypatch.setattr(app.context.engine.containers, "listed", heard)
        answer = (await client.get(f"{SERVICES}/service-3")).json()["service"]
        assert answer["status_reason"] == "It was started outside Purveyor."
        assert (await client.get(f"{base}/services/service-3")).status_code == 200
        assert set(told) == {1}


def container(scene: Scene, number: int) -> Container:
    return Container(
        id=f"c{number}",
        name=f"{NAMESPACE}-service-{number}",
        image="fake:1",
        image_id="sha256:fake:1",
        labels=scene.engine.labels.of(service=number),
        environment={},
        command=[],
        entrypoint=[],
        mounts={},
        ports={},
        networks={},
        state="running",
    )


async def test_what_the_engine_listed_is_told_again_until_something_changes(tmp_path: Path) -> None:
    furnish(tmp_path / "state", ONE)
    scene = Scene(tmp_path / "state")
    async with scene.open() as app:
        one = container(scene, 3)
        scene.engine.world.containers.append(one)
        called: list[str] = []
        scene.engine.acted = called.append

        async def seen() -> tuple[str, int]:
            called.clear()
            found = await service_page(app, Listed(), 50, 0)
            return found.items[2].status, called.count("list containers")

        assert [await seen(), await seen()] == [("running", 1)] * 2, (
            "whoever hears nothing has to ask"
        )
        app.observer.following = True
        app.observer.stale()
        assert [await seen(), await seen()] == [("running", 1), ("running", 0)]
        one.state = "exited"  # and an operation of ours says so
        await app.context.store.write(lambda tx: tx.emit("service.stop.succeeded", service=3))
        assert [await seen(), await seen()] == [("stopped", 1), ("stopped", 0)]


async def test_the_daemon_hears_what_changes_on_the_engine(tmp_path: Path) -> None:
    furnish(tmp_path / "state", ONE)
    scene = Scene(tmp_path / "state")
    async with scene.open(serve=True) as app:
        one = container(scene, 3)
        scene.engine.world.containers.append(one)

        async def until(status: str) -> None:
            with anyio.fail_after(60):
                while (await service_page(app, Listed(), 50, 0)).items[2].status != status:  # noqa: ASYNC110
                    await anyio.sleep(0.02)

        with anyio.fail_after(60):
            while not app.observer.following:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        scene.engine.tell("start", one)
        await until("running")
        scene.engine.die(one)
        await until("stopped")


async def test_a_filter_comes_before_the_limit_and_the_total_is_of_what_it_lets_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(tmp_path / "state", ONE)
    async with (
        asked(tmp_path / "state", monkeypatch) as (_, app, api),
        signed_in(app, api) as (client, _),
    ):

        async def got(path: str) -> tuple[list[Any], int]:
            answer = await client.get(path)
            return answer.json(), int(answer.headers.get("x-total-count", -1))

        assert [item["id"] for item in (await got("/api/events?limit=3&operation=2"))[0]] == [
            4,
            5,
            6,
        ]
        assert {
            item["service"] for item in (await got("/api/events?limit=9&service=service-3"))[0]
        } == {3}
        assert {
            item["type"] for item in (await got("/api/events?limit=9&type=service.bind"))[0]
        } == {"service.bind.step"}
        both = (await got("/api/events?limit=9&service=service-3&type=service.b"))[0]
        assert both
        assert {(item["service"], item["type"][:9]) for item in both} == {(3, "service.b")}
        failed, total = await got("/api/operations?state=failed&limit=2&offset=1")
        assert ([item["id"] for item in failed], total) == ([250, 200], 6)
        assert (await got("/api/operations?state=failed&offset=100"))[1] == 6
        assert (await got("/api/backups?service=service-3&limit=1"))[1] == 60
        assert (await got(f"{SERVICES}/?q=SERVICE-1&limit=1"))[1] == 11
        by_name, _ = await got(f"{SERVICES}/?sort=name&limit=3")
        assert [item["name"] for item in by_name] == ["service-1", "service-10", "service-11"]
        assert (await got(f"{SERVICES}/service-1/projects?limit=1"))[1] == 60
        listed, total = await got("/api/projects?q=project-24&limit=5")
        assert ([(item["slug"], item["services"]) for item in listed], total) == (
            [("project-24", ["service-1"])],
            1,
        )


async def test_memory_and_cpu_order_services_by_what_was_seen_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(tmp_path / "state", ONE)
    async with (
        asked(tmp_path / "state", monkeypatch) as (_, app, api),
        signed_in(app, api) as (client, _),
    ):
        much = '{"at":"2026-01-01T00:00:00Z","memory_bytes":90000000,"cpu_percent":0.1}'
        await app.context.store.write(
            lambda tx: samples.add(tx, [samples.Sample(7, "usage", much)], 10)
        )
        await app.observer.recall()
        found = await client.get(f"{SERVICES}/?sort=memory_bytes&limit=1")
        assert [item["name"] for item in found.json()] == ["service-7"]
        assert found.headers["x-total-count"] == "60"


# ---------------------------------------------------------------- side by side


async def test_readers_that_are_slow_hold_up_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(tmp_path / "state", ONE)
    async with (
        asked(tmp_path / "state", monkeypatch) as (_, app, api),
        signed_in(app, api) as (client, _),
    ):
        store, over = app.context.store, threading.Event()

        def slow(tx: Tx) -> int:
            over.wait(60)
            return len(projects.list_all(tx))

        async with anyio.create_task_group() as group:
            for _ in range(READERS - 1):
                group.start_soon(store.read, slow)
            for _ in range(5):  # a check of the whole file, for one
                group.start_soon(store.examine, slow)
            await anyio.wait_all_tasks_blocked()
            try:
                with anyio.fail_after(30):
                    answer = await client.get(
                        "/api/projects/project-7/environments/production/variables"
                    )
                    await app.context.store.write(
                        lambda tx: tx.emit("token.revoked", data={"id": 1})
                    )
            finally:
                over.set()
        assert answer.json()["variables"]


# ---------------------------------------------------------------- over time


@pytest.mark.parametrize("rounds", [500, pytest.param(1_000, marks=pytest.mark.nightly)])
async def test_looking_for_long_takes_no_more_memory(rounds: int, room: Path) -> None:
    scene = Scene(room / f"long-{rounds}")
    scene.begin()
    (scene.state / "settings.toml").write_text(f"{SETTINGS}\nhealth-samples = 50\n")
    async with scene.open() as app:
        for number in range(20):
            await create(app, f"s{number}")

        async def look(times: int) -> int:
            for _ in range(times):
                await app.reconciler.sweep()
                await app.observer.keep()
            gc.collect()
            return sys.getallocatedblocks()

        await look(100)
        begun = await look(rounds - 100)
        grown = await look(rounds) - begun
        assert grown < rounds, "a block for each round would be a leak"
        history = await app.observer.history(1)
        assert len(history.health) == 50
