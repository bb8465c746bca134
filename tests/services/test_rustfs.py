"""RustFS, the default S3 server: its own habits, and what was found by running it."""

import hashlib
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

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
    # the console's pages are no part of the program as it was built for the tests: its own health
    # is
    page = httpx.get(f"http://127.0.0.1:{values['console_port']}/rustfs/console/health")
    assert (page.status_code, page.json()["service"]) == (200, "rustfs-console")
    variables = store.variables("shop")
    administrator = store.call("GET", "/external-services/store/client")["client"]["environment"]
    for port in (values["port"], values["console_port"]):
        users = f"http://127.0.0.1:{port}/rustfs/admin/v3/list-users"
        assert httpx.get(users).status_code == 403
        assert signed(users, variables["S3_ACCESS_KEY"], variables["S3_SECRET_KEY"]) == 403
        assert (
            signed(
                users, administrator["AWS_ACCESS_KEY_ID"], administrator["AWS_SECRET_ACCESS_KEY"]
            )
            == 200
        )


def signed(url: str, access_key: str, secret_key: str) -> int:
    request = AWSRequest(method="GET", url=url)
    S3SigV4Auth(Credentials(access_key, secret_key), "s3", "us-east-1").add_auth(request)
    return httpx.get(url, headers=dict(request.headers.items())).status_code


def folder(stage: Stage) -> Path:
    """Where its data lies on this host."""
    return Path(json.loads(docker("inspect", f"{stage.namespace}-store"))[0]["Mounts"][0]["Source"])


def test_its_data_is_a_folder_of_its_own_user_and_it_ends_in_peace(store: Stage) -> None:
    connect(store).put_object(Bucket=BUCKET, Key="owned", Body=b"x")
    assert docker("exec", f"{store.namespace}-store", "id", "-u") == "10001"
    where = folder(store)
    assert {path.stat().st_uid for path in (where, *where.rglob("*"))} == {10001}
    mark = where / ".rustfs.sys/unclean-shutdown"
    assert mark.exists()
    store.cli("stop", "store")
    assert not mark.exists()
    store.cli("start", "store")
    connect(store).delete_object(Bucket=BUCKET, Key="owned")


def test_it_goes_to_another_image_of_it_with_all_that_it_holds(store: Stage, rustfs: str) -> None:
    newer = f"{rustfs}-{store.namespace}"
    docker("tag", rustfs, newer)
    try:
        client = connect(store)
        client.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration=AT_REST)
        client.put_object(
            Bucket=BUCKET, Key="carried", Body=b"over", Tagging="a=b", Metadata={"c": "d"}
        )
        assert "restart" in store.cli("upgrade", "store", newer, "--plan")
        store.cli("upgrade", "store", newer)
        found = connect(store).get_object(Bucket=BUCKET, Key="carried")
        assert (found["Body"].read(), found["Metadata"], found["ServerSideEncryption"]) == (
            b"over",
            {"c": "d"},
            "AES256",
        )
        assert store.json("show", "store")["service"]["docker_image"] == newer
        assert store.json("health", "store")["stage"] == "write"
        store.cli("upgrade", "store", rustfs)
        client.delete_bucket_encryption(Bucket=BUCKET)
        client.delete_object(Bucket=BUCKET, Key="carried")
    finally:
        docker("rmi", newer, check=False)


