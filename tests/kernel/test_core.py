"""Store, bus, operations and registry, without an engine."""

import gc
import logging
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import EntryPoint
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any, ClassVar, cast

import anyio
import msgspec
import pytest
from sqlite_utils import Database

from purveyor.app import OPERATION_TYPES
from purveyor.kernel.api import tokens
from purveyor.kernel.db import Store, Tx
from purveyor.kernel.db.lock import StateLock
from purveyor.kernel.db.secrets import REMEMBERED, Secrets, open_secrets
from purveyor.kernel.events import store as events
from purveyor.kernel.events.bus import RING, Bus
from purveyor.kernel.logs import make_logger
from purveyor.kernel.operations import SECRET, OperationType, Plan, Runner, Step, Target, by_hand
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.plugins.registry import Plugin
from purveyor.kernel.supervisor import Supervisor
from purveyor.migrations import migrations
from purveyor.providers.registry import ProviderRegistry
from purveyor.services import samples
from purveyor.services.handle import ServiceHandle
from purveyor_hooks import (
    BadInput,
    Conflict,
    Event,
    Failed,
    Image,
    Listing,
    NotFound,
    PurveyorError,
    Service,
    ServiceType,
    Vetoed,
    hookimpl,
)

LOGGER = make_logger(logging.CRITICAL)
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = Store(tmp_path, open_secrets(tmp_path), migrations)
    made.open()
    yield made
    made.close()


# ---------------------------------------------------------------- store


async def test_a_transaction_that_raises_has_not_happened(store: Store) -> None:
    def work(tx: Tx) -> None:
        tx.emit("something")
        raise BadInput("no")

    with pytest.raises(BadInput):
        await store.write(work)
    assert await store.read(events.last) == 0


async def test_reading_cannot_change_anything(store: Store) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await store.read(lambda tx: tx.emit("something"))


async def test_rows_that_are_kept_over_the_end_of_their_transaction_keep_no_connection_in_the_past(
    store: Store,
) -> None:
    """SQLite commits beside a SELECT that is not read to its end, and goes on with its view."""
    for number in range(3):
        await store.write(lambda tx: tx.emit(f"before-{number}"))
    kept = await store.read(lambda tx: tx.rows("SELECT type FROM events"))
    begun = await store.read(lambda tx: [rows := tx.rows("SELECT type FROM events"), next(rows)])
    await store.write(lambda tx: tx.emit("after"))
    assert await store.read(events.last) == 4
    for rows in (kept, begun[0]):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            list(rows)


def test_the_key_file_is_private_and_a_lost_or_wrong_key_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path, open_secrets(tmp_path), migrations)
    store.open()
    store.close()
    key = tmp_path / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "purveyor.db").stat().st_mode & 0o777 == 0o600
    good = key.read_text()
    key.write_text(Secrets.__module__)
    with pytest.raises(BadInput, match="Invalid key"):
        open_secrets(tmp_path)
    key.unlink()
    with pytest.raises(BadInput, match="missing"):
        open_secrets(tmp_path)
    from cryptography.fernet import Fernet

    key.write_bytes(Fernet.generate_key())
    key.chmod(0o600)
    with pytest.raises(BadInput, match="does not open"):
        Store(tmp_path, open_secrets(tmp_path), migrations).open()
    key.write_text(good)
    key.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        open_secrets(tmp_path)


async def test_more_secrets_than_are_remembered_are_opened_side_by_side(store: Store) -> None:
    sealed = [
        store.secrets.seal({"password": f"{number}-{'x' * 20}"})
        for number in range(REMEMBERED + 2000)
    ]
    assert len(tuple(store.secrets.known())) == REMEMBERED

    async def look(part: int) -> None:
        await store.read(lambda tx: [tx.secrets.open(text) for text in sealed[part::6]])

    async with anyio.create_task_group() as group:
        for part in range(6):
            group.start_soon(look, part)
    assert len(tuple(store.secrets.known())) == REMEMBERED


