"""TLS for PostgreSQL: a self-signed certificate of the service's own, put in place before the server starts."""

from collections.abc import Mapping

from purveyor_hooks import File, certificates

FOLDER = "/etc/purveyor/tls"
DAYS = 3650

# The server wants its key owned by its own user, whose number differs from image to image.
ENTRYPOINT = (
    "/bin/sh",
    "-c",
    f"mkdir -p {FOLDER} && cp /etc/purveyor/server.key {FOLDER}/server.key && chmod 600 {FOLDER}/server.key "
    f'&& chown -R postgres {FOLDER} && exec docker-entrypoint.sh "$@"',
    "docker-entrypoint.sh",
)

# The local socket is for the image's own set-up and for clients started inside the container.
# Replication is for continuous archiving, whose helper shares the container's own loopback.
ENCRYPTED_ONLY = (
    "local all all trust\nhostssl replication all 127.0.0.1/32 scram-sha-256\n"
    "hostssl all all all scram-sha-256\nhostnossl all all all reject\n"
)


def self_signed(host: str) -> dict[str, str]:
    """A fresh key and certificate for a host name, as PEM text."""
    key, certificate = certificates.self_signed(host, [host], days=DAYS)
    return {"tls_key": key, "tls_certificate": certificate}


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
