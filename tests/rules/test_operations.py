"""What holds for every operation: plans tell the truth and change nothing, secrets are told to nobody, turns are taken."""

import json
import sqlite3
from pathlib import Path

import anyio
import msgspec
import pytest

from fake.matrix import FORMS, Trial
from fake.scene import Scene, differences, do, picture
from purveyor.store import Tx, events, operations, services
from purveyor_hooks import Conflict, EngineUnavailable, Failed

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
            event for event in await app.house.store.read(lambda tx: events.after(tx, last)) if event.type.endswith(".started")
        ]
        assert plan.steps == told[0].data["steps"]


def _texts(state: Path) -> str:
    """All that anybody may read: events, operations, and what the journal says of steps."""
    with sqlite3.connect(f"file:{state}/purveyor.db?mode=ro", uri=True) as db:
        rows = [*db.execute("SELECT data FROM events"), *db.execute("SELECT arguments, error FROM operations")]
    return json.dumps(rows)


@every_form
async def test_no_secret_is_told_by_an_event_an_operation_or_a_plan(trial: Trial) -> None:
    def secrets(tx: Tx) -> set[str]:
        every = [services.get(tx, row["id"]) for row in tx.rows("SELECT id FROM services WHERE state != 'deleted'")]
        passwords = [tx.vault.open(row["password"]) for row in tx.rows("SELECT password FROM bindings")]
        return {str(record.parameters["password"]) for record in every} | set(passwords)

    scene = trial.scene
    scene.bring_back(trial.kept)
    async with scene.open() as app:
        known = await app.house.store.read(secrets)
        given = await trial.given(app)
        plan = msgspec.json.encode(await app.plan(trial.form.verb, given)).decode()
        await app.run(trial.form.verb, given, "test")
        known |= await app.house.store.read(secrets)
    told = _texts(scene.state) + plan
    assert len(known) > 5
    assert not [secret for secret in known if secret in told]


async def test_an_operation_that_waits_for_the_engine_is_told_and_ends_when_it_is_back(scene: Scene) -> None:
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
        left = await app.house.store.read(operations.unfinished)
        assert [(item.verb, item.state) for item in left] == [("create", "undoing")]
        last = await app.house.store.read(lambda tx: events.after(tx, 0))
        assert last[-1].type == "service.create.waiting"
        scene.engine.away, scene.engine.acted = "", lambda name: None
        await app.reconciler.sweep()
        assert await app.house.store.read(operations.unfinished) == []
        assert await app.house.store.read(lambda tx: services.find(tx, "fresh")) is None


async def test_verbs_on_one_service_take_turns_and_those_on_others_go_on(scene: Scene) -> None:
    async with scene.open() as app:
        order: list[str] = []

        async def run(verb: str, service: str) -> None:
            await do(app, verb, service=service)
            order.append(f"{verb} {service}")

        async with anyio.create_task_group() as group:
            group.start_soon(run, "restart", "main")
            group.start_soon(run, "stop", "main")
            group.start_soon(run, "stop", "idle")
        assert order.index("restart main") < order.index("stop main")
        assert set(order) == {"restart main", "stop main", "stop idle"}
        assert scene.engine.require("fk-main").state == "exited"


async def test_what_fails_keeps_its_reason_and_says_it_in_an_event(scene: Scene) -> None:
    async with scene.open() as app:
        scene.engine.world.images = {name: env for name, env in scene.engine.world.images.items() if name != "fake:2"}
        with pytest.raises(Failed, match="cannot be pulled"):
            await do(app, "upgrade", service="main", docker_image="fake:2")
        (failed,) = [
            event for event in await app.house.store.read(lambda tx: events.after(tx, 0)) if event.type.endswith(".failed")
        ]
        assert "cannot be pulled" in failed.data["error"]
        assert scene.engine.require("fk-main").state == "running"


async def test_a_service_that_is_on_its_way_out_is_not_worked_on(scene: Scene) -> None:
    async with scene.open() as app:
        await app.house.store.write(lambda tx: services.update(tx, services.get(tx, "main").id, state="deleting"))
        for verb in ("start", "stop", "restart", "backup", "delete"):
            with pytest.raises(Conflict):
                await do(app, verb, service="main")
