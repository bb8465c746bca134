"""Writes backups and reads them again: from the plugin's stream to the place, and back."""

import base64
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import msgspec

from purveyor.backups import manifest as manifests
from purveyor.backups import store as backups
from purveyor.backups.above import Archives
from purveyor.backups.codec import Packer, unpack_stream
from purveyor.backups.contents import Compared
from purveyor.backups.fence import Fence
from purveyor.backups.kinds import BASE
from purveyor.backups.manifest import Manifest, OnRecord, Verified
from purveyor.backups.models import BackupRecord, SourceRecord
from purveyor.backups.storage import DATA, MANIFEST, SUMS, LocalStorage, S3Storage, Storage
from purveyor.backups.sums import CHUNK, Summing, check_parts
from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.db.database import installation, utc_now
from purveyor.kernel.db.faults import translate_faults
from purveyor.kernel.db.secrets import write_new
from purveyor.kernel.watchdog import Heartbeat, run_with_stall_timeout
from purveyor.projects.claims import held_bindings
from purveyor.providers import masking
from purveyor.services import store as services
from purveyor.services.handle import handle_of, hooks_of
from purveyor.services.models import HeldBinding, ServiceRecord
from purveyor.services.transfer import Pipe, Tell, first_of
from purveyor_hooks import (
    BadInput,
    Contents,
    Failed,
    Finding,
    Inventory,
    PurveyorError,
    RestoreOptions,
    ServiceType,
    Sink,
)
from purveyor_hooks.types import HOLDERS, holder_of

KEY_FILE = "backup.key"
KEY_BYTES = 32
SHRUNK = 0.1  # of what the last good backup held in a database or bucket,
FLOOR = 100  # where it held at least so much: ratios of small numbers say nothing
LOOPBACK = ("127.0.0.1", "localhost", "::1", "0.0.0.0")  # noqa: S104 - an address to compare with
OWNED = "owned"  # in a backup's metadata: the databases and buckets that belonged to projects
UNSIGNED = "unsigned"  # in a backup's metadata: nothing but a person's word vouches for it
EMPTY = "It is empty: there was nothing to back up."


class _Sink:
    """`Sink` into a packer, heard by the pulse."""

    def __init__(self, packer: Packer, pulse: Heartbeat) -> None:
        self._packer = packer
        self._pulse = pulse

    async def write(self, chunk: bytes) -> None:
        await self._packer.write(chunk)
        self._pulse.beat(len(chunk))


class StorageUnavailable(Failed):
    """What holds a backup does not give it now."""


@contextmanager
def _reading() -> Iterator[None]:
    """What fails of the place is told apart from what fails where the bytes go."""
    try:
        yield
    except Failed as error:
        raise StorageUnavailable(error.detail, remedy=error.remedy) from error


class _Source:
    """`Source` from a packed file, heard by the pulse. `error` is why it ended early, whatever its
    reader makes of that."""

    def __init__(self, chunks: AsyncIterator[bytes], pulse: Heartbeat) -> None:
        self._chunks = chunks
        self._pulse = pulse
        self.error: PurveyorError | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            with _reading():
                async for chunk in self._chunks:
                    self._pulse.beat(len(chunk))
                    yield chunk
        except PurveyorError as error:
            self.error = error
            raise


