"""A plugin of pytest, with which ceph's s3-tests run as a project: with its key, in the one bucket
that it has.

    pytest -p project_suite s3tests/functional/test_s3.py      S3_PROJECT: the JSON file that says whose, and where results go

A test that asks for a new bucket gets the project's, emptied and made anew by the administrator.
What a project may not do by design, make a bucket or set a policy, is counted as that and not as a
failure of the server.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError

SAID = json.loads(Path(os.environ["S3_PROJECT"]).read_text())
# seconds for a test; until what it does after that, to clean up, is cut off as well
LONGEST, AGAIN = 60, 20
NOT_THE_PROJECTS = (
    "CreateBucket", "DeleteBucket", "PutBucketPolicy", "DeleteBucketPolicy", "PutBucketAcl",
    "PutObjectAcl",
    "PutObjectLockConfiguration", "PutObjectRetention", "PutObjectLegalHold",
)  # fmt: skip
OUTCOMES: dict[str, str] = {}


def client(access_key: str, secret_key: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=SAID["endpoint"],
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            s3={"addressing_style": "path"}, read_timeout=LONGEST, retries={"total_max_attempts": 1}
        ),
    )


ADMINISTRATOR = client(*SAID["administrator"])
given: list[str] = []  # the buckets that this test was given


def anew(bucket: str) -> None:
    """Empty it and make it again, as the administrator: settings and versions of another test are
    gone."""
    for upload in ADMINISTRATOR.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        ADMINISTRATOR.abort_multipart_upload(
            Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )
    names: list[dict[str, str]] = []
    while True:
        found, before = ADMINISTRATOR.list_object_versions(Bucket=bucket), names
        held = [*found.get("Versions", []), *found.get("DeleteMarkers", [])]
        names = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in held]
        if names in ([], before):  # all is deleted, but for what SeaweedFS lists for ever
            break
        ADMINISTRATOR.delete_objects(
            Bucket=bucket, Delete={"Objects": names, "Quiet": True}, BypassGovernanceRetention=True
        )
    ADMINISTRATOR.delete_bucket(Bucket=bucket)
    ADMINISTRATOR.create_bucket(Bucket=bucket)


def bucket_of(asking: BaseClient | None) -> str:
    """The one bucket of whoever asks."""
    key = asking._request_signer._credentials.access_key if asking is not None else SAID["main"][0]
    bucket = str(SAID["buckets"].get(key, ""))
    if not bucket or bucket in given:
        pytest.skip("a project has one bucket")
    given.append(bucket)
    return bucket


def new_bucket(client: BaseClient | None = None, name: str | None = None) -> str:
    if name is not None:
        pytest.skip("a project chooses no bucket's name")
    return bucket_of(client)


def new_resource(name: str | None = None) -> Any:
    key, secret = SAID["main"]
    made = boto3.resource(
        "s3",
        endpoint_url=SAID["endpoint"],
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )
    return made.Bucket(new_bucket(None, name))


def renew() -> None:
    while given:
        anew(given.pop())


def too_long(*_: object) -> None:
    raise TimeoutError(f"it took longer than {LONGEST} s")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Any:
    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, LONGEST, AGAIN)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    name = item.nodeid.rpartition("/")[2]
    if report.when == "call" or (report.failed and name not in OUTCOMES):
        error = call.excinfo.value if call.excinfo else None
        denied = isinstance(error, ClientError) and error.operation_name in NOT_THE_PROJECTS
        OUTCOMES[name] = "denied" if report.failed and denied else report.outcome
    return report


def pytest_configure() -> None:
    import s3tests.functional as suite

    suite.get_new_bucket, suite.get_new_bucket_resource = new_bucket, new_resource
    suite.setup, suite.teardown = lambda: None, renew


def pytest_sessionfinish() -> None:
    Path(SAID["results"]).write_text(json.dumps(OUTCOMES))
