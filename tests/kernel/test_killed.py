"""Killed at any point of its way, a verb is done or it never was, and nothing is lost."""

import json
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from fake.matrix import FORMS, Trial
from purveyor.app import OPERATION_TYPES
from sampling import Share

pytestmark = pytest.mark.anyio
every_form = pytest.mark.parametrize("trial", FORMS, indirect=True)
KILLED = Path(__file__).resolve().parent.parent / "fake/killed.py"


def test_every_verb_has_a_form() -> None:
    assert {form.verb for form in FORMS.values()} == {
        "fake.tidy",
        *(kind.name for kind in OPERATION_TYPES),  # type: ignore[attr-defined]
    }


@pytest.mark.matrix
@pytest.mark.daily
@every_form
async def test_killed_at_any_point_a_verb_is_done_or_never_was(trial: Trial, share: Share) -> None:
    good = await trial.run()
    assert good.state == "succeeded"
    assert not good.after["wrong"]
    ends = set()
    first, *between, last = trial.points.taken
    for point in (first, *share.of(between), last):
        ended, found = await trial.start_again(point)
        assert not trial.wrong(ended, found, good), (
            f"killed at point {point.name}, {ended or 'not begun'}"
        )
        ends.add(ended)
    assert "succeeded" in ends
    seen_to = ("repair", "repair-app", "end-access")  # by whoever looks after all
    assert "" in ends or trial.form.verb in seen_to, (
        "a kill before the intent leaves nothing to do, but what a look repairs"
    )


def _steps(state: Path) -> Any:
    """How far an operation has come by its own record."""
    with sqlite3.connect(f"file:{state}/purveyor.db?mode=ro", uri=True) as db:
        last = "(SELECT max(id) FROM operations)"
        return db.execute(
            f"SELECT name, state FROM steps WHERE operation_id = {last} ORDER BY name"
        ).fetchall()


@pytest.mark.parametrize(
    "trial", ["create", "rotate", pytest.param("upgrade", marks=pytest.mark.nightly)], indirect=True
)
async def test_a_copy_at_a_point_leads_to_what_a_kill_there_leads_to(
    trial: Trial, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The other tests copy the state directory; this one has processes killed, and compares."""
    good = await trial.run()
    points = list(trial.points.taken)
    trial.scene.bring_back(trial.kept)
    name = request.node.callspec.params["trial"]
    killer = [
        sys.executable,
        str(KILLED),
        str(trial.scene.state),
        name,
        str(len(points)),
        str(tmp_path),
    ]
    done = await anyio.run_process(killer, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == [-signal.SIGKILL] * len(points)
    for number, point in enumerate(points):
        killed = tmp_path / str(number)
        assert sorted(os.listdir(killed)) == sorted(os.listdir(point)), number
        assert _steps(killed) == _steps(point), number
        ended, found = await trial.start_again(killed)
        same, as_found = await trial.start_again(point)
        assert (ended, found) == (same, as_found), number
        assert not trial.wrong(ended, found, good)
