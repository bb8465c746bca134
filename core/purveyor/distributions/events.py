"""The events of plugins' distributions, but for those of operations."""

from purveyor.kernel.events.catalog import Described
from purveyor_hooks import events

EVENTS: tuple[Described, ...] = (
    ("plugin.installed", "A plugin's distribution was installed.",
     events.PluginInstalled(distribution="purveyor-mariadb", version="1.0.0", sha256="9f86d081…",
     actor="grace", token=2)),
    ("plugin.removed", "A plugin's distribution was removed.",
     events.PluginInstalled(distribution="purveyor-mariadb", version="1.0.0", sha256="9f86d081…",
     actor="grace", token=2)),
)  # fmt: skip