async def test_the_last_looks_at_a_service_are_kept_and_older_ones_go(store: Store) -> None:
    for numbers in (range(4), range(4, 7)):
        seen = [
            samples.Sample(service, kind, str(n))
            for n in numbers
            for service, kind in ((1, "health"), (1, "usage"), (2, "health"))
        ]
        await store.write(lambda tx, seen=seen: samples.add(tx, seen, 5))
    await store.write(lambda tx: samples.add(tx, [samples.Sample(1, "health", "7")], 5))
    kept = await store.read(
        lambda tx: [look for service in (1, 2) for look in samples.recent(tx, service, 100)]
    )
    assert [look.seen for look in kept if look[:2] == (1, "health")] == list("34567")
    assert [look.seen for look in kept if look[:2] == (1, "usage")] == list("23456")
    assert [look.seen for look in kept if look[:2] == (2, "health")] == list("23456")


def test_operations_of_an_older_version_are_all_there_and_can_be_abandoned(tmp_path: Path) -> None:
    db = Database(tmp_path / "purveyor.db")
    db.execute("PRAGMA foreign_keys = ON")
    migrations.apply(db, stop_before="abandoned")
    for number, state in ((1, "succeeded"), (5, "undoing"), (9, "failed")):
        db["operations"].insert(
            {
                "id": number,
                "verb": "create",
                "arguments": "{}",
                "state": state,
                "created_at": "2026-01-01T00:00:00Z",
            }
        )
        db["steps"].insert(
            {
                "operation_id": number,
                "name": "image",
                "state": "done",
                "started_at": "2026-01-01T00:00:00Z",
            }
        )
    db["operations"].delete(9)
    before = list(db["operations"].rows), list(db["steps"].rows)
    migrations.apply(db)
    added = ("outcome", "token_id", "step_names", "internal")
    kept = [
        {name: value for name, value in row.items() if name not in added}
        for row in db["operations"].rows
    ]
    steps = [
        {name: value for name, value in row.items() if name != "number"} for row in db["steps"].rows
    ]
    assert (kept, steps) == before
    # it shows what it always showed
    assert {row["internal"] for row in db["operations"].rows} == {
        '["bindings", "new_bindings", "later"]'
    }
    db["operations"].update(5, {"state": "abandoned"})
    made = db["operations"].insert(
        {
            "verb": "stop",
            "arguments": "{}",
            "state": "running",
            "created_at": "2026-01-01T00:00:00Z",
        }
    )
    assert made.last_pk == 10, "numbers are never given twice"
    db["operations"].delete(5)
    assert [row["operation_id"] for row in db["steps"].rows] == [1]


def test_the_state_directory_has_one_owner(tmp_path: Path) -> None:
    with StateLock(tmp_path), pytest.raises(Conflict, match="Another Purveyor"):
        StateLock(tmp_path).acquire()
    with StateLock(tmp_path):
        pass


async def test_tokens_are_kept_as_hashes_and_end_when_revoked_or_expired(
    store: Store, tmp_path: Path
) -> None:
    number, token = await store.write(
        lambda tx: tokens.create(tx, name="t", scope="read", project_id=None, expires_at=None)
    )
    assert (await store.read(lambda tx: tokens.check(tx, token))) is not None
    assert token.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    _, late = await store.write(
        lambda tx: tokens.create(tx, name="t", scope="read", project_id=None, expires_at=tx.now)
    )
    assert await store.read(lambda tx: tokens.check(tx, late)) is None
    await store.write(lambda tx: tokens.revoke(tx, number))
    assert await store.read(lambda tx: tokens.check(tx, token)) is None


# ---------------------------------------------------------------- bus


async def collect(bus: Bus, after: int, count: int, pause: float = 0) -> list[int]:
    seen = []
    async for event in bus.follow(after):
        seen.append(event.id)
        await anyio.sleep(pause)
        if len(seen) == count:
            break
    return seen


async def test_events_are_numbered_and_can_be_followed_from_any_number(store: Store) -> None:
    bus = Bus(store)
    for number in range(5):
        await store.write(lambda tx: tx.emit("e", data={"n": number}))
    assert await collect(bus, 2, 3) == [3, 4, 5]


