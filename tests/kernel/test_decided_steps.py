"""What an operation does is decided with its intent: a later version goes on with these steps, or
says that it cannot."""

from collections.abc import Sequence

import anyio
import msgspec
import pytest

from fake.scene import Scene, do
from purveyor.app import App
from purveyor.kernel.operations import Step
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services.operations.lifecycle import Restart
from purveyor.services.provisioning import Provisioner
from purveyor_hooks import Conflict

pytestmark = pytest.mark.anyio
STEPS = Restart.steps


async def left(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> int:
    """A restart that a process left in its first step."""
    entered = anyio.Event()

    async def hold(*_: object) -> None:
        entered.set()
        await anyio.sleep_forever()

    with monkeypatch.context() as patched:
        patched.setattr(Provisioner, "image", hold)
        async with scene.open() as app:
            number = await app.begin(
                "restart",
                msgspec.convert({"service": "main"}, app.operation_type("restart").arguments),
                "test",
            )
            with anyio.fail_after(10):
                await entered.wait()
    return number


async def record(app: App, number: int) -> OperationRecord:
    return await app.context.store.read(lambda tx: operations.get(tx, number))


def later_version(
    monkeypatch: pytest.MonkeyPatch, *, without: str = "", more: Sequence[Step] = ()
) -> None:
    def steps(self: Restart, operation: OperationRecord) -> list[Step]:
        return [*more, *(step for step in STEPS(self, operation) if step.name != without)]

    monkeypatch.setattr(Restart, "steps", steps)


async def test_a_later_version_with_more_steps_does_those_that_were_decided(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await left(scene, monkeypatch)
    done: list[str] = []

    async def new() -> None:
        done.append("new")

    later_version(monkeypatch, more=[Step("new", new)])
    async with scene.open() as app:
        assert (await record(app, number)).state == "succeeded"
        assert done == []
        await do(app, "restart", service="main")
        assert done == ["new"]


async def test_a_step_that_is_not_known_any_more_is_told_holds_its_target_and_is_never_left_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await left(scene, monkeypatch)
    with monkeypatch.context() as patched:
        later_version(patched, without="ready")
        async with scene.open() as app:
            assert (await record(app, number)).state == "running"
            assert "does not know the step 'ready' of restart" in app.runner.waiting(number)
            with pytest.raises(Conflict, match="does not know the step"):
                await do(app, "stop", service="main")
    async with scene.open() as app:  # the version that began it
        assert (await record(app, number)).state == "succeeded"


async def test_steps_of_an_operation_that_an_older_version_left_are_decided_at_the_first_start(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await left(scene, monkeypatch)
    async with scene.open(resume=False) as app:
        names = (await record(app, number)).step_names
        assert names
        await app.context.store.write(
            lambda tx: tx.update("operations", "id = ?", [number], step_names=None)
        )
    async with scene.open(resume=False) as app:
        assert (await record(app, number)).step_names == names
