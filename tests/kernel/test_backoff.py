"""What is tried again waits longer each time, to an end, and not for as long as others that failed
with it."""

from purveyor_hooks import Backoff


def test_pauses_double_to_an_end_and_are_shortened_by_chance_to_half_at_the_least() -> None:
    backoff = Backoff(1.0, 60.0)
    for failures, whole in [(0, 1), (1, 2), (5, 32), (6, 60), (7, 60), (1_000_000, 60)]:
        pauses = [backoff.pause(failures) for _ in range(200)]
        assert whole / 2 <= min(pauses) < whole * 0.6
        assert whole * 0.9 < max(pauses) <= whole
