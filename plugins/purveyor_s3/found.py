"""S3 containers that somebody else made: told by the image's name, and logged in to before anything
else."""

import re

from purveyor_hooks import Access, FoundContainer, Health, Recognition, Service
from purveyor_s3 import flavours

KEYS = {
    flavours.MINIO: ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"),
    flavours.RUSTFS: ("RUSTFS_ACCESS_KEY", "RUSTFS_SECRET_KEY"),
    flavours.SEAWEEDFS: ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
}
SAID = re.compile(r"(?:-s3\.port|--address)[= ][^ ]*?(\d+)(?: |$)")
USUAL_PORTS = {flavours.SEAWEEDFS: 8333}


def recognise(container: FoundContainer) -> Recognition | None:
    """The three servers by the last part of their image's name; helpers such as `minio/mc` are
    none."""
    flavour = flavours.named(container.image_name)
    if flavour is None or container.image_name.endswith(
        ("-operator", "-console", "-csi", "-exporter")
    ):
        return None
    access_key, secret_key = KEYS[flavour]
    suggested = {
        "flavour": flavour,
        "access_key": container.environment.get(access_key),
        "secret_key": container.environment.get(secret_key),
    }
    told = SAID.search(" ".join(container.command))
    port = int(told[1]) if told else USUAL_PORTS.get(flavour, flavours.PORT)
    found = {name: value for name, value in suggested.items() if value}
    return Recognition(service_type="s3", version=container.tag, suggested=found, port=port)


async def adopt(service: Service, access: Access) -> Health:
    """List the buckets, and ask the API of accounts: without it no project could be given a key of
    its own."""
    from botocore.exceptions import BotoCoreError, ClientError

    from purveyor_s3 import keys
    from purveyor_s3.driver import code
    from purveyor_s3.server import REFUSED, connection

    try:
        async with connection(service, access) as client:
            await client.list_buckets()
        await keys.of(service, access).exists("purveyorprobe")
    except ClientError as error:
        detail = (
            "The access key or the secret key is refused." if code(error) in REFUSED else str(error)
        )
        return Health(healthy=False, stage="login", detail=detail)
    except keys.KeysFailed as error:
        return Health(
            healthy=False, stage="query", detail=f"Accounts cannot be made with these keys: {error}"
        )
    except (BotoCoreError, OSError, TimeoutError):
        return Health(healthy=False, stage="tcp", detail="The server does not accept connections.")
    return Health(healthy=True, stage="query")
