"""The direct path: straight to Redis, with the package `redis`. The server imports it too, for the
errors."""

from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from purveyor_kv import verbs
from purveyor_kv.errors import KVError, bad_input, unavailable

T = TypeVar("T")


class Direct:
    """A connection to Redis, over which talks are held."""

    def __init__(self, url: str, timeout: float) -> None:
        self._redis: Any = redis.Redis.from_url(url, socket_timeout=timeout, protocol=2)
        self._redis.response_callbacks.clear()

    def close(self) -> None:
        self._redis.close()

    def hold(self, talk: verbs.Talk[T]) -> T:
        """The result of a talk. Raises `KVError`."""
        try:
            return verbs.drive(talk, lambda words: self._redis.execute_command(*words))
        except RedisError as error:
            raise from_redis(error) from None


class AsyncDirect:
    """`Direct` for async apps."""

    def __init__(self, url: str, timeout: float) -> None:
        self._redis: Any = redis.asyncio.Redis.from_url(url, socket_timeout=timeout, protocol=2)
        self._redis.response_callbacks.clear()

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def hold(self, talk: verbs.Talk[T]) -> T:
        """As `Direct.hold`."""
        try:
            return await verbs.drive_async(talk, lambda words: self._redis.execute_command(*words))
        except RedisError as error:
            raise from_redis(error) from None


def from_redis(error: RedisError) -> KVError:
    """Our error for the server's."""
    text = str(error)
    if isinstance(error, NoPermissionError) or "NOPERM" in text:
        return KVError(
            "forbidden",
            403,
            "This token may not do that",
            "The command could reach beyond the project's own keys.",
        )
    if isinstance(error, AuthenticationError | AuthorizationError):
        return KVError(
            "unauthorized",
            401,
            "A valid token is needed",
            "The project's account is refused.",
            "Deploy it again.",
        )
    if isinstance(error, ConnectionError | TimeoutError):
        return unavailable("The server behind KV does not answer.")
    if isinstance(error, ResponseError):
        if "WRONGTYPE" in text:
            return bad_input("The key holds another kind of value than this call works on.")
        if "not an integer" in text:
            return bad_input("The key's value is not a whole number.", "Set it to one first.")
        if "overflow" in text:
            return bad_input("The sum does not fit into 64 bits.")
        return bad_input(f"The server refused: {text}.")
    return unavailable(f"The server behind KV failed ({type(error).__name__}).")
