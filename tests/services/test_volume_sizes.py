"""The sizes of volumes are added up within a time, and what it was not enough for is named."""

import os
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from fake.scene import Scene
from purveyor.app import App
from purveyor.docker.volumes import sizes_of
from purveyor.services import routes

pytestmark = pytest.mark.anyio


async def listed(app: App, *, sizes: bool) -> list[Any]:
    answer: Any = await routes.list_volumes.fn(app, sizes=sizes, limit=100, offset=0)
    return list(answer.content)


async def test_many_volumes_on_a_slow_disk_take_no_longer_than_all_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tmp_path / str(number)) for number in range(20)]
    for path in paths:
        os.mkdir(path)
    real = os.scandir

    def slow(path: str) -> Any:
        sleep(0.1)
        return real(path)

    monkeypatch.setattr(os, "scandir", slow)
    began = monotonic()
    found = await sizes_of(paths, 0.35)
    assert monotonic() - began < 1.5
    assert 0 < len(found) < 20


async def test_an_answer_says_which_sizes_there_was_no_time_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene.open() as app:
        plain = await listed(app, sizes=False)
        assert {(item.size_bytes, item.size_missing) for item in plain} == {(None, "")}
        full = await listed(app, sizes=True)
        assert len(full) == len(plain)
        assert all(item.size_bytes is not None and item.size_missing == "" for item in full)
        monkeypatch.setattr(routes, "SIZES_WITHIN", 0.0)
        late = await listed(app, sizes=True)
        assert {(item.size_bytes, item.size_missing) for item in late} == {
            (None, "There was not enough time to add it up.")
        }
