"""The wheels of this repository, and environments that have nothing but what is installed there."""

import sys
import venv
from pathlib import Path

import pytest

from distributions import PARTS, ROOT, Clean, build, run, wheel_of


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    build(folder, *(ROOT / path for path in PARTS.values()))
    return {name: wheel_of(folder, name) for name in PARTS}


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    """Makes an environment without pip, installs something into it, and answers its Python."""

    def make(*what: object) -> Path:
        folder = tmp_path_factory.mktemp("clean")
        venv.create(folder)
        python = folder / "bin/python"
        install = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile"]
        run(*install, "-c", ROOT / "contrib/constraints.txt", *what)
        return python

    return make
