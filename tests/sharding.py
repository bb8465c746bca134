"""In which order the tests are dealt out to the workers: what takes longest is begun first, as `durations.json` says.

What stays together is what shares its set-up: the tests of a class, and those of a module that are in none, as
``--dist loadscope`` has it. ``--write-durations`` measures anew those that are run.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

DURATIONS = Path(__file__).parent / "durations.json"
NEW = float("inf")  # what was never measured may take long


class Sharding:
    """Orders the tests, and writes down how long they took when it is to."""

    def __init__(self, *, write: bool) -> None:
        self._write = write
        self._known: dict[str, float] = json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}
        self._measured: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: -self._known.get(_scope(item.nodeid), NEW))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._measured[_scope(report.nodeid)] += report.duration  # type: ignore[assignment]

    def pytest_sessionfinish(self) -> None:
        if self._write:
            found = self._known | {scope: round(seconds, 1) for scope, seconds in self._measured.items()}
            DURATIONS.write_text(json.dumps(dict(sorted(found.items())), indent=4) + "\n")


def _scope(nodeid: str) -> str:
    return nodeid.partition("[")[0].rpartition("::")[0]
