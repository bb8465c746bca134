"""What every answer says to whoever keeps or shows it."""

from typing import Any
from urllib.parse import urlsplit

from litestar.types import Message, Scope

from purveyor_hooks import FOR_APPS

NOSNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")
STRICT = (b"strict-transport-security", b"max-age=31536000")


async def add_security_headers(message: Message, scope: Scope) -> None:
    """Nobody guesses what an answer is, and nobody keeps what the API told, unless the answer says
    otherwise. What apps get is theirs to keep."""
    if message["type"] != "http.response.start":
        return
    headers = message.setdefault("headers", [])
    said = {name.lower() for name, _ in headers}
    added = [NOSNIFF] if NOSNIFF[0] not in said else []
    handler = scope.get("route_handler")
    if (
        scope["path"].startswith("/api")
        and NO_STORE[0] not in said
        and not (handler and handler.opt.get(FOR_APPS))
    ):
        added.append(NO_STORE)
    message["headers"] = [*headers, *added]


class Published:
    """The name under which a proxy with TLS has the dashboard, by the settings.

    Whatever a request says of how it came, X-Forwarded-Proto included, anybody can say. What came
    for that name came over TLS: the proxy passes the header Host on, a browser sends no false one,
    and who makes one up deceives nobody else.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = (
            parts.netloc.lower().removesuffix(":443").encode() if parts.scheme == "https" else b""
        )

    def _meant(self, scope: Scope) -> bool:
        host = next((value for name, value in scope.get("headers", ()) if name == b"host"), b"")
        return bool(self._host) and host.lower().removesuffix(b":443") == self._host

    def middleware(self, app: Any) -> Any:
        """Have routes see that a request came over TLS."""

        async def call(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "scheme": "https"} if self._meant(scope) else scope, receive, send)

        return call

    async def strict(self, message: Message, scope: Scope) -> None:
        """Have browsers come over TLS alone from then on."""
        if message["type"] == "http.response.start" and self._meant(scope):
            message["headers"] = [*message.setdefault("headers", []), STRICT]
