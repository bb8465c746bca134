"""What keeps strangers on the network out of SeaweedFS: a certificate that its parts demand of each other."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from purveyor_hooks import File

LIFE = timedelta(days=36500)
CERTIFICATE, KEY = "/etc/purveyor/own.crt", "/etc/purveyor/own.key"
PARTS = ("master", "volume", "filer", "s3", "admin", "worker", "client")


def self_signed() -> dict[str, str]:
    """A fresh key and a certificate that vouches for itself, as PEM text."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "purveyor")])
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"tls_key": private.decode(), "tls_certificate": certificate.public_bytes(serialization.Encoding.PEM).decode()}


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
    return json.dumps({"identities": [{"name": "purveyor", "credentials": credentials, "actions": actions}]})
