"""Processes that are killed for real: ``killed.py STATE FORM POINTS TARGET``.

For each point a child runs the form from the state directory as it is and kills itself there with
SIGKILL; what it leaves is moved to TARGET/POINT. Prints how each child ended, as JSON.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anyio

from fake.matrix import FORMS, Points, Trial
from fake.scene import Scene


class Fatal(Points):
    """Points of which one kills the process."""

    def __init__(self, state: Path, folder: Path, number: int) -> None:
        super().__init__(state, folder)
        self._left = number

    def take(self) -> None:
        if self.armed and (seen := self.seen()) != self._last:
            self._last = seen
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1


def main(state: Path, name: str, points: int, target: Path) -> list[int]:
    ends = []
    with tempfile.TemporaryDirectory(dir=state.parent) as folder:
        kept = Path(folder) / "kept"
        shutil.copytree(state, kept)
        for number in range(points):
            child = os.fork()  # no thread has been started yet, and no event loop
            if child == 0:
                trial = Trial(Scene(state), kept, Path(folder), FORMS[name])
                trial.points = Fatal(state, Path(folder) / "none", number)
                anyio.run(trial.run)
                os._exit(0)
            ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            shutil.move(state, target / str(number))
    return ends


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))))
