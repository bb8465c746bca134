"""What the tests of copies of the state share."""

import pytest

from purveyor.recovery import copier


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become parts of one."""
    for name, value in (("LOOK", 0.15), ("SHORTEST", 0.02), ("LONGEST", 0.1), ("PER_SECOND", 10**8)):
        monkeypatch.setattr(copier, name, value)
