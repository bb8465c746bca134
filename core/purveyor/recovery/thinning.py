"""Which copies of the state may go."""

from collections.abc import Sequence

from purveyor.recovery.sealing import moment_of

HOUR = 3_600_000  # milliseconds
DAY = 24 * HOUR
NEWEST = 10
# up to this age: one in so much time
STEPS = ((HOUR, 0), (2 * DAY, HOUR), (35 * DAY, DAY), (366 * DAY, 7 * DAY))


def surplus(paths: Sequence[str]) -> list[str]:
    """All of the last hour stay, then one an hour for two days, one a day for 35 days, one a week
    for a year; the newest ten stay, whatever their age. Ages count from the newest one by its
    number, not from this host's clock; what a clock that was put back since calls the future is as
    old as it is away."""
    ordered = sorted(paths, reverse=True)
    if not ordered:
        return []
    now = moment_of(ordered[0])
    kept, slots = set(ordered[:NEWEST]), set()
    for path in ordered:
        age = abs(now - moment_of(path))
        step = next((step for limit, step in STEPS if age < limit), None)
        slot = None if step is None else (step, moment_of(path) // step) if step else (0, path)
        if slot is not None and slot not in slots:
            slots.add(slot)
            kept.add(path)
    return [path for path in ordered if path not in kept]
