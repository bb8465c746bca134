"""What continuous archiving has written down: from the helper's folder to the place, each file
packed and named for its content, and back.

A file at the place is called ``NAME.SHA256.MAC.zst``: that it is whole, and ours, can be seen
without any record. One that is not full yet is called ``NAME.partial-NUMBER.SHA256.MAC.zst``; its
next state has a higher number and takes its place. The first version wrote no MAC.
"""

import hmac
import time
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import anyio
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from purveyor.backups.codec import Packer, unpack_stream
from purveyor.backups.storage import Storage
from purveyor.docker.exec import HelperAccess
from purveyor_hooks import Access, BadInput, Command, Failed, NotFound

PARTIAL, SUFFIX = ".partial", ".zst"
LISTING = 'cd "$0" && for f in *; do [ -f "$f" ] && stat -c "%n %s" "$f"; done; true'
CHUNK = 1024 * 1024
PURPOSE = b"purveyor changes 1"
MAC_LENGTH = 32  # hexadecimal digits
# bytes of one file that are held in memory, which is enough for the usual 16 MB; more goes to a
# file
HELD = 20 * CHUNK
LARGEST = 1024 * 1024 * 1024  # bytes of a file of changes: PostgreSQL's largest --wal-segsize


class Waiting(NamedTuple):
    """What is in the helper's folder: names and bytes, oldest first, the unfinished one last."""

    files: list[tuple[str, int]]

    @property
    def full(self) -> list[str]:
        return [name for name, _ in self.files if not name.endswith(PARTIAL)]

    @property
    def unfinished(self) -> list[str]:
        return [name for name, _ in self.files if name.endswith(PARTIAL)]

    @property
    def backlog(self) -> int:
        """Bytes of full files that wait; the oldest is left out, for it stays as the helper's
        mark."""
        return sum([size for name, size in self.files if not name.endswith(PARTIAL)][1:])


class Stored(NamedTuple):
    """A file at the place; the name of an unfinished one has its number."""

    name: str
    sha256: str
    mac: str = ""

    @property
    def of(self) -> str:
        """The name that it has when it is full."""
        return self.name.partition(PARTIAL)[0]

    @property
    def unfinished(self) -> bool:
        return PARTIAL in self.name

    @property
    def path(self) -> str:
        return ".".join(part for part in (self.name, self.sha256, self.mac) if part) + SUFFIX


async def waiting(helper: HelperAccess, folder: str) -> Waiting:
    """What the helper has that was not taken away."""
    ended = await helper.exec(Command(argv=("sh", "-c", LISTING, folder)))
    if ended.exit_code:
        raise Failed(f"The helper's folder cannot be read: {ended.stderr.strip()[-200:]}")
    files = [
        (name, int(size))
        for name, _, size in (line.rpartition(" ") for line in ended.stdout.splitlines())
    ]
    return Waiting(sorted(files))


async def list_stored(place: Storage, folder: str) -> list[Stored]:
    """What is at the place, in the order of the names."""
    found = []
    for path in await place.names(folder):
        parts = path.removesuffix(SUFFIX).split(".")
        mac = parts.pop() if len(parts) > 2 and len(parts[-1]) == MAC_LENGTH else ""
        if len(parts) > 1 and path.endswith(SUFFIX):
            found.append(Stored(".".join(parts[:-1]), parts[-1], mac))
    return found


def sign(folder: str, name: str, sha256: str, key: bytes) -> str:
    """What says that a file of this content is ours, and at its place."""
    derived = HKDF(SHA256(), 32, salt=None, info=PURPOSE).derive(key)
    return hmac.digest(derived, "\0".join((folder, name, sha256)).encode(), "sha256").hex()[
        :MAC_LENGTH
    ]


