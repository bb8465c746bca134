"""How long to wait before something is tried again: the one policy of all that tries again by
itself."""

import random

import msgspec

SHORTENED = 0.5  # of a pause that stays at the least
DOUBLED = 64  # times, then `longest` is reached whatever it is


class Backoff(msgspec.Struct, frozen=True):
    """Pauses in seconds that double from `first` up to `longest`, each shortened by chance to half
    of it at the least.

    What failed together does not come back together; nothing waits for more than `longest`, by
    which a clock that was put back is found.
    """

    first: float
    longest: float

    def pause(self, failures: int) -> float:
        """The pause after so many failures before this one."""
        whole = min(self.first * 2.0 ** min(failures, DOUBLED), self.longest)
        return whole * random.uniform(SHORTENED, 1.0)
