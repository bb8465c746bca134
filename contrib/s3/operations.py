"""What an app does with an S3 server, by the project's own key: operation by operation, and by the
clients that people have.

Each check is a function that raises when the server does not hold what S3 promises. `denied` are
those that no project may do.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

Check = Callable[[Any, str], Any]
PART = 5 * 1024 * 1024
CORS = {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://example.org"]}]}
RULE = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 30}}
AT_REST = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
OPEN = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"]}
HOLDS, DENIED, MISSING, NOT_RUN = "yes", "denied", "no", "not run"
REFUSALS = ("AccessDenied", "403", "Forbidden")


def must(*, hold: bool) -> None:
    if not hold:
        raise AssertionError("the answer is another one")


def put(s3: Any, bucket: str, key: str, body: bytes = b"x", **more: Any) -> Any:
    return s3.put_object(Bucket=bucket, Key=key, Body=body, **more)


def content(s3: Any, bucket: str, key: str, **more: Any) -> bytes:
    return bytes(s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read())


def objects(s3: Any, bucket: str) -> None:
    put(
        s3,
        bucket,
        "o",
        b"content",
        ContentType="text/x",
        Metadata={"a": "b"},
        CacheControl="max-age=1",
    )
    found = s3.head_object(Bucket=bucket, Key="o")
    must(
        hold=(found["ContentType"], found["Metadata"], found["CacheControl"])
        == ("text/x", {"a": "b"}, "max-age=1")
    )
    must(hold=content(s3, bucket, "o") == b"content")


def expires(s3: Any, bucket: str) -> None:
    put(s3, bucket, "e", Expires="Tue, 01 Jan 2030 00:00:00 GMT")
    must(hold="ExpiresString" in s3.get_object(Bucket=bucket, Key="e"))


def ranges(s3: Any, bucket: str) -> None:
    put(s3, bucket, "r", b"0123456789")
    must(hold=content(s3, bucket, "r", Range="bytes=2-4") == b"234")
    must(hold=content(s3, bucket, "r", Range="bytes=-3") == b"789")


def refused(code: int, call: Callable[[], Any]) -> None:
    try:
        call()
    except ClientError as error:
        must(hold=error.response["ResponseMetadata"]["HTTPStatusCode"] == code)
    else:
        raise AssertionError("it was not refused")


def conditional_reads(s3: Any, bucket: str) -> None:
    tag = put(s3, bucket, "c")["ETag"]
    refused(412, lambda: s3.get_object(Bucket=bucket, Key="c", IfMatch='"0"'))
    refused(304, lambda: s3.get_object(Bucket=bucket, Key="c", IfNoneMatch=tag))


def conditional_writes(s3: Any, bucket: str) -> None:
    put(s3, bucket, "cw")
    refused(412, lambda: put(s3, bucket, "cw", IfNoneMatch="*"))
    refused(412, lambda: put(s3, bucket, "cw", IfMatch='"0"'))


def checksums(s3: Any, bucket: str) -> None:
    put(s3, bucket, "sum", b"abc", ChecksumAlgorithm="CRC32")
    must(
        hold=bool(
            s3.head_object(Bucket=bucket, Key="sum", ChecksumMode="ENABLED").get("ChecksumCRC32")
        )
    )
    refused(400, lambda: put(s3, bucket, "bad", b"abc", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA=="))


def copies(s3: Any, bucket: str) -> None:
    put(s3, bucket, "from", b"copied", Metadata={"a": "b"})
    s3.copy_object(Bucket=bucket, Key="to", CopySource=f"{bucket}/from")
    must(hold=s3.head_object(Bucket=bucket, Key="to")["Metadata"] == {"a": "b"})
    s3.copy_object(
        Bucket=bucket,
        Key="to",
        CopySource=f"{bucket}/from",
        MetadataDirective="REPLACE",
        Metadata={"c": "d"},
    )
    must(hold=s3.head_object(Bucket=bucket, Key="to")["Metadata"] == {"c": "d"})


def deletes(s3: Any, bucket: str) -> None:
    for key in ("d1", "d2"):
        put(s3, bucket, key)
    answer = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": "d1"}, {"Key": "d2"}, {"Key": "never"}]}
    )
    must(hold=not answer.get("Errors"))
    s3.delete_object(Bucket=bucket, Key="never")


def lists(s3: Any, bucket: str) -> None:
    for key in ("l/a", "l/b/1", "l/b/2", "l/c"):
        put(s3, bucket, key)
    found = s3.list_objects_v2(Bucket=bucket, Prefix="l/", Delimiter="/")
    must(hold=[item["Key"] for item in found["Contents"]] == ["l/a", "l/c"])
    must(hold=[item["Prefix"] for item in found["CommonPrefixes"]] == ["l/b/"])
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix="l/", PaginationConfig={"PageSize": 1}
    )
    must(
        hold=[item["Key"] for page in pages for item in page.get("Contents", [])]
        == ["l/a", "l/b/1", "l/b/2", "l/c"]
    )
    must(hold=s3.list_objects_v2(Bucket=bucket, Prefix="l/", StartAfter="l/b/1")["KeyCount"] == 2)


def lists_of_before(s3: Any, bucket: str) -> None:
    for key in ("v1/a", "v1/b"):
        put(s3, bucket, key)
    first = s3.list_objects(Bucket=bucket, Prefix="v1/", MaxKeys=1)
    rest = s3.list_objects(Bucket=bucket, Prefix="v1/", Marker=first["Contents"][0]["Key"])
    must(hold=[item["Key"] for item in rest["Contents"]] == ["v1/b"])


def parts(s3: Any, bucket: str) -> None:
    begun = s3.create_multipart_upload(Bucket=bucket, Key="m", Metadata={"a": "b"})["UploadId"]
    must(
        hold=begun
        in [
            item["UploadId"]
            for item in s3.list_multipart_uploads(Bucket=bucket, Prefix="m").get("Uploads", [])
        ]
    )
    sent = []
    for number, body in enumerate((b"x" * PART, b"y"), start=1):
        tag = s3.upload_part(Bucket=bucket, Key="m", UploadId=begun, PartNumber=number, Body=body)[
            "ETag"
        ]
        sent.append({"PartNumber": number, "ETag": tag})
    must(hold=len(s3.list_parts(Bucket=bucket, Key="m", UploadId=begun)["Parts"]) == 2)
    s3.complete_multipart_upload(
        Bucket=bucket, Key="m", UploadId=begun, MultipartUpload={"Parts": sent}
    )
    found = s3.head_object(Bucket=bucket, Key="m")
    must(
        hold=found["ContentLength"] == PART + 1
        and found["ETag"].endswith('-2"')
        and found["Metadata"] == {"a": "b"}
    )


def aborted(s3: Any, bucket: str) -> None:
    begun = s3.create_multipart_upload(Bucket=bucket, Key="ab")["UploadId"]
    s3.abort_multipart_upload(Bucket=bucket, Key="ab", UploadId=begun)
    refused(404, lambda: s3.list_parts(Bucket=bucket, Key="ab", UploadId=begun))


def copied_parts(s3: Any, bucket: str) -> None:
    put(s3, bucket, "whole", b"0123456789")
    begun = s3.create_multipart_upload(Bucket=bucket, Key="piece")["UploadId"]
    answer = s3.upload_part_copy(
        Bucket=bucket,
        Key="piece",
        UploadId=begun,
        PartNumber=1,
        CopySource=f"{bucket}/whole",
        CopySourceRange="bytes=2-4",
    )
    done = {"Parts": [{"PartNumber": 1, "ETag": answer["CopyPartResult"]["ETag"]}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="piece", UploadId=begun, MultipartUpload=done)
    must(hold=content(s3, bucket, "piece") == b"234")


def one_part(s3: Any, bucket: str) -> None:
    parts(s3, bucket)
    must(hold=content(s3, bucket, "m", PartNumber=2) == b"y")


def attributes(s3: Any, bucket: str) -> None:
    put(s3, bucket, "at", b"abc")
    must(
        hold=s3.get_object_attributes(Bucket=bucket, Key="at", ObjectAttributes=["ObjectSize"])[
            "ObjectSize"
        ]
        == 3
    )


def tags(s3: Any, bucket: str) -> None:
    put(s3, bucket, "t", Tagging="a=b")
    must(
        hold=s3.get_object_tagging(Bucket=bucket, Key="t")["TagSet"] == [{"Key": "a", "Value": "b"}]
    )
    s3.put_object_tagging(Bucket=bucket, Key="t", Tagging={"TagSet": [{"Key": "c", "Value": "d"}]})
    s3.delete_object_tagging(Bucket=bucket, Key="t")
    must(hold=s3.get_object_tagging(Bucket=bucket, Key="t")["TagSet"] == [])


def signed(s3: Any, bucket: str) -> None:
    """Addresses that carry their own right, for a browser."""
    for method, name in (("PUT", "put_object"), ("GET", "get_object")):
        url = s3.generate_presigned_url(
            name, Params={"Bucket": bucket, "Key": "signed"}, ExpiresIn=60
        )
        request = urllib.request.Request(
            url, data=b"by url" if method == "PUT" else None, method=method
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
    must(hold=body == b"by url")


def forms(s3: Any, bucket: str) -> None:
    form = s3.generate_presigned_post(bucket, "form")
    edge = "purveyor"
    said = f"--{edge}\r\nContent-Disposition: form-data; name="
    lines = [f'{said}"{name}"\r\n\r\n{value}' for name, value in form["fields"].items()]
    lines.append(f'{said}"file"; filename="f"\r\n\r\nposted')
    body = ("\r\n".join(lines) + f"\r\n--{edge}--\r\n").encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    with urllib.request.urlopen(urllib.request.Request(form["url"], body, headers), timeout=30):
        must(hold=content(s3, bucket, "form") == b"posted")


def own_keys(s3: Any, bucket: str) -> None:
    """Encryption by a key that the app brings with each call; over HTTP servers may refuse it."""
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    put(s3, bucket, "sealed", b"abc", **key)
    must(hold=content(s3, bucket, "sealed", **key) == b"abc")


def at_rest(s3: Any, bucket: str) -> None:
    put(s3, bucket, "rest", b"abc", ServerSideEncryption="AES256")
    found = s3.get_object(Bucket=bucket, Key="rest")
    must(hold=found["Body"].read() == b"abc" and found.get("ServerSideEncryption") == "AES256")


def classes(s3: Any, bucket: str) -> None:
    put(s3, bucket, "class", StorageClass="REDUCED_REDUNDANCY")
    must(
        hold=s3.head_object(Bucket=bucket, Key="class").get("StorageClass") == "REDUCED_REDUNDANCY"
    )


def awkward(s3: Any, bucket: str) -> None:
    for key in ("a b+c%2F&=?#", "ü/é/e\u0301", "'\"<>", "k" * 255, "/".join(["k" * 127] * 8)):
        put(s3, bucket, key, key.encode())
        must(hold=content(s3, bucket, key) == key.encode())
        must(
            hold=key
            in [
                item["Key"]
                for item in s3.list_objects_v2(Bucket=bucket, Prefix=key[:3])["Contents"]
            ]
        )
        s3.delete_object(Bucket=bucket, Key=key)


def versions(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    must(hold=s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled")
    first = put(s3, bucket, "v", b"1")["VersionId"]
    put(s3, bucket, "v", b"2")
    must(hold=content(s3, bucket, "v", VersionId=first) == b"1")
    must(hold=bool(s3.delete_object(Bucket=bucket, Key="v")["DeleteMarker"]))
    found = s3.list_object_versions(Bucket=bucket, Prefix="v")
    must(
        hold=(
            len([item for item in found["Versions"] if item["Key"] == "v"]),
            len(found["DeleteMarkers"]),
        )
        == (2, 1)
    )
    for item in (*found["Versions"], *found["DeleteMarkers"]):
        s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


def cors(s3: Any, bucket: str) -> None:
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration=CORS)
    must(hold=len(s3.get_bucket_cors(Bucket=bucket)["CORSRules"]) == 1)
    s3.delete_bucket_cors(Bucket=bucket)


def lifecycle(s3: Any, bucket: str) -> None:
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [RULE]})
    must(
        hold=s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"][0]["Expiration"]["Days"]
        == 30
    )
    s3.delete_bucket_lifecycle(Bucket=bucket)


def bucket_tags(s3: Any, bucket: str) -> None:
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    must(hold=s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "a", "Value": "b"}])


def encryption(s3: Any, bucket: str) -> None:
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=AT_REST)
    put(s3, bucket, "by rule")
    must(hold=s3.head_object(Bucket=bucket, Key="by rule").get("ServerSideEncryption") == "AES256")
    s3.delete_bucket_encryption(Bucket=bucket)


def location(s3: Any, bucket: str) -> None:
    s3.get_bucket_location(Bucket=bucket)
    s3.head_bucket(Bucket=bucket)
    must(hold=[item["Name"] for item in s3.list_buckets()["Buckets"]] == [bucket])


def opened(s3: Any, bucket: str) -> None:
    policy = {
        "Version": "2012-10-17",
        "Statement": [OPEN | {"Resource": [f"arn:aws:s3:::{bucket}/*"]}],
    }
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


OPERATIONS: dict[str, Check] = {
    "PutObject, GetObject, HeadObject, metadata and headers": objects,
    "the header Expires in GetObject": expires,
    "ranges": ranges,
    "conditional reads": conditional_reads,
    "conditional writes": conditional_writes,
    "checksums": checksums,
    "CopyObject": copies,
    "DeleteObject, DeleteObjects": deletes,
    "ListObjectsV2": lists,
    "ListObjects": lists_of_before,
    "multipart uploads": parts,
    "AbortMultipartUpload": aborted,
    "UploadPartCopy": copied_parts,
    "GetObject of one part": one_part,
    "GetObjectAttributes": attributes,
    "object tags": tags,
    "presigned addresses": signed,
    "POST by a form": forms,
    "SSE-C over HTTP": own_keys,
    "SSE-S3 of an object": at_rest,
    "storage classes": classes,
    "keys with spaces, `+`, `%2F`, quotes, unicode, 1,024 bytes": awkward,
    "versions and delete markers": versions,
    "bucket CORS": cors,
    "bucket lifecycle": lifecycle,
    "bucket tags": bucket_tags,
    "bucket encryption": encryption,
    "HeadBucket, GetBucketLocation, ListBuckets": location,
    "CreateBucket": lambda s3, bucket: s3.create_bucket(Bucket=f"{bucket}-more"),
    "DeleteBucket": lambda s3, bucket: s3.delete_bucket(Bucket=bucket),
    "PutBucketPolicy": opened,
    "PutBucketAcl": lambda s3, bucket: s3.put_bucket_acl(Bucket=bucket, ACL="public-read"),
    "PutObjectLockConfiguration": lambda s3, bucket: s3.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
    ),
}


def connect(variables: dict[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=variables["S3_ENDPOINT"],
        region_name=variables["S3_REGION"],
        aws_access_key_id=variables["S3_ACCESS_KEY"],
        aws_secret_access_key=variables["S3_SECRET_KEY"],
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
        ),
    )


def probe(variables: dict[str, str]) -> dict[str, str]:
    """Each operation: holds, is denied to projects, or is not what S3 says."""
    s3, bucket = connect(variables), variables["S3_BUCKET"]
    found = {}
    for name, check in OPERATIONS.items():
        try:
            check(s3, bucket)
        except (ClientError, BotoCoreError, AssertionError, OSError, KeyError) as error:
            code = (
                error.response.get("Error", {}).get("Code", "")
                if isinstance(error, ClientError)
                else ""
            )
            found[name] = DENIED if code in REFUSALS else MISSING
        else:
            found[name] = HOLDS
    return found


# ---------------------------------------------------------------- the clients that people have

FILES = {
    "small.txt": b"small",
    "folder/with space+%2F.txt": b"awkward",
    "big.bin": b"x" * (9 * 1024 * 1024),
}


class Client(NamedTuple):
    """One client: does its round with a project's variables, raises when it does not end well;
    None: it is not here."""

    name: str
    go: Callable[[dict[str, str]], None] | None


def by_boto3(variables: dict[str, str]) -> None:
    s3, bucket = connect(variables), variables["S3_BUCKET"]
    for name, body in FILES.items():
        put(s3, bucket, f"boto3/{name}", body)
        must(hold=content(s3, bucket, f"boto3/{name}") == body)
    found = s3.list_objects_v2(Bucket=bucket, Prefix="boto3/")["Contents"]
    must(hold=sorted(item["Key"] for item in found) == sorted(f"boto3/{name}" for name in FILES))
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": item["Key"]} for item in found]})


def by_minio(variables: dict[str, str]) -> None:
    import io

    from minio import Minio

    bucket = variables["S3_BUCKET"]
    client = Minio(
        endpoint=f"{variables['S3_HOST']}:{variables['S3_PORT']}",
        access_key=variables["S3_ACCESS_KEY"],
        secret_key=variables["S3_SECRET_KEY"], region=variables["S3_REGION"], secure=False,
    )  # fmt: skip
    for name, body in FILES.items():
        client.put_object(bucket, f"minio/{name}", io.BytesIO(body), len(body), part_size=PART)
        answer = client.get_object(bucket, f"minio/{name}")
        must(hold=answer.read() == body)
        answer.close()
        must(hold=client.stat_object(bucket, f"minio/{name}").size == len(body))
    found = [
        str(item.object_name)
        for item in client.list_objects(bucket, prefix="minio/", recursive=True)
    ]
    must(hold=sorted(found) == sorted(f"minio/{name}" for name in FILES))
    for name in found:
        client.remove_object(bucket, name)


def by_s3fs(variables: dict[str, str]) -> None:
    import s3fs

    root = f"{variables['S3_BUCKET']}/s3fs"
    files = s3fs.S3FileSystem(
        key=variables["S3_ACCESS_KEY"], secret=variables["S3_SECRET_KEY"], use_listings_cache=False,
        skip_instance_cache=True,
        client_kwargs={"endpoint_url": variables["S3_ENDPOINT"],
        "region_name": variables["S3_REGION"]},
    )  # fmt: skip
    for name, body in FILES.items():
        with files.open(f"{root}/{name}", "wb") as file:
            file.write(body)
        must(hold=files.cat(f"{root}/{name}") == body)
    must(hold=sorted(files.find(root)) == sorted(f"{root}/{name}" for name in FILES))
    files.mv(f"{root}/small.txt", f"{root}/moved.txt")
    must(hold=files.cat(f"{root}/moved.txt") == b"small")
    files.rm(root, recursive=True)
    must(hold=not any(files.exists(f"{root}/{name}") for name in (*FILES, "moved.txt")))


JAVASCRIPT = """
import { S3Client, PutObjectCommand, GetObjectCommand, ListObjectsV2Command, DeleteObjectsCommand, CreateMultipartUploadCommand,
  UploadPartCommand, CompleteMultipartUploadCommand } from "@aws-sdk/client-s3";
