"""A controller looks when it is woken, when the wall clock says so, and now and then."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from purveyor.kernel.alarm import Alarm

pytestmark = pytest.mark.anyio
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
NEVER = 3600.0
GLANCE = 0.01


class Clock:
    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        return self.at


@asynccontextmanager
async def waiting(alarm: Alarm, due: datetime | None = None) -> AsyncIterator[anyio.Event]:
    """Somebody who waits; the event says that this is over."""
    over = anyio.Event()

    async def wait() -> None:
        await alarm.wait(due)
        over.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(5 * GLANCE)
            yield over
            await over.wait()


async def test_it_wakes_whoever_waits() -> None:
    alarm = Alarm(Clock(), resync=NEVER, glance=NEVER)
    async with waiting(alarm) as over:
        assert not over.is_set()
        alarm.wake()


async def test_who_is_woken_while_it_looks_looks_again() -> None:
    alarm = Alarm(Clock(), resync=NEVER, glance=NEVER)
    alarm.wake()
    async with waiting(alarm):
        pass


async def test_a_moment_comes_by_the_wall_clock_also_when_that_is_put_forward() -> None:
    clock = Clock()
    async with waiting(Alarm(clock, resync=NEVER, glance=GLANCE), NOON + timedelta(days=1)) as over:
        assert not over.is_set()
        clock.at += timedelta(days=2)


async def test_a_clock_that_is_put_back_is_a_cause_to_look() -> None:
    clock = Clock()
    async with waiting(Alarm(clock, resync=NEVER, glance=GLANCE), NOON + timedelta(days=1)) as over:
        assert not over.is_set()
        clock.at -= timedelta(hours=1)


async def test_without_any_cause_it_looks_now_and_then() -> None:
    async with waiting(Alarm(Clock(), resync=10 * GLANCE, glance=NEVER)):
        pass


async def test_what_was_due_and_could_not_be_done_is_not_tried_without_a_rest() -> None:
    clock = Clock()
    async with waiting(Alarm(clock, resync=NEVER, glance=GLANCE), NOON - timedelta(days=1)) as over:
        assert not over.is_set()
        clock.at += timedelta(seconds=1)


async def test_a_clock_that_is_put_back_during_a_look_is_a_cause_to_look_again() -> None:
    clock = Clock()
    alarm = Alarm(clock, resync=NEVER, glance=NEVER)
    clock.at -= timedelta(hours=1)
    async with waiting(alarm, NOON + timedelta(days=1)):
        pass
