"""Filters of the engine's lists."""

from typing import Any

import msgspec


def filters(value: Any) -> str:
    """Filters as the engine takes them where aiodocker does not encode them itself."""
    return msgspec.json.encode(value).decode()
