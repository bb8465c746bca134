"""Backups as objects: of every bucket its settings, and every object in all of its versions, with
headers, tags and locks.

Version numbers and times of change are the server's own: they are new ones after a restore, in the
same order. The tag of an object that was sent in parts may be another one as well.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from purveyor_hooks import Access, Failed, Finding, Inventory, Service, Sink
from purveyor_hooks.parts import PartWriter
from purveyor_s3 import flavours, settings
from purveyor_s3.driver import code
from purveyor_s3.elsewhere import Elsewhere, others
from purveyor_s3.listing import Item, buckets, connect, items, said
from purveyor_s3.server import MISSING, OWN_BUCKET
from purveyor_s3.together import SMALL, TURN, together

BUCKET, OBJECT, MARKER, BROKEN = "bucket", "object", "marker", "broken"
CHUNK = 1024 * 1024
KEPT = (
    "ContentType", "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage",
    "Expires",
    "WebsiteRedirectLocation", "ServerSideEncryption", "Metadata",
)  # fmt: skip
STANDARD = "STANDARD"
NO_LOCK = ("ObjectLockConfigurationNotFoundError", "InvalidRequest", "NotImplemented", *MISSING)
GONE = ("NoSuchVersion", "MethodNotAllowed", *MISSING)


class _Tally:
    """What was counted so far."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {
            name: {} for name in ("buckets", "objects", "bytes")
        }
        self.fleeting: dict[str, dict[str, int]] = {}
        self.digests: dict[str, str] = {}
        self.left_out: list[Finding] = []
        self.failed: list[Finding] = []
        self.elsewhere = Elsewhere([])

    def begin(self, bucket: str, held: dict[str, Any]) -> None:
        if bucket != OWN_BUCKET:
            self.counts["buckets"][bucket] = 1
            self.digests |= settings.digests(bucket, held)
            into = self.fleeting if settings.expires_by_date(held) else self.counts
            kinds = ["objects", "bytes"] + (
                ["older versions", "delete markers"] if settings.versioned(held) else []
            )
            for kind in kinds:
                into.setdefault(kind, {})[bucket] = 0

    def add(self, bucket: str, item: Item, size: int) -> None:
        if bucket != OWN_BUCKET:
            kind = (
                "delete markers" if item.marker else "objects" if item.latest else "older versions"
            )
            into = self.fleeting if bucket in self.fleeting.get(kind, {}) else self.counts
            into[kind][bucket] += 1
            into["bytes"][bucket] += size if item.latest else 0

    def weigh(self, bucket: str, size: int) -> None:
        into = self.fleeting if bucket in self.fleeting.get("bytes", {}) else self.counts
        into["bytes"][bucket] += size

    def census(self) -> Inventory:
        return Inventory(
            counts=self.counts,
            fleeting=self.fleeting,
            digests=self.digests,
            left_out=tuple(self.left_out),
            failed=tuple(self.failed),
            elsewhere=self.elsewhere.found(),
        )


async def census(service: Service, access: Access) -> Inventory:
    """Objects and their bytes, older versions and delete markers of each bucket; our own marks are
    left out."""
    tally = _Tally()
    # with versions it tells how long an object is when encrypted
    listed_sealed = flavours.of(service).name == flavours.RUSTFS
    async with connect(service, access) as client:
        for bucket in await buckets(client):
            if bucket != OWN_BUCKET:
                held, left = await settings.read(client, bucket)
                tally.left_out += left
                tally.begin(bucket, held)
                async for item in items(client, bucket, versioned=settings.versioned(held)):
                    tally.add(bucket, item, 0 if listed_sealed and item.version else item.size)
                if listed_sealed and settings.versioned(held):
                    async for item in items(client, bucket, versioned=False):
                        tally.weigh(bucket, item.size)
    return tally.census()


async def backup(service: Service, access: Access, sink: Sink) -> Inventory:
    """What is counted is what was written. A bucket or object that cannot be read is named, and the
    others follow."""
    tally, writer = _Tally(), PartWriter(sink)
    tally.elsewhere = Elsewhere(others(flavours.of(service).name))
    async with connect(service, access) as client:
        for bucket in await buckets(client):
            try:
                await _Bucket(service, client, bucket, writer, tally).write()
            except ClientError as error:
                tally.failed.append(
                    Finding(where=bucket, what="", why=f"it could not be read: {said(error)}")
                )
            except (EndpointConnectionError, OSError) as error:
                raise Failed(
                    f"The backup of {service.name} lost its server in the bucket {bucket}: "
                    f"{said(error)}.",
                    remedy=f"See its log: purveyor logs {service.slug}",
                ) from None
    await writer.close()
    return tally.census()


class _Read(NamedTuple):
    """A small object as it was read."""

    about: dict[str, Any]
    size: int  # as the server says
    data: bytes | None  # None for one that is not small any more
    why: str  # what went wrong before its end


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


