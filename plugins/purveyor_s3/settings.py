"""What a bucket has beside its objects: versioning, CORS, lifecycle, policy and the like, as one
document."""

import hashlib
import json
from typing import Any, NamedTuple

import msgspec
from botocore.exceptions import ClientError

from purveyor_hooks import Finding
from purveyor_s3.driver import code
from purveyor_s3.listing import said

ABSENT = (
    "NoSuchCORSConfiguration", "NoSuchLifecycleConfiguration", "NoSuchBucketPolicy", "NoSuchTagSet",
    "NoSuchTagSetError",
    "NoSuchWebsiteConfiguration", "ServerSideEncryptionConfigurationNotFoundError",
    "ObjectLockConfigurationNotFoundError",
    "ReplicationConfigurationNotFoundError", "NoSuchPublicAccessBlockConfiguration",
    "OwnershipControlsNotFoundError",
    "NotImplemented", "MethodNotAllowed", "NoSuchConfiguration", "XNotImplemented", "501",
)  # fmt: skip
VERSIONING, LOCK, ACL, NOTIFICATION = (
    "versioning",
    "object lock",
    "access control list",
    "notifications",
)
ENABLED = "Enabled"


class Setting(NamedTuple):
    """How one is read and written: the operations' names, and the argument that carries it."""

    read: str
    write: str
    argument: str


# in the order in which they are set, when all objects are there: what may be in the way of objects
# last
SETTINGS = {
    "cors": Setting("get_bucket_cors", "put_bucket_cors", "CORSConfiguration"),
    "tags": Setting("get_bucket_tagging", "put_bucket_tagging", "Tagging"),
    "website": Setting("get_bucket_website", "put_bucket_website", "WebsiteConfiguration"),
    "public access block": Setting(
        "get_public_access_block", "put_public_access_block", "PublicAccessBlockConfiguration"
    ),
    ACL: Setting("get_bucket_acl", "put_bucket_acl", "AccessControlPolicy"),
    NOTIFICATION: Setting(
        "get_bucket_notification_configuration",
        "put_bucket_notification_configuration",
        "NotificationConfiguration",
    ),
    "lifecycle": Setting(
        "get_bucket_lifecycle_configuration",
        "put_bucket_lifecycle_configuration",
        "LifecycleConfiguration",
    ),
    "encryption": Setting(
        "get_bucket_encryption", "put_bucket_encryption", "ServerSideEncryptionConfiguration"
    ),
    LOCK: Setting(
        "get_object_lock_configuration", "put_object_lock_configuration", "ObjectLockConfiguration"
    ),
    VERSIONING: Setting(
        "get_bucket_versioning", "put_bucket_versioning", "VersioningConfiguration"
    ),
    "policy": Setting("get_bucket_policy", "put_bucket_policy", "Policy"),
}
# these point to other servers or accounts: never carried, always named
ELSEWHERE = {"replication": "get_bucket_replication", "logging": "get_bucket_logging"}
WRAPPED = (
    "PublicAccessBlockConfiguration",
    "ServerSideEncryptionConfiguration",
    "ObjectLockConfiguration",
    "Policy",
)
NOT_SETTINGS = (
    "ResponseMetadata",
    "TransitionDefaultMinimumObjectSize",
    "RequestCharged",
    "MFADelete",
)


async def read(client: Any, bucket: str) -> tuple[dict[str, Any], list[Finding]]:
    """The settings that differ from those of a new bucket, as JSON has them; what cannot be read or
    carried is named."""
    found: dict[str, Any] = {}
    left: list[Finding] = []
    for name, setting in SETTINGS.items():
        try:
            answer = await getattr(client, setting.read)(Bucket=bucket)
        except ClientError as error:
            if code(error) not in ABSENT:
                left.append(
                    Finding(
                        where=bucket,
                        what=f"its {name}",
                        why=f"the server does not show it: {said(error)}",
                    )
                )
            continue
        if value := _value(name, setting, answer):
            found[name] = msgspec.json.decode(msgspec.json.encode(value))
    for name, operation in ELSEWHERE.items():
        try:
            answer = await getattr(client, operation)(Bucket=bucket)
        except ClientError:
            continue
        if {key: value for key, value in answer.items() if key not in NOT_SETTINGS}:
            left.append(
                Finding(
                    where=bucket,
                    what=f"its {name}",
                    why="it points to another place and is in no backup",
                )
            )
    return found, left