async def ship(
    helper: HelperAccess,
    source: str,
    name: str,
    place: Storage,
    folder: str,
    key: bytes | None,
    signing: bytes,
) -> Stored:
    """One file of the helper's to the place, sealed with `key` where there is one. It appears there
    whole, or not at all."""
    async with anyio.SpooledTemporaryFile(max_size=HELD) as held:

        async def keep(data: bytes) -> None:
            await held.write(data)

        async def kept() -> AsyncIterator[bytes]:
            await held.seek(0)
            while chunk := await held.read(CHUNK):
                yield chunk

        packer = Packer(keep, key)
        async with helper.process(Command(argv=("cat", f"{source}/{name}"))) as process:
            async for chunk in process.output():
                await packer.write(chunk)
            await process.finish()
        await packer.close()
        number = f"-{time.time_ns() // 1_000_000:015d}" if name.endswith(PARTIAL) else ""
        stored_as = f"{name}{number}"
        made = Stored(stored_as, packer.sha256, sign(folder, stored_as, packer.sha256, signing))
        await place.put_all(f"{folder}/{made.path}", kept())
    return made


async def take_away(helper: HelperAccess, source: str, names: Sequence[str]) -> None:
    """Remove files that are at the place from the helper's folder."""
    if names:
        await helper.exec(Command(argv=("rm", "-f", *(f"{source}/{name}" for name in names))))


async def list_held(
    place: Storage, folder: str, first: str, signing: bytes | None
) -> dict[str, Stored]:
    """The files from `first` on, each in its last state, by the name that it has when it is full.
    Raises as `fetch` does."""
    found = [item for item in await list_stored(place, folder) if item.of >= first]
    if signing is not None:
        found = _ours(found, folder, signing)
    latest = {
        item.of: item for item in sorted(found, key=lambda item: (not item.unfinished, item.name))
    }
    if first not in latest:
        raise BadInput(
            f"The archive lacks {first}, which this base copy needs.",
            remedy="Choose another base copy.",
        )
    return latest


async def whole(place: Storage, folder: str, first: str, signing: bytes | None) -> list[str]:
    """The names of the files that can be read to their end, and of the last one. Raises as `fetch`
    does."""
    found = await list_held(place, folder, first, signing)
    last = max(found)
    return sorted(name for name, item in found.items() if not item.unfinished or name == last)


async def fetch(
    place: Storage,
    folder: str,
    first: str,
    access: Access,
    target: str,
    key: bytes | None,
    signing: bytes | None,
) -> AsyncIterator[int]:
    """Put every file from `first` on into a folder of a container, and tell the bytes that went by.
    Raises `BadInput` for one that was altered, for one that was not signed with `signing` where
    that is given, and when `first` is missing."""
    # names of full files, and of unfinished ones that are in their place as they last were
    done: set[str] = set()
    while True:
        latest = await list_held(place, folder, first, signing)
        due = [item for _, item in sorted(latest.items()) if item.of not in done]
        if not due:
            return
        for item in due:
            try:
                async for size in _put(place, folder, item, access, target, key):
                    yield size
            except NotFound:
                if not item.unfinished:
                    raise
                break  # it has a later state by now, or is full: look again
            done.add(item.of)


def is_ours(item: Stored, folder: str, signing: bytes) -> bool:
    """Whether a file at the place was put there by this installation."""
    return hmac.compare_digest(item.mac, sign(folder, item.name, item.sha256, signing))


def _ours(found: Sequence[Stored], folder: str, signing: bytes) -> list[Stored]:
    """The files that are ours. Raises `BadInput` where there is only a stranger's of a name: what
    follows would be lost in silence, or be his."""
    ours = [item for item in found if is_ours(item, folder, signing)]
    if strange := {item.of for item in found} - {item.of for item in ours}:
        raise BadInput(
            f"The archive's file {min(strange)} is not ours: its signature does not fit.",
            remedy="Choose another base copy. Find out who has write access to that place.",
        )
    return ours


async def _put(
    place: Storage, folder: str, item: Stored, access: Access, target: str, key: bytes | None
) -> AsyncIterator[int]:
    chunks = unpack_stream(place.read(f"{folder}/{item.path}"), key, item.sha256, LARGEST)
    # before anything is written: it may have a later state by now, and be gone
    begun = await anext(chunks, None)
    async with access.process(
        Command(argv=("sh", "-c", 'cat > "$0"', f"{target}/{item.of}"))
    ) as process:
        while begun is not None:
            await process.write(begun)
            yield len(begun)
            begun = await anext(chunks, None)
        await process.end_input()
        await process.finish()
