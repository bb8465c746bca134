"""What one project may store: it is told before it is full, then writes of every way are refused,
and nobody else's."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from plugins.s3.test_objects import connect
from support import SEAWEEDFS, Stage, eventually

BUCKET, OTHER = "alpha-production", "beta-production"
SERVERS = [
    "rustfs",
    *(pytest.param(name, marks=pytest.mark.fortnightly) for name in ("seaweedfs", "minio")),
]
REFUSED = ("AccessDenied", "403")


@pytest.fixture(scope="module", params=SERVERS)
def stage(make_stage: Any, request: pytest.FixtureRequest) -> Iterator[Stage]:
    image = SEAWEEDFS if request.param == "seaweedfs" else request.getfixturevalue(request.param)
    with make_stage("health-interval = 1", images={"s3": image}).serving() as made:
        made.furnish({"store": "s3"}, ["alpha", "beta"])
        made.cli("update", "store", "-p", "project_storage=2mb", "--yes")
        for project in ("alpha", "beta"):
            made.variables(project)
        yield made


@pytest.fixture
def s3(stage: Stage) -> Any:
    return connect(stage.variables("alpha"))


def told(stage: Stage) -> str:
    checked = stage.json("health", "store")
    assert checked["healthy"], checked
    return checked["detail"] or ""


def refused(call: Any, **given: Any) -> bool:
    try:
        call(Bucket=BUCKET, **given)
    except ClientError as error:
        return error.response["Error"]["Code"] in REFUSED
    return False


def test_it_is_told_then_refused_and_freed_by_deleting(stage: Stage, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="first", Body=b"x" * 1_800_000)
    eventually(lambda: f"{BUCKET} has filled more than 80% of its storage (2mb)" in told(stage), 60)
    s3.put_object(Bucket=BUCKET, Key="second", Body=b"x" * 500_000)
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
    part = {"Key": "parts", "UploadId": begun, "PartNumber": 1, "Body": b"x"}
    params = {"Bucket": BUCKET, "Key": "signed"}
    address = s3.generate_presigned_url("put_object", Params=params, ExpiresIn=3600)
    eventually(
        lambda: f"{BUCKET} has filled its storage (2mb): writes are refused." in told(stage), 60
    )
    assert refused(s3.put_object, Key="third", Body=b"x")
    assert refused(s3.copy_object, Key="third", CopySource=f"{BUCKET}/first")
    assert refused(s3.create_multipart_upload, Key="third")
    assert refused(s3.upload_part, **part)
    assert refused(
        s3.upload_part_copy,
        **{name: part[name] for name in ("Key", "UploadId", "PartNumber")},
        CopySource=f"{BUCKET}/first",
    )
    assert httpx.put(address, content=b"x").status_code == 403
    form = s3.generate_presigned_post(BUCKET, "form")
    sent = httpx.post(form["url"], data=form["fields"], files={"file": b"x"})
    assert sent.status_code == 403, sent.text
    assert len(s3.get_object(Bucket=BUCKET, Key="first")["Body"].read()) == 1_800_000
    connect(stage.variables("beta")).put_object(Bucket=OTHER, Key="x", Body=b"x" * 100)
    said = "SELECT data ->> 'reason' FROM events WHERE type = 'service.healthy'"
    eventually(lambda: any("writes are refused" in (row[0] or "") for row in stage.rows(said)), 60)
    assert any("writes are refused" in line["detail"] for line in wrong(stage))
    stage.cli("rotate", "alpha", "--yes")  # no way round it
    after = connect(stage.variables("alpha"))
    assert refused(after.put_object, Key="third", Body=b"x")
    stage.cli("rotate", "alpha", "--grace", "1h")
    now = connect(stage.variables("alpha"))
    for held in (after, now):
        assert refused(held.put_object, Key="third", Body=b"x")
    now.delete_object(Bucket=BUCKET, Key="first")
    eventually(lambda: told(stage) == "", 60)
    for held in (after, now):
        held.put_object(Bucket=BUCKET, Key="third", Body=b"x")
    now.abort_multipart_upload(Bucket=BUCKET, Key="parts", UploadId=begun)


def wrong(stage: Stage) -> list[Any]:
    checks = json.loads(stage.run("--json", "doctor").stdout)
    return [item for item in checks if not item["ok"] and item["subject"] == "store"]


@pytest.mark.fortnightly
def test_older_versions_count_and_a_higher_limit_lets_it_write_again(stage: Stage) -> None:
    s3 = connect(stage.variables("alpha"))
    stage.cli("update", "store", "-p", "project_storage=2mb", "--yes")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for _ in range(3):
        s3.put_object(Bucket=BUCKET, Key="again", Body=b"x" * 700_000)
    eventually(lambda: "writes are refused" in told(stage), 60)
    assert refused(s3.put_object, Key="again", Body=b"x")
    stage.cli("update", "store", "-p", "project_storage=50mb", "--yes")
    eventually(lambda: told(stage) == "", 60)
    s3.put_object(Bucket=BUCKET, Key="again", Body=b"x")


@pytest.mark.fortnightly
def test_without_a_limit_nobody_is_held_to_one(stage: Stage) -> None:
    s3 = connect(stage.variables("alpha"))
    stage.cli("update", "store", "-p", "project_storage=0", "--yes")
    eventually(lambda: told(stage) == "", 60)
    s3.put_object(Bucket=BUCKET, Key="large", Body=b"x" * 1_200_000)
    stage.cli("update", "store", "-p", "project_storage=1mb", "--yes")
    eventually(lambda: "writes are refused" in told(stage), 60)
    stage.cli("update", "store", "-p", "project_storage=0", "--yes")
    eventually(lambda: told(stage) == "", 60)
    s3.put_object(Bucket=BUCKET, Key="again", Body=b"x")


@pytest.mark.fortnightly
def test_uploads_count_after_the_server_was_started_again_and_many_keep_no_bucket_unmeasured(
    stage: Stage,
) -> None:
    """MinIO lists those alone that were begun since its start."""
    stage.cli("update", "store", "-p", "project_storage=12mb", "--yes")
    s3, other = connect(stage.variables("alpha")), connect(stage.variables("beta"))
    for item in s3.list_object_versions(Bucket=BUCKET).get("Versions", []):
        s3.delete_object(Bucket=BUCKET, Key=item["Key"], VersionId=item["VersionId"])
    eventually(lambda: told(stage) == "", 60)
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
    part = {"Bucket": BUCKET, "Key": "parts", "UploadId": begun}
    s3.upload_part(**part, PartNumber=1, Body=b"x" * 10_500_000)
    eventually(lambda: f"{BUCKET} has filled more than 80%" in told(stage), 60)
    stage.cli("restart", "store", "--yes")
    s3.put_object(Bucket=BUCKET, Key="more", Body=b"x" * 2_500_000)
    eventually(lambda: f"{BUCKET} has filled its storage" in told(stage), 60)
    assert refused(s3.upload_part, Key="parts", UploadId=begun, PartNumber=2, Body=b"x")
    s3.abort_multipart_upload(**part)
    eventually(lambda: told(stage) == "", 60)
    many = [
        s3.create_multipart_upload(Bucket=BUCKET, Key=f"many/{number}")["UploadId"]
        for number in range(150)
    ]
    s3.put_object(Bucket=BUCKET, Key="large", Body=b"x" * 10_500_000)
    other.put_object(Bucket=OTHER, Key="large", Body=b"x" * 13_000_000)
    for bucket in (BUCKET, OTHER):
        eventually(lambda: f"{bucket} has filled its storage" in told(stage), 60)
    for number, upload in enumerate(many):
        s3.abort_multipart_upload(Bucket=BUCKET, Key=f"many/{number}", UploadId=upload)
