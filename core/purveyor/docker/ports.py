"""Host ports: counted upward from a base, skipping reserved and used ports."""

import socket
from collections.abc import Collection

from purveyor_hooks import Conflict

LAST = 65535


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1 at this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def lowest_free(base: int, taken: Collection[int]) -> int:
    """The lowest free port from `base` up that is not in `taken`. Raises `Conflict`."""
    for port in range(base, LAST + 1):
        if port not in taken and is_free(port):
            return port
    raise Conflict(f"No port from {base} up is free.", remedy="Give one: -p port=NUMBER")
