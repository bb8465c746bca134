"""What features are built on: the kernel's parts and its core, with the engine."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from purveyor.docker.protocols import Engine
from purveyor.kernel import core
from purveyor.kernel.parts import Kernel


@dataclass(frozen=True)
class House(Kernel):
    """The parts that every verb of a feature needs."""

    engine: Engine


@runtime_checkable
class Core(core.Core, Protocol):
    """The core that runs, as the routes of features see it."""

    @property
    def house(self) -> House: ...
