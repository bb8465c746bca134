"""RustFS, the default S3 server: its own habits, and what was found by running it."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from support import Stage, docker, eventually

BUCKET = "shop-production"
AT_REST = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}


@pytest.fixture(scope="module")
def store(make_stage: Any, rustfs: str) -> Iterator[Stage]:
    with make_stage(images={"s3": rustfs}).serving() as stage:
        stage.furnish({"store": "s3"}, ["shop"])
        yield stage


def connect(stage: Stage) -> Any:
    variables = stage.variables("shop")
    return boto3.client(
        "s3",
        endpoint_url=variables["S3_ENDPOINT"],
        region_name=variables["S3_REGION"],
        aws_access_key_id=variables["S3_ACCESS_KEY"],
        aws_secret_access_key=variables["S3_SECRET_KEY"],
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def test_its_version_is_the_servers_own(store: Stage) -> None:
    assert store.json("health", "store")["version"] == "1.0.1"
    assert eventually(lambda: [item["version"] for item in store.json("list")] == ["1.0.1"])


def test_it_calls_nobody_and_no_secret_is_seen_from_outside(store: Stage) -> None:
    seen = docker("inspect", f"{store.namespace}-store")
    (found,) = json.loads(seen)
    assert "RUSTFS_CHECK_UPDATE=false" in found["Config"]["Env"]
    assert "RUSTFS_KMS_ENFORCE_SSE_KEY_POLICY=true" in found["Config"]["Env"]
    for name in ("s3-access-key", "s3-secret-key", "s3-master-key"):
        secret = docker("exec", f"{store.namespace}-store", "cat", f"/etc/purveyor/{name}")
        assert len(secret) >= 20
        assert secret not in seen


def test_the_console_answers_and_lets_nobody_in_without_keys(store: Stage) -> None:
    values = store.json("show", "store")["current_parameters"]
    # the console's pages are no part of the program as it was built for the tests: its own health is
    page = httpx.get(f"http://127.0.0.1:{values['console_port']}/rustfs/console/health")
    assert (page.status_code, page.json()["service"]) == (200, "rustfs-console")
    for port in (values["port"], values["console_port"]):
        assert httpx.get(f"http://127.0.0.1:{port}/rustfs/admin/v3/list-users").status_code == 403


def test_encryption_at_rest_works_and_outlives_a_restart_a_restore_and_a_copy(store: Stage) -> None:
    client = connect(store)
    client.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration=AT_REST)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket=BUCKET, Key="sealed", Body=b"in clear")
    client.put_object(Bucket=BUCKET, Key="sealed", Body=b"in clear again")
    store.cli("restart", "store")
    assert is_sealed(connect(store))
    made = store.call("POST", "/backups/external-services/store/run", json={})
    assert made["state"] == "ok"
    assert made["metadata"]["counts"]["bytes"][BUCKET] == len(b"in clear again")
    store.call("POST", f"/backups/{made['id']}/restore", json={"service_id": "store"})
    assert is_sealed(connect(store))
    assert connect(store).get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"] == AT_REST
    store.cli("clone", "store", "copy")  # which has a key of its own
    code = f"x = s3.get_object(Bucket={BUCKET!r}, Key='sealed'); print(x['ServerSideEncryption'], x['Body'].read().decode())\n"
    assert "AES256 in clear again" in store.run("connect", "copy", stdin=code).stdout
    store.cli("delete", "copy", "--purge", "--yes")


def is_sealed(client: Any) -> bool:
    found = client.get_object(Bucket=BUCKET, Key="sealed")
    assert found["Body"].read() == b"in clear again"
    return bool(found["ServerSideEncryption"] == "AES256")


def test_a_purge_says_until_when_an_object_is_locked(store: Stage) -> None:
    store.cli("project", "create", "kept")
    store.cli("link", "store", "kept")
    code = (
        "from datetime import datetime\n"
        "b = 'kept-production'; s3.put_bucket_versioning(Bucket=b, VersioningConfiguration={'Status': 'Enabled'})\n"
        "x = s3.put_object_lock_configuration(Bucket=b, ObjectLockConfiguration={'ObjectLockEnabled': 'Enabled'})\n"
        "x = s3.put_object(Bucket=b, Key='law', Body=b'1', ObjectLockMode='COMPLIANCE', "
        "ObjectLockRetainUntilDate=datetime(2031, 5, 6))\n"
        "print('locked')\n"
    )
    assert "locked" in store.run("connect", "store", stdin=code).stdout
    said = store.cli("unlink", "store", "kept", "--purge", code=6)
    assert "law is locked until 2031-05-06" in said
