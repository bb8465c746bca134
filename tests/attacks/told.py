"""What a test says of the attacks that it makes. `page.py` reads it for the security page, and runs
nothing for that."""

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., object])
AGAINST = (
    "the network",
    "the engine",
    "names",
    "the web",
    "tokens and sign-in",
    "rotation",
    "plugins",
)


def attack(against: str, *what: str, honest: str) -> Callable[[Test], Test]:
    """Each of `what` is tried by the test and refused; `honest` is what goes on working beside
    them."""
    assert against in AGAINST
    assert what
    assert honest
    return lambda test: test
