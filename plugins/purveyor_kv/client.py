"""The SDK: `KV` and `AsyncKV`, over the HTTP API, or straight to Redis where the variables
allow."""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, overload

import httpx
import msgspec

from purveyor_kv import _api, verbs
from purveyor_kv.errors import KVError, bad_input

if TYPE_CHECKING:
    from purveyor_kv.direct import AsyncDirect, Direct

T = TypeVar("T")
TIMEOUT = 10.0  # seconds


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where KV is. `direct` is the URL of Redis itself; empty means that the HTTP API is used."""

    place: _api.Place
    direct: str

    @classmethod
    def of(
        cls, url: str | None, token: str | None, project_id: str | int | None, direct: bool | None
    ) -> "Settings":
        redis_url = os.environ.get("KV_URL", "") if url is None and direct is not False else ""
        if direct and not redis_url:
            raise bad_input(
                "KV cannot talk to Redis itself: KV_URL is not set.",
                "Link the project to a KV, or leave direct out.",
            )
        if redis_url and find_spec("redis") is None:
            if direct:
                raise bad_input(
                    "KV cannot talk to Redis itself: the package redis is not installed.",
                    "Install purveyor-kv[redis], or leave direct out.",
                )
            redis_url = ""
        place = _api.Place.of(url, token, project_id)
        if not redis_url and not (place.url and place.token):
            raise bad_input(
                "KV is not configured: PURVEYOR_API_URL and PURVEYOR_TOKEN are not set.",
                "Link the project to a KV and deploy it, or give url and token.",
            )
        return cls(place=place, direct=redis_url)

    @property
    def http(self) -> dict[str, Any]:
        """The options of an httpx client."""
        return {
            "base_url": self.place.url,
            "headers": {**self.place.headers(), "Content-Type": "application/json"},
        }

    def body(self, values: Mapping[str, Any]) -> bytes:
        """A request's body: what is None was not given, but for the value itself."""
        given = {
            name: value for name, value in values.items() if value is not None or name == "value"
        }
        if self.place.project_id:
            given["project_id"] = self.place.project_id
        if "value" in given:
            given["value"] = msgspec.Raw(verbs.json_of(given["value"]))
        return msgspec.json.encode(given)


def _convert(value: Any, kind: type[T] | None) -> Any:
    if value is None or kind is None:
        return value
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise bad_input(f"The value is not a {kind.__name__}: {error}.") from None


