"""The Docker Engine: everything that is asked of it, and nothing else asks."""

from purveyor.engine.client import Engine, PortTaken
from purveyor.engine.labels import Labels

__all__ = ["Engine", "Labels", "PortTaken"]
