"""A person can end an operation: cancel it, which takes it back, or abandon one that can never be
ended."""

import anyio
import msgspec
import pytest

import purveyor.app as application
from fake.matrix import FORMS, Trial
from fake.scene import Scene, differences, do, look_after, picture
from purveyor.app import App
from purveyor.backups import store as backups
from purveyor.backups.repository import BackupRepository
from purveyor.kernel.db import Tx
from purveyor.kernel.events import store as events
from purveyor.kernel.operations import by_hand
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.handle import Handle
from purveyor.services import store as services
from purveyor.services.provisioning import Provisioner
from purveyor_hooks import Cancelled, Conflict, Event, Failed, PurveyorError
from sampling import Share

pytestmark = pytest.mark.anyio
# the last only to purge
NO_WAY_BACK = (
    "delete-project",
    "delete-environment",
    "purge-volume",
    "delete-backup",
    "unlink",
    "remove-database",
)


async def told(app: App) -> list[Event]:
    return await app.context.store.read(lambda tx: events.after(tx, 0))


async def begin(app: App, verb: str, **given: object) -> Handle:
    number = await app.begin(
        verb, msgspec.convert(given, app.operation_type(verb).arguments), "test"
    )
    handle = app.runner.handle(number)
    assert handle is not None
    return handle


@pytest.mark.matrix
@pytest.mark.daily
@pytest.mark.parametrize("trial", FORMS, indirect=True)
async def test_cancelled_at_any_point_a_verb_is_taken_back_or_has_no_way_back(
    trial: Trial, share: Share
) -> None:
    good = await trial.run(points_too=False)
    cancelled = 0
    taken = share.of(good.telling)
    for number in taken:
        scene, calls = trial.scene, 0
        scene.bring_back(trial.kept)
        async with scene.open() as app:
            before = await picture(scene, app)
            given = await trial.given(app)

            def acted(name: str, app: App = app, number: int = number) -> None:
                nonlocal calls
                calls += 1
                for handle in app.runner.running.values():
                    if calls == number and not handle.final and not handle.undoing:
                        handle.cancel("ada")

            scene.engine.acted = acted
            try:
                await app.run(trial.form.verb, given, "test")
            except Cancelled:
                cancelled += 1
                found = (await app.context.store.read(operations.list_page)).items
                assert found[0].state == "failed"
            else:
                before = good.after
            scene.engine.acted = lambda name: None
            await look_after(app)
            given_up = trial.form.gives_up if before is not good.after else ("-",)
            wrong = [
                line
                for line in differences(await picture(scene, app), before)
                if not line.startswith(given_up or ("-",))
            ]
            assert not wrong, f"cancelled at call {number}"
    assert (
        cancelled or len(taken) < len(good.telling) or not taken or trial.form.verb in NO_WAY_BACK
    )


async def test_cancelling_is_refused_with_the_reason(scene: Scene) -> None:
    async with scene.open() as app:
        number = await do(app, "stop", service="main")
        with pytest.raises(Conflict, match="has ended: succeeded"):
            await by_hand.cancel(app.runner, number, "ada")
        purging, go_on = anyio.Event(), anyio.Event()
        original = app.context.engine.volumes.destroy

        async def slowly(*given: str) -> None:
            purging.set()
            await go_on.wait()
            await original(*given)

        app.context.engine.volumes.destroy = slowly  # type: ignore[method-assign]
        handle = await begin(app, "delete", service="idle", purge=True)
        await purging.wait()
        with pytest.raises(
            Conflict, match="can no longer be taken back: it has come to the step 'purge'"
        ):
            await by_hand.cancel(app.runner, handle.operation_id, "ada")
        go_on.set()
        await handle.wait()


