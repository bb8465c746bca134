"""What the ordinary run takes of what is long: a share that is another one on each day.

Of a long matrix it takes a seventh of the cases (`Share`): a week covers all of it. What is marked
``fortnightly`` (a module, a class, a test) it takes on one day of fourteen; ``contrib/test`` does
so with all that was measured to take longer than it says there and is not marked ``daily``. What
has its day once a fortnight and takes a share of its cases takes another share each time.
``contrib/test --nightly``, and pytest without ``-m "not nightly"``, take all; who names a file or a
test gets the whole of it. The day is printed when a run begins, and beside each failure of a test
that took a share.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from zlib import crc32

SHARES = 7  # of a matrix, one on each day
DAYS = 14  # of which a long module has one
ROUND = SHARES * DAYS  # days until all is taken of a matrix in a long module
DAY = "PURVEYOR_TEST_DAY"
ORDINARY = "not nightly"
T = TypeVar("T")


def today() -> int:
    """The number of the day whose share is taken, 0 to 97: the variable's, else this day's."""
    return int(os.environ.get(DAY) or datetime.now(UTC).toordinal()) % ROUND


def turn() -> int:
    """Which share is taken, 0 to 6: another one on each day of a week, and on one day of a
    fortnight in each of seven fortnights."""
    fortnight, day = divmod(today(), DAYS)
    return (fortnight + day) % SHARES


class Share:
    """The part of a test's cases that is taken: those of the day, or all."""

    def __init__(self, name: str, markexpr: str) -> None:
        self.whole = ORDINARY not in markexpr
        # of one test many and of another few: no day has many of all
        self._turn = turn() + crc32(name.encode())

    def of(self, cases: Sequence[T]) -> Sequence[T]:
        return cases if self.whole else cases[self._turn % SHARES :: SHARES]


def days(scopes: Iterable[str], seconds: Mapping[str, float]) -> dict[str, int]:
    """The day of each of `scopes`: the longest ones are dealt out first, each to the day that has
    the least by then."""
    loads = [0.0] * DAYS
    found = {}
    for scope in sorted(set(scopes), key=lambda name: (-seconds.get(name, 1.0), name)):
        day = loads.index(min(loads))
        loads[day] += seconds.get(scope, 1.0)
        found[scope] = day
    return found