class BackupRepository:
    """The backups of an installation."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def folder(self) -> Path:
        return self._context.settings.folder_of_backups(self._context.state)

    def place(self, source: SourceRecord | None) -> Storage:
        return LocalStorage(self.folder) if source is None else S3Storage(source, source.secret_key)

    async def place_of(self, backup: BackupRecord) -> Storage:
        number = backup.s3_source_id
        return self.place(
            await self._context.store.read(lambda tx: backups.source(tx, number))
            if number
            else None
        )

    # ---------------------------------------------------------------- writing

    async def write(self, number: int, tell: Tell) -> None:
        """Make a recorded backup: data first, the manifest last. What it is, is written to its
        record."""
        store = self._context.store
        backup, record = await store.read(lambda tx: _backup_and_service(tx, number))
        place = await self.place_of(backup)
        await self._context.part(Fence).require(place.address)
        signing = await self.key(create=True)
        assert signing is not None
        key = signing if backup.encryption else None
        service = handle_of(self._context, record)
        health = await service.ready()
        if not health.healthy:
            raise Failed(
                f"{record.name} does not serve now: {health.detail or health.stage}",
                remedy=f"See: purveyor health {record.slug}",
            )
        file = await place.begin(f"{backup.folder}/{DATA}")
        summing = Summing(file.write)
        packer = Packer(summing.write, key)

        archives = self._context.part(Archives)
        archive = (
            await store.read(lambda tx: archives.find(tx, record.id))
            if backup.backup_type == BASE
            else None
        )
        first = ""

        async def pour(pulse: Heartbeat) -> Inventory:
            nonlocal first
            sink = _Sink(packer, pulse)
            if archive is None:
                census = await handle_of(self._context, record, pulse).backup(sink)
            else:  # it is the data set itself: nothing of it is counted
                census = Inventory(counts={})
                first = await archives.copy(record, sink)
            await packer.close()
            await file.commit()
            return census

        try:
            what = f"The backup of {record.name}"
            census = await run_with_stall_timeout(
                pour, self._context.settings.stall_timeout, what, tell
            )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await file.discard()
            raise
        sums = await summing.close()
        suspicion = await store.read(lambda tx: _suspicion(tx, backup, census))
        empty = backup.backup_type != BASE and not _content(census.counts, census.fleeting)
        made = Manifest(
            backup_id=backup.backup_id,
            installation=await store.read(installation),
            service=record.name,
            service_type=record.service_type,
            image=record.image,
            major=record.major,
            server_version=health.version,
            parameters=_plain_parameters(service.kind, record),
            backup_type=backup.backup_type,
            started_at=backup.started_at,
            completed_at=utc_now(),
            state="suspect" if suspicion else "ok",
            note=suspicion or (EMPTY if empty else ""),
            data=DATA,
            size_bytes=packer.stored,
            plain_bytes=packer.plain,
            sha256=packer.sha256,
            sums=hashlib.sha256(sums).hexdigest(),
            sums_chunk=CHUNK,
            encryption=backup.encryption,
            key_id=manifests.key_id(key) if key else "",
            counts=census.counts,
            fleeting=census.fleeting,
            growing=census.growing,
            digests=census.digests,
            left_out=census.left_out,
            failed=census.failed,
            elsewhere=census.elsewhere,
            bindings=await store.read(lambda tx: held_bindings(tx, record.id)),
            expires_at=backup.expires_at,
            changes=archive.folder if archive else "",
            first=first,
            changes_signed=archive is not None,
        )
        content, mac = manifests.encode(made, backup.folder, signing)
        await self._context.part(Fence).require(place.address)  # the data may have taken hours
        await place.put(f"{backup.folder}/{SUMS}", sums)
        await place.put(f"{backup.folder}/{MANIFEST}", content)
        await store.write(lambda tx: backups.update(tx, number, **facts(made, mac)))

    # ---------------------------------------------------------------- reading

    async def manifest(self, backup: BackupRecord, *, accept_unsigned: bool = False) -> Verified:
        """What a backup says of itself, once it is known to be ours. Raises `NotFound`,
        `BadInput`."""
        place = await self.place_of(backup)
        known = None if backup.metadata.get(UNSIGNED) else on_record(backup)
        return await self.verified(
            place, backup.folder, known=known, accept_unsigned=accept_unsigned
        )

    async def verified(
        self,
        place: Storage,
        folder: str,
        *,
        known: OnRecord | None = None,
        accept_unsigned: bool = False,
    ) -> Verified:
        """The manifest in a folder of a place. Raises `NotFound`, `BadInput`."""
        with _reading():
            content = await place.get(f"{folder}/{MANIFEST}")
        key = await self.key()
        keys = {manifests.key_id(key): key} if key else {}
        return manifests.verify(content, folder, keys, known=known, accept_unsigned=accept_unsigned)

    async def stored(self, backup: BackupRecord, verified: Verified) -> AsyncIterator[bytes]:
        """The plain bytes of a backup, each part checked before it is handed on. Raises `NotFound`,
        `BadInput`."""
        place, manifest = await self.place_of(backup), verified.manifest
        key = await self.opening_key(manifest)
        with _reading():
            content = place.read(f"{backup.folder}/{manifest.data}")
            sums = await place.get(f"{backup.folder}/{SUMS}") if manifest.sums else b""
        if manifest.sums:
            if hashlib.sha256(sums).hexdigest() != manifest.sums:
                raise BadInput(
                    "The backup's list of checksums was altered.", remedy="Choose another backup."
                )
            content = check_parts(content, sums, manifest.sums_chunk)
        return unpack_stream(content, key, manifest.sha256, manifest.plain_bytes)

    async def read_into(
        self,
        backup: BackupRecord,
        verified: Verified,
        record: ServiceRecord,
        tell: Tell,
        options: RestoreOptions,
    ) -> tuple[Finding, ...]:
        """Restore a backup, or some databases of it, into an empty service; the answer is what is
        not as it was."""

        async def pour(pulse: Heartbeat) -> tuple[Finding, ...]:
            source = _Source(await self.stored(backup, verified), pulse)
            try:
                return await handle_of(self._context, record, pulse).restore(source, options)
            except Exception as error:
                raise source.error or error from None

        return await run_with_stall_timeout(
            pour, self._context.settings.stall_timeout, f"The restore into {record.name}", tell
        )

    async def extract(
        self, backup: BackupRecord, verified: Verified, database: str, sink: Sink
    ) -> None:
        """One database or bucket of a backup, as its server's own tools read it."""
        source = _Plain(await self.stored(backup, verified))
        await hooks_of(self._context, backup.service_type).extract(source, database, sink)

    async def compare_contents(
        self, backup: BackupRecord, verified: Verified, record: ServiceRecord, tell: Tell
    ) -> list[str]:
        """What of a backup is not the same in the service that it was restored into, which is
        backed up to nowhere for that; and where the backup holds another number of things than was
        counted when it was written."""
        compared = await anyio.to_thread.run_sync(Compared, self._context.state)

        async def read(pulse: Heartbeat) -> None:
            source = _Source(await self.stored(backup, verified), pulse)
            try:
                await handle_of(self._context, record).contents(source, compared.saved)
            except Exception as error:
                raise source.error or error from None
            await self._tell_contents(record, compared.restored, pulse)

        try:
            what = f"Comparing the contents of {record.name}"
            await run_with_stall_timeout(read, self._context.settings.stall_timeout, what, tell)
            return await compared.differences(verified.manifest.census)
        finally:
            compared.close()

    async def _tell_contents(self, record: ServiceRecord, into: Contents, pulse: Heartbeat) -> None:
        """What a running service holds, as its backup tells it."""
        service = handle_of(self._context, record, pulse)
        sending, receiving = anyio.create_memory_object_stream[bytes](8)

        async def give() -> None:
            async with sending:
                await service.backup(Pipe(sending, pulse))

        async def take() -> None:
            async with receiving:
                await service.contents(_Plain(aiter(receiving)), into)
                async for _ in receiving:  # what its reader left of it
                    pass

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(give)
                group.start_soon(take)
        except* Exception as group_error:
            raise first_of(group_error) from None

    # ---------------------------------------------------------------- the key

    async def key(self, *, create: bool = False) -> bytes | None:
        """The key that signs backups and seals encrypted ones; made when it is first needed. Keep a
        copy elsewhere: without it none that is encrypted opens, and none can be known as ours."""
        return await anyio.to_thread.run_sync(lambda: _key(self._context.state / KEY_FILE, create))

    async def opening_key(self, manifest: Manifest) -> bytes | None:
        if not manifest.encryption:
            return None
        key = await self.key()
        if key is None or manifests.key_id(key) != manifest.key_id:
            why = "is not here" if key is None else "is another one"
            raise manifests.KeyMissing(
                f"The backup is encrypted, and its key {why}.",
                remedy=f"Put the {KEY_FILE} of the installation that made it into {self._context.state}. "
                "Without that key nobody can open the backup.",
            )
        return key


