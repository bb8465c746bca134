"""Writes backups and reads them again: from the plugin's stream to the place, and back."""

import base64
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread

from purveyor import redact
from purveyor.access import ServiceAccess
from purveyor.archive import manifest as manifests
from purveyor.archive.codec import Packer, unpacked
from purveyor.archive.helpers import BASE, Helpers
from purveyor.archive.manifest import HeldBinding, Manifest
from purveyor.archive.places import DATA, MANIFEST, Bucket, Folder, Place
from purveyor.house import House
from purveyor.pulse import Pulse, while_it_goes_on
from purveyor.store import Tx, archives, backups, projects, services
from purveyor.store.database import installation, utc_now
from purveyor.store.faults import told
from purveyor.store.records import BackupRecord, ServiceRecord, SourceRecord
from purveyor.store.vault import write_new
from purveyor_hooks import BadInput, Census, ServiceType, Sink

KEY_FILE = "backup.key"
KEY_BYTES = 32
SHRUNK = 0.1  # of what the last good backup held
HOLDERS = ("databases", "buckets")
ENCRYPTION = "AES-256-GCM"
Tell = Callable[[int], Awaitable[None]]


class _Sink:
    """`Sink` into a packer, heard by the pulse."""

    def __init__(self, packer: Packer, pulse: Pulse) -> None:
        self._packer = packer
        self._pulse = pulse

    async def write(self, chunk: bytes) -> None:
        await self._packer.write(chunk)
        self._pulse.beat(len(chunk))


class _Source:
    """`Source` from a packed file, heard by the pulse."""

    def __init__(self, chunks: AsyncIterator[bytes], pulse: Pulse) -> None:
        self._chunks = chunks
        self._pulse = pulse

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self._pulse.beat(len(chunk))
            yield chunk


class Keeper:
    """The backups of an installation."""

    def __init__(self, house: House) -> None:
        self._house = house

    @property
    def folder(self) -> Path:
        return self._house.settings.folder_of_backups(self._house.state)

    def place(self, source: SourceRecord | None) -> Place:
        return Folder(self.folder) if source is None else Bucket(source, source.secret_key)

    def access(self, record: ServiceRecord) -> ServiceAccess:
        kind = self._house.registry.provider(record.service_type).kind
        return ServiceAccess(self._house.engine, kind, record, self._house.logger)

    async def place_of(self, backup: BackupRecord) -> Place:
        number = backup.s3_source_id
        return self.place(await self._house.store.read(lambda tx: backups.source(tx, number)) if number else None)

    # ---------------------------------------------------------------- writing

    async def write(self, number: int, tell: Tell) -> None:
        """Make a recorded backup: data first, the manifest last. What it is, is written to its record."""
        store = self._house.store
        backup, record = await store.read(lambda tx: _backup_and_service(tx, number))
        place = await self.place_of(backup)
        key = await self.key(create=True) if backup.encryption else None
        provider = self._house.registry.provider(record.service_type)
        health = await provider.ready(record.view(), self.access(record))
        file = await place.begin(f"{backup.folder}/{DATA}")
        packer = Packer(file.write, key)

        archive = await store.read(lambda tx: archives.find(tx, record.id)) if backup.backup_type == BASE else None
        first = ""

        async def pour(pulse: Pulse) -> Census:
            nonlocal first
            sink = _Sink(packer, pulse)
            if archive is None:
                census = await provider.backup(record.view(), self.access(record), sink)
            else:
                census = await provider.census(record.view(), self.access(record))
                helper = Helpers(self._house).access(record)
                first = await provider.archive_base(record.view(), self.access(record), helper, sink)
            await packer.close()
            await file.commit()
            return census

        try:
            what = f"The backup of {record.name}"
            census = await while_it_goes_on(pour, self._house.settings.stall_timeout, what, tell)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await file.discard()
            raise
        suspicion = await store.read(lambda tx: _suspicion(tx, backup, census, packer.plain))
        made = Manifest(
            backup_id=backup.backup_id,
            installation=await store.read(installation),
            service=record.name,
            service_type=record.service_type,
            image=record.image,
            major=record.major,
            server_version=health.version,
            parameters=_plain_parameters(provider.kind, record),
            backup_type=backup.backup_type,
            started_at=backup.started_at,
            completed_at=utc_now(),
            state="suspect" if suspicion else "ok",
            note=suspicion,
            data=DATA,
            size_bytes=packer.stored,
            plain_bytes=packer.plain,
            sha256=packer.sha256,
            encryption=backup.encryption,
            key_id=_key_id(key) if key else "",
            counts=census.counts,
            fleeting=census.fleeting,
            bindings=await store.read(lambda tx: _held(tx, record)),
            expires_at=backup.expires_at,
            changes=archive.folder if archive else "",
            first=first,
        )
        await place.put(f"{backup.folder}/{MANIFEST}", manifests.encode(made))
        await store.write(lambda tx: backups.update(tx, number, **facts(made)))

    # ---------------------------------------------------------------- reading

    async def manifest(self, backup: BackupRecord) -> Manifest:
        """What a backup says of itself. Raises `NotFound`, `BadInput`."""
        place = await self.place_of(backup)
        return manifests.decode(await place.get(f"{backup.folder}/{MANIFEST}"))

    async def read_into(self, backup: BackupRecord, manifest: Manifest, record: ServiceRecord, tell: Tell) -> None:
        """Restore a backup into an empty service."""
        place = await self.place_of(backup)
        key = await self.opening_key(manifest)
        provider = self._house.registry.provider(record.service_type)

        async def pour(pulse: Pulse) -> None:
            stored = place.read(f"{backup.folder}/{manifest.data}")
            source = _Source(unpacked(stored, key, manifest.sha256, manifest.plain_bytes), pulse)
            await provider.restore(record.view(), self.access(record), source)

        await while_it_goes_on(pour, self._house.settings.stall_timeout, f"The restore into {record.name}", tell)

    async def pipe(self, old: ServiceRecord, new: ServiceRecord, tell: Tell) -> Census:
        """Everything from one running service into another, empty one; the answer counts what went over."""
        provider = self._house.registry.provider(old.service_type)

        async def pour(pulse: Pulse) -> Census:
            sending, receiving = anyio.create_memory_object_stream[bytes](8)
            census: list[Census] = []

            async def give() -> None:
                async with sending:
                    sink: Sink = _Pipe(sending, pulse)
                    census.append(await provider.backup(old.view(), self.access(old), sink))

            async def take() -> None:
                async with receiving:
                    await provider.restore(new.view(), self.access(new), _Source(aiter(receiving), pulse))

            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(give)
                    group.start_soon(take)
            except* Exception as group_error:
                raise _first(group_error) from None
            return census[0]

        what = f"Carrying the data of {old.name} over"
        return await while_it_goes_on(pour, self._house.settings.stall_timeout, what, tell)

    async def census(self, record: ServiceRecord) -> Census:
        provider = self._house.registry.provider(record.service_type)
        return await provider.census(record.view(), self.access(record))

    # ---------------------------------------------------------------- the key

    async def key(self, *, create: bool = False) -> bytes | None:
        """The key of encrypted backups; made when it is first needed. Keep a copy elsewhere: without it none opens."""
        return await anyio.to_thread.run_sync(lambda: _key(self._house.state / KEY_FILE, create))

    async def opening_key(self, manifest: Manifest) -> bytes | None:
        if not manifest.encryption:
            return None
        key = await self.key()
        if key is None or _key_id(key) != manifest.key_id:
            why = "is not here" if key is None else "is another one"
            raise BadInput(
                f"The backup is encrypted, and its key {why}.",
                remedy=f"Put the {KEY_FILE} of the installation that made it into {self._house.state}. "
                "Without that key nobody can open the backup.",
            )
        return key


