"""Upgrades as the API is told of them."""

from typing import Any

import msgspec


class UpgradeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another image, or choices of `parameters` that only data takes that is made anew; `rehearse`
    runs the whole of it on a copy and changes nothing. A loss stops it unless `keep_going`;
    `skip_settings` are server settings that are not set on the new server."""

    docker_image: str = ""
    parameters: dict[str, Any] = {}
    rehearse: bool = False
    keep_going: bool = False
    skip_settings: list[str] = []
