"""The engine goes away at every point of a verb."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import pytest

from fake.matrix import AWAY, FORMS, Trial
from purveyor.app import App
from purveyor.kernel.operations import runner
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor_hooks import Backoff, PurveyorError
from sampling import Share

pytestmark = [pytest.mark.anyio, pytest.mark.matrix, pytest.mark.daily]
DAEMONS = (
    "create",
    "backup",
    "upgrade",
    "delete",
    "delete-purge",
    "tidy",
    "link",
    "rotate",
    "restore-in-place",
    "deploy-over",
)
ON_THE_WAY = ContextVar("on the way", default=False)  # in what works for the operation itself


@pytest.mark.parametrize("trial", FORMS, indirect=True)
async def test_a_verb_that_loses_the_engine_ends_when_that_is_back(
    trial: Trial, share: Share
) -> None:
    good = await trial.run(points_too=False)
    for number in share.of(good.telling):
        await trial.run(number, away=True)
        ended, found = await trial.start_again(trial.points.taken[-1])
        assert not trial.wrong(ended, found, good), f"the engine went at call {number}, {ended}"


@pytest.fixture
def only_when_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is tried again when the engine is there, and not because time went by."""
    monkeypatch.setattr("purveyor.services.reconciler.RECONNECT", 0.02)
    monkeypatch.setattr(runner, "BACKOFF", Backoff(3600.0, 3600.0))


async def until(what: Callable[[], Any]) -> None:
    with anyio.fail_after(30):
        while not what():  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def unfinished(app: App) -> list[OperationRecord]:
    return list(await app.context.store.read(operations.list_unfinished))


async def all_ended(app: App, begun: Sequence[OperationRecord]) -> None:
    """What was begun then comes to its end, whatever the daemon begins by itself meanwhile."""
    numbers = {item.id for item in begun}
    with anyio.fail_after(30):
        while numbers & {item.id for item in await unfinished(app)}:  # noqa: ASYNC110
            await anyio.sleep(0.02)


@asynccontextmanager
async def daemon(trial: Trial, state: Path, away: str = "") -> AsyncIterator[App]:
    """One that is up, and has the engine unless that is `away`."""
    trial.scene.bring_back(state)
    trial.scene.away = away
    async with trial.scene.open(serve=True) as app:
        if not away:
            await until(lambda: app.observer.following)
        yield app


@pytest.mark.usefixtures("only_when_connected")
@pytest.mark.parametrize("trial", DAEMONS, indirect=True)
async def test_a_daemon_goes_on_with_what_is_under_way_whenever_the_engine_is_back(
    trial: Trial, share: Share
) -> None:
    """It goes, as do its containers, and goes again while that is made good."""
    good = await trial.run(points_too=False)
    for number in share.of(good.telling):
        async with daemon(trial, trial.kept) as app:
            await _lose_it_twice(trial, app, number)
        ended, found = await trial.start_again()
        assert not trial.wrong(ended, found, good), f"the engine went at call {number}, {ended}"


async def _lose_it_twice(trial: Trial, app: App, number: int) -> None:
    engine, calls, leaves = trial.scene.engine, 0, [number, number + 3]

    def acted(name: str) -> None:
        nonlocal calls
        if ON_THE_WAY.get():
            calls += 1
            if leaves and calls >= leaves[0]:
                leaves.pop(0)
                engine.go(AWAY)
                engine.act(name)

    given = await trial.given(app)
    engine.acted = acted
    with suppress(PurveyorError), _on_the_way():
        await app.begin(trial.form.verb, given, "test")
    begun = await unfinished(app)

    def stuck() -> bool:
        return bool(engine.away) and all(item.waits for item in app.runner.running.values())

    while True:
        await until(lambda: stuck() or not app.runner.running)
        if not engine.away:
            break
        engine.come_back()
    assert len(leaves) < 2, "the engine never went"
    await all_ended(app, begun)


@contextmanager
def _on_the_way() -> Iterator[None]:
    before = ON_THE_WAY.set(True)  # tasks that are started here have it
    try:
        yield
    finally:
        ON_THE_WAY.reset(before)


@pytest.mark.usefixtures("only_when_connected")
@pytest.mark.parametrize("trial", DAEMONS, indirect=True)
async def test_what_a_killed_daemon_left_goes_on_when_the_engine_that_is_away_comes(
    trial: Trial, share: Share
) -> None:
    good = await trial.run()
    for number, point in enumerate(share.of(list(trial.points.taken))):
        async with daemon(trial, point, AWAY) as app:
            left = await unfinished(app)
            app.resumption.wake()  # without the engine it is no cause to fail them
            await anyio.sleep(0.1)
            assert await unfinished(app) == left
            trial.scene.engine.come_back()
            await all_ended(app, left)
        ended, found = await trial.start_again()
        assert not trial.wrong(ended, found, good), f"point {number} of the share, {ended}"