def _value(name: str, setting: Setting, answer: dict[str, Any]) -> Any:
    if setting.argument in WRAPPED:
        return answer.get(setting.argument)
    value = {key: item for key, item in answer.items() if key not in NOT_SETTINGS}
    if name == ACL:  # its owner may always do everything
        value["Grants"] = [grant for grant in value.get("Grants", []) if not _owners(grant)]
        return value if value["Grants"] else None
    if name == VERSIONING:
        return value if value.get("Status") else None
    return value or None


def _owners(grant: dict[str, Any]) -> bool:
    return bool(
        grant.get("Permission") == "FULL_CONTROL"
        and grant.get("Grantee", {}).get("Type") == "CanonicalUser"
    )


def digests(bucket: str, found: dict[str, Any]) -> dict[str, str]:
    """One of each setting, whatever the order and form in which a server tells it."""
    return {
        f"{bucket}.{name}": hashlib.sha256(json.dumps(_plain(value, name)).encode()).hexdigest()[
            :16
        ]
        for name, value in found.items()
        if name != ACL  # it names its owner, who is another one on each server
    }


def _plain(value: Any, name: str = "") -> Any:
    if name == "policy" and isinstance(value, str):
        return _plain(json.loads(value), "")
    if isinstance(value, dict):
        return sorted(
            ([key, _plain(item, key)] for key, item in value.items() if key != "ID"), key=repr
        )
    if isinstance(value, list):
        return sorted((_plain(item) for item in value), key=repr)
    if name in ("Action", "Resource", "AWS", "Principal", "NotAction", "NotResource"):
        return [value]
    return value


def expires_by_date(found: dict[str, Any]) -> bool:
    """Whether a rule deletes at a date, which may be past: objects then go by themselves."""
    rules = (found.get("lifecycle") or {}).get("Rules", [])
    return any(
        "Date" in (rule.get("Expiration") or {}) for rule in rules if rule.get("Status") == ENABLED
    )


def versioned(found: dict[str, Any]) -> bool:
    """Whether it has or had versions."""
    return bool(found.get(VERSIONING))


def locked(found: dict[str, Any]) -> bool:
    return bool((found.get(LOCK) or {}).get("ObjectLockEnabled") == ENABLED)


async def write(
    client: Any, bucket: str, wanted: dict[str, Any], *, takes_over: bool
) -> list[Finding]:
    """Set them all; what the server refuses, or a copy must not have, is named."""
    findings: list[Finding] = []
    for name, setting in SETTINGS.items():
        if name not in wanted or (name == LOCK and "Rule" not in wanted[name]):
            continue
        if name == NOTIFICATION and not takes_over:
            findings.append(
                Finding(
                    where=bucket,
                    what=f"its {name}",
                    why="they are switched off in a copy",
                    notice=True,
                )
            )
            continue
        try:
            value = wanted[name] if name != ACL else await _acl(client, bucket, wanted[name])
            await getattr(client, setting.write)(Bucket=bucket, **{setting.argument: value})
        except ClientError as error:
            findings.append(
                Finding(
                    where=bucket, what=f"its {name}", why=f"the server refused it: {said(error)}"
                )
            )
    return findings


async def _acl(client: Any, bucket: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """The same grants, by the owner that the bucket has here."""
    here = await client.get_bucket_acl(Bucket=bucket)
    return {"Owner": here["Owner"], "Grants": [*here.get("Grants", []), *wanted["Grants"]]}
