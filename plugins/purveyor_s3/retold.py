"""What a container of ours tells after the record of its service was lost."""

import json
from typing import Any

from purveyor_hooks import FoundContainer, Reader, Retold
from purveyor_s3 import encrypted, flavours, tls


async def retell(container: FoundContainer, read: Reader) -> Retold:
    """The administrator's keys, and what the server seals or speaks to itself with, from the files
    that they are given by."""
    parameters: dict[str, Any] = {
        "access_key": await read(flavours.ACCESS_FILE),
        "secret_key": await read(flavours.SECRET_FILE),
    }
    if identities := await read(flavours.S3_CONFIG):
        owner = json.loads(identities)["identities"][0]["credentials"][0]
        parameters = {"access_key": owner["accessKey"], "secret_key": owner["secretKey"]}
    words = (*container.command, *container.environment.values())
    parameters[encrypted.TLS.name] = "on" if encrypted.FOLDER in words else "off"
    secrets = {
        "tls_key": await read(tls.KEY),
        "tls_certificate": await read(tls.CERTIFICATE),
        flavours.MASTER_KEY: await read(flavours.MASTER_FILE),
    }
    return Retold(
        parameters={name: value for name, value in parameters.items() if value},
        secrets={name: value for name, value in secrets.items() if value},
    )
