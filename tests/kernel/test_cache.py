"""What is remembered is forgotten with the row that it was read from, and nothing else is."""

import sqlite3
from typing import Any

import anyio
import pytest

from fake.asked import Asked, asked
from fake.scene import Scene, do
from purveyor.app import App, PluginCore
from purveyor.kernel.api import tokens
from purveyor.kernel.cache import Cache
from purveyor.kernel.db import Tx
from purveyor.kernel.db.rows import WHOLE, Row
from purveyor.projects import store as projects
from purveyor_hooks import Actor, PurveyorError

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


CHANGES = {
    "update": "UPDATE tokens SET scope = 'admin' WHERE id = {id}",
    "update of all": "UPDATE tokens SET revoked_at = created_at",
    "the case of a letter": "UPDATE tokens SET name = upper(name) WHERE id = {id}",
    "another number": "UPDATE tokens SET id = id + 1000 WHERE id = {id}",
    "deletion": "DELETE FROM tokens WHERE id = {id}",
    "deletion of all": "DELETE FROM tokens",
    "upsert": (
        "INSERT INTO tokens (id, name, hash, scope, created_at) SELECT id, 'x', 'x', 'admin', "
        "created_at FROM tokens WHERE id = {id} ON CONFLICT (id) DO UPDATE SET scope = 'admin'"
    ),
    "replacement by its number": (
        "REPLACE INTO tokens (id, name, hash, scope, created_at) SELECT id, 'x', 'x', 'admin', "
        "created_at FROM tokens WHERE id = {id}"
    ),
    "replacement by what is unique": (
        "REPLACE INTO tokens (id, name, hash, scope, created_at) SELECT id + 1000, 'x', hash, "
        "'admin', created_at FROM tokens WHERE id = {id}"
    ),
    "an update that replaces": (
        "UPDATE OR REPLACE tokens SET hash = (SELECT hash FROM tokens WHERE id = {id}) "
        "WHERE id = (SELECT max(id) FROM tokens)"
    ),
    "a trigger of the database": "INSERT INTO meta VALUES ('end', '{id}')",
}


@pytest.mark.parametrize("how", CHANGES)
async def test_whatever_statement_changes_a_row_its_answer_is_forgotten(
    scene: Scene, how: str
) -> None:
    async with scene.open() as app:
        number = await make(app, "one")
        await make(app, "another")
        question = Question(app.memory, "x", ("tokens", number))
        await question.ask()

        def work(tx: Tx) -> None:
            tx.db.execute(
                "CREATE TRIGGER ends AFTER INSERT ON meta WHEN NEW.key = 'end' "
                "BEGIN UPDATE tokens SET revoked_at = 'now' WHERE id = NEW.value; END"
            )
            tx.db.execute(CHANGES[how].format(id=number))
            tx.db.execute("DROP TRIGGER ends")

        await app.context.store.write(work)
        await question.ask()
        assert question.asked == 2


async def test_what_a_savepoint_takes_back_is_no_fault_and_what_it_keeps_is_forgotten(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        first, second = await make(app, "one"), await make(app, "two")
        kept = Question(app.memory, "kept", ("tokens", first))
        await kept.ask()

        def work(tx: Tx) -> None:
            tx.db.execute("SAVEPOINT inner")
            tokens.revoke(tx, second)
            tx.db.execute("ROLLBACK TO inner")
            tokens.revoke(tx, first)
            tx.db.execute("RELEASE inner")

        await app.context.store.write(work)
        await kept.ask()
        assert kept.asked == 2
        valid = [item.id for item in await app.context.store.read(_valid)]
        assert second in valid
        assert first not in valid


def _valid(tx: Tx) -> list[Any]:
    return tokens.page(tx, limit=100, offset=0, people=True).items


async def test_an_entry_of_the_audit_log_is_not_replaced(scene: Scene) -> None:
    """The database itself keeps them from being deleted, and a replacement deletes."""
    async with asked(scene) as desk:
        await desk.token("made")
        entry = (await desk.entries())[-1]
        columns = "at, actor, origin, action, target, outcome, status, reveals, times, detail, hash"

        def work(tx: Tx) -> None:
            tx.db.execute(
                f"REPLACE INTO audit (id, {columns}) SELECT {entry.id}, {columns} FROM audit "
                f"WHERE id = (SELECT min(id) FROM audit)"
            )

        with pytest.raises(sqlite3.IntegrityError, match="are kept"):
            await desk.app.context.store.write(work)
        assert (await desk.entries())[-1] == entry


async def test_each_kind_of_answer_is_another_at_the_very_next_request(scene: Scene) -> None:
    """Whoever hears that something has ended is not answered as before it."""
    async with asked(scene) as desk:
        app = desk.app
        core, boss = PluginCore(app), Actor(name="boss", scope="admin")
        shop = await app.context.store.read(lambda tx: projects.get(tx, "shop"))
        bare = await desk.by((await desk.token("b", scope="project", project="bare"))["token"])
        path = "/api/external-services/main/operations/fake.tidy"

        async def home() -> Any:
            return await app.memory.get_or_load(
                ("home", "10.250.0.9"),
                lambda: app.home("10.250.0.9"),
                lambda _: [("networks", WHOLE)],
            )

        before = await home()
        row = await app.context.store.read(lambda tx: tx.row("SELECT * FROM networks LIMIT 1"))
        assert row is not None
        await app.context.store.write(
            lambda tx: tx.update("networks", "id = ?", [row["id"]], subnet="10.250.0.0/24")
        )
        assert (await home()).environment_id == row["environment_id"] != before.environment_id
        await core.bound("fake", boss, "shop", "production")
        await do(app, "unlink", service="main", project="shop", now=True)
        with pytest.raises(PurveyorError, match="is linked to no fake"):
            await core.bound("fake", boss, "shop", "production")
        of_shop = await desk.by((await desk.token("s", scope="project", project="shop"))["token"])
        assert (await of_shop.post(path, json={"label": "x"})).status_code == 403
        for client, project in ((of_shop, "shop"), (bare, "bare")):
            assert (await client.get("/api/projects")).status_code == 403  # known, and no reader
            await do(app, "delete-project", project=project)
            assert (await client.get("/api/projects")).status_code == 401
        assert shop.id


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
