"""Restores: objects first, then what a bucket has beside them, then locks; what could not be
brought back as it was is named."""

import json
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from purveyor_hooks import Access, Failed, Finding, RestoreOptions, Service, Source
from purveyor_hooks.parts import Part, read_parts
from purveyor_s3 import flavours, settings, transfer
from purveyor_s3.driver import code
from purveyor_s3.grammar import REDUCED, Prefixes, lessened, unheld, unsealed, untaggable
from purveyor_s3.listing import Item, connect, is_own, items, said
from purveyor_s3.server import MISSING, OWN_BUCKET, ensure_bucket, exists
from purveyor_s3.snapshot import BROKEN, BUCKET, MARKER, OBJECT
from purveyor_s3.together import SMALL, TURN, together

SPOOLED = 4 * 1024 * 1024


async def restore(
    service: Service, access: Access, source: Source, options: RestoreOptions
) -> tuple[Finding, ...]:
    """Each bucket is emptied before it is filled: after a crash it begins anew. Locks that nobody
    may lift are set in the end."""
    refill = _Refill(service, access, options)
    async with connect(service, access) as client:
        try:
            await refill.run(client, source)
        except (BotoCoreError, OSError) as error:
            raise Failed(
                f"The restore into {service.name} lost its server at "
                f"{refill.at or 'its beginning'}: {said(error)}.",
                remedy=f"See its log: purveyor logs {service.slug}",
            ) from None
    return tuple(refill.findings)


class _Small(NamedTuple):
    """A small object that waits for its turn."""

    bucket: str
    key: str
    described: dict[str, Any]
    data: bytes