class _Plain:
    """`Source` that nobody watches."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


def _key(path: Path, create: bool) -> bytes | None:
    if not path.exists():
        if not create:
            return None
        write_key(path, os.urandom(KEY_BYTES))
    return read_key(path)


def write_key(path: Path, key: bytes) -> None:
    """Write a key's file, whole or not at all, where there is none."""
    with translate_faults(path):
        write_new(path, base64.b64encode(key) + b"\n")


def read_key(path: Path) -> bytes:
    """The key in a file. Raises `BadInput`."""
    try:
        key = base64.b64decode(path.read_bytes(), validate=False)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise BadInput(
            f"{path} does not hold a key.",
            remedy="It must be 32 bytes in base64. Put back your copy.",
        )
    return key


def _backup_and_service(tx: Tx, number: int) -> tuple[BackupRecord, ServiceRecord]:
    backup = backups.get(tx, number)
    return backup, services.get(tx, backup.service_id or 0)


def _plain_parameters(kind: ServiceType, record: ServiceRecord) -> dict[str, object]:
    secret = masking.secret_names(kind)
    return {name: value for name, value in record.parameters.items() if name not in secret}


def _suspicion(tx: Tx, backup: BackupRecord, census: Inventory) -> str:
    """Why a backup that went through is not to be trusted, "" when nothing speaks against it."""
    if backup.backup_type == BASE:  # it is the data set itself, whatever that holds
        return ""
    if census.failed:
        return f"It lacks what could not be read: {'; '.join(str(item) for item in census.failed)}."
    earlier = [
        item
        for item in backups.list_backups(tx, service_id=backup.service_id)
        if item.state == "ok" and item.backup_type != BASE
    ]
    if not earlier:
        return ""
    last = earlier[0]
    # what a project had and is not on record any more was purged by a person's word
    purged = {*last.metadata.get(OWNED, [])} - {
        *list_owned(held_bindings(tx, backup.service_id or 0))
    }
    counts = last.metadata.get("counts", {})
    for kind in HOLDERS:
        missing = sorted({*counts.get(kind, {})} - {*census.counts.get(kind, {})} - purged)
        if missing:
            return (
                f"{', '.join(missing)} was in the backup {last.backup_id} and is not in this one."
            )
    before, now = (
        _content(counts, last.metadata.get("fleeting", {})),
        _content(census.counts, census.fleeting),
    )
    for holder, held in sorted(before.items()):
        left = now.get(holder, 0)
        if held >= FLOOR and left < held * SHRUNK and holder not in purged:
            where = f"{holder} holds" if holder else "It holds"
            return (
                f"{where} less than a tenth of what was in the backup {last.backup_id} ({left} "
                f"of {held})."
            )
    return ""


