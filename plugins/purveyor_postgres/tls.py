"""TLS for PostgreSQL: a self-signed certificate of the service's own, put in place before the server starts."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from purveyor_hooks import File

FOLDER = "/etc/purveyor/tls"
LIFE = timedelta(days=3650)

# The server wants its key owned by its own user, whose number differs from image to image.
ENTRYPOINT = (
    "/bin/sh",
    "-c",
    f"mkdir -p {FOLDER} && cp /etc/purveyor/server.key {FOLDER}/server.key && chmod 600 {FOLDER}/server.key "
    f'&& chown -R postgres {FOLDER} && exec docker-entrypoint.sh "$@"',
    "docker-entrypoint.sh",
)

# The local socket is for the image's own set-up and for clients started inside the container.
ENCRYPTED_ONLY = "local all all trust\nhostssl all all all scram-sha-256\nhostnossl all all all reject\n"


def self_signed(host: str) -> dict[str, str]:
    """A fresh key and certificate for a host name, as PEM text."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"tls_key": private.decode(), "tls_certificate": certificate.public_bytes(serialization.Encoding.PEM).decode()}


def options(*, required: bool) -> dict[str, str]:
    found = {
        "ssl": "on",
        "ssl_cert_file": "/etc/purveyor/server.crt",
        "ssl_key_file": f"{FOLDER}/server.key",
    }
    return found | ({"hba_file": "/etc/purveyor/pg_hba.conf"} if required else {})


def files(secrets: Mapping[str, str], *, required: bool) -> list[File]:
    found = [
        File(path="/etc/purveyor/server.crt", content=secrets["tls_certificate"]),
        File(path="/etc/purveyor/server.key", content=secrets["tls_key"], mode=0o600),
    ]
    return found + ([File(path="/etc/purveyor/pg_hba.conf", content=ENCRYPTED_ONLY)] if required else [])
