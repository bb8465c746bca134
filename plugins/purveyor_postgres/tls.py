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


def self_signed(host: str) -> dict[str, str]:
    """A fresh key and certificate for a host name, as PEM text."""
    key, certificate = certificates.self_signed(host, [host], days=DAYS)
    return {"tls_key": key, "tls_certificate": certificate}


def options() -> dict[str, str]:
    return {
        "ssl": "on",
        "ssl_cert_file": "/etc/purveyor/server.crt",
        "ssl_key_file": f"{FOLDER}/server.key",
    }


def files(secrets: Mapping[str, str]) -> list[File]:
    return [
        File(path="/etc/purveyor/server.crt", content=secrets["tls_certificate"]),
        File(path="/etc/purveyor/server.key", content=secrets["tls_key"], mode=0o600),
    ]
