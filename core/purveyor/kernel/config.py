"""What the kernel is told by the settings, and where all is kept."""

import os
from pathlib import Path
from typing import Protocol

from purveyor.kernel.naming import number_of


class ApiSettings(Protocol):
    """Where the HTTP API is reached, and how many connections it has at most."""

    @property
    def address(self) -> tuple[str, int]: ...
    @property
    def api_url(self) -> str: ...
    @property
    def connections(self) -> int: ...


def address_of(listen: str) -> tuple[str, int]:
    """The host and port of HOST:PORT. Raises `ValueError`."""
    host, separator, port = listen.rpartition(":")
    number = number_of(port)
    if not (separator and host and 0 <= number < 65536):
        raise ValueError(listen)
    return host.strip("[]"), number


def state_directory(given: str | None = None) -> Path:
    """The folder that holds everything: the one given, $PURVEYOR_STATE, or the system's place for
    it."""
    chosen = given or os.environ.get("PURVEYOR_STATE")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/purveyor")
    return Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "purveyor"