class _Bucket:
    """One bucket on its way out. What is small is read side by side; all is written in its
    order."""

    def __init__(
        self, service: Service, client: Any, bucket: str, writer: PartWriter, tally: _Tally
    ) -> None:
        # it does not say how many there are
        self._shows_tags = flavours.of(service).name != flavours.RUSTFS
        self._client = client
        self._bucket = bucket
        self._writer = writer
        self._tally = tally
        self._locked = False
        self._versioned = False

    async def write(self) -> None:
        held, left = await settings.read(self._client, self._bucket)
        self._locked, self._versioned = settings.locked(held), settings.versioned(held)
        self._tally.left_out += left
        await self._writer.whole(BUCKET, b"", bucket=self._bucket, settings=held)
        self._tally.begin(self._bucket, held)
        if self._bucket != OWN_BUCKET:
            self._tally.elsewhere.bucket(self._bucket, held)
        turn: list[Item] = []
        async for item in items(self._client, self._bucket, versioned=self._versioned):
            turn.append(item)
            if len(turn) == TURN:
                await self._take(turn)
                turn = []
        await self._take(turn)

    async def _take(self, turn: list[Item]) -> None:
        small = [item for item in turn if not item.marker and item.size <= SMALL]
        read = iter(await together(self._read, small))
        for item in turn:
            if item.marker:
                await self._writer.whole(MARKER, b"", bucket=self._bucket, key=item.key)
                self._tally.add(self._bucket, item, 0)
                self._tally.elsewhere.marker(self._bucket, item.key)
            elif item.size > SMALL:
                await self._object(item)
            elif found := next(read):
                if found.data is None:
                    await self._object(item)
                else:
                    await self._write(item, found.about, found.size, _one(found.data), found.why)

    async def _read(self, item: Item) -> _Read | None:
        """A small object; None for one that is gone, or was named."""
        if (found := await self._get(item)) is None:
            return None
        async with found["Body"]:
            if (about := await self._told(item, found)) is None:
                return None
            size = int(found["ContentLength"])
            if size > SMALL:
                return _Read(about, size, None, "")
            data, why = bytearray(), ""
            try:
                async for chunk in found["Body"].iter_chunks(CHUNK):
                    data += chunk
            except (BotoCoreError, ClientError) as error:
                why = said(error)
            return _Read(about, size, bytes(data), why)

    async def _object(self, item: Item) -> None:
        if (found := await self._get(item)) is None:
            return
        # whatever becomes of it: an answer that is not read to its end keeps a connection
        async with found["Body"]:
            if (about := await self._told(item, found)) is not None:
                await self._write(
                    item, about, found["ContentLength"], found["Body"].iter_chunks(CHUNK)
                )

    def _chosen(self, item: Item) -> dict[str, str]:
        return {"VersionId": item.version} if self._versioned and item.version else {}

    async def _get(self, item: Item) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self._client.get_object(
                Bucket=self._bucket, Key=item.key, **self._chosen(item)
            )
        except EndpointConnectionError:
            raise
        except (BotoCoreError, ClientError) as error:
            # the driver does not read every header that a server keeps
            self._missed(item, error)
            return None
        return found

    async def _told(self, item: Item, found: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return await self._about(item, found, self._chosen(item))
        except EndpointConnectionError:
            raise
        except (BotoCoreError, ClientError) as error:
            self._missed(item, error)
            return None

    async def _write(
        self,
        item: Item,
        about: dict[str, Any],
        expected: int,
        chunks: AsyncIterator[bytes],
        why: str = "",
    ) -> None:
        await self._writer.begin(OBJECT, bucket=self._bucket, key=item.key, size=expected, **about)
        size = 0
        try:
            async for chunk in chunks:
                size += len(chunk)
                await self._writer.write(chunk)
        except (BotoCoreError, ClientError) as error:
            why = said(error)
        if not why and size != expected:
            why = f"{size} of {expected} bytes came"
        await self._writer.end()
        if why:
            await self._writer.whole(BROKEN, b"", bucket=self._bucket, key=item.key)
            self._failed(item, why)
        else:
            self._tally.add(self._bucket, item, size)
            if self._bucket != OWN_BUCKET:
                self._tally.elsewhere.object(
                    self._bucket, item.key, size, about["described"], about.get("tags", [])
                )

    def _missed(self, item: Item, error: BotoCoreError | ClientError) -> None:
        # else it was deleted since it was listed
        if not isinstance(error, ClientError) or code(error) not in GONE:
            self._failed(item, said(error))

    def _failed(self, item: Item, why: str) -> None:
        what = item.key if item.latest else f"{item.key}, version {item.version}"
        self._tally.failed.append(
            Finding(where=self._bucket, what=what, why=f"it could not be read: {why}")
        )

    async def _about(
        self, item: Item, found: dict[str, Any], chosen: dict[str, str]
    ) -> dict[str, Any]:
        """Headers, tags and locks."""
        described = {name: found[name] for name in KEPT if found.get(name)}
        if isinstance(expires := described.get("Expires"), datetime):
            described["Expires"] = expires.isoformat()
        if item.storage_class != STANDARD:
            described["StorageClass"] = item.storage_class
        about: dict[str, Any] = {"described": described, "latest": item.latest}
        if found.get("TagCount") or not self._shows_tags:
            tags = (
                await self._client.get_object_tagging(Bucket=self._bucket, Key=item.key, **chosen)
            ).get("TagSet", [])
            if tags:
                about["tags"] = [[tag["Key"], tag["Value"]] for tag in tags]
        if self._locked and (lock := await self._lock(item, chosen)):
            about["lock"] = lock
        return about

    async def _lock(self, item: Item, chosen: dict[str, str]) -> dict[str, str]:
        """How long it is kept, and whether it is held. Not every server says so with the object."""
        lock: dict[str, str] = {}
        where = {"Bucket": self._bucket, "Key": item.key, **chosen}
        try:
            retention = (await self._client.get_object_retention(**where)).get("Retention") or {}
            if retention.get("Mode"):
                lock = {
                    "mode": retention["Mode"],
                    "until": retention["RetainUntilDate"].isoformat(),
                }
        except ClientError as error:
            _raise_unless_none(error)
        try:
            held = (await self._client.get_object_legal_hold(**where)).get("LegalHold") or {}
            if held.get("Status") == "ON":
                lock["hold"] = "ON"
        except ClientError as error:
            _raise_unless_none(error)
        return lock


def _raise_unless_none(error: ClientError) -> None:
    """Each server has words of its own for an object without a lock."""
    if code(error) not in NO_LOCK and not code(error).startswith("NoSuchObjectL"):
        raise error
