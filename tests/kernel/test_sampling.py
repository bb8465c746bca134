"""What the ordinary runs of a week take of a long matrix is all of it."""

import pytest

from sampling import DAY, DAYS, ORDINARY, Share


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 100])
@pytest.mark.parametrize("name", ["a", "b[create]"])
def test_a_week_takes_every_case_once(count: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    for day in range(DAYS):
        monkeypatch.setenv(DAY, str(day))
        share = Share(name, ORDINARY).of(range(count))
        assert len(share) <= count // DAYS + 1
        taken += share
    assert sorted(taken) == list(range(count))


def test_without_the_mark_all_is_taken() -> None:
    assert list(Share("a", "").of(range(100))) == list(range(100))
    assert list(Share("a", "engine").of(range(100))) == list(range(100))
