"""TLS towards clients. The one listener of RustFS and of MinIO speaks TLS or plain text, so it is
chosen; SeaweedFS would present a renewed certificate only hours later, and has none."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLContext

from purveyor_hooks import Address, BadInput, Certificate, Parameter, Service, certificates

TLS = Parameter(
    name="tls",
    help="Whether the endpoint is https, with a certificate of the installation's own authority, and "
    "takes no plain text. On RustFS and MinIO.",
    default="off",
    choices=("off", "on"),
)
FOLDER = "/etc/purveyor/certs"


def on(service: Service) -> bool:
    """One from before there was a choice is as those that chose nothing; so is what has none."""
    return bool(service.parameters.get(TLS.name, TLS.default) == "on")


def url(service: Service, host: str, port: int) -> str:
    return f"{'https' if on(service) else 'http'}://{host}:{port}"


def endpoint(service: Service, address: Address) -> str:
    return url(service, address.host, address.port)


def certificate(
    service: Service, port: int, key: str, chain: str, owners: tuple[str, ...] = ()
) -> Certificate | None:
    """Where a server wants it: files of one folder, by the server's own names."""
    if not on(service):
        return None
    return Certificate(file=f"{FOLDER}/{key}", chain=f"{FOLDER}/{chain}", owners=owners, port=port)


def refuse(service: Service) -> None:
    """Raise `BadInput` where TLS was chosen on a server that is not given any."""
    if on(service) and not service.imported:
        why = "SeaweedFS presents a renewed certificate only hours later"
        raise BadInput(
            f"SeaweedFS is not given a certificate: {why}.",
            remedy="Choose RustFS or MinIO, or leave tls=off.",
            errors={TLS.name: why},
        )


def context(service: Service) -> SSLContext | bool:
    """What our own HTTP clients verify with."""
    return certificates.trusting(service) if on(service) else True


@contextmanager
def verified(service: Service) -> Iterator[str | bool | None]:
    """The same for the driver, which takes a file and reads it at each connection."""
    if not on(service):
        yield None
    elif service.tls is None:
        yield False
    else:
        with tempfile.NamedTemporaryFile("w", suffix=".crt") as file:
            file.write(service.tls.authorities)
            file.flush()
            yield file.name