async def test_a_step_that_hangs_is_stopped_and_its_caller_hears_who_did_it(scene: Scene) -> None:
    async with scene.open() as app:
        hanging = anyio.Event()

        async def hangs(*_: object) -> None:
            hanging.set()
            await anyio.sleep_forever()

        original, app.provision.ready = app.provision.ready, hangs  # type: ignore[method-assign, assignment]
        handle = await begin(app, "create", name="fresh", service_type="fake")
        await hanging.wait()
        plan = await by_hand.plan_to_cancel(app.runner, handle.operation_id)
        assert plan.steps == ["undo container", "undo volume"]
        app.provision.ready = original  # type: ignore[method-assign]
        await by_hand.cancel(app.runner, handle.operation_id, "token:ada")
        with pytest.raises(Cancelled, match=r"create was cancelled by token:ada\."):
            await handle.wait()
        assert await app.context.store.read(lambda tx: services.find(tx, "fresh")) is None
        last = (await told(app))[-1]
        assert (last.type, last.data["code"]) == ("service.create.failed", "cancelled")
        await do(app, "create", name="fresh", service_type="fake")


async def test_an_operation_of_an_earlier_start_is_cancelled_before_it_is_gone_on_with(
    scene: Scene,
) -> None:
    async with scene.open() as app:

        async def hangs(*_: object) -> None:
            await anyio.sleep_forever()

        app.provision.ready = hangs  # type: ignore[method-assign, assignment]
        handle = await begin(app, "create", name="fresh", service_type="fake")
        while scene.engine.find("fk-fresh") is None:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    async with scene.open(resume=False) as app:
        handle = await by_hand.cancel(app.runner, handle.operation_id, "ada")
        with pytest.raises(Cancelled):
            await handle.wait()
        assert scene.engine.find("fk-fresh") is None


async def stuck(scene: Scene, app: App) -> int:
    """An operation whose end can never be written: what it is about is gone."""
    app.operation_type("restart").on_failure = gone  # type: ignore[method-assign]

    def acted(name: str) -> None:
        if name == "stop container":
            raise Failed("It cannot be stopped.")

    scene.engine.acted = acted
    with pytest.raises(Failed):
        await do(app, "restart", service="main")
    scene.engine.acted = lambda name: None
    return (await app.context.store.read(operations.list_unfinished))[0].id


def gone(tx: Tx, *_: object) -> None:
    raise KeyError("it is gone")


