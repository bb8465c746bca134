"""What a copy of the state is sealed with, and how it is told whose it is.

A document's header is in clear, for the place's lists, and authenticated with the rest:
installation, incarnation, term, revision and moment. It has to be the same as the object's name.
"""

import hashlib
import hmac
import os
import re
import struct
from datetime import UTC, datetime

import msgspec
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from purveyor.backups.manifest import key_id
from purveyor_hooks import BadInput

ROOT = "state"
SUFFIX = ".pvs"
PATH = re.compile(r"state/[0-9a-f]+/[0-9]{8}/[0-9]{16}-[0-9]{13}\.pvs")
OWNER = "owner"
MAGIC = b"PVYSTATE1\n"
LENGTH = struct.Struct("!I")
NONCE = 12
LEVEL = 6
LARGEST = 1 << 30  # bytes of a document that is opened


class Keys:
    """What the backup key becomes here: a key for each use, so that none stands for another."""

    def __init__(self, master: bytes) -> None:
        self.id = key_id(master)
        self.state = HKDF(SHA256(), 32, salt=None, info=b"purveyor state copy 1").derive(master)
        self.owner = HKDF(SHA256(), 32, salt=None, info=b"purveyor owner mark 1").derive(master)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """In clear, and authenticated. `at` are milliseconds since 1970."""

    installation: str
    incarnation: str
    term: int
    revision: int
    at: int
    key: str
    name: str = ""
    host: str = ""
    program: str = ""

    @property
    def path(self) -> str:
        return f"{ROOT}/{self.installation}/{self.term:08d}/{self.revision:016d}-{self.at:013d}{SUFFIX}"

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.at / 1000, UTC)


def is_document(path: str) -> bool:
    """Whether a path is what a document's is like; whatever else lies there is nobody's."""
    return PATH.fullmatch(path) is not None


def moment_of(path: str) -> int:
    """When a document was made, in milliseconds, by its name."""
    return int(path.rpartition("-")[2].removesuffix(SUFFIX))


def seal(header: Header, body: bytes, keys: Keys) -> bytes:
    text = msgspec.json.encode(header)
    front = MAGIC + LENGTH.pack(len(text)) + text
    nonce = os.urandom(NONCE)
    return (
        front
        + nonce
        + AESGCM(keys.state).encrypt(
            nonce, zstandard.ZstdCompressor(level=LEVEL).compress(body), front
        )
    )


def unseal(content: bytes, path: str, keys: Keys) -> tuple[Header, bytes]:
    """The header and the document in an object of this name. Nothing in it is used before its seal
    has held.

    Raises `BadInput` for one that was altered, is of another key, or lies under another name than
    its own.
    """
    try:
        if not content.startswith(MAGIC):
            raise BadInput(f"{path} is not a copy of a state.")
        (size,) = LENGTH.unpack_from(content, len(MAGIC))
        start = len(MAGIC) + LENGTH.size
        front, nonce, sealed = (
            content[: start + size],
            content[start + size : start + size + NONCE],
            content[start + size + NONCE :],
        )
        packed = AESGCM(keys.state).decrypt(nonce, sealed, front)
        header = msgspec.json.decode(front[start:], type=Header)
        body = zstandard.ZstdDecompressor().decompress(packed, max_output_size=LARGEST)
    except (InvalidTag, struct.error, ValueError, msgspec.MsgspecError, zstandard.ZstdError):
        raise BadInput(f"{path} was altered, or is sealed with another key.") from None
    if header.path != path:
        raise BadInput(f"{path} lies under another name than its own.")
    return header, body


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Who writes in a term."""

    installation: str
    term: int
    incarnation: str
    host: str
    at: int

    @property
    def path(self) -> str:
        return owner_path(self.installation, self.term)

    @property
    def who(self) -> str:
        return (
            f"{self.host}, at {datetime.fromtimestamp(self.at / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
        )


class _Signed(msgspec.Struct, frozen=True):
    owner: str
    mac: str


def owner_path(installation: str, term: int) -> str:
    return f"{ROOT}/{installation}/{term:08d}/{OWNER}"


def write_mark(mark: Mark, keys: Keys) -> bytes:
    text = msgspec.json.encode(mark).decode()
    return msgspec.json.encode(_Signed(text, _sign(text, keys)))


def read_mark(content: bytes, path: str, keys: Keys) -> Mark | None:
    """None for one that somebody without the key has written: it stops nobody."""
    try:
        signed = msgspec.json.decode(content, type=_Signed)
        if not hmac.compare_digest(signed.mac, _sign(signed.owner, keys)):
            return None
        mark = msgspec.json.decode(signed.owner, type=Mark)
    except msgspec.MsgspecError:
        return None
    return mark if mark.path == path else None


def _sign(text: str, keys: Keys) -> str:
    return hmac.new(keys.owner, text.encode(), hashlib.sha256).hexdigest()
