"""What KV refuses, in the same words whether it is asked over HTTP or talks to Redis itself."""

from purveyor_kv import _api


class KVError(_api.ApiError):
    """A call that failed."""


def bad_input(detail: str, remedy: str = "") -> KVError:
    return _api.bad_input(KVError, detail, remedy)


def unavailable(detail: str) -> KVError:
    return KVError(
        "failed",
        502,
        "The operation failed",
        detail,
        "Is the service running? See: purveyor health kv",
    )
