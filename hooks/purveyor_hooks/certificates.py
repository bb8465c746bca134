"""TLS: what a service's server demands and what its clients are told; certificates that parts of
one server show each other."""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

from purveyor_hooks.types import Parameter, Service, Variable

AUTHORITIES = "/etc/purveyor/ca.crt"  # what vouches for servers, in each container of ours

SSL_MODE = Parameter(
    name="ssl_mode",
    help="TLS on the network. With disable and prefer the server takes both, and addresses do not ask for it; with require, "
    "verify-ca and verify-full it refuses plain text, and addresses ask for TLS, verify-… for a "
    "verified server.",
    default="disable",
    choices=("disable", "prefer", "require", "verify-ca", "verify-full"),
)


def mode(service: Service) -> str:
    """How a service's clients connect; one from before there was a choice is as those that chose
    nothing."""
    return str(service.parameters.get(SSL_MODE.name, SSL_MODE.default))


def demanded(service: Service) -> bool:
    """Whether its server refuses plain text."""
    return mode(service) not in ("disable", "prefer")


def verifies(service: Service) -> bool:
    """Whether its clients are told what to verify its server's certificate with."""
    return demanded(service) and service.tls is not None


def trusting(service: Service) -> ssl.SSLContext:
    """What a connection to its server is made with. One that shows no certificate of ours yet is
    not verified."""
    context = ssl.create_default_context(cadata=service.tls.authorities if service.tls else None)
    if service.tls is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def variables(service: Service, prefix: str) -> list[Variable]:
    """What vouches for its server, for apps: a file, and its text. No library reads these by
    itself."""
    if service.tls is None:
        return []
    found = (("CA_CERT", service.tls.file), ("CA_PEM", service.tls.authorities))
    return [Variable(name=f"{prefix}_{name}", value=value) for name, value in found]


def self_signed(
    name: str,
    hosts: Sequence[str | IPv4Address | IPv6Address],
    *,
    days: int,
    authority: bool = False,
) -> tuple[str, str]:
    """A fresh key and a certificate signed with it, as PEM text; an `authority` can vouch for
    itself to others."""
    # imported late: it takes long, and few services need it
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
    )
    names = [
        x509.DNSName(host) if isinstance(host, str) else x509.IPAddress(host) for host in hosts
    ]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if authority:
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()
