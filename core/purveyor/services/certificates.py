"""The installation's own authority, and a certificate of it for each service's server.

The authority's key is sealed in the database, is opened to sign, and is in no container. One
authority signs; what apps are given names all that are recorded, so that another can take its place
while certificates of both are about.
"""

import ipaddress
import os
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
import msgspec

from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.db.database import convert, installation
from purveyor.kernel.db.models import Record
from purveyor_hooks import Conflict

FILE = "ca.crt"  # in the state directory, for commands on this host
OF_AUTHORITY, OF_SERVER = timedelta(days=3650), timedelta(days=365)
RENEWED = OF_SERVER / 3  # so long before its end
CLOCKS = timedelta(hours=1)  # by which clocks may differ
LOCAL = ("localhost", "127.0.0.1", "::1")


class AuthorityRecord(Record, frozen=True):
    """`next` is in the file of apps and does not sign yet, `old` does not sign any more."""

    id: int
    state: Literal["next", "current", "old"]
    certificate: str
    key: str
    created_at: datetime
    expires_at: datetime


class CertificateRecord(Record, frozen=True):
    """What a service's server shows, and its key."""

    service_id: int
    authority_id: int
    names: list[str]
    certificate: str
    key: str
    created_at: datetime
    expires_at: datetime


# ---------------------------------------------------------------- records


def authorities(tx: Tx) -> list[AuthorityRecord]:
    """All that are vouched by, oldest first."""
    rows = tx.rows("SELECT * FROM authorities ORDER BY id")
    return [convert(row, AuthorityRecord, tx.secrets, sealed=["key"]) for row in rows]


def bundle(tx: Tx) -> str:
    """The certificates of all authorities, as PEM text; "" before there is one."""
    return "".join(
        row["certificate"] for row in tx.rows("SELECT certificate FROM authorities ORDER BY id")
    )


def find(tx: Tx, service_id: int) -> CertificateRecord | None:
    row = tx.row("SELECT * FROM certificates WHERE service_id = ?", [service_id])
    return (
        convert(row, CertificateRecord, tx.secrets, plain=["names"], sealed=["key"])
        if row
        else None
    )


def is_due(tx: Tx, service_id: int, names: Sequence[str]) -> bool:
    """Whether a service's server needs another certificate: for its age, its names or its
    authority."""
    found = find(tx, service_id)
    if found is None or found.names != list(names) or found.expires_at - tx.now < RENEWED:
        return True
    return bool(
        tx.value("SELECT state FROM authorities WHERE id = ?", [found.authority_id]) == "old"
    )


def issue(tx: Tx, service_id: int, names: Sequence[str]) -> CertificateRecord:
    """A new key and a new certificate for a service's server, by the authority that signs."""
    authority = _signing(tx)
    until = min(tx.now + OF_SERVER, authority.expires_at)
    certificate, key = _signed(names, authority, tx.now, until)
    forget(tx, service_id)
    tx.insert(
        "certificates",
        service_id=service_id,
        authority_id=authority.id,
        names=msgspec.json.encode(list(names)).decode(),
        certificate=certificate,
        key=tx.secrets.seal(key),
        created_at=tx.now,
        expires_at=until,
    )
    found = find(tx, service_id)
    assert found is not None
    return found


def forget(tx: Tx, service_id: int) -> None:
    """A service's server shows none any more."""
    tx.db.execute("DELETE FROM certificates WHERE service_id = ?", [service_id])


def _signing(tx: Tx) -> AuthorityRecord:
    """The authority that signs, made when it is first needed."""
    found = next((item for item in authorities(tx) if item.state == "current"), None)
    return found or _make(tx, "current")


def _make(tx: Tx, state: Literal["next", "current"]) -> AuthorityRecord:
    number = 1 + int(
        tx.value("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'authorities'")
        or 0
    )
    until = tx.now + OF_AUTHORITY
    # a name of its own: clients look for who signed by it
    certificate, key = _self_signed(f"Purveyor {installation(tx)[:8]} CA {number}", tx.now, until)
    tx.insert(
        "authorities",
        state=state,
        certificate=certificate,
        key=tx.secrets.seal(key),
        created_at=tx.now,
        expires_at=until,
    )
    return authorities(tx)[-1]


