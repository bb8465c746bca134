"""Killed at any moment, an installation has copies of its state that are whole, and are what it was
a moment before."""

import json
import random
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from fake.scene import Scene

TORTURED = Path(__file__).parent.parent / "fake" / "tortured.py"
LATEST = 10.0  # seconds that what is missing may be old, on a machine that is busy with other tests


@pytest.mark.parametrize("lives", [5, pytest.param(100, marks=pytest.mark.nightly)])
def test_whenever_it_is_killed_the_newest_copy_is_what_was_written(
    scene: Scene, tmp_path: Path, lives: int
) -> None:
    seed = random.randrange(10**9)
    command = [
        sys.executable,
        str(TORTURED),
        str(scene.state),
        str(tmp_path),
        str(lives),
        str(seed),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (seed, done.stderr[-3000:])
    found = json.loads(done.stdout)
    assert set(found["codes"]) == {-9}, (seed, found["codes"], done.stderr[-3000:])
    assert found["changed"] == [], seed
    seen = found["seen"]
    assert len(seen) >= lives, (seed, seen)
    assert [item for item in seen if not item["same"] or item["refused"]] == [], seed
    assert max(item["age"] for item in seen) < LATEST, (seed, seen)
    first, last = seen[0]["revision"], seen[-1]["revision"]
    assert last > first + lives, (seed, first, last)
    ages = sorted(item["age"] for item in seen)
    print(
        f"{len(seen)} copies after {lives} kills, {found['frozen']} with one place frozen: what "
        "was missing was at most "
        f"{ages[-1]:.2f} s old, {statistics.median(ages):.2f} in the middle; revisions {first} to "
        f"{last}"
    )
