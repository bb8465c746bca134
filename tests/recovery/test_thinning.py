"""Which copies of the state stay: all of the last hour, then fewer and fewer, and never less than
the newest ten."""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest

from purveyor.recovery.sealing import Header, moment_of
from purveyor.recovery.thinning import DAY, HOUR, NEWEST, surplus

NOW = 1_800_000_000_000
MINUTE = 60_000


def named(revision: int, at: int, term: int = 1) -> str:
    header = Header(
        installation="00ff00ff00ff00ff",
        incarnation="x",
        term=term,
        revision=revision,
        at=at,
        key="k",
    )
    return header.path


def thinned(paths: Sequence[str]) -> list[str]:
    gone = set(surplus(paths))
    return [path for path in paths if path not in gone]


def every(step: int, age: int) -> list[str]:
    """Copies in their order, the newest of now."""
    return [named(number, NOW - age + number * step) for number in range(age // step + 1)]


def ages(paths: Sequence[str]) -> list[int]:
    return [NOW - moment_of(path) for path in paths]


def test_all_of_the_last_hour_stay_then_one_an_hour_a_day_a_week() -> None:
    kept = ages(thinned(every(10 * MINUTE, 500 * DAY)))
    within = Counter(
        "hour" if age < HOUR else "days" if age < 2 * DAY else "month" if age < 35 * DAY else "year"
        for age in kept
    )
    assert within["hour"] == 6
    assert within["days"] in range(47, 52), "the newest ten among them"
    assert within["month"] in (33, 34)
    assert within["year"] in (47, 48, 49)
    assert max(kept) < 366 * DAY


def test_what_stays_is_never_further_apart_than_it_was_promised() -> None:
    kept = sorted(ages(thinned(every(7 * MINUTE, 400 * DAY))))
    for before, after in pairwise(kept):
        step = (
            MINUTE * 7
            if after < HOUR
            else HOUR
            if after < 2 * DAY
            else DAY
            if after < 35 * DAY
            else 7 * DAY
        )
        assert after - before <= 2 * step


def test_thinning_again_and_again_leaves_what_thinning_once_would() -> None:
    """Else what is kept for the day would have been thrown away within the hour."""
    paths: list[str] = []
    most = 0
    for number in range(60 * 24 * 6):
        paths.append(named(number, NOW + number * 10 * MINUTE))
        if number % 6 == 0:
            paths = thinned(paths)
            most = max(most, len(paths))
    assert not surplus(thinned(paths))
    now = moment_of(paths[-1])
    days = {(now - moment_of(path)) // DAY for path in paths}
    assert days >= set(range(34)), "each of the last days has one"
    assert most < 150


@pytest.mark.parametrize("age", [0, 3 * DAY, 4000 * DAY])
def test_the_newest_ten_stay_whatever_their_age(age: int) -> None:
    paths = [named(number, NOW - age + number) for number in range(30)] + [named(30, NOW)]
    kept = thinned(paths)
    assert set(paths[-NEWEST:]) <= set(kept)


def test_ages_count_from_the_newest_one_and_not_from_the_clock_of_this_host() -> None:
    """An installation that was off for ten years loses nothing of what it had."""
    paths = every(HOUR, 30 * DAY)
    long_ago = [named(number, moment_of(path) - 3650 * DAY) for number, path in enumerate(paths)]
    assert len(thinned(long_ago)) == len(thinned(paths))


def test_a_clock_that_was_put_back_takes_nothing_away_that_is_new() -> None:
    before = every(MINUTE, 3 * DAY)
    back = [named(len(before) + number, NOW - 2 * HOUR + number * MINUTE) for number in range(60)]
    kept = set(thinned(before + back))
    assert set(back) <= kept, "they are of the last hour, by their numbers"
    assert len(kept & set(before)) > 40, "and those of before are thinned by how far away they are"
    assert len(kept) < 60 + 60 * 4 + 60


def test_one_copy_of_a_clock_that_was_far_ahead_does_not_make_all_others_old() -> None:
    """It says 2099; what follows says today."""
    before = every(HOUR, 30 * DAY)
    ahead = [named(len(before), NOW + 26_000 * DAY)]
    after = [named(len(before) + 1 + number, NOW + number * MINUTE) for number in range(30)]
    kept = set(thinned(before + ahead + after))
    assert set(after) <= kept
    assert ahead[0] not in kept
    assert len(kept) >= 30 + 24 + 20


def test_a_later_term_is_newer_whatever_its_numbers() -> None:
    old = [named(1000 + number, NOW + number, term=1) for number in range(20)]
    new = [named(number, NOW - 400 * DAY + number, term=2) for number in range(NEWEST)]
    assert set(new) <= set(thinned(old + new))


@pytest.mark.parametrize("seed", range(20))
def test_with_any_clock_the_newest_stay_and_the_rest_is_bounded(seed: int) -> None:
    rnd = random.Random(seed)
    at, paths = NOW, []
    for number in range(2000):
        at = max(
            0,
            at + rnd.choice([MINUTE, HOUR, DAY, -HOUR, -DAY])
            if rnd.random() < 0.1
            else at + MINUTE,
        )
        paths.append(named(number, at))
    rnd.shuffle(paths)
    kept = thinned(paths)
    assert set(sorted(paths)[-NEWEST:]) <= set(kept)
    assert sorted(thinned(kept)) == sorted(kept)
    newest = moment_of(max(paths))
    assert all(path in kept for path in paths if abs(newest - moment_of(path)) < HOUR)


def test_of_nothing_nothing_goes() -> None:
    assert surplus([]) == []
    assert surplus([named(1, NOW)]) == []
