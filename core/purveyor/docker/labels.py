"""The labels that tell whose a container, volume or network is."""

from collections.abc import Mapping
from typing import NamedTuple

from purveyor.kernel.naming import number_of

PREFIX = "dev.purveyor."
INSTALLATION = f"{PREFIX}installation"
SERVICE = f"{PREFIX}service"
TYPE = f"{PREFIX}type"
PROJECT = f"{PREFIX}project"
ENVIRONMENT = f"{PREFIX}environment"
VOLUME = f"{PREFIX}volume"
DEPLOYMENT = f"{PREFIX}deployment"
SPEC = f"{PREFIX}spec"
FILES = f"{PREFIX}files"  # of a volume: the installation and container whose files it holds
# the short names of what containers carry
WORDS = ("service", "type", "project", "environment", "deployment", "purpose")


def whole(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of a new container: those of ours that it has no use for are empty, for its image
    may bring some."""
    return {**dict.fromkeys((f"{PREFIX}{word}" for word in WORDS), ""), **labels}


def id_in(labels: Mapping[str, str], name: str) -> int:
    """The id in a label, 0 when there is none: anybody may have written it."""
    return max(0, number_of(labels.get(name, "")))


class Labels(NamedTuple):
    """Makes the labels of one installation, and tells its things from all others."""

    installation: str

    def of(self, **fields: object) -> dict[str, str]:
        """Labels by their short names: ``of(service=3)``."""
        named = {f"{PREFIX}{name}": str(value) for name, value in fields.items()}
        return {INSTALLATION: self.installation, **named}

    def ours(self, labels: Mapping[str, str] | None) -> bool:
        return bool(labels) and labels is not None and labels.get(INSTALLATION) == self.installation

    @staticmethod
    def installation_of(labels: Mapping[str, str] | None) -> str:
        """Which installation of Purveyor made a thing, "" when none did."""
        return (labels or {}).get(INSTALLATION, "")

    def filters(self, **fields: object) -> dict[str, list[str]]:
        """The engine's filter for things that carry all of these labels."""
        return {"label": [f"{name}={value}" for name, value in self.of(**fields).items()]}
