"""TLS for PostgreSQL: the server takes it from whoever asks, with a certificate of the
installation's own authority."""

from urllib.parse import quote

from purveyor_hooks import Certificate, Service
from purveyor_hooks.certificates import mode, verifies

PAIR = "/etc/purveyor/server.pem"
ASKS = (8).to_bytes(4) + (80877103).to_bytes(4)  # SSLRequest, before anything else
CERTIFICATE = Certificate(file=PAIR, owners=("postgres",), port=5432, asks=ASKS, granted=b"S")
OPTIONS = {"ssl": "on", "ssl_cert_file": PAIR, "ssl_key_file": PAIR}


def suffix(service: Service) -> str:
    """What an address asks for. With `require` the authority is named too: node-postgres verifies
    there, and others may."""
    chosen = mode(service)
    if chosen in ("disable", "prefer"):
        return ""
    root = (
        f"&sslrootcert={quote(service.tls.file, safe='/')}"
        if service.tls and verifies(service)
        else ""
    )
    return f"?sslmode={chosen}{root}"
