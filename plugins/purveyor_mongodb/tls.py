"""TLS for MongoDB: the server takes it on its own port from whoever asks, with a certificate of the
installation's own authority."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from purveyor_hooks import Certificate, Service, certificates

PAIR = "/etc/purveyor/server.pem"
CERTIFICATE = Certificate(file=PAIR, owners=("mongodb",), port=27017)
MODE, DEMANDED, OFFERED = "--tlsMode", "requireTLS", "allowTLS"


def options(service: Service) -> list[str]:
    """Of the command. The official image's entry point has the first start, when it makes the
    administrator, take plain text as well."""
    chosen = DEMANDED if certificates.demanded(service) else OFFERED
    files = ["--tlsCertificateKeyFile", PAIR, "--tlsCAFile", certificates.AUTHORITIES]
    # its clients are known by their passwords
    return [MODE, chosen, *files, "--tlsAllowConnectionsWithoutCertificates"]


def asked(service: Service, file: str = "") -> str:
    """What an address says of TLS, to be put behind its other options: drivers verify as soon as
    they speak it, the name as well. `file` is where its reader has the authorities, when that is
    not what the service says."""
    if not certificates.demanded(service):
        return ""
    if service.tls is None:
        return "&tls=true"
    return f"&tls=true&tlsCAFile={quote(file or service.tls.file, safe='/')}"


def unverified(service: Service) -> str:
    """The same for our own tools, with a server that shows nothing that we could verify: one of
    somebody else's, or of before."""
    word = "" if service.tls or not certificates.demanded(service) else "&tlsInsecure=true"
    return asked(service) + word


@contextmanager
def driven(service: Service) -> Iterator[dict[str, Any]]:
    """How the driver speaks TLS with a server that refuses plain text. It takes a file and nothing
    else, and reads it while a client is made."""
    if not certificates.demanded(service):
        yield {}
    elif service.tls is None:
        yield {"tls": True, "tlsInsecure": True}
    else:
        with tempfile.NamedTemporaryFile("w", suffix=".crt") as file:
            file.write(service.tls.authorities)
            file.flush()
            yield {"tls": True, "tlsCAFile": file.name}
