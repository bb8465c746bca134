"""The engine goes away at every point of a verb."""

import pytest

from fake.matrix import FORMS, Trial
from sampling import Share

pytestmark = [pytest.mark.anyio, pytest.mark.matrix, pytest.mark.daily]


@pytest.mark.parametrize("trial", FORMS, indirect=True)
async def test_a_verb_that_loses_the_engine_ends_when_that_is_back(
    trial: Trial, share: Share
) -> None:
    good = await trial.run(points_too=False)
    for number in share.of(good.telling):
        await trial.run(number, away=True)
        ended, found = await trial.start_again(trial.points.taken[-1])
        assert not trial.wrong(ended, found, good), f"the engine went at call {number}, {ended}"
