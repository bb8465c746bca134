"""What a feature asks of one that is built on it is answered, once."""

import inspect

import pytest

from fake.scene import Scene
from purveyor.backups import above as of_backups
from purveyor.kernel.parts import Parts
from purveyor.projects import above as of_projects
from purveyor.services import above as of_services

pytestmark = pytest.mark.anyio
ASKED = [
    kind
    for module in (of_services, of_projects, of_backups)
    for _, kind in inspect.getmembers(module, inspect.isabstract)
    if kind.__module__ == module.__name__
]


async def test_whatever_a_feature_asks_is_answered_by_one_part(scene: Scene) -> None:
    assert len(ASKED) >= 5
    async with scene.open() as app:
        for kind in ASKED:
            assert isinstance(app.part(kind), kind)


def test_a_part_that_there_is_not_or_not_once_is_told() -> None:
    parts = Parts()
    parts.add("one", 2)
    assert parts.find(str) == "one"
    with pytest.raises(LookupError, match="0 parts are of float"):
        parts.find(float)
    parts.add(3)
    with pytest.raises(LookupError, match="2 parts are of int"):
        parts.find(int)
