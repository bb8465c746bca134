"""The two markers of the contract, and its version."""

from collections.abc import Callable
from typing import Any, TypeVar

import pluggy

PROJECT_NAME = "purveyor"

# A plugin that sets PURVEYOR_CONTRACT to another number than this is listed with an error and not
# loaded.
CONTRACT_VERSION = 1

# The key in a Litestar route's or router's `opt` that says: apps reach it from their containers.
# All others are for people and programs on the host, and refused at the door for containers:
# ``Router("/api/thing", opt={FOR_APPS: True}, …)``.
FOR_APPS = "purveyor_for_apps"

_F = TypeVar("_F", bound=Callable[..., Any])


def hookspec(function: _F) -> _F:
    """Mark a function as a hook that plugins may implement."""
    marked: _F = pluggy.HookspecMarker(PROJECT_NAME)(function)
    return marked


def hookimpl(function: _F) -> _F:
    """Mark a plugin's function as its implementation of the hook of the same name."""
    marked: _F = pluggy.HookimplMarker(PROJECT_NAME)(function)
    return marked