async def test_an_operation_whose_end_cannot_be_written_is_held_told_and_can_be_abandoned(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        number = await stuck(scene, app)
        waiting = (await told(app))[-1]
        assert waiting.type == "service.restart.waiting"
        assert "could not be written (KeyError)" in waiting.data["because"]
        assert "could not be written" in app.runner.waiting(number)
        with pytest.raises(
            Conflict, match=rf"Operation {number} \(restart\) is in the way"
        ) as refused:
            await do(app, "stop", service="main")
        assert f"purveyor operations abandon {number}" in refused.value.remedy
        with pytest.raises(
            Conflict, match="is being taken back already: Its end could not be written"
        ):
            await by_hand.cancel(app.runner, number, "ada")
        plan = await by_hand.plan_to_abandon(app.runner, number)
        assert [item.action for item in plan.containers] == ["may be left as it is"]
        assert "restart" in plan.subject
        await by_hand.abandon(app.runner, number, "token:ada")
        ended = await app.context.store.read(lambda tx: operations.get(tx, number))
        assert ended.state == "abandoned"
        assert "abandoned by token:ada" in (ended.error or {})["detail"]
        last = (await told(app))[-1]
        assert (last.type, last.data["actor"]) == ("service.restart.abandoned", "token:ada")
        await do(app, "stop", service="main")
    async with scene.open() as app:
        assert await app.context.store.read(operations.list_unfinished) == []


async def test_what_can_be_ended_otherwise_is_not_abandoned(scene: Scene) -> None:
    async with scene.open() as app:
        hanging = anyio.Event()

        async def hangs(*_: object) -> None:
            hanging.set()
            await anyio.sleep_forever()

        app.provision.stop = hangs  # type: ignore[method-assign, assignment]
        handle = await begin(app, "stop", service="main")
        await hanging.wait()
        with pytest.raises(Conflict, match="is under way, and is not stuck") as refused:
            await by_hand.abandon(app.runner, handle.operation_id, "ada")
        assert f"purveyor operations cancel {handle.operation_id}" in refused.value.remedy
    async with scene.open(resume=False) as app:
        with pytest.raises(Conflict, match="can still be finished"):
            await by_hand.abandon(app.runner, handle.operation_id, "ada")
        await app.runner.recover()
        with pytest.raises(Conflict, match="has ended: succeeded"):
            await by_hand.abandon(app.runner, handle.operation_id, "ada")


async def test_an_operation_that_an_earlier_start_could_not_end_is_abandoned_and_frees_its_target(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        number = await stuck(scene, app)
    async with scene.open(resume=False) as app:
        await by_hand.abandon(app.runner, number, "ada")
        await do(app, "stop", service="main")


async def test_a_service_whose_creation_was_abandoned_can_be_deleted(scene: Scene) -> None:
    async with scene.open() as app:
        broken = True

        def acted(name: str) -> None:
            if broken and name in ("start container", "remove container"):
                raise Failed("It cannot be done now.")

        scene.engine.acted = acted
        with pytest.raises(Failed):
            await do(app, "create", name="fresh", service_type="fake")
        (left,) = await app.context.store.read(operations.list_unfinished)
        with pytest.raises(Conflict):
            await do(app, "delete", service="fresh")
        await by_hand.abandon(app.runner, left.id, "ada")
        broken = False
        await do(app, "delete", service="fresh", purge=True)
        assert scene.engine.find("fk-fresh") is None
        assert await app.context.store.read(lambda tx: services.find(tx, "fresh")) is None


async def test_a_backup_whose_making_was_abandoned_is_a_failed_one(scene: Scene) -> None:
    async with scene.open() as app:
        verb = app.operation_type("backup")
        verb.on_failure = gone  # type: ignore[method-assign]

        async def fails(*_: object) -> None:
            raise Failed("It cannot be written.")

        app.part(BackupRepository).write = fails  # type: ignore[method-assign]
        with pytest.raises(PurveyorError):
            await do(app, "backup", service="main")
        (left,) = await app.context.store.read(operations.list_unfinished)
        await by_hand.abandon(app.runner, left.id, "ada")
        made = await app.context.store.read(lambda tx: backups.get(tx, left.arguments["backup"]))
        assert (made.state, "abandoned by ada" in made.error_message) == ("failed", True)


async def test_whoever_waits_for_the_next_try_hears_of_it_however_often_it_is_asked_for() -> None:
    handle, heard = Handle(1, "walk", []), list[str]()
    handle.tried(Failed("no luck"))

    async def ask() -> None:
        handle.again()
        try:
            await handle.wait()
        except Failed as error:
            heard.append(error.detail)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            assert heard == []
            handle.tried(Failed("no luck again"))
    assert heard == ["no luck again"] * 3


async def test_two_who_cancel_one_at_once_both_hear_of_it(scene: Scene) -> None:
    async with scene.open() as app:

        async def hold(*_: object) -> None:
            await anyio.sleep_forever()

        app.provision.image = hold  # type: ignore[method-assign]
        handle = await begin(app, "restart", service="main")
        await anyio.wait_all_tasks_blocked()
        heard = []

        async def cancel(actor: str) -> None:
            try:
                heard.append((await by_hand.cancel(app.runner, handle.operation_id, actor)).undoing)
            except Conflict as error:
                # the other one was quicker: it is being taken back by now, or that has ended
                # already
                heard.append(
                    any(
                        word in error.detail
                        for word in ("being taken back already", "has ended: undone", "just ended")
                    )
                )

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(cancel, "ada")
                group.start_soon(cancel, "bob")
        assert heard == [True, True]


async def test_a_command_is_not_kept_from_its_work_by_what_an_earlier_process_left(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of much data takes long: whoever runs the core for one command waits so long and no
    longer."""
    entered = anyio.Event()

    async def hold(*_: object) -> None:
        entered.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(Provisioner, "image", hold)
    async with scene.open() as app:
        handle = await begin(app, "restart", service="main")
        with anyio.fail_after(10):
            await entered.wait()
    monkeypatch.setattr(application, "RECOVERY", 0.1)
    with anyio.fail_after(30):
        async with scene.open() as app:
            await do(app, "stop", service="idle")
            assert app.runner.unfinished() == f"operation {handle.operation_id} (restart)"
    monkeypatch.undo()
    async with scene.open() as app:
        assert app.runner.unfinished() == ""
        assert (
            await app.context.store.read(lambda tx: operations.get(tx, handle.operation_id))
        ).state == "succeeded"
