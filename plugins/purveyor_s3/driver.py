"""The S3 driver, as all that speaks to a server uses it.

It is imported when it is first needed: it takes 20 MB, and most installations have no S3.
"""

import functools
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from botocore.config import Config

TIMEOUT = 5.0


@functools.cache
def session() -> Any:
    """The models of the API, which take long to load, once for the process."""
    import aioboto3

    return aioboto3.Session()


def config(read_timeout: float, pool: int = 10, signature: str = "s3v4") -> "Config":
    """Path-style, one attempt, and no checksums but those that a call demands."""
    from botocore.config import Config

    return Config(
        signature_version=signature,
        s3={"addressing_style": "path", "payload_signing_enabled": False},
        connect_timeout=TIMEOUT,
        read_timeout=read_timeout,
        retries={"total_max_attempts": 1},
        max_pool_connections=pool,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def code(error: ClientError) -> str:
    """The error's code, as S3 names it."""
    return str(error.response.get("Error", {}).get("Code", ""))
