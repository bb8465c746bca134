"""Distributions of plugins as the API shows and takes them."""

from datetime import datetime
from typing import Annotated

import msgspec

from purveyor.kernel.plugins.registry import Plugin

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class InstalledRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A distribution that was installed: its version, the wheel that it came from, and the hash of
    its list of files."""

    distribution: Annotated[
        str, msgspec.Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$")
    ]
    version: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.!+_-]{1,100}$")]
    source: Annotated[str, msgspec.Meta(max_length=4096)]
    sha256: Sha256
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**50)]
    record_sha256: Sha256


class PluginView(Plugin, kw_only=True):
    """A plugin. `sha256` and `size_bytes` are of the wheel that it was installed from, `differs` is
    what is not as it was installed; empty for what comes with Purveyor, or was installed by other
    means."""

    sha256: str = ""
    size_bytes: int = 0
    installed_at: datetime | None = None
    installed_by: str = ""
    differs: str = ""
