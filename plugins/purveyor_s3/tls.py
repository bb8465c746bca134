"""What keeps strangers on the network out of SeaweedFS: a certificate that its parts demand of each
other."""

import json
from collections.abc import Mapping
from ipaddress import ip_address

from purveyor_hooks import File, certificates

DAYS = 36500
CERTIFICATE, KEY = "/etc/purveyor/own.crt", "/etc/purveyor/own.key"
PARTS = ("master", "volume", "filer", "s3", "admin", "worker", "client")


def self_signed() -> dict[str, str]:
    """A fresh key and a certificate that vouches for itself, as PEM text."""
    hosts = ["localhost", ip_address("127.0.0.1")]
    key, certificate = certificates.self_signed("purveyor", hosts, days=DAYS, authority=True)
    return {"tls_key": key, "tls_certificate": certificate}


def files(secrets: Mapping[str, str]) -> tuple[File, ...]:
    parts = "".join(f'[grpc.{part}]\ncert = "{CERTIFICATE}"\nkey = "{KEY}"\n' for part in PARTS)
    return (
        File(path="/etc/seaweedfs/security.toml", content=f'[grpc]\nca = "{CERTIFICATE}"\n{parts}'),
        File(path=CERTIFICATE, content=secrets["tls_certificate"]),
        File(path=KEY, content=secrets["tls_key"], mode=0o600),
    )


def identities(access_key: str, secret_key: str) -> str:
    """SeaweedFS's file of fixed identities: the administrator."""
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return json.dumps(
        {"identities": [{"name": "purveyor", "credentials": credentials, "actions": actions}]}
    )
