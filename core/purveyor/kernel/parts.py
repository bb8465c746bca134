"""What verbs are built on, made once and passed in."""

from dataclasses import dataclass
from pathlib import Path

from purveyor.kernel.config import Settings
from purveyor.kernel.db import Store
from purveyor.kernel.docker import Engine
from purveyor.kernel.fence import Fence
from purveyor.kernel.plugins.registry import Registry
from purveyor.kernel.supervisor import Supervisor
from purveyor_hooks import Logger


@dataclass(frozen=True)
class House:
    """The parts of the core that every verb needs."""

    state: Path
    settings: Settings
    store: Store
    engine: Engine
    registry: Registry
    logger: Logger
    supervisor: Supervisor
    fence: Fence

    @property
    def volumes(self) -> Path:
        """The folder that holds the data of all services."""
        return self.settings.folder_of_volumes(self.state)
