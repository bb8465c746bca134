"""The S3 driver, as all that speaks to a server uses it.

It is imported when it is first needed: it takes 20 MB, and most installations have no S3.
"""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from purveyor_hooks import Access, Service
from purveyor_s3 import encrypted
from purveyor_s3.flavours import PORT, REGION

if TYPE_CHECKING:
    from botocore.config import Config

TIMEOUT = 5.0


@functools.cache
def session() -> Any:
    """The models of the API, which take long to load, once for the process."""
    import aioboto3

    return aioboto3.Session()


@asynccontextmanager
async def administrator(
    service: Service, access: Access, chosen: "Config", kind: str = "s3"
) -> AsyncIterator[Any]:
    """The administrator's client of one of the APIs at the S3 port."""
    with encrypted.verified(service) as verify:
        made = session().client(
            kind,
            endpoint_url=encrypted.endpoint(service, access.address(PORT)),
            region_name=REGION,
            aws_access_key_id=service.parameters["access_key"],
            aws_secret_access_key=service.parameters["secret_key"],
            config=chosen,
            verify=verify,
        )
        async with made as client:
            yield client


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
