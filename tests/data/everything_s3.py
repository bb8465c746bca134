"""One of everything that an S3 server can hold, and all of it told again; and keys that not every
server takes."""

import json
import os
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

# else botocore waits for a word of the server's after an empty object, and what follows on its
# connection hangs
os.environ["BOTO_EXPERIMENTAL__NO_EMPTY_CONTINUE"] = "true"
LONG_PART = "p" * 255
# every one of the three servers takes these
KEYS = [
    "a", "a b", "a+b", "%2F", "a%20b", "q?x=1&y", "#", "*", "~", "'\"<>", "tab\tx", "emoji💚", "ü/ö",
    "ends.", " sp", "trail ",
    unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"), LONG_PART,
    "/".join(["k" * 127] * 8),
]  # fmt: skip
# key, size, and the servers that do not take it as it is
AWKWARD = [
    ("/lead", 1, {"rustfs", "minio", "seaweedfs"}),
    ("a//b", 1, {"rustfs", "minio", "seaweedfs"}),
    ("a/./b", 1, {"rustfs", "minio", "seaweedfs"}),
    ("../x", 1, {"rustfs", "minio", "seaweedfs"}),
    ("nl\nx", 1, {"rustfs"}),
    ("p" * 256, 1, {"rustfs", "minio", "seaweedfs"}),
    ("p" * 256 + "/x", 1, {"rustfs", "minio"}),
    ("back\\slash", 1, {"seaweedfs"}),
    ("full/", 1, {"seaweedfs"}),
    ("prefix", 1, set()),
    ("prefix/below", 1, {"minio"}),
    ("plain", 1, set()),
]
LIFECYCLE = {
    "Rules": [
        {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 30}}
    ]
}
CORS = {
    "CORSRules": [
        {"AllowedMethods": ["GET"], "AllowedOrigins": ["https://example.org"], "MaxAgeSeconds": 5}
    ]
}


def policy(bucket: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": ["*"]},
        "Action": ["s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{bucket}/public/*"],
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def fill(client: Any) -> dict[str, str]:
    """Four buckets; the answer is what this server refused to set."""
    refused: dict[str, str] = {}
    client.create_bucket(Bucket="plain")
    for key in KEYS:
        client.put_object(Bucket="plain", Key=key, Body=key.encode())
    client.put_object(Bucket="plain", Key="empty", Body=b"")
    client.put_object(
        Bucket="plain", Key="folder/", Body=b"", ContentType="application/x-directory"
    )
    client.put_object(Bucket="plain", Key="folder/in", Body=b"in")
    client.put_object(
        Bucket="plain", Key="rich", Body=b"rich", ContentType="text/x", CacheControl="max-age=1",
        ContentDisposition="inline",
        ContentEncoding="identity", ContentLanguage="de", Expires=datetime(2030, 1, 1, tzinfo=UTC),
        Tagging="team=red&cost=5%20%2B%3D", Metadata={"a-b": "c d", "umlaut": "=?utf-8?q?=C3=BC?="},
    )  # fmt: skip
    client.put_object(Bucket="plain", Key="reduced", Body=b"r", StorageClass="REDUCED_REDUNDANCY")
    begun = client.create_multipart_upload(
        Bucket="plain", Key="parts", Metadata={"sent": "in parts"}
    )["UploadId"]
    parts = []
    for number, body in enumerate((b"x" * 5 * 1024 * 1024, b"y" * 1000), start=1):
        sent = client.upload_part(
            Bucket="plain", Key="parts", UploadId=begun, PartNumber=number, Body=body
        )
        parts.append({"PartNumber": number, "ETag": sent["ETag"]})
    client.complete_multipart_upload(
        Bucket="plain", Key="parts", UploadId=begun, MultipartUpload={"Parts": parts}
    )

    client.create_bucket(Bucket="versions")
    client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    for number in range(1, 4):
        client.put_object(
            Bucket="versions", Key="thrice", Body=b"x" * number, Tagging=f"n={number}"
        )
    client.put_object(Bucket="versions", Key="back", Body=b"1")
    client.delete_object(Bucket="versions", Key="back")
    client.put_object(Bucket="versions", Key="back", Body=b"2")
    client.put_object(Bucket="versions", Key="gone", Body=b"3")
    client.delete_object(Bucket="versions", Key="gone")
    left = client.put_object(Bucket="versions", Key="a marker alone", Body=b"4")
    client.delete_object(Bucket="versions", Key="a marker alone")
    client.delete_object(Bucket="versions", Key="a marker alone", VersionId=left["VersionId"])

    client.create_bucket(Bucket="suspended")
    client.put_bucket_versioning(Bucket="suspended", VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket="suspended", Key="k", Body=b"1")
    client.put_object(Bucket="suspended", Key="k", Body=b"22")
    client.put_bucket_versioning(
        Bucket="suspended", VersioningConfiguration={"Status": "Suspended"}
    )

    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    client.put_object(
        Bucket="locked",
        Key="kept",
        Body=b"1",
        ObjectLockMode="GOVERNANCE",
        ObjectLockRetainUntilDate=until,
    )
    client.put_object(Bucket="locked", Key="held", Body=b"1", ObjectLockLegalHoldStatus="ON")
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    configured = {
        "lifecycle": lambda: client.put_bucket_lifecycle_configuration(
            Bucket="plain", LifecycleConfiguration=LIFECYCLE
        ),
        "cors": lambda: client.put_bucket_cors(Bucket="plain", CORSConfiguration=CORS),
        "policy": lambda: client.put_bucket_policy(Bucket="plain", Policy=policy("plain")),
        "tags": lambda: client.put_bucket_tagging(
            Bucket="plain", Tagging={"TagSet": [{"Key": "team", "Value": "red"}]}
        ),
        "website": lambda: client.put_bucket_website(
            Bucket="plain", WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}}
        ),
        "object lock": lambda: client.put_object_lock_configuration(
            Bucket="locked", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        ),
    }
    for name, configure in configured.items():
        try:
            configure()
        except ClientError as error:
            refused[name] = str(error)
    return refused


