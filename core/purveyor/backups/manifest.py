"""What is written beside a backup, last: without it there is no backup, and with it a fresh
installation can restore.

It decides which image runs, which data is read and how: so it is signed, and `verify` is the only
way from its bytes to what it says. HMAC and no public-key signature: who can read backups here can
also write them, both keys lie on one host.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from purveyor.services.models import HeldBinding
from purveyor_hooks import BadInput, Finding, Inventory

VERSION = 2
PURPOSE = b"purveyor manifest 2"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to list and restore a backup after the host is lost; secrets are not in
    it.

    `sums` is the SHA-256 of the file of that name: one SHA-256 for each `sums_chunk` bytes of the
    data.
    """

    version: int = VERSION
    backup_id: str
    installation: str
    service: str
    service_type: str
    image: str
    major: str
    server_version: str
    parameters: dict[str, Any]
    backup_type: str
    started_at: datetime
    completed_at: datetime
    state: str
    note: str = ""
    data: str
    size_bytes: int
    plain_bytes: int
    sha256: str
    sums: str = ""
    sums_chunk: int = 0
    compression: str = "zstd"
    encryption: str = ""
    key_id: str = ""
    counts: dict[str, dict[str, int]]
    fleeting: dict[str, dict[str, int]] = {}
    growing: dict[str, dict[str, int]] = {}
    digests: dict[str, str] = {}
    left_out: tuple[Finding, ...] = ()
    failed: tuple[Finding, ...] = ()
    elsewhere: dict[str, tuple[Finding, ...]] = {}
    bindings: list[HeldBinding] = []
    expires_at: datetime | None = None
    changes: str = ""  # of a base copy: the folder of what was written since,
    first: str = ""  # and the first file of it that is needed;
    changes_signed: bool = False  # each of these files is signed

    @property
    def census(self) -> Inventory:
        """What was written into it."""
        return Inventory(
            counts=self.counts,
            fleeting=self.fleeting,
            growing=self.growing,
            digests=self.digests,
            left_out=self.left_out,
            failed=self.failed,
            elsewhere=self.elsewhere,
        )


class _Mac(msgspec.Struct, frozen=True):
    key: str
    value: str


class _Envelope(msgspec.Struct, frozen=True):
    """The manifest as text, and what vouches for it. The first version had a bare hash of the text:
    that finds accidents."""

    manifest: msgspec.Raw
    mac: _Mac | None = None
    sha256: str = ""


class KeyMissing(BadInput):
    """The key that a backup is signed or sealed with is not here: that says nothing about the
    backup."""


class Verified:
    """A manifest that was found to be ours, or that a person has vouched for. Made by `verify`
    alone; whatever reads a backup takes one of these."""

    def __init__(self, manifest: Manifest, mac: str, *, token: object) -> None:
        if token is not _TOKEN:
            raise TypeError("a manifest is verified by `verify` alone")
        self.manifest = manifest
        self.mac = mac  # "" where it is unsigned

    @property
    def signed(self) -> bool:
        return bool(self.mac)


_TOKEN = object()


class OnRecord(msgspec.Struct, frozen=True):
    """What our own database knows of a backup: the signature of its manifest; for one of the first
    version, what it said."""

    mac: str = ""
    checksum: str = ""
    image: str = ""
    counts: dict[str, dict[str, int]] = {}


def key_id(key: bytes) -> str:
    """What names a backup key, and does not tell it."""
    return hashlib.sha256(b"purveyor backup key" + key).hexdigest()[:16]


def encode(manifest: Manifest, folder: str, key: bytes) -> tuple[bytes, str]:
    """The signed bytes of a manifest that stands in `folder`, and their signature."""
    text = msgspec.json.encode(manifest)
    value = _sign(text, folder, key)
    mac = msgspec.json.encode(_Mac(key_id(key), value))
    return b'{"manifest":' + text + b',"mac":' + mac + b"}\n", value


def _sign(text: bytes, folder: str, key: bytes) -> str:
    """The folder is signed with it: a manifest proves nothing about another backup's data."""
    derived = HKDF(SHA256(), 32, salt=None, info=PURPOSE).derive(key)
    return hmac.digest(derived, folder.encode() + b"\0" + text, "sha256").hex()


def verify(
    content: bytes,
    folder: str,
    keys: Mapping[str, bytes],
    *,
    known: OnRecord | None = None,
    accept_unsigned: bool = False,
) -> Verified:
    """What a manifest says, once it is known whose it is.

    `keys` are the installation's, by their ids. `known` is what our own database has: a manifest of
    another signature than the recorded one is an older one put in its place, and one of the first
    version is ours when it says what was recorded. `accept_unsigned` is a person's word for one
    that nothing else vouches for. Raises `BadInput`.
    """
    envelope = _opened(content)
    text = bytes(envelope.manifest)
    mac = envelope.mac
    if mac is not None and mac.key in keys:
        if not hmac.compare_digest(_sign(text, folder, keys[mac.key]), mac.value):
            raise _altered("its signature does not fit")
        if known is not None and known.mac and known.mac != mac.value:
            raise _altered("it is another one than the one on record")
        return Verified(_decoded(text), mac.value, token=_TOKEN)
    if known is not None and known.mac:
        if mac is None:
            raise _altered("it was signed, and is not any more")
        raise KeyMissing(
            f"The backup is signed with a key that is not here ({mac.key}).",
            remedy="Put the backup.key of the installation that made it into the state directory. Without that key nobody can "
            "open it, or know it for its own.",
        )
    manifest = _decoded(text)
    if known is not None and known.checksum and _says(manifest, known):
        return Verified(manifest, "", token=_TOKEN)
    if accept_unsigned:
        return Verified(manifest, "", token=_TOKEN)
    why = f"is signed with a key that is not here ({mac.key})" if mac else "is not signed"
    raise BadInput(
        f"The backup's manifest {why}: anyone with write access to its place may have made it.",
        remedy="Put the backup.key of the installation that made it into the state directory. If you know that it is "
        "yours: --accept-unsigned",
        errors={"accept_unsigned": f"the manifest {why}"},
    )


def _opened(content: bytes) -> _Envelope:
    try:
        envelope = msgspec.json.decode(content, type=_Envelope)
    except msgspec.MsgspecError as error:
        raise _unreadable(error) from None
    if (
        envelope.mac is None
        and hashlib.sha256(bytes(envelope.manifest)).hexdigest() != envelope.sha256
    ):
        raise _altered("its checksum differs")
    return envelope


def _decoded(text: bytes) -> Manifest:
    try:
        return msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise _unreadable(error) from None


def _says(manifest: Manifest, known: OnRecord) -> bool:
    return (f"sha256:{manifest.sha256}", manifest.image, manifest.counts) == (
        known.checksum,
        known.image,
        known.counts,
    )


def _altered(why: str) -> BadInput:
    return BadInput(f"The backup's manifest was altered: {why}.", remedy="Choose another backup.")


def _unreadable(error: Exception) -> BadInput:
    return BadInput(
        f"The backup's manifest cannot be read: {error}.", remedy="Choose another backup."
    )