async def test_a_follower_that_lags_behind_the_ring_misses_nothing(store: Store) -> None:
    bus = Bus(store)
    total = RING + 200
    seen: list[int] = []

    async def slow() -> None:
        async for event in bus.follow(0):
            seen.append(event.id)
            if len(seen) == 1:
                await anyio.sleep(0.5)
            if len(seen) == total:
                break

    def burst(tx: Tx) -> None:
        for _ in range(50):
            tx.emit("e")

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(slow)
            for _ in range(total // 50 + 1):
                await store.write(burst)
    assert seen == list(range(1, total + 1))


# ---------------------------------------------------------------- registry


def registry_of(**modules: Any) -> ProviderRegistry:
    registry = ProviderRegistry(LOGGER)
    for name, module in modules.items():
        registry.register(module, Plugin(name=name))
    return registry


def _container(service: Service) -> Any: ...


async def _ready(service: Service, access: Any) -> Any: ...


def module(**hooks: Any) -> ModuleType:
    made = ModuleType("plugin")
    if "service_type" in hooks:  # it has to have these
        hooks = {"container": _container, "ready": _ready} | hooks
    for name, hook in hooks.items():
        setattr(made, name, hookimpl(hook) if callable(hook) else hook)
    return made


def kind(name: str = "thing") -> ServiceType:
    return ServiceType(
        name=name, label=name, description="", default_image="x:1", parameters=(), ports=()
    )


def reports(registry: ProviderRegistry) -> dict[str, str]:
    return {plugin.name: plugin.error for plugin in registry.plugins}


def test_plugins_that_cannot_be_taken_are_listed_with_their_error_and_the_rest_run() -> None:
    def service_type() -> ServiceType:
        return kind()

    def wrong() -> str:
        return "nonsense"

    def raises() -> ServiceType:
        raise RuntimeError("boom")

    registry = registry_of(
        first=module(service_type=service_type),
        second=module(service_type=service_type),
        typed=module(service_type=wrong),
        raising=module(service_type=raises),
        old=module(PURVEYOR_CONTRACT=0, service_type=service_type),
        misspelt=module(servise_type=service_type),
    )
    found = reports(registry)
    assert found["first"] == ""
    assert "taken by the plugin first" in found["second"]
    assert "not ServiceType" in found["typed"]
    assert "boom" in found["raising"]
    assert "version 0 of the contract" in found["old"]
    assert "servise_type" in found["misspelt"]
    assert [item.name for item in registry.kinds] == ["thing"]


def test_an_entry_point_that_does_not_import_stops_nobody() -> None:
    registry = ProviderRegistry(LOGGER)
    broken = EntryPoint(name="broken", value="no_such_module_anywhere", group="purveyor")
    fine = EntryPoint(name="redis", value="purveyor_redis:plugin", group="purveyor")
    registry.load([broken, fine])
    assert "ModuleNotFoundError" in reports(registry)["broken"]
    assert reports(registry)["redis"] == ""


async def test_everyone_s_hook_that_raises_or_hangs_hurts_nobody_else() -> None:
    asked = []

    async def raises(operation: Any) -> str | None:
        raise RuntimeError("boom")

    async def hangs(operation: Any) -> str | None:
        await anyio.sleep(60)
        return None

    async def answers(operation: Any) -> str | None:
        asked.append(operation)
        return None

    registry = registry_of(
        raising=module(before_operation=raises),
        hanging=module(before_operation=hangs),
        fine=module(before_operation=answers),
    )
    found = [
        plugin.name async for plugin, _ in registry.ask("before_operation", 0.1, operation="x")
    ]
    assert found == ["fine"]
    assert asked == ["x"]
    faults = {plugin.name: plugin.last_fault for plugin in registry.plugins}
    assert "boom" in faults["raising"]
    assert "TimeoutError" in faults["hanging"]


# ---------------------------------------------------------------- operations


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    """No arguments."""

    word: str = ""


class Walk(OperationType):
    """A verb whose steps write down that they ran."""

    name: ClassVar[str] = "walk"
    arguments = Nothing

    def __init__(self, failing: str = "", error: Exception | None = None) -> None:
        self.trail: list[str] = []
        self.failing = failing
        self.error = error

    def target(self, tx: Tx, given: Any) -> Target:
        return Target(service=1)

    def validate_and_record(self, tx: Tx, given: Any, actor: str) -> int:
        if given.word == "bad":
            raise BadInput("no")
        return operations.insert(
            tx, self.name, service_id=1, actor=actor, arguments={"word": given.word}
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        return Plan(
            verb=self.name,
            subject=operation.arguments["word"],
            steps=[step.name for step in self.steps(operation)],
        )

    def steps(self, operation: OperationRecord) -> Sequence[Step]:
        return [self.step(name) for name in ("one", "two", "three")]

    def step(self, name: str) -> Step:
        async def do() -> None:
            self.trail.append(name)
            if name == self.failing and self.error:
                raise self.error

        async def undo() -> None:
            self.trail.append(f"-{name}")

        return Step(name, do, undo, 1.0)

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        self.trail.append("failed")


async def run(
    store: Store, kind: OperationType, registry: ProviderRegistry | None = None, word: str = ""
) -> OperationRecord:
    runner = Runner(store, registry or ProviderRegistry(LOGGER), LOGGER, {kind.name: kind})
    async with anyio.create_task_group() as group:
        runner.attach(group)
        handle = await runner.submit(kind, Nothing(word=word), "test")
        with suppress(PurveyorError):
            await handle.wait()
        group.cancel_scope.cancel()  # as when the process ends: what waits is not tried again
    return await store.read(lambda tx: operations.get(tx, handle.operation_id))


async def test_steps_run_in_order_and_are_journalled(store: Store) -> None:
    kind = Walk()
    operation = await run(store, kind)
    assert operation.state == "succeeded"
    assert kind.trail == ["one", "two", "three"]
    found = await store.read(lambda tx: events.after(tx, 0))
    assert [(e.type, e.data.get("step"), e.data.get("state")) for e in found[1:3]] == [
        ("service.walk.step", "one", "started"),
        ("service.walk.step", "one", "done"),
    ]
    assert found[0].type == "service.walk.started"
    assert found[-1].type == "service.walk.succeeded"


async def test_steps_are_told_in_the_order_in_which_they_ran_when_the_clock_goes_back(
    tmp_path: Path,
) -> None:
    times = (datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=number) for number in count())
    store = Store(tmp_path, open_secrets(tmp_path), migrations, clock=lambda: next(times))
    store.open()
    operation = await run(store, Walk())
    assert [
        step.name for step in await store.read(lambda tx: operations.steps(tx, operation.id))
    ] == ["one", "two", "three"]
    store.close()


async def test_a_step_that_fails_is_undone_with_those_before_it(store: Store) -> None:
    kind = Walk("two", Failed("no luck", remedy="try again"))
    operation = await run(store, kind)
    assert kind.trail == ["one", "two", "-two", "-one", "failed"]
    assert operation.state == "failed"
    assert (operation.error or {})["detail"] == "no luck"


async def test_a_fault_of_ours_is_told_without_its_text(store: Store) -> None:
    operation = await run(store, Walk("one", RuntimeError("password is hunter2")))
    assert operation.state == "failed"
    assert "hunter2" not in str(operation)
    assert "hunter2" not in str(await store.read(lambda tx: events.after(tx, 0)))


async def test_bad_input_leaves_no_operation(store: Store) -> None:
    with pytest.raises((BadInput, ExceptionGroup)):
        await run(store, Walk(), word="bad")
    assert (await store.read(operations.list_page)).total == 0


async def test_a_plan_changes_nothing(store: Store) -> None:
    kind = Walk()
    plan = await Runner(store, ProviderRegistry(LOGGER), LOGGER, {}).plan(kind, Nothing(word="x"))
    assert (plan.subject, plan.steps) == ("x", ["one", "two", "three"])
    assert kind.trail == []
    assert (await store.read(operations.list_page)).total == 0
    assert await store.read(events.last) == 0


async def test_a_plugin_may_refuse_a_verb_with_a_reason(store: Store) -> None:
    async def refuse(operation: Any) -> str | None:
        return "not on a Friday" if operation.verb == "walk" else None

    with pytest.raises((Vetoed, ExceptionGroup)) as caught:
        await run(store, Walk(), registry_of(careful=module(before_operation=refuse)))
    assert "not on a Friday" in str(getattr(caught.value, "exceptions", [caught.value])[0])
    assert (await store.read(operations.list_page)).total == 0


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """Arguments of which some are secret."""

    word: str
    key: Annotated[str, SECRET]
    parameters: Annotated[dict[str, Any], SECRET] = {}


async def test_a_plugin_is_shown_no_value_of_an_argument_that_is_marked_secret(
    store: Store,
) -> None:
    asked: list[Any] = []

    async def note(operation: Any) -> None:
        asked.append(operation.arguments)

    kind = Walk()
    runner = Runner(store, registry_of(curious=module(before_operation=note)), LOGGER, {})
    given = Sealed(
        word="open", key="hunter-22", parameters={"user": "ada", "password": "hunter-33"}
    )
    async with anyio.create_task_group() as group:
        runner.attach(group)
        await runner.submit(kind, given, "test")
    assert asked == [{"word": "open", "key": "***", "parameters": ["password", "user"]}]


@pytest.mark.parametrize("kind", OPERATION_TYPES)
def test_what_owners_choose_is_marked_secret_in_every_verb(kind: type[OperationType]) -> None:
    for field in msgspec.structs.fields(kind.arguments):
        if field.name in ("parameters", "variables"):
            assert SECRET in field.type.__metadata__, field


async def test_a_second_operation_on_the_same_service_waits_for_the_first(store: Store) -> None:
    kind = Walk()
    runner = Runner(store, ProviderRegistry(LOGGER), LOGGER, {kind.name: kind})
    async with anyio.create_task_group() as group:
        runner.attach(group)
        for _ in range(2):
            group.start_soon(runner.submit, kind, Nothing(), "test")
    assert kind.trail == ["one", "two", "three"] * 2


@pytest.mark.parametrize("state", ["running", "undoing"])
async def test_an_unfinished_operation_is_finished_or_undone_at_the_next_start(
    state: str, store: Store
) -> None:
    def before(tx: Tx) -> int:
        number = operations.insert(tx, "walk", service_id=1, actor="test", arguments={"word": ""})
        for name, step_state in (("one", "done"), ("two", "")):
            operations.start_step(tx, number, name)
            if step_state:
                operations.end_step(tx, number, name, step_state)
        if state == "undoing":
            operations.set_state(tx, number, state, {"code": "failed", "detail": "the power went"})
        return number

    number = await store.write(before)
    kind = Walk()
    runner = Runner(store, ProviderRegistry(LOGGER), LOGGER, {kind.name: kind})
    async with anyio.create_task_group() as group:
        runner.attach(group)
        await runner.recover()
    operation = await store.read(lambda tx: operations.get(tx, number))
    if state == "running":
        assert kind.trail == ["two", "three"]
        assert operation.state == "succeeded"
    else:
        assert kind.trail == ["-two", "-one", "failed"]
        assert operation.state == "failed"


async def test_of_two_that_were_left_on_one_target_the_later_says_which_it_waits_for(
    store: Store,
) -> None:
    """An older version let two in on one target; the plugin of the first is gone."""

    def insert(tx: Tx, verb: str) -> int:
        return operations.insert(tx, verb, service_id=1, actor="test", arguments={"word": ""})

    first, second, third = [
        await store.write(partial(insert, verb=verb)) for verb in ("lost", "walk", "walk")
    ]
    kind = Walk()
    runner = Runner(store, ProviderRegistry(LOGGER), LOGGER, {kind.name: kind})
    async with anyio.create_task_group() as group:
        runner.attach(group)
        with anyio.fail_after(5):
            await runner.recover()
            assert runner.waiting(second).startswith(f"Operation {first} (lost) is in the way")
            await by_hand.abandon(runner, third, "somebody")
            assert kind.trail == []
            await by_hand.abandon(runner, first, "somebody")
    assert kind.trail == ["one", "two", "three"]
    states = [
        (await store.read(lambda tx, number=number: operations.get(tx, number))).state
        for number in (first, second, third)
    ]
    assert states == ["abandoned", "succeeded", "abandoned"]


async def test_a_listener_that_raises_or_hangs_is_reported(store: Store) -> None:
    """The app's own loop over a plugin's on_event, with a real bus and registry."""
    from purveyor import app as app_module

    seen: list[int] = []

    async def raises(event: Event) -> None:
        raise RuntimeError("boom")

    async def notes(event: Event) -> None:
        seen.append(event.id)

    registry = registry_of(raising=module(on_event=raises), fine=module(on_event=notes))
    bus = Bus(store)
    listening = SimpleNamespace(
        bus=bus, context=SimpleNamespace(registry=registry, supervisor=Supervisor(store, LOGGER))
    )
    async with anyio.create_task_group() as group:
        for plugin, call in registry.each("on_event"):
            group.start_soon(app_module.App.listen, listening, plugin, call, 0)
        for _ in range(3):
            await store.write(lambda tx: tx.emit("e"))
        with anyio.fail_after(5):
            while len(seen) < 3:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert seen == [1, 2, 3]
    assert {plugin.name: plugin.faults for plugin in registry.plugins}["raising"] >= 1


async def test_a_fault_at_the_very_end_fails_its_caller_and_nobody_else(store: Store) -> None:
    class Stumbles(Walk):
        def on_success(self, tx: Tx, operation: OperationRecord) -> None:
            raise RuntimeError("a bug of ours")

    operation = await run(store, Stumbles())
    assert operation.state == "running", "it is gone on with at the next start"
    kind = Walk()
    runner = Runner(store, ProviderRegistry(LOGGER), LOGGER, {kind.name: kind})
    async with anyio.create_task_group() as group:
        runner.attach(group)
        await runner.recover()
    assert kind.trail == ["three"], "the last step's end was not recorded"
    assert (await store.read(lambda tx: operations.get(tx, operation.id))).state == "succeeded"


async def test_a_path_that_leads_nowhere_is_its_giver_s_mistake_and_not_the_plugin_s_fault() -> (
    None
):
    errors: list[Exception] = [
        FileNotFoundError("no such file"),
        KeyError("no such table"),
        RuntimeError("no such database"),
    ]

    async def browse(path: tuple[str, ...]) -> Listing:
        raise errors[0]

    registry = registry_of(thing=module(service_type=kind, browse=browse))
    service = Service(
        id=1,
        name="main",
        slug="main",
        service_type="thing",
        parameters={},
        secrets={},
        image=Image(reference="x:1"),
        host="main",
    )
    server = ServiceHandle(registry.provider("thing"), service, cast("Any", None))
    for expected in (NotFound, NotFound, Failed):
        with pytest.raises(expected):
            await server.browse(("typed", "by hand"), "", "")
        errors.pop(0)
    assert registry.plugins[0].faults == 0
    errors.append(RuntimeError("a fault"))
    with pytest.raises(Failed, match="failed in its hook browse"):
        await server.browse((), "", "")
    assert registry.plugins[0].faults == 1


async def test_a_connection_that_breaks_is_the_servers_end_and_not_the_plugin_s_fault() -> None:
    """A driver raises an error of its own, with what the system said behind it."""

    class DriversOwn(Exception):
        pass

    async def purge(**_: Any) -> None:
        try:
            raise ConnectionResetError("reset by peer")
        except ConnectionResetError:
            raise DriversOwn("lost it")

    registry = registry_of(thing=module(service_type=kind, purge=purge))
    service = Service(
        id=1,
        name="main",
        slug="main",
        service_type="thing",
        parameters={},
        secrets={},
        image=Image(reference="x:1"),
        host="main",
    )
    server = ServiceHandle(registry.provider("thing"), service, cast("Any", None))
    with pytest.raises(Failed, match="The server of main hung up during purge") as told:
        await server.purge(cast("Any", None))
    assert "purveyor health main" in told.value.remedy
    assert registry.plugins[0].faults == 0


async def test_who_comes_after_a_refusal_is_not_even_called(
    store: Store, recwarn: pytest.WarningsRecorder
) -> None:
    called: list[str] = []

    async def refuses(operation: Any) -> str:
        called.append("first")
        return "not today"

    async def agrees(operation: Any) -> None:
        called.append("second")

    registry = registry_of(
        one=module(before_operation=refuses), two=module(before_operation=agrees)
    )
    async for _, answer in registry.ask("before_operation", 5, operation=cast("Any", None)):
        assert answer == "not today"
        break
    gc.collect()
    assert called == ["first"]
    assert not [item for item in recwarn if "never awaited" in str(item.message)]
