"""What every answer says to whoever keeps or shows it."""

from litestar.types import Message, Scope

from purveyor_hooks import FOR_APPS

NOSNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")


async def guarded(message: Message, scope: Scope) -> None:
    """Nobody guesses what an answer is, and nobody keeps what the API told, unless the answer says otherwise. What apps get is
    theirs to keep."""
    if message["type"] != "http.response.start":
        return
    headers = message.setdefault("headers", [])
    said = {name.lower() for name, _ in headers}
    added = [NOSNIFF] if NOSNIFF[0] not in said else []
    handler = scope.get("route_handler")
    if scope["path"].startswith("/api") and NO_STORE[0] not in said and not (handler and handler.opt.get(FOR_APPS)):
        added.append(NO_STORE)
    message["headers"] = [*headers, *added]
