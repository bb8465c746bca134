"""What KV refuses, in the same words whether it is asked over HTTP or talks to Redis itself."""

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from purveyor_hooks import sdk


class KVError(sdk.ApiError):
    """A call that failed."""


def bad_input(detail: str, remedy: str = "") -> KVError:
    return sdk.bad_input(KVError, detail, remedy)


def unavailable(detail: str) -> KVError:
    return KVError("failed", 502, "The operation failed", detail, "Is the service running? See: purveyor health kv")


def from_redis(error: RedisError) -> KVError:
    """Our error for the server's."""
    text = str(error)
    if isinstance(error, NoPermissionError) or "NOPERM" in text:
        return KVError("forbidden", 403, "This token may not do that", "The command could reach beyond the project's own keys.")
    if isinstance(error, AuthenticationError | AuthorizationError):
        return KVError("unauthorized", 401, "A valid token is needed", "The project's account is refused.", "Deploy it again.")
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
