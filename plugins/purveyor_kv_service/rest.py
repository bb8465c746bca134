"""/api/kv/rest: the Upstash Redis REST protocol, for the clients that people already have.

A command comes as a JSON array or as a path; `/pipeline` and `/multi-exec` take arrays of them;
`/subscribe` and `/psubscribe` answer with server-sent events (`listening`).
Each is run as the environment's own user, so that the server keeps projects apart; what would
change the shared connection is refused here. Facts from the published client `@upstash/redis` 1.39
and Upstash's documentation of its REST API.
"""

import base64
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from litestar import Request, Response, Router, route
from litestar.types import ASGIApp
from redis.exceptions import ResponseError

from purveyor_hooks import Actor, Bound, PurveyorError
from purveyor_kv.errors import KVError, bad_input
from purveyor_kv.verbs import Word, Words
from purveyor_kv_service.connections import Connections
from purveyor_kv_service.listening import answer as answer_of
from purveyor_kv_service.listening import published

COMMANDS_LIMIT = 10_000  # of one pipeline
CHANNELS, PATTERNS = "subscribe", "psubscribe"

# What would change the connection that the next request uses, or hold it.
OF_THE_CONNECTION = frozenset([
    "AUTH", "HELLO", "RESET", "QUIT", "SELECT", "CLIENT", "ASKING", "READONLY", "READWRITE",
    "MULTI", "EXEC", "DISCARD",
    "WATCH", "UNWATCH", "MONITOR", "SYNC", "PSYNC", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE", "SUNSUBSCRIBE",
])  # fmt: skip
BLOCKING = frozenset([
    "BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT",
    "WAITAOF",
])  # fmt: skip
MAY_BLOCK = frozenset(["XREAD", "XREADGROUP"])
# Upstash's own flag, which Redis refuses: scripts of @upstash/ratelimit begin with it. One server
# runs each script alone.
LOCKING = re.compile(r"\A#!lua flags=allow-key-locking(?=\s)")


def command(given: Any) -> Words:
    """A command as Redis takes it. Raises `KVError` for what is none, and for what is refused."""
    if not isinstance(given, list) or not given:
        raise bad_input(
            "A command must be a JSON array that is not empty.", 'For example: ["GET", "key"]'
        )
    return require_allowed(tuple(_word(item) for item in given))


def require_allowed(words: Words) -> Words:
    """The same, once all of it is there. Raises `KVError` for what is refused."""
    name = words[0].upper() if isinstance(words[0], str) else ""
    if name in OF_THE_CONNECTION:
        raise bad_input(
            f"{name} is refused: connections are shared.",
            "For transactions use /multi-exec, for channels /subscribe and /psubscribe.",
        )
    if name in BLOCKING or (
        name in MAY_BLOCK and any(_text(word).upper() == "BLOCK" for word in words)
    ):
        raise bad_input(
            f"{name} is refused: it would hold a connection.",
            "Ask again and again without blocking.",
        )
    if name in ("EVAL", "EVAL_RO") and len(words) > 1 and isinstance(words[1], str):
        return (words[0], LOCKING.sub("#!lua", words[1]), *words[2:])
    return words


def _text(word: Word) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)


def commands(given: Any) -> list[Words]:
    """The commands of a pipeline."""
    if not isinstance(given, list) or not given or len(given) > COMMANDS_LIMIT:
        raise bad_input(
            f"A pipeline must be a JSON array of 1 to {COMMANDS_LIMIT} commands.",
            'For example: [["GET", "key"]]',
        )
    return [command(item) for item in given]


def _word(item: Any) -> Word:
    if isinstance(item, str):
        return item
    if isinstance(item, bool) or item is None or isinstance(item, list | dict):
        return msgspec.json.encode(item)
    return item if isinstance(item, int) else repr(item)


def from_path(raw_path: bytes, prefix: str, query: bytes, body: bytes) -> Words:
    """``/set/key/value?EX=10``: the path's segments, the body as one more, then the query's names
    and values."""
    segments = raw_path.decode("ascii", "replace").removeprefix(prefix).strip("/").split("/")
    words: list[Any] = [unquote(segment) for segment in segments]
    more: list[Word] = [body] if body else []
    for name, value in parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True):
        more += [name, value] if value else [name]
    return require_allowed((*command(words), *more))


class Encoding:
    """How replies become JSON: plain text, or every string in base64 but for a lone OK."""

    def __init__(self, header: str) -> None:
        self._base64 = header.lower() == "base64"

    def item(self, reply: Any) -> dict[str, Any]:
        """One command's reply: `result`, or `error`."""
        if isinstance(reply, ResponseError):
            return {"error": str(reply)}
        return {"result": "OK" if reply == b"OK" else self._value(reply)}

    def _value(self, reply: Any) -> Any:
        if isinstance(reply, bytes | str):
            data = reply.encode() if isinstance(reply, str) else reply
            return (
                base64.b64encode(data).decode() if self._base64 else data.decode(errors="replace")
            )
        if isinstance(reply, list | tuple):
            return [self._value(item) for item in reply]
        if isinstance(reply, ResponseError):
            return self._value(str(reply))
        return reply


