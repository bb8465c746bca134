"""What the command line says of operations: followed, interrupted, cancelled, abandoned. On the
fake engine."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import click.testing
import pytest
from test_ended_by_hand import begin, stuck

from fake.scene import Scene
from purveyor.app import App
from purveyor.asgi import create_api
from purveyor.cli import client as client_module
from purveyor.cli.client import SOCKET, Client, run
from purveyor.cli.main import LeftAlone
from purveyor.cli.options import Options
from purveyor.kernel.api.server import Servers, listen_local, serving
from purveyor.kernel.operations import store as operations
from purveyor.program import cli
from purveyor.services.exposed import STOP
from purveyor_hooks import Cancelled, Interrupted

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@asynccontextmanager
async def served(scene: Scene, app: App) -> AsyncIterator[Servers]:
    """The API where a command looks for a daemon."""
    async with serving(create_api(app), local=[listen_local(scene.state / SOCKET)]) as servers:
        yield servers


async def command(scene: Scene, *words: str) -> click.testing.Result:
    """Run a command, without a terminal."""
    invoke = partial(click.testing.CliRunner().invoke, cli, ["--state", str(scene.state), *words])
    return await anyio.to_thread.run_sync(invoke)


class Hanging:
    """A step that hangs until it is let go."""

    def __init__(self, app: App) -> None:
        self.reached, self.go_on = anyio.Event(), anyio.Event()
        self._original = app.provision.stop
        app.provision.stop = self  # type: ignore[method-assign, assignment]

    async def __call__(self, service_id: int) -> None:
        self.reached.set()
        await self.go_on.wait()
        await self._original(service_id)


async def test_an_operation_is_followed_to_its_end_and_ends_as_its_own_command_would(
    scene: Scene,
) -> None:
    async with scene.open() as app, served(scene, app):
        hanging = Hanging(app)
        handle = await begin(app, "stop", service="main")
        await hanging.reached.wait()
        found: list[click.testing.Result] = []

        async def follow() -> None:
            found.append(await command(scene, "operations", "follow", str(handle.operation_id)))

        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            await anyio.sleep(0.3)
            hanging.go_on.set()
        assert found[0].output == f"Operation {handle.operation_id} (stop) is done.\n"
        again = await command(scene, "operations", "follow", str(handle.operation_id))
        assert again.exit_code == 0


async def test_cancelling_by_the_command_line_takes_back_and_the_follower_hears_it(
    scene: Scene,
) -> None:
    async with scene.open() as app, served(scene, app):
        hanging = Hanging(app)
        handle = await begin(app, "stop", service="main")
        await hanging.reached.wait()
        number = str(handle.operation_id)
        plan = await command(scene, "operations", "cancel", number, "--plan")
        assert "undo stop" in plan.output
        said = await command(scene, "operations", "cancel", number)
        assert (
            said.output
            == f"Operation {number} (stop) is cancelled, and what it began is taken back.\n"
        )
        followed = await command(scene, "operations", "follow", number)
        assert isinstance(followed.exception, Cancelled)
        assert "cancelled by local" in followed.exception.detail
        assert scene.engine.require("fk-main").state == "running"
        shown = await command(scene, "operations", number)
        assert "cancelled by local" in shown.output


async def test_what_waits_is_listed_and_abandoned_with_the_word_alone(scene: Scene) -> None:
    async with scene.open() as app, served(scene, app):
        number = await stuck(scene, app)
        listed = await command(scene, "operations")
        assert (
            f"{number} cannot be ended yet, and is tried again: Its end could not be written"
            in listed.output
        )
        refused = await command(scene, "operations", "abandon", str(number))
        assert "no terminal to ask at" in str(refused.exception)
        assert "--yes" in str(refused.exception)
        doctor = await command(scene, "doctor")
        assert (
            f"operation: {number} restart  It cannot be ended, and is tried again" in doctor.output
        )
        assert f"purveyor operations abandon {number}" in doctor.output
        plan = await command(scene, "operations", "abandon", str(number), "--plan")
        assert "may be left as it is" in plan.output
        said = await command(scene, "operations", "abandon", str(number), "--yes")
        assert "restart was abandoned by local" in said.output
        assert await app.context.store.read(operations.list_unfinished) == []


async def test_whoever_waits_when_the_daemon_stops_is_told_that_it_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "AWAY", 1.0)
    told: list[BaseException] = []
    async with scene.open() as app:
        Hanging(app)
        async with anyio.create_task_group() as group, served(scene, app) as servers:

            async def wait(work: Any) -> None:
                try:
                    await anyio.to_thread.run_sync(
                        lambda: run(Options(str(scene.state), None, False), work)
                    )
                except Interrupted as error:
                    told.append(error)

            async def as_commands_do(client: Client) -> None:
                await client.run_operation(STOP.call(service="main"), lambda event: None)

            async def as_others_do(client: Client) -> None:
                await client.call("POST", "/api/external-services/idle/stop")

            group.start_soon(wait, as_others_do)
            group.start_soon(wait, as_commands_do)
            with anyio.fail_after(10):
                while len(await app.context.store.read(operations.list_unfinished)) < 2:  # noqa: ASYNC110
                    await anyio.sleep(0.02)
            await anyio.sleep(0.3)
            app.runner.interrupt()
            servers.close()
        left = {item.id for item in await app.context.store.read(operations.list_unfinished)}
        short, long = sorted(error.detail for error in told)  # type: ignore[attr-defined]
        assert short == "stop was interrupted."
        assert long.startswith("stop was interrupted: the daemon")
        assert long.endswith("is away for 1 s.")
        for error in told:
            assert "It goes on when" in str(error)
            assert any(f"purveyor operations cancel {number}" in str(error) for number in left)
    async with scene.open() as app:
        assert await app.context.store.read(operations.list_unfinished) == []
        assert scene.engine.require("fk-main").state == "exited"


async def test_an_account_that_outlives_its_link_is_said_and_listed_until_it_ends(
    scene: Scene,
) -> None:
    async with scene.open() as app, served(scene, app):
        plan = await command(scene, "unlink", "main", "shop", "--plan")
        assert "shop/production (deployment " in plan.output
        assert "keeps its account on main until its next deploy" in plan.output
        said = await command(scene, "unlink", "main", "shop")
        assert "shop/production, shop/preview has its account until its next deploy" in said.output
        assert "purveyor unlink main shop --now" in said.output
        for words in (("show", "main"), ("project", "show", "shop"), ("doctor",)):
            assert "until its next deploy (deployment " in (await command(scene, *words)).output, (
                words
            )
        refused = await command(scene, "unlink", "main", "shop", "--now")
        assert "lose main at once" in str(refused.exception)
        await command(scene, "unlink", "main", "shop", "--now", "--yes")
        assert (
            "until its next deploy" not in (await command(scene, "project", "show", "shop")).output
        )
        assert scene.server("main").held.accounts == {}


async def test_a_plan_of_what_interrupts_names_the_apps_and_asks_nothing(scene: Scene) -> None:
    async with scene.open() as app, served(scene, app):
        plan = await command(scene, "restart", "main", "--plan")
        assert "shop/preview (deployment " in plan.output
        assert "does not reach main until it is up again" in plan.output


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("here", "where"), [(False, "in the daemon"), (True, "when Purveyor is started again")]
)
def test_ctrl_c_says_that_the_work_goes_on_and_how_to_follow_or_cancel_it(
    here: bool, where: str
) -> None:
    async def work(client: Client) -> None:
        client.who, client.waits_for = "" if here else "the daemon", (7, "backup")
        signal.raise_signal(signal.SIGINT)
        await anyio.sleep_forever()

    with pytest.raises(LeftAlone) as left:
        run(Options(None, "http://127.0.0.1:9", False), work)
    assert left.value.exit_code == 130
    assert f"Operation 7 (backup) is not done: it goes on {where}. " in left.value.text
    assert "purveyor operations follow 7" in left.value.text
    assert "purveyor operations cancel 7" in left.value.text


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_of_a_command_that_begins_nothing_says_nothing() -> None:
    async def work(client: Client) -> None:
        signal.raise_signal(signal.SIGINT)
        await anyio.sleep_forever()

    with pytest.raises(LeftAlone, match=r"^$"):
        run(Options(None, "http://127.0.0.1:9", False), work)
