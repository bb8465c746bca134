"""The sealed format of backups: age (age-encryption.org/v1), through its library. Whoever has the
key opens it with any age tool.

A backup is sealed for one X25519 identity that is derived from the backup key. That says nothing of
who sealed it: the manifest's signature does.
"""

import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pyrage
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

METHOD = "age"
BEGINNING = b"age-encryption.org/v1\n"
PURPOSE = b"purveyor age identity 1"
HUMAN = "age-secret-key-"
ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)

Work = Callable[[Any, Any], None]  # reads from the one, writes to the other


class Wrong(Exception):
    """What is sealed was altered, has no end, or is sealed for another identity."""


def identity(key: bytes) -> str:
    """The identity of a backup key, as an age tool reads it: AGE-SECRET-KEY-1…"""
    return _bech32(HUMAN, HKDF(SHA256(), 32, salt=None, info=PURPOSE).derive(key)).upper()


class Sealer:
    """Seals what comes, piece by piece."""

    def __init__(self, key: bytes) -> None:
        recipient = pyrage.x25519.Identity.from_str(identity(key)).to_public()
        self._through = _Through(
            lambda reader, writer: pyrage.encrypt_io(reader, writer, [recipient])
        )

    def seal(self, data: bytes, last: bool) -> bytes:
        return self._through.turn(data, last)


def decrypt(stored: Iterator[bytes], key: bytes) -> Iterator[bytes]:
    """What was sealed, each part once it is known to be whole. Raises `Wrong`."""
    own = pyrage.x25519.Identity.from_str(identity(key))

    def unseal(reader: Any, writer: Any) -> None:
        try:
            pyrage.decrypt_io(reader, writer, [own])
        except (pyrage.DecryptError, OSError):  # of the header, and of what follows it
            raise Wrong from None

    through = _Through(unseal)
    for chunk in stored:
        if plain := through.turn(chunk, last=False):
            yield plain
    if plain := through.turn(b"", last=True):
        yield plain


class _GivenUp(Exception):
    """Nobody wants what comes any more."""


class _Through:
    """A library's work, which reads and writes when it likes, as something that takes a piece and
    answers with what came of it.

    It has a thread of its own. Only one of the two threads runs at a time: that one until all of
    the piece is read, and it wants more. It ends when this object is gone.
    """

    def __init__(self, work: Work) -> None:
        self._ends = _Ends()
        self._thread = threading.Thread(
            target=self._ends.run, args=(work,), name="age", daemon=True
        )
        weakref.finalize(self, _end, self._ends, self._thread)

    def turn(self, data: bytes, last: bool) -> bytes:
        """Raises what the work raises, and `Wrong` for what comes after its end."""
        ends = self._ends
        if ends.ended:
            if data:
                raise Wrong
            return b""
        ends.given, ends.at, ends.last = data, 0, last
        if self._thread.ident is None:
            self._thread.start()
        else:
            ends.more.release()
        ends.answered.acquire()
        if ends.failed is not None:
            raise ends.failed
        made, ends.made = b"".join(ends.made), []
        return made


def _end(ends: "_Ends", thread: threading.Thread) -> None:
    """Also at the end of the process: a thread that is cut off inside of the library aborts it."""
    ends.give_up()
    if thread.ident is not None and thread is not threading.current_thread():
        thread.join()


class _Ends:
    """The two ends of the work, in the work's own thread: the file that it reads and the file that
    it writes."""

    def __init__(self) -> None:
        self.given, self.at, self.last = b"", 0, False
        self.made: list[bytes] = []
        self.ended = False
        self.failed: BaseException | None = None
        self.more, self.answered = threading.Semaphore(0), threading.Semaphore(0)
        self._gone = False

    def run(self, work: Work) -> None:
        try:
            work(self, self)
        except BaseException as error:
            self.failed = error
        self.ended = True
        self.answered.release()

    def give_up(self) -> None:
        self._gone = True
        self.more.release()

    def read(self, size: int) -> bytes:
        # an empty piece is not the end
        while self.at >= len(self.given) and not self.last and not self._gone:
            self.answered.release()
            self.more.acquire()
        if self._gone:
            raise _GivenUp
        piece = self.given[self.at : self.at + size]
        self.at += len(piece)
        return piece

    def write(self, data: bytes) -> int:
        self.made.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """All of it is handed on at the next turn."""


def _bech32(human: str, data: bytes) -> str:
    """BIP 173, as age has its keys."""
    bits = int.from_bytes(data, "big") << -len(data) * 8 % 5
    count = (len(data) * 8 + 4) // 5
    values = [bits >> 5 * (count - 1 - place) & 31 for place in range(count)]
    prefix = [ord(letter) >> 5 for letter in human] + [0] + [ord(letter) & 31 for letter in human]
    remainder = 1
    for value in [*prefix, *values, *[0] * 6]:
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ value
        for place, part in enumerate(GENERATOR):
            remainder ^= part if top >> place & 1 else 0
    remainder ^= 1
    values += [remainder >> 5 * (5 - place) & 31 for place in range(6)]
    return f"{human}1{''.join(ALPHABET[value] for value in values)}"
