"""Every call that a verb makes goes wrong once, and the taking back is killed at every point."""

import pytest

from fake.matrix import FORMS, Trial
from sampling import Share

pytestmark = [pytest.mark.anyio, pytest.mark.matrix, pytest.mark.daily]


@pytest.mark.parametrize("trial", FORMS, indirect=True)
async def test_a_verb_whose_calls_fail_is_taken_back_even_when_that_is_killed(
    trial: Trial, share: Share
) -> None:
    good = await trial.run(points_too=False)
    for number in share.of(good.telling):
        failed = await trial.run(number)
        assert failed.state not in ("running", "undoing")
        assert not trial.wrong(failed.state, failed.after, good), (
            f"call {number} failed, {failed.state}"
        )
        for point in list(trial.points.taken):
            ended, found = await trial.start_again(point)
            assert not trial.wrong(ended, found, good), (
                f"call {number} failed, killed at point {point.name}, {ended}"
            )
