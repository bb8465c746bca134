"""The Docker Engine: everything that is asked of it, and nothing else asks.

`Engine` is a Protocol; `DockerEngine` (in `client`) is the real one, and the tests have a fake.
"""

from purveyor.engine.labels import Labels
from purveyor.engine.models import PortTaken
from purveyor.engine.protocols import Engine

__all__ = ["Engine", "Labels", "PortTaken"]