class Writers:
    """Apps that go on writing, small objects and in parts, and note what was acknowledged."""

    def __init__(self, stage: Stage) -> None:
        self.sums: dict[str, str] = {}
        self.enough = threading.Event()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(connect(stage), number, number == 0))
            for number in range(3)
        ]

    def _write(self, client: Any, writer: int, in_parts: bool) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            key, body = (
                f"killed/{writer}/{number}",
                f"{writer} {number} ".encode() * (1200 * 1024 if in_parts else 2000),
            )
            try:
                if in_parts:
                    send_in_parts(client, key, body)
                else:
                    client.put_object(Bucket=BUCKET, Key=key, Body=body)
            except (ClientError, BotoCoreError):
                self._over.wait(0.05)
                continue
            self.sums[key] = hashlib.sha256(body).hexdigest()
            if number % 3 == 0:
                self.enough.set()

    @contextmanager
    def writing(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()


def send_in_parts(client: Any, key: str, body: bytes) -> None:
    begun = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    size, parts = 5 * 1024 * 1024, []
    for start in range(0, len(body), size):
        number = len(parts) + 1
        sent = client.upload_part(
            Bucket=BUCKET,
            Key=key,
            UploadId=begun,
            PartNumber=number,
            Body=body[start : start + size],
        )
        parts.append({"PartNumber": number, "ETag": sent["ETag"]})
    client.complete_multipart_upload(
        Bucket=BUCKET, Key=key, UploadId=begun, MultipartUpload={"Parts": parts}
    )


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.nightly)])
def test_killed_under_writers_it_has_all_that_it_acknowledged(times: int, store: Stage) -> None:
    writers = Writers(store)
    with writers.writing():
        for _ in range(times):
            writers.enough.clear()
            assert writers.enough.wait(120)
            docker("kill", "-s", "KILL", f"{store.namespace}-store")
            eventually(lambda: serves(store))  # brought back by nobody's hand
    client = connect(store)
    for key, known in writers.sums.items():
        assert (
            hashlib.sha256(client.get_object(Bucket=BUCKET, Key=key)["Body"].read()).hexdigest()
            == known
        ), key
    listed = [
        item["Key"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        for item in page["Contents"]
    ]
    for key in listed:  # what was not acknowledged is whole, or is not there
        found = client.get_object(Bucket=BUCKET, Key=key)
        assert len(found["Body"].read()) == found["ContentLength"]
        client.delete_object(Bucket=BUCKET, Key=key)


def serves(stage: Stage) -> bool:
    with suppress(ClientError, BotoCoreError):
        connect(stage).put_object(Bucket=BUCKET, Key="serves", Body=b"x")
        return True
    return False


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "none", tmp_path],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def test_on_a_full_disk_nothing_is_acknowledged_that_is_not_there(
    make_stage: Any, rustfs: str, small: Path
) -> None:
    stage: Stage = make_stage(images={"s3": rustfs})
    (stage.state / "volumes").symlink_to(small)
    with stage.serving():
        stage.furnish({"store": "s3"}, ["shop"])
        client = connect(stage)
        held: dict[str, bytes] = {}
        refused: list[tuple[str, int]] = []
        for number in range(100):
            key, body = f"k{number:03}", bytes([number]) * 1024 * 1024
            try:
                client.put_object(Bucket=BUCKET, Key=key, Body=body)
                held[key] = body
            except ClientError as error:
                refused.append((key, error.response["ResponseMetadata"]["HTTPStatusCode"]))
            if len(refused) == 3:
                break
        assert len(refused) == 3
        assert {status for _, status in refused} <= {500, 507}
        with pytest.raises(ClientError):
            send_in_parts(client, "parts", b"x" * 6 * 1024 * 1024)
        assert "Disk full" in stage.cli("health", "store", code=1)
        assert listed(client) == [*held]
        # room is made: nothing has to be started anew
        subprocess.run(["mount", "-o", "remount,size=96m", small], check=True)
        eventually(lambda: serves(stage))
        for key, body in held.items():
            assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
        client.delete_object(Bucket=BUCKET, Key="serves")
        send_in_parts(client, "parts", b"x" * 6 * 1024 * 1024)
        assert listed(client) == [*held, "parts"]
        stage.clean()


def listed(client: Any) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


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
    assert (
        connect(store).get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]
        == AT_REST
    )
    store.cli("clone", "store", "copy")  # which has a key of its own
    code = (
        f"x = s3.get_object(Bucket={BUCKET!r}, Key='sealed'); print(x['ServerSideEncryption'], "
        "x['Body'].read().decode())\n"
    )
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
        "b = 'kept-production'; s3.put_bucket_versioning(Bucket=b, "
        "VersioningConfiguration={'Status': 'Enabled'})\n"
        "x = s3.put_object_lock_configuration(Bucket=b, "
        "ObjectLockConfiguration={'ObjectLockEnabled': 'Enabled'})\n"
        "x = s3.put_object(Bucket=b, Key='law', Body=b'1', ObjectLockMode='COMPLIANCE', "
        "ObjectLockRetainUntilDate=datetime(2031, 5, 6))\n"
        "print('locked')\n"
    )
    assert "locked" in store.run("connect", "store", stdin=code).stdout
    said = store.cli("unlink", "store", "kept", "--purge", code=6)
    assert "law is locked until 2031-05-06" in said
