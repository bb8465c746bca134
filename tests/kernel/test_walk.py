"""Whatever is done one after the other, and wherever one of it fails: no data is lost, mixed up or
left behind, nobody gets in by an account that is not on record, and all that should run runs."""

import pytest

from fake.scene import Scene
from fake.walk import walk
from sampling import today

pytestmark = pytest.mark.anyio
EACH_DAY = 4  # walks, others on each day


@pytest.mark.parametrize("number", range(EACH_DAY))
async def test_whatever_is_done_after_whatever_else(scene: Scene, number: int) -> None:
    await walk(scene, seed=today() * EACH_DAY + number, length=30)


@pytest.mark.nightly
@pytest.mark.parametrize("number", range(100))
async def test_so_it_is_on_a_hundred_other_ways(scene: Scene, number: int) -> None:
    await walk(scene, seed=1000 + number, length=40)
