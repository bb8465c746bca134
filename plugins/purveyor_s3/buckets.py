"""Buckets of bindings. Every call may be repeated after a crash; our mark is written first and
removed last.

Keys that a rotation has left for a while are noted beside our mark, with the second in which their
time is over.
"""

import time
from collections.abc import Awaitable
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from botocore.exceptions import ClientError

from purveyor_hooks import Access, Binding, Conflict, Failed, Service
from purveyor_s3 import keys, quota
from purveyor_s3.driver import code
from purveyor_s3.server import MISSING, OWN_BUCKET, connection, ensure_bucket, exists, text

T = TypeVar("T")
BATCH = 1000


def _mark(binding: Binding) -> str:
    return f"bindings/{binding.number}"


class Former(NamedTuple):
    """A key that works until a second of the epoch, and the note of it."""

    account: str
    until: int
    note: str


async def _former(client: Any, binding: Binding) -> list[Former]:
    """The keys that rotations have left."""
    prefix = f"former/{binding.number}/"
    found = await client.list_objects_v2(Bucket=OWN_BUCKET, Prefix=prefix)
    parts = [(item["Key"], item["Key"].split("/")) for item in found.get("Contents", [])]
    return [Former(account, int(until), note) for note, (_, _, account, until) in parts]


async def _end(
    service: Service, access: Access, client: Any, binding: Binding, *, with_time_left: bool = True
) -> None:
    """End the keys that rotations have left: all, or those whose time is over."""
    accounts = keys.of(service, access)
    for former in await _former(client, binding):
        if with_time_left or former.until <= time.time():
            if former.account != binding.account:
                await _asked(service, accounts.revoke(former.account))
            await client.delete_object(Bucket=OWN_BUCKET, Key=former.note)


async def _is_ours(client: Any, binding: Binding) -> bool:
    return await text(client, _mark(binding)) == binding.resource


async def bind(service: Service, access: Access, binding: Binding) -> None:
    accounts = keys.of(service, access)
    async with connection(service, access) as client:
        if not await _is_ours(client, binding):
            if await exists(client, binding.resource):
                raise Conflict(
                    f"{service.name} has a bucket {binding.resource} with no recorded owner.",
                    remedy="Rename or remove it, or choose another project name.",
                )
            if await _asked(service, accounts.exists(binding.account)):
                raise Conflict(
                    f"{service.name} has a user {binding.account} already, and it is not "
                    "Purveyor's.",
                    remedy="Remove it, or choose another project name.",
                )
            await client.put_object(
                Bucket=OWN_BUCKET, Key=_mark(binding), Body=binding.resource.encode()
            )
        await ensure_bucket(client, binding.resource)
        await _end(service, access, client, binding, with_time_left=False)
        await _grant(service, accounts, client, binding)


async def _grant(service: Service, accounts: keys.Keys, client: Any, binding: Binding) -> None:
    """The key works; one of a full bucket writes nothing, also where that was seen meanwhile."""
    full = await quota.is_full(client, binding.resource)
    await _asked(service, accounts.grant(binding, writes=not full))
    if full != (now := await quota.is_full(client, binding.resource)):
        await _asked(service, accounts.allow(binding.resource, writes=not now))


async def _asked(service: Service, answer: Awaitable[T]) -> T:
    try:
        return await answer
    except keys.KeysFailed as error:
        raise Failed(f"{error}.", remedy=f"See its log: purveyor logs {service.slug}") from None


async def unbind(service: Service, access: Access, binding: Binding) -> None:
    """Its keys end; the bucket stays."""
    async with connection(service, access) as client:
        if await _is_ours(client, binding):
            await _end(service, access, client, binding)
            await _asked(service, keys.of(service, access).revoke(binding.account))


async def rotate(
    service: Service, access: Access, binding: Binding, former: str, until: datetime | None
) -> None:
    """Another key. The one of before ends first, or its end is noted first."""
    accounts = keys.of(service, access)
    async with connection(service, access) as client:
        if not await _is_ours(client, binding):
            raise Conflict(
                f"{service.name} has no bucket {binding.resource} of ours.",
                remedy="Link the project again.",
            )
        if until is None:
            await _end(service, access, client, binding)
            for account in {former, binding.account}:
                await _asked(service, accounts.revoke(account))
        elif former not in {item.account for item in await _former(client, binding)}:
            note = f"former/{binding.number}/{former}/{int(until.timestamp())}"
            await client.put_object(Bucket=OWN_BUCKET, Key=note, Body=binding.resource.encode())
        await _grant(service, accounts, client, binding)


async def retire(service: Service, access: Access, binding: Binding) -> None:
    async with connection(service, access) as client:
        if await _is_ours(client, binding):
            await _end(service, access, client, binding)


async def purge(service: Service, access: Access, binding: Binding) -> None:
    """Keys, objects, bucket and mark are gone."""
    async with connection(service, access) as client:
        if await _is_ours(client, binding):
            await _end(service, access, client, binding)
            await _asked(service, keys.of(service, access).revoke(binding.account))
            if await exists(client, binding.resource):
                await _empty(client, binding.resource)
                await client.delete_bucket(Bucket=binding.resource)
            await client.delete_object(Bucket=OWN_BUCKET, Key=_mark(binding))


async def _empty(client: Any, bucket: str) -> None:
    """Every object, in all of its versions, and every upload that was begun."""
    begun = await quota.uploads(client, bucket)
    for upload in (await client.list_multipart_uploads(Bucket=bucket)).get("Uploads", []):
        begun[upload["UploadId"]] = upload["Key"]
    for number, key in begun.items():
        try:
            await client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=number)
        except ClientError as error:
            if code(error) not in (*MISSING, "NoSuchUpload"):
                raise
    names: list[dict[str, Any]] = []
    while True:
        found, before = await client.list_object_versions(Bucket=bucket, MaxKeys=BATCH), names
        listed = [*found.get("Versions", []), *found.get("DeleteMarkers", [])]
        names = [
            {name: item[name] for name in ("Key", "VersionId") if item.get(name)} for item in listed
        ]
        # nothing is left, or only what SeaweedFS lists for ever: a deletion marker of the version
        # null
        if names in ([], before):
            return
        answer = await client.delete_objects(
            Bucket=bucket, Delete={"Objects": names, "Quiet": True}, BypassGovernanceRetention=True
        )
        if errors := answer.get("Errors"):
            why = await _kept(client, bucket, errors[0]) or str(errors[0].get("Code"))
            raise Failed(
                f"{len(errors)} objects of {bucket} could not be deleted: {why}.",
                remedy="A lock of the mode COMPLIANCE ends by itself, and not before; a legal hold can be lifted "
                "(put_object_legal_hold, purveyor connect). Then purge again.",
            )


async def _kept(client: Any, bucket: str, error: dict[str, Any]) -> str:
    """Until when an object is locked, "" when it is not."""
    where = {
        "Bucket": bucket,
        **{name: error[name] for name in ("Key", "VersionId") if error.get(name)},
    }
    try:
        held = (await client.get_object_legal_hold(**where)).get("LegalHold", {}).get(
            "Status"
        ) == "ON"
    except ClientError:
        held = False
    try:
        until = (
            (await client.get_object_retention(**where)).get("Retention", {}).get("RetainUntilDate")
        )
    except ClientError:
        until = None
    if until:
        return f"{error.get('Key')} is locked until {until.isoformat()}"
    return f"{error.get('Key')} is under a legal hold" if held else ""
