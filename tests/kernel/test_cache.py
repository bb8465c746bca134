"""What is remembered is forgotten with the row that it was read from, and nothing else is."""

from typing import Any

import anyio
import pytest

from fake.asked import Asked, asked
from fake.scene import Scene, do
from purveyor.app import App, PluginCore
from purveyor.kernel.api import tokens
from purveyor.kernel.cache import Cache
from purveyor.kernel.db import Tx
from purveyor.kernel.db.rows import Row
from purveyor.projects import store as projects
from purveyor_hooks import Actor

pytestmark = pytest.mark.anyio
READER = {"scope": "read", "project_id": None, "expires_at": None}


class Question:
    """One that counts how often it is really asked."""

    def __init__(self, cache: Cache, name: str, *rows: Row) -> None:
        self._cache, self._name, self._rows = cache, name, rows
        self.asked = 0
        self.meanwhile = anyio.Event()
        self.meanwhile.set()

    async def ask(self) -> int:
        async def load() -> int:
            self.asked += 1
            await self.meanwhile.wait()
            return self.asked

        return await self._cache.get_or_load(self._name, load, lambda _: self._rows)


async def make(app: App, name: str) -> int:
    return await app.context.store.write(lambda tx: tokens.create(tx, name=name, **READER)[0])  # type: ignore[arg-type]


async def test_a_row_that_changes_takes_its_own_answers_along_and_no_others(scene: Scene) -> None:
    async with scene.open() as app:
        first, second = await make(app, "one"), await make(app, "two")
        one, two = (
            Question(app.memory, "one", ("tokens", first)),
            Question(app.memory, "two", ("tokens", second)),
        )
        every = Question(app.memory, "every", ("tokens", 0))
        for question in (one, two, every):
            await question.ask()
        await app.context.store.write(lambda tx: tokens.touch(tx, first))
        await app.context.store.write(
            lambda tx: tx.emit("schedule.deleted", data={"id": 1, "name": "x"})
        )
        for question in (one, two, every):
            await question.ask()
        assert (one.asked, two.asked, every.asked) == (1, 1, 1), "what was seen is no change"
        await app.context.store.write(lambda tx: tokens.revoke(tx, first))
        for question in (one, two, every):
            await question.ask()
        assert (one.asked, two.asked, every.asked) == (2, 1, 2)
        await make(app, "three")
        for question in (one, two, every):
            await question.ask()
        assert (one.asked, two.asked, every.asked) == (2, 1, 3)


async def test_what_is_taken_back_takes_nothing_along(scene: Scene) -> None:
    async with scene.open() as app:
        number = await make(app, "one")
        question = Question(app.memory, "one", ("tokens", number))
        await question.ask()

        def work(tx: Tx) -> None:
            tokens.revoke(tx, number)
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await app.context.store.write(work)
        await app.context.store.write(
            lambda tx: tx.emit("schedule.deleted", data={"id": 1, "name": "x"})
        )
        await question.ask()
        assert question.asked == 1


async def test_an_answer_of_before_a_change_is_told_and_not_kept(scene: Scene) -> None:
    async with scene.open() as app:
        number = await make(app, "one")
        question = Question(app.memory, "one", ("tokens", number))
        question.meanwhile = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(question.ask)
            await anyio.wait_all_tasks_blocked()
            await app.context.store.write(lambda tx: tokens.revoke(tx, number))
            question.meanwhile.set()
        await question.ask()
        assert question.asked == 2


async def test_rows_that_nobody_watches_are_no_ground_to_remember_anything(scene: Scene) -> None:
    async with scene.open() as app:
        with pytest.raises(LookupError, match="events"):
            await Question(app.memory, "x", ("events", 1)).ask()


async def test_a_row_that_goes_with_another_is_noticed_too(scene: Scene) -> None:
    """The database itself deletes it: no statement names its table."""
    async with scene.open() as app:
        project = await app.context.store.read(lambda tx: projects.get(tx, "bare"))
        (environment,) = await app.context.store.read(
            lambda tx: projects.environments(tx, project.id)
        )
        question = Question(app.memory, "x", ("environments", environment.id))
        await question.ask()
        await app.context.store.write(
            lambda tx: tx.db.execute("DELETE FROM projects WHERE id = ?", [project.id])
        )
        await question.ask()
        assert question.asked == 2


async def test_a_token_is_refused_by_the_very_next_request_whoever_ends_it(scene: Scene) -> None:
    async with asked(scene) as desk:
        await desk.local.post("/api/users", json={"name": "ada"})

        async def ended_by(end: Any) -> None:
            made = await desk.token("t", user="ada", scope="read")
            client = await desk.by(made["token"])
            for _ in range(2):
                assert (await client.get("/api/projects")).status_code == 200
            await end(made["id"])
            assert (await client.get("/api/projects")).status_code == 401

        await ended_by(lambda number: desk.local.delete(f"/api/tokens/{number}"))
        await ended_by(
            lambda number: desk.app.context.store.write(lambda tx: tokens.revoke(tx, number))
        )
        await ended_by(lambda _: desk.local.post("/api/users/ada/disable"))
        await desk.local.post("/api/users/ada/enable")
        await ended_by(lambda _: desk.local.delete("/api/users/ada"))


async def test_who_uses_a_service_is_known_until_its_link_binding_or_service_changes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asked(scene) as desk:
        core = PluginCore(desk.app)
        boss = Actor(name="boss", scope="admin")
        loads = _counted(desk, monkeypatch)

        async def password() -> str:
            return (await core.bound("fake", boss, "shop", "production")).binding.password

        before = await password()
        await desk.token("another")
        await do(desk.app, "stop", service="idle")
        assert await password() == before
        assert len(loads) == 1
        await do(desk.app, "rotate", project="shop")
        assert await password() != before
        assert len(loads) == 2


def _counted(desk: Asked, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The bindings that were really looked up."""
    loads: list[str] = []
    find = PluginCore._bound

    async def counted(self: PluginCore, *given: Any) -> Any:
        loads.append(str(given))
        return await find(self, *given)

    monkeypatch.setattr(PluginCore, "_bound", counted)
    return loads