class _Refill:
    """One stream on its way in. What is small is written side by side, versions of one object one
    after the other."""

    def __init__(self, service: Service, access: Access, options: RestoreOptions) -> None:
        self.findings: list[Finding] = []
        self.at = ""  # what is being written
        self._flavour = flavours.of(service).name
        self._access = access
        self._options = options
        self._settings: dict[str, dict[str, Any]] = {}
        self._prefixes = Prefixes(self._flavour)
        self._unsealed = ""  # the bucket of which it was said
        self._made = ("", "", "")  # bucket, key and version of the last object
        self._turn: list[_Small] = []

    def _find(self, bucket: str, what: str, why: str) -> None:
        self.findings.append(Finding(where=bucket, what=what, why=why))

    async def run(self, client: Any, source: Source) -> None:
        with tempfile.SpooledTemporaryFile(max_size=SPOOLED, mode="w+") as locks:
            async for part in read_parts(source):
                bucket = str(part.facts["bucket"])
                if part.name != OBJECT:
                    await self._write_turn(client)
                self.at = f"{bucket}/{part.facts.get('key', '')}"
                if self._options.only and bucket not in (*self._options.only, OWN_BUCKET):
                    continue
                if part.name == BUCKET:
                    await self._bucket(client, bucket, part.facts.get("settings", {}))
                elif part.name == OBJECT:
                    version = await self._object(client, part)
                    if version is not None and _for_later(part):
                        locks.write(
                            json.dumps([bucket, part.facts["key"], version, part.facts["lock"]])
                            + "\n"
                        )
                elif part.name == MARKER:
                    await self._marker(client, bucket, part.facts["key"])
                elif part.name == BROKEN:
                    await self._take_back(client, bucket, part.facts["key"])
            await self._write_turn(client)
            for bucket, held in self._settings.items():
                self.at = bucket
                self.findings += await settings.write(
                    client, bucket, held, takes_over=self._options.takes_over
                )
            locks.seek(0)
            for line in locks:
                await self._lock(client, *json.loads(line))

    async def _bucket(self, client: Any, bucket: str, held: dict[str, Any]) -> None:
        if bucket == OWN_BUCKET:
            await ensure_bucket(client, bucket)
            return
        self._prefixes = Prefixes(self._flavour)
        lock = {"ObjectLockEnabledForBucket": True} if settings.locked(held) else {}
        try:
            # another try had begun it; RustFS makes one that is there without a word
            if await exists(client, bucket):
                await empty(client, bucket)
                if lock:  # what is written now would be locked by its rule
                    without = {"ObjectLockEnabled": settings.ENABLED}
                    await client.put_object_lock_configuration(
                        Bucket=bucket, ObjectLockConfiguration=without
                    )
            else:
                await client.create_bucket(Bucket=bucket, **lock)
        except ClientError as error:
            self._find(bucket, "", f"the server does not make it: {said(error)}")
            return
        self._settings[bucket] = held
        if settings.versioned(held) and not lock:
            try:
                await client.put_bucket_versioning(
                    Bucket=bucket, VersioningConfiguration={"Status": settings.ENABLED}
                )
            except ClientError as error:
                self._find(bucket, "its versions", f"only the newest are there: {said(error)}")

    async def _object(self, client: Any, part: Part) -> str | None:
        """The version that was made, None when none was."""
        bucket, key = str(part.facts["bucket"]), str(part.facts["key"])
        self._made = ("", "", "")
        if bucket == OWN_BUCKET:
            await self._mark(client, key, part)
            return None
        if bucket not in self._settings:
            return None  # it was said of the bucket
        why = unheld(self._flavour, key, int(part.facts.get("size", 0)))
        if not why and (other := self._prefixes.hidden_by(key)):
            why = f"the server would hide it behind the object {other}"
        if why:
            self._find(bucket, key, why)
            return None
        described, held, rest = self._described(part), bytearray(), aiter(part)
        async for chunk in rest:
            held += chunk
            if len(held) > SMALL:
                break
        else:
            if not _for_later(part):
                await self._add(client, _Small(bucket, key, described, bytes(held)))
                return None
        await self._write_turn(client)
        return self._note(
            bucket, key, *await _sent(client, bucket, key, described, _after(held, rest))
        )

    async def _add(self, client: Any, small: _Small) -> None:
        """Keep it for the turn, after that which has another version of it."""
        if len(self._turn) == TURN or any(small[:2] == other[:2] for other in self._turn):
            await self._write_turn(client)
        self._turn.append(small)

    async def _write_turn(self, client: Any) -> None:
        async def write(small: _Small) -> tuple[str, str]:
            return await _sent(client, small.bucket, small.key, small.described, _after(small.data))

        turn, self._turn = self._turn, []
        for small, (version, why) in zip(turn, await together(write, turn), strict=True):
            self._note(small.bucket, small.key, version, why)

    def _note(self, bucket: str, key: str, version: str, why: str) -> str | None:
        """The version that was made, None when none was."""
        if why:
            self._made = ("", "", "")
            self._find(bucket, key, why)
            return None
        self._made = (bucket, key, version)
        return version

    def _described(self, part: Part) -> dict[str, Any]:
        bucket, key = str(part.facts["bucket"]), str(part.facts["key"])
        described, tags = dict(part.facts["described"]), part.facts.get("tags", [])
        for why in lessened(self._flavour, key, described, tags):
            self._find(bucket, key, why)
        refused = untaggable(self._flavour, tags)
        if kept := [(name, value) for name, value in tags if name not in refused]:
            described["Tagging"] = urlencode(kept)
        lock = part.facts.get("lock", {})
        if lock and not _for_later(part):
            if _in_force(lock):
                described |= {
                    "ObjectLockMode": lock["mode"],
                    "ObjectLockRetainUntilDate": lock["until"],
                }
            if "hold" in lock:
                described["ObjectLockLegalHoldStatus"] = lock["hold"]
        if why := unsealed(self._flavour, described):
            del described["ServerSideEncryption"]
            if self._unsealed != bucket:  # once for a bucket
                self._unsealed = bucket
                self._find(bucket, "its objects", why)
        if described.get("StorageClass", REDUCED) != REDUCED:
            del described["StorageClass"]
        return described

    async def _mark(self, client: Any, key: str, part: Part) -> None:
        """Whose a bucket is; no stream has a say in what is the service's own."""
        data = await part.read()
        if not is_own(OWN_BUCKET, key) and (
            not self._options.only or data.decode() in self._options.only
        ):
            await client.put_object(Bucket=OWN_BUCKET, Key=key, Body=data)

    async def _marker(self, client: Any, bucket: str, key: str) -> None:
        if bucket not in self._settings:
            return
        if why := unheld(self._flavour, key, 0):
            self._find(bucket, f"{key}, a delete marker", why)
            return
        try:
            made = await client.delete_object(Bucket=bucket, Key=key)
            if not made.get("DeleteMarker"):  # MinIO makes none of what is not there
                put = await client.put_object(Bucket=bucket, Key=key, Body=b"")
                made = await client.delete_object(Bucket=bucket, Key=key)
                await client.delete_object(Bucket=bucket, Key=key, VersionId=put["VersionId"])
        except ClientError as error:
            self._find(bucket, f"{key}, a delete marker", f"the server refused it: {said(error)}")
            return
        except KeyError:
            made = {}
        if not made.get("DeleteMarker"):
            self._find(bucket, f"{key}, a delete marker", "the server makes none")

    async def _take_back(self, client: Any, bucket: str, key: str) -> None:
        """Part of an object is no object."""
        self._find(bucket, key, "the backup has a part of it only")
        if self._made[:2] == (bucket, key):
            chosen = {"VersionId": self._made[2]} if self._made[2] else {}
            await client.delete_object(Bucket=bucket, Key=key, **chosen)

    async def _lock(
        self, client: Any, bucket: str, key: str, version: str, lock: dict[str, str]
    ) -> None:
        where = {"Bucket": bucket, "Key": key, **({"VersionId": version} if version else {})}
        self.at = f"{bucket}/{key}"
        try:
            if _in_force(lock):
                retention = {"Mode": lock["mode"], "RetainUntilDate": lock["until"]}
                await client.put_object_retention(
                    **where, Retention=retention, BypassGovernanceRetention=True
                )
            if "hold" in lock:
                await client.put_object_legal_hold(**where, LegalHold={"Status": lock["hold"]})
        except ClientError as error:
            self._find(bucket, key, f"the server does not lock it: {said(error)}")