async def transaction(
    connections: Connections, bound: Bound, wanted: Sequence[Words], encoding: Encoding
) -> Any:
    """All of them or none: MULTI, the commands, EXEC, sent at once. Raises `KVError` when the
    server takes none."""
    *_, last = replies = await connections.ask_all(bound, [("MULTI",), *wanted, ("EXEC",)])
    if isinstance(last, ResponseError):
        first = next(reply for reply in replies if isinstance(reply, ResponseError))
        raise bad_input(f"Nothing was done: {first}.")
    return [encoding.item(reply) for reply in last]


def refused(_: Request[Any, Any, Any], error: Exception) -> Response[dict[str, str]]:
    """Errors as this protocol has them."""
    assert isinstance(error, KVError | PurveyorError)
    status = (
        error.status
        if error.status in (401, 403, 404, 409, 413, 429) or error.status >= 500
        else 400
    )
    return Response({"error": str(error)}, status_code=status, media_type="application/json")


def router(service_type: str) -> Router:
    """The routes, below the KV's own."""

    async def bound(request: Request[Actor, Any, Any], desk: Any) -> Bound:
        found: Bound = await desk.core.bound(service_type, request.user, None, None)
        return found

    async def decoded(request: Request[Actor, Any, Any]) -> Any:
        try:
            return msgspec.json.decode(await request.body())
        except msgspec.DecodeError:
            raise bad_input("The body is not JSON.") from None

    def encoding(request: Request[Actor, Any, Any]) -> Encoding:
        return Encoding(request.headers.get("upstash-encoding", ""))

    @route("/", http_method="POST", status_code=200)
    async def one(request: Request[Actor, Any, Any], desk: Any) -> dict[str, Any]:
        """One command as a JSON array."""
        words, home = command(await decoded(request)), await bound(request, desk)
        (reply,) = await desk.connections.ask_all(home, [published(home, words)])
        return answer(encoding(request), reply)

    @route(
        "/{words:path}",
        http_method=["GET", "POST", "PUT", "HEAD"],
        status_code=200,
        opt={"reveals": "value"},
    )
    async def path(request: Request[Actor, Any, Any], desk: Any) -> dict[str, Any]:
        """One command as the path."""
        prefix = request.scope["path"].partition("/rest/")[0] + "/rest/"
        words = from_path(
            request.scope["raw_path"].partition(b"?")[0],
            prefix,
            request.scope["query_string"],
            await request.body(),
        )
        home = await bound(request, desk)
        (reply,) = await desk.connections.ask_all(home, [published(home, words)])
        return answer(encoding(request), reply)

    @route("/pipeline", http_method="POST", status_code=200)
    async def pipeline(request: Request[Actor, Any, Any], desk: Any) -> list[dict[str, Any]]:
        """Commands one after the other; what fails stands among the results."""
        wanted, home = commands(await decoded(request)), await bound(request, desk)
        replies = await desk.connections.ask_all(home, [published(home, item) for item in wanted])
        return [encoding(request).item(reply) for reply in replies]

    @route("/multi-exec", http_method="POST", status_code=200)
    async def multi_exec(request: Request[Actor, Any, Any], desk: Any) -> list[dict[str, Any]]:
        """Commands as one transaction."""
        wanted, home = commands(await decoded(request)), await bound(request, desk)
        found: list[dict[str, Any]] = await transaction(
            desk.connections, home, [published(home, item) for item in wanted], encoding(request)
        )
        return found

    async def listened(request: Request[Actor, Any, Any], desk: Any, way: str) -> ASGIApp:
        """Events, as they come; each segment of the path is a channel."""
        segments = request.scope["raw_path"].partition(b"?")[0].partition(f"/{way}/".encode())[2]
        names = [unquote(part) for part in segments.decode("ascii", "replace").split("/")]
        listening = desk.listening.listen(
            await bound(request, desk), names, patterns=way == PATTERNS
        )

        async def valid() -> bool:
            still: bool = await desk.still_valid(request)
            return still

        async def over() -> None:
            async with desk.listening.following:
                async for _ in desk.core.events(await desk.core.last_event()):
                    pass

        app: ASGIApp = answer_of(listening, valid, over)
        return app

    @route("/subscribe/{channels:path}", http_method=["GET", "POST"], status_code=200)
    async def subscribe(request: Request[Actor, Any, Any], desk: Any) -> ASGIApp:
        return await listened(request, desk, CHANNELS)

    @route("/psubscribe/{channels:path}", http_method=["GET", "POST"], status_code=200)
    async def psubscribe(request: Request[Actor, Any, Any], desk: Any) -> ASGIApp:
        return await listened(request, desk, PATTERNS)

    return Router(
        "/rest",
        route_handlers=[one, path, pipeline, multi_exec, subscribe, psubscribe],
        exception_handlers={KVError: refused, PurveyorError: refused},
        include_in_schema=False,  # the protocol is described elsewhere
    )


def answer(encoding: Encoding, reply: Any) -> dict[str, Any]:
    """The answer to one command. Raises `KVError` with the server's words when it refused."""
    if isinstance(reply, ResponseError):
        raise bad_input(str(reply))
    return encoding.item(reply)
