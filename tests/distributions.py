"""The four distributions of this repository, built as wheels."""

import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = {
    "purveyor-hooks": "hooks",
    "purveyor-kv": "plugins/purveyor_kv",
    "purveyor-blob": "plugins/purveyor_blob",
    "purveyor": ".",
}

STALE = (
    "The plugins of this environment are not those of pyproject.toml. Install it anew: "
    "contrib/prepare code"
)
Clean = Callable[..., Path]


def run(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder: Path, *sources: Path) -> None:
    """The wheels of some folders, with the hatchling that is installed here."""
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        *sources,
    )


def wheel_of(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"{name.replace('-', '_')}-[0-9]*.whl")
    return found


def stale() -> bool:
    """Whether this environment was made before the bundled plugins were what pyproject.toml now
    says."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
        "purveyor"
    ]
    found = entry_points(group="purveyor")
    return bool(
        wanted
        != {
            entry.name: entry.value
            for entry in found
            if entry.dist and entry.dist.name == "purveyor"
        }
    )
