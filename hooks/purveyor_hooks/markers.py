"""The two markers of the contract, and its version."""

from collections.abc import Callable
from typing import Any, TypeVar

import pluggy

PROJECT_NAME = "purveyor"

# A plugin says in PURVEYOR_CONTRACT which version it is for, or as (lowest, highest) which ones it
# does with. One that is for another than this is listed with an error and not loaded.
CONTRACT_VERSION = 1

# The majors of what hooks hand over of other projects: `cli_commands` lists commands of click,
# `http_routes` routes of Litestar. Another major of one is another version of the contract.
STANDS_ON = {"click": 8, "litestar": 2}

DEPRECATED = "purveyor_deprecated"  # of a hook: why, by argument; "" is the hook itself

# The key in a Litestar route's or router's `opt` that says: apps reach it from their containers.
# All others are for people and programs on the host, and refused at the door for containers:
# ``Router("/api/thing", opt={FOR_APPS: True}, …)``.
FOR_APPS = "purveyor_for_apps"

_F = TypeVar("_F", bound=Callable[..., Any])


def hookspec(function: _F) -> _F:
    """Mark a function as a hook that plugins may implement."""
    marked: _F = pluggy.HookspecMarker(PROJECT_NAME)(function)
    return marked


def deprecated(**arguments: str) -> Callable[[_F], _F]:
    """Mark arguments of a hook that the next version of the contract will not have, each with what
    to do. A plugin that takes one is loaded, and listed with it."""

    def mark(function: _F) -> _F:
        setattr(function, DEPRECATED, arguments)
        return function

    return mark


def hookimpl(function: _F) -> _F:
    """Mark a plugin's function as its implementation of the hook of the same name."""
    marked: _F = pluggy.HookimplMarker(PROJECT_NAME)(function)
    return marked