class KV:
    """JSON values by key.

    Without arguments it is configured from the variables that a link injects. `direct` chooses
    between the HTTP API (False) and Redis itself (True); without it Redis is used when the
    variables name it and the package `redis` is installed (``purveyor-kv[redis]``). Every method
    raises `KVError`. Use it as a context manager, or `close` it.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        project_id: str | int | None = None,
        *,
        direct: bool | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._settings = Settings.of(url, token, project_id, direct)
        self._via: Direct | httpx.Client
        if self._settings.direct:
            from purveyor_kv import direct as path

            self._via = path.Direct(self._settings.direct, timeout)
        else:
            self._via = httpx.Client(**self._settings.http, timeout=timeout)

    def __enter__(self) -> "KV":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._via.close()

    def _call(self, verb: str, field: str, talk: verbs.Talk[T], **values: Any) -> Any:
        if not isinstance(self._via, httpx.Client):
            return self._via.hold(talk)
        verbs.check(talk)
        try:
            response = self._via.post(f"/api/kv/{verb}", content=self._settings.body(values))
        except httpx.HTTPError as error:
            raise _api.unreachable(KVError, error) from None
        return _api.answered(KVError, response.status_code, response.content)[field]

    @overload
    def get(self, key: str) -> Any: ...

    @overload
    def get(self, key: str, type: type[T]) -> T | None: ...

    def get(self, key: str, type: type[T] | None = None) -> Any:
        """The value of a key, None without one; with `type` it is checked and converted to it."""
        return _convert(self._call("get", "value", verbs.get(key), key=key), type)

    def set(
        self,
        key: str,
        value: Any,
        *,
        ex: int | None = None,
        px: int | None = None,
        nx: bool = False,
        xx: bool = False,
    ) -> bool:
        """Set a key to a JSON value, until `ex` seconds or `px` milliseconds have passed. False
        when `nx` (only when it is not there) or `xx` (only when it is) kept it from being set."""
        talk = verbs.set_(key, value, ex, px, nx, xx)
        return bool(
            self._call("set", "result", talk, key=key, value=value, ex=ex, px=px, nx=nx, xx=xx)
        )

    def delete(self, *keys: str) -> int:
        """Delete keys; the answer is how many were there."""
        return int(self._call("del", "deleted", verbs.delete(keys), keys=keys))

    def incr(self, key: str, amount: int = 1) -> int:
        """Add to a whole number; a key that is not there counts as 0."""
        return int(self._call("incr", "value", verbs.incr(key, amount), key=key, amount=amount))

    def expire(self, key: str, seconds: int) -> bool:
        """End a key in some seconds; False when it is not there."""
        return bool(
            self._call("expire", "success", verbs.expire(key, seconds), key=key, seconds=seconds)
        )

    def ttl(self, key: str) -> int:
        """Seconds until a key ends; -1 when it does not, -2 when it is not there."""
        return int(self._call("ttl", "ttl", verbs.ttl(key), key=key))

    def keys(self, pattern: str = "*") -> Sequence[str]:
        """The keys that match a pattern, in order."""
        return list(self._call("keys", "keys", verbs.keys(pattern), pattern=pattern))


class AsyncKV:
    """`KV` for async apps: the same arguments, methods and errors."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        project_id: str | int | None = None,
        *,
        direct: bool | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._settings = Settings.of(url, token, project_id, direct)
        self._via: AsyncDirect | httpx.AsyncClient
        if self._settings.direct:
            from purveyor_kv import direct as path

            self._via = path.AsyncDirect(self._settings.direct, timeout)
        else:
            self._via = httpx.AsyncClient(**self._settings.http, timeout=timeout)

    async def __aenter__(self) -> "AsyncKV":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let the connections go."""
        await self._via.aclose()

    async def _call(self, verb: str, field: str, talk: verbs.Talk[T], **values: Any) -> Any:
        if not isinstance(self._via, httpx.AsyncClient):
            return await self._via.hold(talk)
        verbs.check(talk)
        try:
            response = await self._via.post(f"/api/kv/{verb}", content=self._settings.body(values))
        except httpx.HTTPError as error:
            raise _api.unreachable(KVError, error) from None
        return _api.answered(KVError, response.status_code, response.content)[field]

    @overload
    async def get(self, key: str) -> Any: ...

    @overload
    async def get(self, key: str, type: type[T]) -> T | None: ...

    async def get(self, key: str, type: type[T] | None = None) -> Any:
        """As `KV.get`."""
        return _convert(await self._call("get", "value", verbs.get(key), key=key), type)

    async def set(
        self,
        key: str,
        value: Any,
        *,
        ex: int | None = None,
        px: int | None = None,
        nx: bool = False,
        xx: bool = False,
    ) -> bool:
        """As `KV.set`."""
        talk = verbs.set_(key, value, ex, px, nx, xx)
        return bool(
            await self._call(
                "set", "result", talk, key=key, value=value, ex=ex, px=px, nx=nx, xx=xx
            )
        )

    async def delete(self, *keys: str) -> int:
        """As `KV.delete`."""
        return int(await self._call("del", "deleted", verbs.delete(keys), keys=keys))

    async def incr(self, key: str, amount: int = 1) -> int:
        """As `KV.incr`."""
        return int(
            await self._call("incr", "value", verbs.incr(key, amount), key=key, amount=amount)
        )

    async def expire(self, key: str, seconds: int) -> bool:
        """As `KV.expire`."""
        return bool(
            await self._call(
                "expire", "success", verbs.expire(key, seconds), key=key, seconds=seconds
            )
        )

    async def ttl(self, key: str) -> int:
        """As `KV.ttl`."""
        return int(await self._call("ttl", "ttl", verbs.ttl(key), key=key))

    async def keys(self, pattern: str = "*") -> Sequence[str]:
        """As `KV.keys`."""
        return list(await self._call("keys", "keys", verbs.keys(pattern), pattern=pattern))