# ---------------------------------------------------------------- another authority


def rotate(tx: Tx) -> AuthorityRecord:
    """Begin to replace the authority: the next one is among those that apps get from now on, and
    signs nothing yet."""
    found = authorities(tx)
    under_way = next((item for item in found if item.state != "current"), None)
    if under_way is not None:
        remedy = (
            "Have it sign: purveyor ca finish"
            if under_way.state == "next"
            else "It goes by itself; see: purveyor ca show"
        )
        raise Conflict("The authority is being replaced already.", remedy=remedy)
    _signing(tx)
    return _make(tx, "next")


def finish(tx: Tx) -> AuthorityRecord:
    """Have the next authority sign from now on. The old one goes when no server shows a certificate
    of it any more."""
    waiting = next((item for item in authorities(tx) if item.state == "next"), None)
    if waiting is None:
        raise Conflict("No other authority waits to sign.", remedy="Begin with: purveyor ca rotate")
    tx.update("authorities", "state = 'current'", [], state="old")
    tx.update("authorities", "id = ?", [waiting.id], state="current")
    return waiting


def let_go(tx: Tx) -> list[int]:
    """Drop old authorities of which no server shows a certificate; the answer is which."""
    gone = (
        "DELETE FROM certificates WHERE service_id IN (SELECT id FROM services WHERE state = "
        "'deleted')"
    )
    tx.db.execute(gone)  # what comes back gets another at its start
    unused = (
        "state = 'old' AND NOT EXISTS (SELECT 1 FROM certificates WHERE authority_id = "
        "authorities.id)"
    )
    found = [row["id"] for row in tx.rows(f"SELECT id FROM authorities WHERE {unused}")]
    for number in found:
        tx.db.execute("DELETE FROM authorities WHERE id = ?", [number])
    return found


def shown_by(tx: Tx, authority_id: int) -> list[str]:
    """The services whose servers show a certificate of an authority, by name."""
    sql = (
        "SELECT slug FROM services JOIN certificates ON service_id = services.id WHERE "
        "authority_id = ? AND state != 'deleted'"
    )
    return [row["slug"] for row in tx.rows(f"{sql} ORDER BY slug", [authority_id])]


def names_of(container_name: str) -> list[str]:
    """What a server answers to: its name, the same on every network, and this host's own."""
    return [container_name, *LOCAL]


# ---------------------------------------------------------------- the file for this host


async def publish(context: Context) -> None:
    """Have the file of the state directory hold the authorities as they are."""
    text = await context.store.read(bundle)
    if text:
        await anyio.to_thread.run_sync(_write, context.state / FILE, text)


def _write(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    handle, part = tempfile.mkstemp(prefix=f"{FILE}.", dir=path.parent)
    with os.fdopen(handle, "w") as opened:
        opened.write(text)
    os.chmod(part, 0o644)
    os.replace(part, path)


# ---------------------------------------------------------------- X.509


def _self_signed(name: str, now: datetime, until: datetime) -> tuple[str, str]:
    """An authority: its certificate and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())  # with Ed25519 libpq and pgx cannot log in
    subject = _subject(name)
    built = (
        _builder(subject, subject, key, now, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )
    return _pem(built, key, key)


def _signed(
    names: Sequence[str], authority: AuthorityRecord, now: datetime, until: datetime
) -> tuple[str, str]:
    """A server's certificate and its key. MongoDB also shows it as a client."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    signer: Any = serialization.load_pem_private_key(authority.key.encode(), None)
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode()).subject
    key = ec.generate_private_key(ec.SECP256R1())
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    built = (
        _builder(_subject(names[0][:64]), issuer, key, now, until)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    return _pem(built, signer, key)


def _subject(name: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _name(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs: bool) -> Any:
    from cryptography import x509

    others = (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        **dict.fromkeys(others, False),
    )


def _builder(subject: Any, issuer: Any, key: Any, now: datetime, until: datetime) -> Any:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _pem(built: Any, signer: Any, key: Any) -> tuple[str, str]:
    from cryptography.hazmat.primitives import hashes, serialization

    made = built.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return made, private