const Bucket = process.env.S3_BUCKET;
const s3 = new S3Client({ forcePathStyle: true, region: process.env.S3_REGION });
const must = (hold) => { if (!hold) throw new Error("the answer is another one"); };
const files = { "js/small.txt": "small", "js/folder/with space+%2F.txt": "awkward" };
for (const [Key, Body] of Object.entries(files)) {
  await s3.send(new PutObjectCommand({ Bucket, Key, Body, Metadata: { a: "b" } }));
  const got = await s3.send(new GetObjectCommand({ Bucket, Key }));
  must(await got.Body.transformToString() === Body && got.Metadata.a === "b");
}
const Key = "js/big.bin";
const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key }));
const Parts = [];
for (const [index, size] of [5 * 1024 * 1024, 1000].entries()) {
  const part = { Bucket, Key, UploadId, PartNumber: index + 1, Body: Buffer.alloc(size, "x") };
  const { ETag } = await s3.send(new UploadPartCommand(part));
  Parts.push({ PartNumber: index + 1, ETag });
}
await s3.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts } }));
const listed = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: "js/" }));
must(listed.Contents.length === 3);
const Objects = listed.Contents.map(({ Key }) => ({ Key }));
const gone = await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects } }));
must(!gone.Errors?.length);
console.log("true");
"""


def by_javascript(variables: dict[str, str]) -> None:
    sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
    import npm

    must(hold=npm.run(JAVASCRIPT, variables) is True)


def by_rclone(variables: dict[str, str]) -> None:
    import tempfile

    given = {
        "TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": variables["S3_ENDPOINT"],
        "REGION": variables["S3_REGION"],
        "ACCESS_KEY_ID": variables["S3_ACCESS_KEY"],
        "SECRET_ACCESS_KEY": variables["S3_SECRET_KEY"],
        "NO_CHECK_BUCKET": "true", "FORCE_PATH_STYLE": "true",
    }  # fmt: skip
    named = {f"RCLONE_CONFIG_P_{name}": value for name, value in given.items()}
    apart = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**apart, **named, "RCLONE_CONFIG": "/dev/null"}

    def rclone(*arguments: Any) -> str:
        argv = ["rclone", "--retries", "1", *map(str, arguments)]
        return subprocess.run(
            argv, env=environment, check=True, capture_output=True, text=True, timeout=300
        ).stdout

    there = f"p:{variables['S3_BUCKET']}/rclone"
    with tempfile.TemporaryDirectory() as folder:
        here, back = Path(folder, "here"), Path(folder, "back")
        for name, body in FILES.items():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_bytes(body)
        rclone("sync", here, there)
        rclone("check", here, there)
        rclone("sync", there, back)
        must(hold=all((back / name).read_bytes() == body for name, body in FILES.items()))
        (here / "small.txt").unlink()
        rclone("sync", here, there)
        must(hold=len(rclone("lsf", "-R", "--files-only", there).splitlines()) == len(FILES) - 1)
        rclone("purge", there)


def clients() -> list[Client]:
    """All, with those that are not here."""
    return [
        Client("boto3", by_boto3),
        Client("@aws-sdk/client-s3", by_javascript),
        Client("minio", by_minio),
        Client("s3fs", by_s3fs if importlib.util.find_spec("s3fs") else None),
        Client("rclone", by_rclone if shutil.which("rclone") else None),
    ]


def visit(variables: dict[str, str]) -> dict[str, str]:
    """Each client's round: ended well, not, or was not run for want of the client."""
    found = {}
    for client in clients():
        try:
            if client.go:
                client.go(variables)
        except Exception as error:
            print(f"{client.name}: {type(error).__name__}: {error}", file=sys.stderr)
            found[client.name] = MISSING
        else:
            found[client.name] = HOLDS if client.go else NOT_RUN
    return found
