"""/api/kv: the verbs, and whether KV is there at all."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, Response, Router, post
from litestar.di import Provide

from purveyor_hooks import (
    FOR_APPS,
    Actor,
    Application,
    BadInput,
    Bound,
    Failed,
    Forbidden,
    PurveyorError,
    Unauthorized,
    standing,
)
from purveyor_kv import verbs
from purveyor_kv.errors import KVError
from purveyor_kv_service import rest
from purveyor_kv_service.connections import Connections
from purveyor_kv_service.listening import Listening

TYPE = "kv"
BODY_LIMIT = 8 * 1024 * 1024
Req = Request[Actor, Any, Any]


class Scoped(msgspec.Struct, frozen=True, kw_only=True):
    """What every body may carry: the project, which a project's token implies, and its
    environment."""

    project_id: int | str | None = None
    environment: str | None = None


class KeyRequest(Scoped, frozen=True, kw_only=True):
    key: str


class SetRequest(KeyRequest, frozen=True, kw_only=True):
    """`ex` in seconds or `px` in milliseconds; `nx` only when it is not there, `xx` only when it
    is."""

    value: Any
    ex: int | None = None
    px: int | None = None
    nx: bool = False
    xx: bool = False


class DelRequest(Scoped, frozen=True, kw_only=True):
    keys: list[str]


class IncrRequest(KeyRequest, frozen=True, kw_only=True):
    amount: int = 1


class ExpireRequest(KeyRequest, frozen=True, kw_only=True):
    seconds: int


class KeysRequest(Scoped, frozen=True, kw_only=True):
    pattern: str = "*"


class KVDependencies:
    """What the handlers share: the core, and the connections of all environments."""

    def __init__(self, app: Application) -> None:
        self.core = app.core
        self.connections = Connections()
        self.listening = Listening()
        self.still_valid = app.still_valid

    async def bound(self, request: Req, given: Scoped) -> Bound:
        return await self.core.bound(TYPE, request.user, given.project_id, given.environment)

    async def talk(self, request: Req, given: Scoped, talk: verbs.Talk[Any]) -> Any:
        """Have a talk as the user of the environment that the request is of."""
        bound = await self.bound(request, given)

        async def ask(words: verbs.Words) -> Any:
            return await self.connections.ask(bound, words)

        try:
            return await verbs.drive_async(talk, ask)
        except KVError as error:
            raise translate_error(error) from None


def translate_error(error: KVError) -> PurveyorError:
    """The same error in the API's family."""
    kinds: dict[int, type[PurveyorError]] = {400: BadInput, 401: Unauthorized, 403: Forbidden}
    return kinds.get(error.status, Failed)(error.detail, remedy=error.remedy)


@post("/get", status_code=200, opt={"reveals": "value"})
async def get_value(request: Req, desk: KVDependencies, data: KeyRequest) -> Response[bytes]:
    raw = await desk.talk(request, data, verbs.get_raw(data.key))
    return Response(b'{"value":' + raw + b"}", media_type="application/json")


@post("/set", status_code=200)
async def set_value(request: Req, desk: KVDependencies, data: SetRequest) -> dict[str, str | None]:
    talk = verbs.set_(data.key, data.value, data.ex, data.px, data.nx, data.xx)
    return {"result": await desk.talk(request, data, talk)}


@post("/del", status_code=200)
async def delete_keys(request: Req, desk: KVDependencies, data: DelRequest) -> dict[str, int]:
    return {"deleted": await desk.talk(request, data, verbs.delete(data.keys))}


@post("/incr", status_code=200)
async def increment(request: Req, desk: KVDependencies, data: IncrRequest) -> dict[str, int]:
    return {"value": await desk.talk(request, data, verbs.incr(data.key, data.amount))}


@post("/expire", status_code=200)
async def expire(request: Req, desk: KVDependencies, data: ExpireRequest) -> dict[str, bool | int]:
    done = await desk.talk(request, data, verbs.expire(data.key, data.seconds))
    return {"success": done, "result": int(done)}


@post("/ttl", status_code=200)
async def time_to_live(request: Req, desk: KVDependencies, data: KeyRequest) -> dict[str, int]:
    return {"ttl": await desk.talk(request, data, verbs.ttl(data.key))}


@post("/keys", status_code=200)
async def list_keys(request: Req, desk: KVDependencies, data: KeysRequest) -> dict[str, list[str]]:
    return {"keys": await desk.talk(request, data, verbs.keys(data.pattern))}


def routers(app: Application) -> Sequence[Router]:
    """The routes, over one desk."""
    desk = KVDependencies(app)

    async def provide() -> KVDependencies:
        return desk

    verbs_of_kv = [get_value, set_value, delete_keys, increment, expire, time_to_live, list_keys]
    return [
        Router(
            "/api/kv",
            route_handlers=[*verbs_of_kv, *standing.routes(app.core, TYPE), rest.router(TYPE)],
            middleware=[app.authentication],
            dependencies={"desk": Provide(provide)},
            request_max_body_size=BODY_LIMIT,
            tags=["kv"],
            opt={FOR_APPS: True, "audit": "data"},
        )
    ]
