"""In which order the tests are dealt out to the workers: what needs no engine first, for its images
may still be made, and of each kind what takes longest, as `durations.json` says.

What stays together is what shares its set-up: the tests of a class, and those of a module that are
in none, as ``--dist loadscope`` has it. ``--write-durations`` measures anew those that are run.
What is marked ``fortnightly`` is left out of the ordinary run but on its day, and with ``--sample-long``
so is what was measured to take longer and is not marked ``daily``. Who names a file gets all of it.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from sampling import DAYS, ORDINARY, days, today

DURATIONS = Path(__file__).parent / "durations.json"
NEW = float("inf")  # what was never measured may take long


class Sharding:
    """Orders the tests, and writes down how long they took when it is to."""

    def __init__(self, *, write: bool) -> None:
        self._write = write
        self._known: dict[str, float] = (
            json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}
        )
        self._measured: Counter[str] = Counter()
        self._part = False

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        long = config.getoption("--sample-long", default=None)
        self._part = ORDINARY in config.option.markexpr
        if ORDINARY in config.option.markexpr and config.option.whole:
            waiting = self._of_other_days(items, long or NEW)
            items[:] = [item for item in items if item not in waiting]
            config.hook.pytest_deselected(items=list(waiting))
        later = {_scope(item.nodeid) for item in items if item.get_closest_marker("engine")}

        def place(item: pytest.Item) -> tuple[bool, float]:
            scope = _scope(item.nodeid)
            return scope in later, -self._known.get(scope, NEW)

        items.sort(key=place)

    def _of_other_days(self, items: list[pytest.Item], long: float) -> set[pytest.Item]:
        marked = {item: scope for item in items if (scope := fortnightly(item))}
        for item in items:
            scope = _scope(item.nodeid)
            if (
                item not in marked
                and self._known.get(scope, 0.0) > long
                and not item.get_closest_marker("daily")
            ):
                marked[item] = scope
        day = days(marked.values(), self._shares(items, marked))
        return {item for item, scope in marked.items() if day[scope] != today() % DAYS}

    def _shares(self, items: list[pytest.Item], marked: dict[pytest.Item, str]) -> Counter[str]:
        """The seconds that each marked scope takes of those of its module or class."""
        tests = Counter(_scope(item.nodeid) for item in items)
        found: Counter[str] = Counter()
        for item, scope in marked.items():
            whole = _scope(item.nodeid)
            found[scope] += self._known.get(whole, 1.0) / tests[whole]  # type: ignore[assignment]
        return found

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._measured[_scope(report.nodeid)] += report.duration  # type: ignore[assignment]

    def pytest_sessionfinish(self) -> None:
        if self._write:
            found = self._known | {
                # an ordinary run takes a part of what is long
                scope: round(max(seconds, self._known.get(scope, 0.0) if self._part else 0.0), 1)
                for scope, seconds in self._measured.items()
            }
            DURATIONS.write_text(json.dumps(dict(sorted(found.items())), indent=4) + "\n")


def _scope(nodeid: str) -> str:
    return nodeid.partition("[")[0].rpartition("::")[0]


def fortnightly(item: pytest.Item) -> str:
    """The name of what is taken together on one day of the fortnight: the test, class or module that
    carries the mark; else empty."""
    if item.get_closest_marker("daily"):
        return ""
    return next((node.nodeid for node, _ in item.iter_markers_with_node("fortnightly")), "")
