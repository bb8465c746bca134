"""What the ordinary runs of a week take of a long matrix is all of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sampling import DAY, DAYS, ORDINARY, ROUND, SHARES, Share, days


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 100])
@pytest.mark.parametrize("name", ["a", "b[create]"])
@pytest.mark.parametrize(
    "days",
    [range(7), range(14, 21), range(0, ROUND, DAYS), range(5, ROUND, DAYS)],
    ids=["a week", "another week", "one day of fourteen", "another day of fourteen"],
)
def test_a_week_takes_every_case_once_and_so_do_seven_fortnights_of_one_day(
    days: range, count: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    for day in days:
        monkeypatch.setenv(DAY, str(day))
        share = Share(name, ORDINARY).of(range(count))
        assert len(share) <= count // SHARES + 1
        taken += share
    assert sorted(taken) == list(range(count))


def test_without_the_mark_all_is_taken() -> None:
    assert list(Share("a", "").of(range(100))) == list(range(100))
    assert list(Share("a", "engine").of(range(100))) == list(range(100))


def test_a_fortnight_has_each_long_module_once_and_no_day_has_many() -> None:
    seconds = {f"long{number}": 10.0 + number for number in range(20)}
    found = days([*seconds, "new"], seconds)
    assert found == days(["new", *reversed(seconds)], seconds)  # whatever the order of collection
    loads = [
        sum(seconds.get(name, 0) for name, day in found.items() if day == number)
        for number in range(DAYS)
    ]
    assert set(found) == {*seconds, "new"}
    assert max(loads) - min(loads) <= max(seconds.values())


LONG = """
import pytest
pytestmark = pytest.mark.fortnightly
def test_long(): pass
@pytest.mark.daily
def test_told_apart(): pass
"""
SHORT = """
import pytest
def test_short(): pass
@pytest.mark.fortnightly
@pytest.mark.parametrize("number", range(7))
def test_each(number): pass
"""
RUN = """
import os, pytest, sharding
class Whole:
    def pytest_configure(self, config): config.option.whole = {whole}
for day in range(14):
    os.environ["PURVEYOR_TEST_DAY"] = str(day)
    plugins = [Whole(), sharding.Sharding(write=False)]
    pytest.main(["--collect-only", "-q", "--rootdir", ".", "-c", "none.ini", "-W", "ignore", "-m", "not nightly"], plugins)
"""


@pytest.mark.parametrize("whole", [True, False])
def test_a_whole_run_takes_what_is_fortnightly_on_its_day_and_who_names_a_file_gets_all_of_it(
    whole: bool, tmp_path: Path
) -> None:
    (tmp_path / "test_long.py").write_text(LONG)
    (tmp_path / "test_short.py").write_text(SHORT)
    (tmp_path / "none.ini").touch()
    run = [sys.executable, "-c", RUN.format(whole=whole)]
    env = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTEST_ADDOPTS": "-p no:cacheprovider"}
    said = subprocess.run(
        run, cwd=tmp_path, env=env, capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert said.count("::test_short\n") == said.count("::test_told_apart\n") == DAYS
    assert said.count("::test_long\n") == (1 if whole else DAYS)
    assert said.count("::test_each[") == (7 if whole else DAYS * 7)