async def _after(
    held: bytes | bytearray, rest: AsyncIterable[bytes] | None = None
) -> AsyncIterator[bytes]:
    """What was read already, and what follows."""
    yield bytes(held)
    if rest is not None:
        async for chunk in rest:
            yield chunk


async def _sent(
    client: Any, bucket: str, key: str, described: dict[str, Any], chunks: AsyncIterable[bytes]
) -> tuple[str, str]:
    """Write an object; the answer is the version that was made, and why none was."""
    try:
        return await transfer.upload(client, bucket, key, chunks, described), ""
    except ClientError as error:
        return "", f"the server refused it: {said(error)}"
    except (ParamValidationError, UnicodeError) as error:
        # of this object alone: whoever wrote it chose its headers
        return "", f"the driver does not send it: {said(error)}"


def _for_later(part: Part) -> bool:
    """What nobody may lift, not even to begin anew, is set when all is there."""
    return bool(part.facts.get("lock", {}).get("mode") == "COMPLIANCE")


def _in_force(lock: dict[str, str]) -> bool:
    return "until" in lock and datetime.fromisoformat(lock["until"]) > datetime.now(UTC)


async def empty(client: Any, bucket: str) -> None:
    """What another try wrote into it: all versions, and locks as far as an administrator may lift
    them."""
    for operation in (
        "delete_bucket_policy",
        "delete_bucket_lifecycle",
        "delete_bucket_encryption",
    ):
        try:
            await getattr(client, operation)(Bucket=bucket)
        except ClientError:
            continue
    held = (await client.get_bucket_versioning(Bucket=bucket)).get("Status")

    async def delete(item: Item) -> None:
        chosen = {"VersionId": item.version} if held and item.version else {}
        try:
            await client.delete_object(Bucket=bucket, Key=item.key, **chosen)
        except ClientError as error:
            if code(error) in MISSING:
                return
            await client.put_object_legal_hold(
                Bucket=bucket, Key=item.key, **chosen, LegalHold={"Status": "OFF"}
            )
            await client.delete_object(
                Bucket=bucket, Key=item.key, **chosen, BypassGovernanceRetention=True
            )

    turn: list[Item] = []
    async for item in items(client, bucket, versioned=bool(held)):
        # versions of one object go one after the other
        if len(turn) == TURN or (turn and turn[-1].key == item.key):
            await together(delete, turn)
            turn = []
        turn.append(item)
    await together(delete, turn)
