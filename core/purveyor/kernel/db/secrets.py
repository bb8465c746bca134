"""Secrets at rest: sealed with a key that the environment or a file beside the database holds."""

import base64
import os
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from purveyor_hooks import BadInput

VARIABLE = "PURVEYOR_KEY"
REMEMBERED = 10_000  # secrets
# in the names of sealed fields that hold some
SECRET_WORDS = ("password", "secret", "token", "key", "variables")


class Secrets:
    """Seals JSON values into text and opens them again (Fernet: AES-128-CBC with HMAC-SHA256)."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)
        self._key = base64.urlsafe_b64decode(key)
        self._derived: dict[str, bytes] = {}
        self._known: dict[str, None] = {}
        self._noting = threading.Lock()  # readers and the writer open secrets side by side

    def known(self) -> Iterable[str]:
        """The secrets that went through here last: what no log may hold."""
        return tuple(self._known)

    def _note(self, value: Any, name: str = "") -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                self._note(item, str(key))
        elif isinstance(value, list):
            for item in value:
                self._note(item, name)
        elif isinstance(value, str) and (
            not name or any(word in name.lower() for word in SECRET_WORDS)
        ):
            with self._noting:
                self._known.pop(value, None)
                self._known[value] = None
                while len(self._known) > REMEMBERED:
                    del self._known[next(iter(self._known))]

    def derived(self, purpose: str) -> bytes:
        """A key of its own for another use than sealing: 32 bytes."""
        if purpose not in self._derived:
            self._derived[purpose] = HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(
                self._key
            )
        return self._derived[purpose]

    def seal(self, value: Any) -> str:
        self._note(value)
        return self._fernet.encrypt(msgspec.json.encode(value)).decode()

    def open(self, text: str) -> Any:
        """The sealed value. Raises `BadInput` when it was sealed with another key or altered."""
        try:
            found = msgspec.json.decode(self._fernet.decrypt(text.encode()))
            self._note(found)
            return found
        except InvalidToken:
            raise BadInput(
                "The key does not open this installation's secrets.",
                remedy=f"Put back the file `key` of the state directory, or the right ${VARIABLE}.",
            ) from None


def open_secrets(state: Path) -> Secrets:
    """The secrets of a state directory; its key file is made (mode 0600) when there is no database
    yet."""
    text = os.environ.get(VARIABLE, "").strip()
    source = f"${VARIABLE}"
    if not text:
        path = state / "key"
        source = str(path)
        if not path.exists():
            if (state / "purveyor.db").exists():
                raise BadInput(
                    f"The key file {path} is missing, and the secrets of this installation are "
                    "sealed with it.",
                    remedy=f"Put it back from your copy, or give the key in ${VARIABLE}.",
                )
            write_new(path, Fernet.generate_key())
        if path.stat().st_mode & 0o077:
            raise BadInput(
                f"The key file {path} can be read by others.", remedy=f"Run: chmod 600 {path}"
            )
        text = path.read_text().strip()
    try:
        return Secrets(text.encode())
    except ValueError:
        remedy = "It must be 32 bytes in URL-safe base64, as the file `key` holds."
        raise BadInput(f"Invalid key in {source}.", remedy=remedy) from None


def write_new(path: Path, content: bytes) -> None:
    """Create a file that is whole or not there, also after a loss of power. One that another has
    just made is left as it is."""
    handle, part = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # for its owner alone
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(handle)
        with suppress(FileExistsError):
            os.link(part, path)
    finally:
        os.unlink(part)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
