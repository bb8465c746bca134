"""Operations without steps: all of one is one transaction, with its record, its facts and who asked
for it."""

from types import ModuleType
from typing import Any, ClassVar

import anyio
import pytest

from fake.asked import Asked, asked
from fake.scene import Scene
from purveyor.access.operations.tokens import TokenArguments
from purveyor.backups import store as backups
from purveyor.kernel.db import Store, Tx
from purveyor.kernel.operations import ImmediateOperation, Moved, Result, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.immediate import Changed
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.plugins.registry import Plugin
from purveyor_hooks import Conflict, Operation, hookimpl

pytestmark = pytest.mark.anyio
SECRET = "hunter22-of-the-bucket"
BUCKET = {
    "name": "offsite",
    "bucket_name": "b",
    "access_key_id": "k",
    "secret_key": SECRET,
    "endpoint": "http://127.0.0.1:1",
}


async def last(desk: Asked) -> OperationRecord:
    found = await desk.app.context.store.read(lambda tx: operations.list_page(tx, limit=1))
    return found.items[0]


async def events_of(desk: Asked, operation: int) -> list[dict[str, Any]]:
    parameters = {"operation": operation}
    headers = {"Accept": "application/json"}
    answer = await desk.local.get("/api/events", params=parameters, headers=headers)
    found: list[dict[str, Any]] = answer.json()
    return found


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Buckets are there; the answer is those that were tried, by their keys."""
    tried: list[str] = []

    async def check(self: Any) -> None:
        tried.append(self._secret_key if hasattr(self, "_secret_key") else "")

    monkeypatch.setattr("purveyor.backups.storage.S3Storage.check", check)
    return tried


async def test_it_is_recorded_with_who_asked_and_its_fact_is_its_own(scene: Scene) -> None:
    async with asked(scene) as desk:
        made = await desk.token("boss")
        boss = await desk.by(made["token"])
        assert (await boss.post("/api/users", json={"name": "ada"})).status_code == 201
        record = await last(desk)
        assert (record.verb, record.state, record.actor, record.token_id) == (
            "create-user", "succeeded", "token:boss", made["id"]
        )  # fmt: skip
        assert (record.arguments, record.step_names) == ({"name": "ada"}, [])
        (event,) = await events_of(desk, record.id)
        assert (event["type"], event["data"]["actor"]) == ("user.created", "token:boss")
        entry = (await desk.entries())[-1]
        assert (entry.operation_id, entry.actor, entry.target) == (record.id, "token:boss", "ada")


async def test_no_secret_is_recorded(scene: Scene, reached: list[str]) -> None:
    async with asked(scene) as desk:
        answer = await desk.local.post("/api/backups/s3-sources", json=BUCKET)
        assert (answer.status_code, answer.json()["secret_key"]) == (201, "***")
        assert (await last(desk)).arguments["secret_key"] == "***"
        answer = await desk.local.put(
            "/api/backups/s3-sources/offsite", json={"secret_key": SECRET + "-2"}
        )
        assert answer.status_code == 200, answer.text
        record = await last(desk)
        assert record.arguments == {"source": "offsite", "secret_key": "***"}
        source = await desk.app.context.store.read(lambda tx: backups.source(tx, "offsite"))
        assert source.secret_key == SECRET + "-2"
        text = (await desk.token("laptop"))["token"]
        told = (await desk.local.get("/api/operations")).text
        assert text not in told
        assert SECRET not in told


PLANNED = [
    ("POST", "/api/users", {"name": "grace"}, "create-user"),
    ("POST", "/api/users/ada/disable", None, "disable-user"),
    ("POST", "/api/users/ada/enable", None, "enable-user"),
    ("DELETE", "/api/users/ada", None, "remove-user"),
    ("POST", "/api/tokens", {"name": "t"}, "create-token"),
    ("DELETE", "/api/tokens/1", None, "revoke-token"),
    ("POST", "/api/backups/s3-sources", BUCKET | {"name": "more"}, "create-s3-source"),
    ("PUT", "/api/backups/s3-sources/offsite", {"region": "x"}, "update-s3-source"),
    ("DELETE", "/api/backups/s3-sources/offsite", None, "delete-s3-source"),
    ("POST", "/api/backups/adopt", None, "adopt-backups"),
    ("POST", "/api/backups/schedules",
     {"name": "hourly", "schedule_expression": "0 * * * *"}, "create-schedule"),
    ("POST", "/api/backups/schedules/nightly/disable", None, "disable-schedule"),
    ("POST", "/api/backups/schedules/nightly/enable", None, "enable-schedule"),
    ("PUT", "/api/backups/schedules/nightly", {"jitter": 5}, "update-schedule"),
    ("DELETE", "/api/backups/schedules/nightly", None, "delete-schedule"),
    ("POST", "/api/authorities/rotate", None, "rotate-authority"),
]  # fmt: skip


async def test_a_plan_tells_it_and_changes_nothing(scene: Scene, reached: list[str]) -> None:
    async with asked(scene) as desk:
        ada = await desk.local.post("/api/users", json={"name": "ada"})
        assert ada.status_code == 201
        assert (await desk.token("laptop", user="ada"))["id"] == 1
        nightly = {"name": "nightly", "schedule_expression": "0 3 * * *"}
        for path, body in (("s3-sources", BUCKET), ("schedules", nightly)):
            assert (await desk.local.post(f"/api/backups/{path}", json=body)).status_code == 201
        before, number = await _picture(desk), (await last(desk)).id
        entries = len(await desk.entries())
        for method, path, body, verb in PLANNED:
            answer = await desk.local.request(method, path, params={"plan": "true"}, json=body)
            assert (answer.status_code, answer.json()["verb"]) == (200, verb), answer.text
            assert (answer.json()["steps"], answer.json()["subject"] != "") == ([], True)
        assert (await last(desk)).id == number
        assert await _picture(desk) == before
        assert len(await desk.entries()) == entries
        warned = await desk.local.delete("/api/users/ada", params={"plan": "true"})
        assert warned.json()["warnings"][0] == "Whoever uses token 1 is refused from then on."


async def _picture(desk: Asked) -> list[Any]:
    paths = ("users", "tokens", "backups/s3-sources", "backups/schedules", "authorities")
    return [(await desk.local.get(f"/api/{path}")).json() for path in paths]


async def test_what_a_plan_says_is_refused_would_be(scene: Scene) -> None:
    async with asked(scene) as desk:
        for parameters in ({"plan": "true"}, {}):
            answer = await desk.local.delete("/api/tokens/77", params=parameters)
            assert answer.status_code == 404
            answer = await desk.local.post(
                "/api/users", params=parameters, json={"name": "purveyor"}
            )
            assert answer.status_code == 400


async def test_a_plugin_may_refuse_it_and_is_shown_no_secret(
    scene: Scene, reached: list[str]
) -> None:
    seen: list[Operation] = []

    @hookimpl
    async def before_operation(operation: Operation) -> str | None:
        seen.append(operation)
        return "not today"

    strict = ModuleType("strict")
    strict.before_operation = before_operation  # type: ignore[attr-defined]
    async with asked(scene) as desk:
        desk.app.context.registry.register(strict, Plugin(name="strict"))
        answer = await desk.local.post("/api/backups/s3-sources", json=BUCKET)
        assert "not today" in answer.text
        assert answer.status_code == 409
        assert seen[0].verb == "create-s3-source"
        assert seen[0].arguments["secret_key"] == "***"
        assert await desk.app.context.store.read(backups.sources) == []


async def test_nobody_sees_a_part_of_it(scene: Scene) -> None:
    """After whichever write: its record, what it did and its facts are there, or none of them."""

    class LookingStore(Store):
        looks: ClassVar[list[tuple[int, int, int]]] = []

        async def write(self, work: Any) -> Any:
            answer = await super().write(work)
            self.looks.append(await self.read(_parts))
            return answer

    def _parts(tx: Tx) -> tuple[int, int, int]:
        record = "SELECT count(*) FROM operations WHERE verb = 'create-token'"
        fact = "SELECT count(*) FROM events WHERE type = 'token.created'"
        return tx.value(record), tx.value("SELECT count(*) FROM tokens"), tx.value(fact)

    async with asked(scene, make_store=LookingStore) as desk:
        (await desk.token("laptop"))
        looks = LookingStore.looks
        assert {len(set(look)) for look in looks} == {1}, "all three, or none"
        assert looks[-1] == (1, 1, 1)


async def test_one_that_fails_leaves_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asked(scene) as desk:
        number = (await last(desk)).id

        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError

        monkeypatch.setattr(operations, "end_at_once", broken)
        assert (await desk.local.post("/api/tokens", json={"name": "t"})).status_code == 500
        assert (await last(desk)).id == number
        assert (await desk.local.get("/api/tokens")).json() == []


class Slow(ImmediateOperation):
    """What it found out may be another when it comes to change it."""

    name = "slow"

    def __init__(self) -> None:
        self.world = self.prepared = 0
        self.restless = False

    def target(self, tx: Tx, given: Any) -> Target:
        return Target(also=(("thing", 1),))

    async def prepare(self, given: Any) -> int:
        self.prepared += 1
        found = self.world
        if self.prepared == 1 or self.restless:
            self.world += 1
        return found

    def change(self, tx: Tx, given: int, actor: Any) -> Result:
        if given != self.world:
            raise Moved
        return Result(answer=given, subject="thing")


async def test_what_moved_meanwhile_is_asked_again_but_not_for_ever(scene: Scene) -> None:
    given = TokenArguments(token=1)
    async with scene.open() as app:
        slow = Slow()
        done = await app.runner.change(slow, given, "test")
        assert isinstance(done, Changed)
        assert (done.made.answer, slow.prepared) == (1, 2)
        slow.restless = True
        with pytest.raises(Conflict, match="changes all the time"):
            await app.runner.change(slow, given, "test")


async def test_it_waits_for_its_lock_and_lets_it_go(scene: Scene) -> None:
    async with scene.open() as app:
        key = ("thing", 1)
        await app.runner.locks.take([key])
        ended = anyio.Event()

        async def change() -> None:
            await app.runner.change(Slow(), TokenArguments(token=1), "test")
            ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(change)
            await anyio.wait_all_tasks_blocked()
            assert not ended.is_set()
            app.runner.locks.release([key])
        assert ended.is_set()
        assert not app.runner.locks.taken(key)