def list_owned(bindings: Sequence[HeldBinding]) -> list[str]:
    """The databases and buckets of projects, as a census calls them: by name, or by number."""
    slots = [f"db{item.slot}" for item in bindings if item.slot is not None]
    return sorted(
        [*slots, *(name for item in bindings for name in (item.resource, *item.extras.values()))]
    )


CONTENT = ("rows", "keys", "documents", "objects", "large objects")


def _content(*counts: dict[str, dict[str, int]]) -> dict[str, int]:
    """How much of somebody's data is in each database or bucket: rows, keys, documents, objects.
    What holds none is left out."""
    found: Counter[str] = Counter()
    holders = {name for part in counts for kind in HOLDERS for name in part.get(kind, {})}
    for part in counts:
        for kind, names in part.items():
            for name, number in names.items() if kind in CONTENT else ():
                found[holder_of(name, holders) or name] += number
    return {holder: number for holder, number in found.items() if number}


def own_service(tx: Tx, endpoint: str) -> ServiceRecord | None:
    """The service of this installation that answers at an endpoint."""
    address = urlsplit(endpoint)
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    for record in services.list_all(tx):
        published = {
            int(value)
            for name, value in record.parameters.items()
            if name.endswith("port") and str(value).isdecimal()
        }
        if host == record.container_name or (host in LOOPBACK and port in published):
            return record
    return None


def require_elsewhere(tx: Tx, endpoint: str) -> None:
    """Raise `BadInput` for a bucket in a service of this installation: what is backed up to it
    burns with the host."""
    record = own_service(tx, endpoint) if endpoint else None
    if record is not None:
        why = f"it is a bucket of {record.name}, a service of this installation"
        raise BadInput(
            f"Backups cannot be kept there: {why}, and is lost with it.",
            remedy=(
                "Give a bucket on another machine. To use it nevertheless, for tests: --accept-own"
            ),
            errors={"endpoint": why},
        )


def on_record(backup: BackupRecord) -> OnRecord:
    """What vouches for a backup's manifest in our own database."""
    facts = backup.metadata
    return OnRecord(
        mac=facts.get("mac", ""),
        checksum=backup.checksum,
        image=facts.get("image", ""),
        counts=facts.get("counts", {}),
    )


def facts(manifest: Manifest, mac: str) -> dict[str, object]:
    """A manifest as a backup's record has it, with its signature: "" for one that a person vouched
    for."""
    return {
        "size_bytes": manifest.size_bytes,
        "plain_bytes": manifest.plain_bytes,
        "checksum": f"sha256:{manifest.sha256}",
        "completed_at": manifest.completed_at,
        "error_message": manifest.note,
        "metadata": {
            "counts": manifest.counts,
            "fleeting": manifest.fleeting,
            "image": manifest.image,
            "parameters": manifest.parameters,
            OWNED: list_owned(manifest.bindings),
            "version": manifest.server_version,
            "suspect": manifest.state == "suspect",
            "note": manifest.note,
            **({"mac": mac} if mac else {UNSIGNED: True}),
            "left_out": msgspec.to_builtins(manifest.left_out),
            "failed": msgspec.to_builtins(manifest.failed),
            **(
                {"elsewhere": msgspec.to_builtins(manifest.elsewhere)} if manifest.elsewhere else {}
            ),
            **({"changes": manifest.changes, "first": manifest.first} if manifest.changes else {}),
        },
    }
