"""What a service's server presents to whoever asks for TLS: what is recorded is not what is."""

import ssl
from datetime import datetime

import anyio
import msgspec
from anyio.streams.tls import TLSAttribute, TLSStream

from purveyor_hooks import Address, Certificate

DEADLINE = 4.0


class Presented(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate as PEM text, with who signed it and until when; `vouched` is whether one of our
    authorities did."""

    certificate: str
    issuer: str
    sha256: str
    expires_at: datetime
    vouched: bool


async def look(
    address: Address, wanted: Certificate, authorities: str, deadline: float = DEADLINE
) -> Presented:
    """Whatever is presented at an address, good or not. Raises `OSError` where nothing speaks TLS
    there (`TimeoutError` after so many seconds), `EOFError` where it hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with anyio.fail_after(deadline):
        try:
            async with await anyio.connect_tcp(address.host, address.port) as stream:
                if wanted.asks:
                    await stream.send(wanted.asks)
                    if await stream.receive(len(wanted.granted)) != wanted.granted:
                        raise ConnectionRefusedError("it refuses TLS")
                opened = await TLSStream.wrap(
                    stream, server_side=False, ssl_context=context, standard_compatible=False
                )
                shown = opened.extra_attributes[TLSAttribute.peer_certificate_binary]()
        except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
            raise EOFError("it hung up") from error
    if shown is None:
        raise EOFError("it presents nothing")
    return _read(shown, authorities)


def _read(der: bytes, authorities: str) -> Presented:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization

    leaf = x509.load_der_x509_certificate(der)

    def signed(authority: x509.Certificate) -> bool:
        try:
            leaf.verify_directly_issued_by(authority)
        except (InvalidSignature, ValueError, TypeError):  # of another name, or another kind of key
            return False
        return True

    ours = x509.load_pem_x509_certificates(authorities.encode()) if authorities else []
    return Presented(
        certificate=leaf.public_bytes(serialization.Encoding.PEM).decode(),
        issuer=leaf.issuer.rfc4514_string(),
        sha256=leaf.fingerprint(hashes.SHA256()).hex(),
        expires_at=leaf.not_valid_after_utc,
        vouched=any(signed(authority) for authority in ours),
    )
