"""Fixtures of tests that need no Docker Engine: a furnished installation on the fake one, copied
for each test."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from catalogue import uncatalogued
from fake.matrix import FORMS, Trial
from fake.scene import Scene, furnish
from purveyor.recovery import copier

MEMORY = Path("/dev/shm")
NEEDED = 256 * 1024 * 1024


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def room() -> Iterator[Path]:
    """A folder for many copies of small files: in memory where there is some."""
    fits = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > NEEDED
    with tempfile.TemporaryDirectory(
        prefix="purveyor-rules-", dir=MEMORY if fits else None
    ) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def furnished(room: Path) -> tuple[Scene, Path]:
    """A scene with one of everything, and the copy of it that every test begins with."""
    scene, base = Scene(room / "state"), room / "base"
    scene.begin()

    async def work() -> None:
        async with scene.open() as app:
            await furnish(scene, app)

    anyio.run(work)
    scene.keep(base)
    return scene, base


@pytest.fixture
def scene(furnished: tuple[Scene, Path]) -> Iterator[Scene]:
    """The furnished scene as it was in the beginning. What it publishes has to be in the
    catalogue."""
    found, base = furnished
    found.bring_back(base)
    yield found
    wrong = uncatalogued(found.state)
    assert not wrong, wrong


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds of whoever copies the state become parts of one."""
    for name, value in (
        ("LOOK", 0.15),
        ("SHORTEST", 0.02),
        ("LONGEST", 0.1),
        ("PER_SECOND", 10**8),
    ):
        monkeypatch.setattr(copier, name, value)


@pytest.fixture
async def trial(
    request: pytest.FixtureRequest, furnished: tuple[Scene, Path], room: Path
) -> AsyncIterator[Trial]:
    """The form that the test's parameter names, ready to be run."""
    found, base = furnished
    made = Trial(found, base, room / "trial", FORMS[request.param])
    await made.prepare()
    yield made
    made.points.clear()
