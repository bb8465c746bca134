"""What a connection may cost before anybody is known: time for its header, time without a byte, and
how many one peer has."""

import asyncio
import re
import resource
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Network
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from purveyor.kernel.api.peers import address_of
from purveyor_hooks import Logger

# seconds for a whole header, from its first byte or from the connection's beginning
HEADER_TIME = 10.0
BODY_TIME = 60.0  # seconds without a byte of a body that is waited for
HEADER_BYTES = 64 * 1024
SHORT = 4096  # bytes of an address that fills no header
# a name or an address, and a port: all else is nobody's, and not every part of us can read it
HOST = re.compile(rb"([^\s:/?#@\[\]]+|\[[0-9a-fA-F:.]+\])?(:(\d{1,5})?)?")
SHARE = 4  # no peer has more than one of so many parts of all connections
# file handles that are kept for our own work: the engine, databases, the store, the local socket
RESERVE = 256
MOST_HANDLES = 1_048_576
TELL_EVERY = 60.0


def raise_handle_limit() -> int:
    """Use as many file handles as the system lets us; the answer is how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_HANDLES if hard == resource.RLIM_INFINITY else min(hard, MOST_HANDLES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft if soft != resource.RLIM_INFINITY else MOST_HANDLES
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


class Guard:
    """Counts the connections of sockets, and lets no more in than there is room for."""

    def __init__(self, most: int, handles: int, logger: Logger) -> None:
        self.most = max(1, min(most, handles - RESERVE))
        self.each = max(1, self.most // SHARE)
        self._logger = logger
        self._all = 0
        self._peers: Counter[str] = Counter()
        self._told = 0.0
        self._together: dict[IPv4Network, str] = {}

    def together(self, ranges: Mapping[str, int]) -> None:
        """Have the peers of these ranges of addresses counted as one for each number: apps of one
        project, which has as many addresses as it has environments."""
        self._together = {IPv4Network(text): f"project {number}" for text, number in ranges.items()}

    def counted_as(self, peer: str) -> str:
        """The name under which a peer's connections are counted."""
        if self._together:
            with suppress(ValueError):
                found = address_of(peer)
                return next((name for item, name in self._together.items() if found in item), peer)
        return peer

    def admit(self, peer: str) -> bool:
        """Whether one more of this peer has room; it has to `leave`."""
        if self._all >= self.most or self._peers[peer] >= self.each:
            if time.monotonic() - self._told > TELL_EVERY:
                self._told = time.monotonic()
                self._logger.warning(
                    "connections.refused", peer=peer, of_peer=self._peers[peer], all=self._all
                )
            return False
        self._all += 1
        self._peers[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        self._all -= 1
        self._peers[peer] -= 1
        if self._peers[peer] <= 0:
            del self._peers[peer]


def names_host(host: bytes) -> bool:
    """Whether a header Host can be one; an empty one says that there is none."""
    found = HOST.fullmatch(host)
    return found is not None and int(found[3] or 0) <= 65535


async def refuse_misdirected(scope: Any, receive: Any, send: Any) -> None:
    """The answer to a request whose header Host names none."""
    said = b"The header Host is no name or address with a port."
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": said})


class Guarded(HttpToolsProtocol):
    """uvicorn's protocol, for strangers."""

    def __init__(self, *, guard: Guard, **given: Any) -> None:
        super().__init__(**given)
        self._guard = guard
        self._peer: str | None = None  # once it was let in
        self._heading = True  # a header is under way, or is what comes next
        self._header_bytes = 0
        self._with_cookies = False
        self._timer: asyncio.TimerHandle | None = None
        self._heard = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = self._guard.counted_as(self.client[0] if self.client else "")
        if not self._guard.admit(peer):
            self._refuse(503, "Service Unavailable", "Too many connections.")
            return
        self._peer = peer
        self._wait_for_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        if self._peer is not None:
            self._guard.leave(self._peer)
            self._peer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._peer is None or self.transport.is_closing():
            return
        self._heard = self.loop.time()
        if self._heading:
            self._header_bytes += len(data)
            self._with_cookies |= b"\r\ncookie:" in data.lower()
            if self._timer is None:
                self._wait_for_header()
        super().data_received(data)
        if self._heading and self._header_bytes > HEADER_BYTES and not self.transport.is_closing():
            self._refuse_header()

    def on_headers_complete(self) -> None:
        self._heading = False
        self._stop()
        self._timer = self.loop.call_later(BODY_TIME, self._look_at_body)
        app = self.app
        if not all(names_host(value) for name, value in self.headers if name == b"host"):
            self.app = refuse_misdirected
        try:
            super().on_headers_complete()
        finally:
            self.app = app

    def on_message_complete(self) -> None:
        self._stop()
        self._heading, self._header_bytes, self._with_cookies = True, 0, False
        super().on_message_complete()

    def _wait_for_header(self) -> None:
        self._timer = self.loop.call_later(
            HEADER_TIME, self._refuse, 408, "Request Timeout", "The header did not come in time."
        )

    def _look_at_body(self) -> None:
        """A body that we do not take for now is not one that does not come."""
        left = BODY_TIME - (self.loop.time() - self._heard)
        if left > 0 or self.flow.read_paused:
            self._timer = self.loop.call_later(max(left, 1.0), self._look_at_body)
        else:
            self._timer = None
            self.transport.abort()

    def _refuse_header(self) -> None:
        """Cookies know no ports: what else answers on this host may have set some that fill every
        header, and no page would be reached any more. A page of somebody else can fill the address
        alone, and has nobody's cookies removed by that."""
        status, phrase = 431, "Request Header Fields Too Large"
        if self._with_cookies and len(self.url) < SHORT:
            said = (
                "Programs of this host have set too many cookies. They are removed: load it anew."
            )
            self._refuse(status, phrase, said, 'clear-site-data: "cookies"\r\n')
        else:
            self._refuse(status, phrase, "The header is too long.")

    def _refuse(self, status: int, phrase: str, said: str, more: str = "") -> None:
        self._stop()
        if self.transport.is_closing():
            return
        body = said.encode()
        head = (
            f"HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain\r\ncontent-length: "
            f"{len(body)}\r\n{more}connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
