"""What holds for every operation: plans tell the truth and change nothing, secrets are told to
nobody, turns are taken."""

import json
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from fake.matrix import FORMS, Trial
from fake.scene import Scene, differences, do, picture
from purveyor.backups.repository import BackupRepository
from purveyor.kernel.db import Tx
from purveyor.kernel.events import store as events
from purveyor.kernel.operations import store as operations
from purveyor.services import store as services
from purveyor_hooks import Conflict, EngineUnavailable, Failed, Interrupted, NotFound

pytestmark = pytest.mark.anyio
every_form = pytest.mark.parametrize("trial", FORMS, indirect=True)


@every_form
async def test_a_plan_changes_nothing_and_lists_the_steps_that_are_run(trial: Trial) -> None:
    scene, verb = trial.scene, trial.form.verb
    scene.bring_back(trial.kept)
    async with scene.open() as app:
        before, last = await picture(scene, app), await app.bus.last()
        given = await trial.given(app)
        plan = await app.plan(verb, given)
        assert not differences(await picture(scene, app), before)
        assert await app.bus.last() == last
        await app.run(verb, given, "test")
        told = [
            event
            for event in await app.context.store.read(lambda tx: events.after(tx, last))
            if event.type.endswith(".started")
        ]
        assert plan.steps == told[0].data["steps"]


def _texts(state: Path) -> str:
    """All that anybody may read: events, operations, and what the journal says of steps."""
    with sqlite3.connect(f"file:{state}/purveyor.db?mode=ro", uri=True) as db:
        rows = [
            *db.execute("SELECT data FROM events"),
            *db.execute("SELECT arguments, error FROM operations"),
        ]
    return json.dumps(rows)


@every_form
async def test_no_secret_is_told_by_an_event_an_operation_or_a_plan(trial: Trial) -> None:
    def secrets(tx: Tx) -> set[str]:
        every = [
            services.get(tx, row["id"])
            for row in tx.rows("SELECT id FROM services WHERE state != 'deleted'")
        ]
        passwords = [
            tx.secrets.open(row["password"]) for row in tx.rows("SELECT password FROM bindings")
        ]
        return {str(record.parameters["password"]) for record in every} | set(passwords)

    scene = trial.scene
    scene.bring_back(trial.kept)
    async with scene.open() as app:
        known = await app.context.store.read(secrets)
        given = await trial.given(app)
        plan = msgspec.json.encode(await app.plan(trial.form.verb, given)).decode()
        await app.run(trial.form.verb, given, "test")
        known |= await app.context.store.read(secrets)
    told = _texts(scene.state) + plan
    assert len(known) > 5
    assert not [secret for secret in known if secret in told]