def told(
    client: Any, buckets: tuple[str, ...] = ("plain", "versions", "suspended", "locked")
) -> dict[str, Any]:
    """All of it: every version in its order with headers, tags and locks, every setting. No version
    numbers and times."""
    found: dict[str, Any] = {}
    for bucket in buckets:
        listed = client.list_object_versions(Bucket=bucket)
        every = [
            *listed.get("Versions", []),
            *[{**item, "Size": None} for item in listed.get("DeleteMarkers", [])],
        ]
        found[bucket] = {
            item["Key"]: [
                _version(client, bucket, other)
                for other in sorted(_of(every, item["Key"]), key=_age)
            ]
            for item in every
        }
        for name in SETTINGS:
            try:
                answer = getattr(client, name)(Bucket=bucket)
            except ClientError:
                continue
            found[bucket, name] = {
                key: value for key, value in answer.items() if key not in IGNORED
            }
    return found


SETTINGS = (
    "get_bucket_versioning", "get_bucket_lifecycle_configuration", "get_bucket_cors",
    "get_bucket_policy", "get_bucket_tagging",
    "get_bucket_website", "get_object_lock_configuration", "get_bucket_acl",
)  # fmt: skip
IGNORED = ("ResponseMetadata", "Owner")
HEADERS = (
    "ContentType", "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage",
    "Expires", "Metadata",
    "ContentLength", "StorageClass",
)  # fmt: skip


def _of(every: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return [item for item in every if item["Key"] == key]


def _age(item: dict[str, Any]) -> Any:
    """SeaweedFS's times are of a second: the size, which grows in this set, tells the rest."""
    return item["IsLatest"], item["Size"] or 0


def _version(client: Any, bucket: str, item: dict[str, Any]) -> Any:
    if item["Size"] is None:
        return "deleted"
    where = {"Bucket": bucket, "Key": item["Key"]}
    if item.get("VersionId") not in (None, "null"):
        where["VersionId"] = item["VersionId"]
    got = client.get_object(**where)
    tags = sorted(
        (tag["Key"], tag["Value"]) for tag in client.get_object_tagging(**where)["TagSet"]
    )
    lock: list[Any] = []
    if bucket == "locked":
        for ask, part in (
            (client.get_object_retention, "Retention"),
            (client.get_object_legal_hold, "LegalHold"),
        ):
            try:
                found = ask(**where)[part]
            except ClientError:
                continue
            if found not in ({}, {"Status": "OFF"}):  # there as here: none
                lock.append(found)
    return got["Body"].read(), {name: got[name] for name in HEADERS if name in got}, tags, lock
