"""What operations are built on, made once and passed in: what the kernel brings, and what features
made."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from purveyor.kernel.config import ApiSettings
from purveyor.kernel.db import Store
from purveyor.kernel.plugins.registry import Registry
from purveyor.kernel.supervisor import Supervisor
from purveyor_hooks import Logger

T = TypeVar("T")


class Parts:
    """What features made once, found by its class.

    A feature asks one that is built on it by an abstract class of its own (`above.py`), which that
    one's part is: so nothing below imports what is above.
    """

    def __init__(self) -> None:
        self._all: list[object] = []
        self._found: dict[type[object], object] = {}

    def add(self, *parts: object) -> None:
        self._all += parts

    def find(self, kind: type[T]) -> T:
        """The part that is of a class. Raises `LookupError` when the program has none."""
        if kind not in self._found:
            fitting = [part for part in self._all if isinstance(part, kind)]
            if len(fitting) != 1:
                raise LookupError(f"{len(fitting)} parts are of {kind.__name__}")
            self._found[kind] = fitting[0]
        found = self._found[kind]
        assert isinstance(found, kind)
        return found


@dataclass(frozen=True)
class Kernel:
    """What the kernel has for every operation."""

    state: Path
    settings: ApiSettings
    store: Store
    registry: Registry
    logger: Logger
    supervisor: Supervisor
    parts: Parts = field(default_factory=Parts, kw_only=True)

    def part(self, kind: type[T]) -> T:
        """What a feature made once, by its class."""
        return self.parts.find(kind)
