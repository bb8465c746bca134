"""The published Python packages that tests run unmodified, in an environment of their own:
installed once, kept by the hash of what is wanted."""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

WANTED = Path(__file__).parent / "outside" / "requirements.txt"


def installed() -> Path:
    """The environment's folder of programs."""
    mark = hashlib.sha256(WANTED.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "purveyor-pip" / mark
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
            subprocess.run(
                [folder / "venv/bin/pip", "install", "-q", "-r", WANTED],
                check=True,
                capture_output=True,
            )
            (folder / "complete").touch()
    return folder / "venv/bin"


def run(*argv: str, folder: Path, variables: dict[str, str]) -> str:
    """Run one of its programs in a folder, with an app's variables."""
    done = subprocess.run(
        [installed() / argv[0], *argv[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **variables},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
