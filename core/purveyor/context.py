"""What features are built on: the kernel's parts and its core, with the engine and all settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from purveyor.docker.protocols import Engine
from purveyor.kernel import core
from purveyor.kernel.parts import Kernel
from purveyor.providers.registry import ProviderRegistry
from purveyor.settings import Settings


@dataclass(frozen=True)
class Context(Kernel):
    """The parts that every operation of a feature needs."""

    settings: Settings
    registry: ProviderRegistry
    engine: Engine

    @property
    def volumes(self) -> Path:
        """The folder that holds the data of all services."""
        return self.settings.folder_of_volumes(self.state)


@runtime_checkable
class Core(core.Core, Protocol):
    """The core that runs, as the routes of features see it."""

    @property
    def context(self) -> Context: ...
