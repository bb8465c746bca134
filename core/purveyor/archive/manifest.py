"""What is written beside a backup, last: without it there is no backup, and with it a fresh installation can restore."""

import hashlib
from datetime import datetime
from typing import Any

import msgspec

from purveyor_hooks import BadInput, Census, Finding

VERSION = 1


class HeldBinding(msgspec.Struct, frozen=True, kw_only=True):
    """Whose data a resource of the backup is."""

    project: str
    environment: str
    resource: str
    account: str
    slot: int | None
    number: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to list and restore a backup after the host is lost; secrets are not in it."""

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
    compression: str = "zstd"
    encryption: str = ""
    key_id: str = ""
    counts: dict[str, dict[str, int]]
    fleeting: dict[str, dict[str, int]] = {}
    growing: dict[str, dict[str, int]] = {}
    digests: dict[str, str] = {}
    left_out: tuple[Finding, ...] = ()
    failed: tuple[Finding, ...] = ()
    bindings: list[HeldBinding] = []
    expires_at: datetime | None = None
    changes: str = ""  # of a base copy: the folder of what was written since,
    first: str = ""  # and the first file of it that is needed

    @property
    def census(self) -> Census:
        """What was written into it."""
        return Census(
            counts=self.counts,
            fleeting=self.fleeting,
            growing=self.growing,
            digests=self.digests,
            left_out=self.left_out,
            failed=self.failed,
        )


class _Sealed(msgspec.Struct, frozen=True):
    """The manifest as text, and the hash of that text."""

    manifest: msgspec.Raw
    sha256: str


def encode(manifest: Manifest) -> bytes:
    text = msgspec.json.encode(manifest)
    digest = hashlib.sha256(text).hexdigest()
    return b'{"manifest":' + text + b',"sha256":"' + digest.encode() + b'"}\n'


def decode(content: bytes) -> Manifest:
    """Raises `BadInput` when a single byte of it is not as it was."""
    try:
        sealed = msgspec.json.decode(content, type=_Sealed)
        if hashlib.sha256(bytes(sealed.manifest)).hexdigest() != sealed.sha256:
            raise BadInput("The backup's manifest was altered: its checksum differs.", remedy="Choose another backup.")
        return msgspec.json.decode(bytes(sealed.manifest), type=Manifest)
    except msgspec.MsgspecError as error:
        raise BadInput(f"The backup's manifest cannot be read: {error}.", remedy="Choose another backup.") from None
