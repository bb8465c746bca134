"""An installation that is hurt while it works: `contrib/torture` loses nothing, leaves nothing
over, and nothing waits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("minutes", ["1", pytest.param("5", marks=pytest.mark.nightly)])
def test_nothing_is_lost_left_over_or_stuck(minutes: str, engine: None) -> None:
    """What it prints first is the seed: ``contrib/torture --seed N`` hurts it in the same order
    again."""
    command = [sys.executable, str(ROOT / "contrib/torture"), "--minutes", minutes]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1500, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost 0, orphans 0, stuck 0" in done.stdout
