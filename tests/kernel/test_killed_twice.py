"""A recovery that is killed itself."""

import shutil
from pathlib import Path

import pytest

from fake.matrix import FORMS, Trial, watched

pytestmark = pytest.mark.anyio


@pytest.mark.nightly
@pytest.mark.parametrize("trial", FORMS, indirect=True)
async def test_a_recovery_that_is_killed_is_gone_on_with(trial: Trial, room: Path) -> None:
    good = await trial.run()
    kept, first = room / "kept", room / "first"
    shutil.copytree(trial.points.taken[0].parent, kept)
    for number in range(len(trial.points.taken)):
        (kept / str(number)).rename(first)
        trial.points.clear()
        trial.points.armed = True
        await trial.start_again(first, watched(trial.points))
        trial.points.armed = False
        for second in list(trial.points.taken):
            ended, found = await trial.start_again(second)
            assert not trial.wrong(ended, found, good), (
                f"killed at point {number}, then at {second.name}, {ended}"
            )
        shutil.rmtree(first)
    shutil.rmtree(kept)