class _Pipe:
    def __init__(self, stream: anyio.abc.ObjectSendStream[bytes], pulse: Pulse) -> None:
        self._stream = stream
        self._pulse = pulse

    async def write(self, chunk: bytes) -> None:
        await self._stream.send(chunk)
        self._pulse.beat(len(chunk))


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _key(path: Path, create: bool) -> bytes | None:
    if not path.exists():
        if not create:
            return None
        with told(path):
            write_new(path, base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
    try:
        key = base64.b64decode(path.read_bytes(), validate=False)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise BadInput(f"{path} does not hold a key.", remedy="It must be 32 bytes in base64. Put back your copy.")
    return key


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"purveyor backup key" + key).hexdigest()[:16]


def _backup_and_service(tx: Tx, number: int) -> tuple[BackupRecord, ServiceRecord]:
    backup = backups.get(tx, number)
    return backup, services.get(tx, backup.service_id or 0)


def _plain_parameters(kind: ServiceType, record: ServiceRecord) -> dict[str, object]:
    secret = redact.secret_names(kind)
    return {name: value for name, value in record.parameters.items() if name not in secret}


def _held(tx: Tx, record: ServiceRecord) -> list[HeldBinding]:
    return [
        HeldBinding(
            project=item.project,
            environment=item.environment,
            resource=item.resource,
            account=item.account,
            slot=item.slot,
            number=item.origin or item.id,
        )
        for item in projects.bindings(tx, service_id=record.id)
        if item.state != "intended"
    ]


def _suspicion(tx: Tx, backup: BackupRecord, census: Census, plain: int) -> str:
    """Why a backup that went through is not to be trusted, "" when nothing speaks against it."""
    if backup.backup_type == BASE:  # it is the data set itself, whatever that holds
        return ""
    if not _content(census.counts, census.fleeting):
        return "It is empty: there was nothing to back up."
    earlier = [
        item for item in backups.listed(tx, service_id=backup.service_id) if item.state == "ok" and item.backup_type != BASE
    ]
    if not earlier:
        return ""
    last = earlier[0]
    counts = last.metadata.get("counts", {})
    for kind in HOLDERS:
        missing = sorted({*counts.get(kind, {})} - {*census.counts.get(kind, {})})
        if missing:
            return f"{', '.join(missing)} was in the backup {last.backup_id} and is not in this one."
    before, now = _content(counts, last.metadata.get("fleeting", {})), _content(census.counts, census.fleeting)
    if now < before * SHRUNK or plain < last.plain_bytes * SHRUNK:
        return f"It holds less than a tenth of what the backup {last.backup_id} held ({now} of {before})."
    return ""


CONTENT = ("rows", "keys", "documents", "objects", "large objects")


def _content(*counts: dict[str, dict[str, int]]) -> int:
    """How much somebody's data is in it: rows, keys, documents, objects."""
    return sum(sum(names.values()) for part in counts for kind, names in part.items() if kind in CONTENT)


def facts(manifest: Manifest) -> dict[str, object]:
    """A manifest as a backup's record has it."""
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
            "version": manifest.server_version,
            "suspect": manifest.state == "suspect",
            **({"changes": manifest.changes, "first": manifest.first} if manifest.changes else {}),
        },
    }