async def test_an_operation_that_waits_for_the_engine_is_told_and_ends_when_it_is_back(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        calls = 0

        def acted(name: str) -> None:
            nonlocal calls
            calls += 1
            if calls > 6:
                scene.engine.away = "The engine is away."

        scene.engine.acted = acted
        with pytest.raises(EngineUnavailable):
            await do(app, "create", name="fresh", service_type="fake")
        left = await app.context.store.read(operations.list_unfinished)
        assert [(item.verb, item.state) for item in left] == [("create", "undoing")]
        last = await app.context.store.read(lambda tx: events.after(tx, 0))
        assert last[-1].type == "service.create.waiting"
        scene.engine.away, scene.engine.acted = "", lambda name: None
        await app.reconciler.sweep()  # it wakes what waits, and waits for nothing
        with anyio.fail_after(10):
            while await app.context.store.read(operations.list_unfinished):  # noqa: ASYNC110
                await anyio.sleep(0.02)
        assert await app.context.store.read(lambda tx: services.find(tx, "fresh")) is None


async def test_verbs_on_one_service_take_turns_and_those_on_others_go_on(scene: Scene) -> None:
    async with scene.open() as app:
        order: list[str] = []

        async def run(verb: str, service: str) -> None:
            await do(app, verb, service=service)
            order.append(f"{verb} {service}")

        async with anyio.create_task_group() as group:
            group.start_soon(run, "restart", "main")
            main = await app.context.store.read(lambda tx: services.get(tx, "main").id)
            with anyio.fail_after(10):
                while not app.runner.busy(main):
                    await anyio.lowlevel.checkpoint()
            group.start_soon(run, "stop", "main")
            group.start_soon(run, "stop", "idle")
        assert order.index("restart main") < order.index("stop main")
        assert set(order) == {"restart main", "stop main", "stop idle"}
        assert scene.engine.require("fk-main").state == "exited"


async def test_what_changes_hands_while_an_operation_waits_is_locked_as_it_is_then(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        main = await app.context.store.read(lambda tx: services.get(tx, "main").id)
        restarted: list[tuple[str, int]] = []

        async def restart() -> None:
            number = await do(app, "restart", service="main")
            record = await app.context.store.read(lambda tx: operations.get(tx, number))
            assert record.service_id is not None
            restarted.extend([*(record.locks or []), ("on", record.service_id)])

        def hand_over(tx: Tx) -> int:
            services.update(tx, main, name="former", slug="former")
            other = services.get(tx, "idle").id
            services.update(tx, other, name="main", slug="main")
            return other

        key = ("service", main)
        await app.runner.locks.take([key])
        async with anyio.create_task_group() as group:
            group.start_soon(restart)
            await anyio.sleep(0.3)  # it waits for its turn
            assert restarted == []
            other = await app.context.store.write(hand_over)
            app.runner.locks.release([key])
        assert restarted == [("service", other), ("on", other)]


async def test_what_is_deleted_while_an_operation_waits_is_not_found(scene: Scene) -> None:
    async with scene.open() as app:
        main = await app.context.store.read(lambda tx: services.get(tx, "idle").id)
        refused: list[NotFound] = []

        async def restart() -> None:
            with pytest.raises(NotFound) as raised:
                await do(app, "restart", service="idle")
            refused.append(raised.value)

        async with anyio.create_task_group() as group:
            group.start_soon(partial(do, app, "delete", service="idle"))
            while not app.runner.busy(main):
                await anyio.lowlevel.checkpoint()
            group.start_soon(restart)
        assert len(refused) == 1
        assert not app.runner.busy(main)


async def test_what_fails_keeps_its_reason_and_says_it_in_an_event(scene: Scene) -> None:
    async with scene.open() as app:
        scene.engine.world.images = {
            name: env for name, env in scene.engine.world.images.items() if name != "fake:2"
        }
        with pytest.raises(Failed, match="cannot be pulled"):
            await do(app, "upgrade", service="main", docker_image="fake:2")
        (failed,) = [
            event
            for event in await app.context.store.read(lambda tx: events.after(tx, 0))
            if event.type.endswith(".failed")
        ]
        assert "cannot be pulled" in failed.data["error"]
        assert scene.engine.require("fk-main").state == "running"


async def test_a_service_that_is_on_its_way_out_is_not_worked_on(scene: Scene) -> None:
    async with scene.open() as app:
        await app.context.store.write(
            lambda tx: services.update(tx, services.get(tx, "main").id, state="deleting")
        )
        for verb in ("start", "stop", "restart", "backup", "update"):
            with pytest.raises(Conflict):
                await do(app, verb, service="main")


async def test_an_undo_that_waits_holds_its_service_and_what_served_meanwhile_is_kept(
    scene: Scene,
) -> None:
    """An in-place restore fails when the new volume serves already, and its undo cannot be done for
    a while."""
    async with scene.open() as app:
        broken = True

        def acted(name: str) -> None:
            main = scene.engine.find("fk-main")
            if (
                broken
                and main is not None
                and ".next" in main.mounts["/data"]
                and main.state == "running"
            ):
                raise Failed(f"{name} cannot be done now")

        scene.engine.acted = acted
        with pytest.raises(Failed):
            await do(app, "restore", backup="1", service_id="main")
        (left,) = await app.context.store.read(operations.list_unfinished)
        scene.put("main", "shop_production", written="while the undo waited")
        later: dict[str, dict[str, Any]] = {
            "update": {"parameters": {"size": 3}},
            "start": {},
            "restart": {},
        }
        for verb, given in later.items():
            with pytest.raises(Conflict, match=rf"Operation {left.id} \(restore\) is in the way"):
                await do(app, verb, service="main", **given)
        broken = False
        await do(app, "stop", service="idle")  # another service was free all the time
        await app.runner.recover()
        assert await app.context.store.read(operations.list_unfinished) == []
        assert scene.server("main").held.resources["shop_production"] == {"precious": "gold"}
        kept = await app.context.store.read(lambda tx: services.volumes(tx, ["kept"]))
        (newest,) = [item for item in kept if item.origin == "main"]
        assert "while the undo waited" in (Path(newest.path) / "server.json").read_text()
        await do(app, "update", service="main", parameters={"size": 3})


async def test_an_undo_that_failed_is_tried_again_by_itself(scene: Scene) -> None:
    async with scene.open() as app:
        failing = True

        def acted(name: str) -> None:
            if failing and name in ("start container", "remove container"):
                raise Failed(f"{name} cannot be done now")

        scene.engine.acted = acted
        with pytest.raises(Failed):
            await do(app, "update", service="main", parameters={"size": 2})
        assert len(await app.context.store.read(operations.list_unfinished)) == 1
        failing = False
        with anyio.fail_after(10):
            while await app.context.store.read(operations.list_unfinished):  # noqa: ASYNC110
                await anyio.sleep(0.05)
        assert (await app.context.store.read(lambda tx: services.get(tx, "main"))).parameters[
            "size"
        ] == 1
        told = [
            event.type for event in await app.context.store.read(lambda tx: events.after(tx, 0))
        ]
        assert told.count("service.update.waiting") == 1
        assert told[-1] == "service.update.failed"


@pytest.mark.parametrize("away", ["killed", "removed", "cut off"])
async def test_an_undo_that_waits_for_a_server_has_it_run_again(away: str, scene: Scene) -> None:
    """Nobody else may: the operation has its locks. Found by `contrib/torture`: each waited for the
    other, for good."""
    async with scene.open() as app:

        def acted(name: str) -> None:
            """The server goes at the very moment at which a new password is set."""
            if name == "rotate":
                scene.engine.acted = lambda name: None
                main = scene.engine.require("fk-main")
                if away == "removed":
                    scene.engine.world.containers.remove(main)
                elif away == "killed":
                    main.state, main.exit_code = "exited", 137
                else:
                    main.networks.clear()
                    raise Failed("the connection was lost")

        scene.engine.acted = acted
        with pytest.raises(Failed):
            await do(app, "rotate", project="shop")
        with anyio.fail_after(15):
            while await app.context.store.read(operations.list_unfinished):  # noqa: ASYNC110
                await anyio.sleep(0.05)
        assert scene.engine.require("fk-main").state == "running"
        await do(app, "rotate", project="shop")


async def test_what_an_earlier_start_left_is_in_the_way_until_it_is_gone_on_with(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        scene.engine.acted = lambda name: setattr(
            scene.engine, "away", "The engine is away." if name == "start container" else ""
        )
        with pytest.raises(EngineUnavailable):
            await do(app, "restart", service="main")
    scene.away = "The engine is away."
    async with scene.open() as app:
        with pytest.raises(
            Conflict, match=r"\(restart\) is in the way until it has ended: The engine is away"
        ):
            await do(app, "stop", service="main")
        scene.engine.away = ""
        await app.runner.recover()
        await do(app, "stop", service="main")


async def test_whoever_waits_for_an_operation_that_is_interrupted_is_told_so(scene: Scene) -> None:
    said: list[BaseException | None] = []
    async with anyio.create_task_group() as group, scene.open() as app:
        begun = anyio.Event()

        async def hangs(*_: Any) -> None:
            begun.set()
            await anyio.sleep_forever()

        app.provision.stop = hangs  # type: ignore[method-assign]
        number = await app.begin(
            "stop",
            msgspec.convert({"service": "main"}, app.operation_type("stop").arguments),
            "test",
        )
        handle = app.runner.handle(number)
        assert handle is not None

        async def wait() -> None:
            try:
                await handle.wait()
                said.append(None)
            except Interrupted as error:
                said.append(error)

        group.start_soon(wait)
        await begun.wait()
    assert "goes on when Purveyor is started again" in str(said[0])


async def test_a_backup_that_is_read_is_not_deleted_and_one_that_is_deleted_is_not_read(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        reading, go_on = anyio.Event(), anyio.Event()

        async def verify() -> None:
            await do(app, "verify-backup", backup="1")

        keeper = app.part(BackupRepository)
        original = keeper.read_into

        async def slowly(*given: Any) -> Any:
            if not reading.is_set():
                reading.set()
                await go_on.wait()
            return await original(*given)

        keeper.read_into = slowly  # type: ignore[method-assign]
        async with anyio.create_task_group() as group:
            group.start_soon(verify)
            await reading.wait()
            with pytest.raises(Conflict, match="is being read by operation"):
                await do(app, "delete-backup", backup="1")
            await do(app, "restore", backup="1", new_name="beside")  # two may read at once
            go_on.set()
        await do(app, "delete-backup", backup="1")


async def test_what_is_begun_while_the_daemon_looks_after_all_is_not_taken_for_left_over(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        async with anyio.create_task_group() as group:
            for number in range(4):
                name = f"at-once-{number}"
                group.start_soon(partial(do, app, "create", name=name, service_type="fake"))
                group.start_soon(app.runner.recover)
        told = [
            event
            for event in await app.context.store.read(lambda tx: events.after(tx, 0))
            if event.type.startswith("service.create")
        ]
        assert len([event for event in told if event.type.endswith(".succeeded")]) == 6 + 4
        assert not [event for event in told if event.type.endswith(".failed")]
