"""The Docker Engine: everything that is asked of it, and nothing else asks.

`Engine` is a Protocol; `DockerEngine` (in `client`) is the real one, and the tests have a fake.
"""

from purveyor.docker.labels import Labels
from purveyor.docker.models import PortTaken
from purveyor.docker.protocols import Engine

__all__ = ["Engine", "Labels", "PortTaken"]
