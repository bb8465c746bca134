"""S3: with one project's key everything is tried to reach another's bucket; on RustFS, SeaweedFS
and MinIO.

The attacks are made on each server. What is slow, the ordinary run shows on the one that is the
default.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest
import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException

from attacks.matrix import BETA, IAM, S3, Attack
from support import SEAWEEDFS, Stage, docker

SERVERS = ["rustfs", "seaweedfs", "minio"]
slow = pytest.mark.parametrize(
    "store",
    ["rustfs", *(pytest.param(name, marks=pytest.mark.nightly) for name in SERVERS[1:])],
    indirect=True,
    scope="module",
)


@pytest.fixture(scope="module", params=SERVERS)
def store(make_stage: Any, request: pytest.FixtureRequest) -> Iterator[Stage]:
    image = SEAWEEDFS if request.param == "seaweedfs" else request.getfixturevalue(request.param)
    with make_stage(images={"s3": image}).serving() as stage:
        stage.furnish({"store": "s3"}, ["alpha", "beta"])
        connect(stage.variables("beta")).put_object(Bucket=BETA, Key="secret", Body=b"beta's")
        yield stage


def connect(variables: dict[str, str], service: str = "s3", **other: str) -> Any:
    """A client with a project's key, or another one."""
    held = {
        "aws_access_key_id": variables["S3_ACCESS_KEY"],
        "aws_secret_access_key": variables["S3_SECRET_KEY"],
    }
    chosen = Config(
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path"},
        **({"signature_version": "s3v4"} if service == "s3" else {}),
    )
    return boto3.client(
        service,
        endpoint_url=variables["S3_ENDPOINT"],
        region_name=variables["S3_REGION"],
        config=chosen,
        **(held | other),
    )


@pytest.mark.parametrize("attack", S3.attacks, ids=S3.ids())
def test_s3_refuses_to(attack: Attack, store: Stage) -> None:
    with pytest.raises((ClientError, PermissionError)) as refused:
        attack.do(connect(store.variables("alpha")))
    assert "InternalError" not in str(refused.value), refused.value
    S3.honest[attack.honest](connect(store.variables("alpha")))
    beta = connect(store.variables("beta"))
    assert beta.get_object(Bucket=BETA, Key="secret")["Body"].read() == b"beta's"
    assert [item["Key"] for item in beta.list_objects_v2(Bucket=BETA)["Contents"]] == ["secret"]


def test_a_project_sees_its_own_bucket_alone(store: Stage) -> None:
    listed = connect(store.variables("alpha")).list_buckets()["Buckets"]
    assert [bucket["Name"] for bucket in listed] == ["alpha-production"]


@pytest.mark.parametrize("attack", IAM)
def test_a_project_cannot_widen_its_key(attack: str, store: Stage) -> None:
    with pytest.raises(ClientError):
        IAM[attack](connect(store.variables("alpha"), "iam"))


def test_what_a_key_signed_or_opened_ends_with_it(store: Stage) -> None:
    """An address that was signed for an hour, and a session, where the server has them."""
    before = connect(store.variables("alpha"))
    before.put_object(Bucket="alpha-production", Key="signed", Body=b"x")
    params = {"Bucket": "alpha-production", "Key": "signed"}
    address = before.generate_presigned_url("get_object", Params=params, ExpiresIn=3600)
    assert httpx.get(address).content == b"x"
    session: dict[str, str] = {}
    with contextlib.suppress(ClientError, BotoCoreError):
        role = {"RoleArn": "arn:aws:iam::000000000000:role/x", "RoleSessionName": "stay"}
        session = connect(store.variables("alpha"), "sts").assume_role(**role)["Credentials"]
    store.cli("rotate", "alpha", "--yes")
    assert httpx.get(address).status_code == 403
    keys = {}
    if session:
        keys = {
            "aws_access_key_id": session["AccessKeyId"],
            "aws_secret_access_key": session["SecretAccessKey"],
            "aws_session_token": session["SessionToken"],
        }
    for held in (before, connect(store.variables("alpha"), **keys) if keys else before):
        with pytest.raises(ClientError):
            held.get_object(**params)
    assert connect(store.variables("alpha")).get_object(**params)["Body"].read() == b"x"


def made_for_itself(stage: Stage, variables: dict[str, str]) -> dict[str, str]:
    """A further key that a project has its server make, by the ways that the servers have."""
    own = {"aws_access_key_id": "mallorysownkey", "aws_secret_access_key": "mallorysownsecret1"}
    host = f"{variables['S3_HOST']}:{variables['S3_PORT']}"
    credentials = StaticProvider(variables["S3_ACCESS_KEY"], variables["S3_SECRET_KEY"])
    key, secret = own.values()
    with contextlib.suppress(MinioAdminException, ValueError), urllib3.PoolManager() as pool:
        MinioAdmin(
            endpoint=host, credentials=credentials, secure=False, http_client=pool
        ).add_service_account(access_key=key, secret_key=secret)
    body = json.dumps(
        {"accessKey": "mallorysownkey", "secretKey": "mallorysownsecret1", "name": "stay"}
    )
    for name in ("add-service-accounts", "add-service-account"):
        url = f"http://{host}/rustfs/admin/v3/{name}"
        request = AWSRequest(method="PUT", url=url, data=body)
        held = Credentials(variables["S3_ACCESS_KEY"], variables["S3_SECRET_KEY"])
        S3SigV4Auth(held, "s3", variables["S3_REGION"]).add_auth(request)
        httpx.put(url, content=body, headers=dict(request.headers.items()))
    with contextlib.suppress(ClientError, BotoCoreError):
        made = connect(variables, "iam").create_access_key(UserName=variables["S3_ACCESS_KEY"])
        return {
            "aws_access_key_id": made["AccessKey"]["AccessKeyId"],
            "aws_secret_access_key": made["AccessKey"]["SecretAccessKey"],
        }
    return own


@pytest.mark.parametrize("grace", [(), ("--grace", "1h")], ids=["at once", "in its time"])
def test_a_key_that_a_project_had_made_for_itself_ends_with_its_own(
    grace: tuple[str, ...], store: Stage
) -> None:
    variables = store.variables("alpha")
    connect(variables).put_object(Bucket="alpha-production", Key="own", Body=b"x")
    held = connect(variables, **made_for_itself(store, variables))
    works = True
    try:
        held.get_object(Bucket="alpha-production", Key="own")
    except ClientError:
        works = False
    print(f"such a key {'works' if works else 'is refused'} while its maker has a right to it")
    with pytest.raises(ClientError):
        held.get_object(Bucket=BETA, Key="secret")
    store.cli("rotate", "alpha", "--yes", *grace)
    if grace:
        store.cli("rotate", "alpha", "--yes")  # which ends all that there were
    for key in (held, connect(variables)):
        with pytest.raises(ClientError):
            key.get_object(Bucket="alpha-production", Key="own")
    now = connect(store.variables("alpha"))
    assert now.get_object(Bucket="alpha-production", Key="own")["Body"].read() == b"x"


def test_a_project_may_do_everything_in_its_own_bucket(store: Stage) -> None:
    s3, bucket = connect(store.variables("alpha")), "alpha-production"
    for number in range(3):
        s3.put_object(
            Bucket=bucket,
            Key=f"folder/{number}",
            Body=b"x" * (number + 1),
            ContentType="text/plain",
        )
    assert s3.head_object(Bucket=bucket, Key="folder/2")["ContentType"] == "text/plain"
    begun = s3.create_multipart_upload(Bucket=bucket, Key="folder/big")["UploadId"]
    part = s3.upload_part(
        Bucket=bucket, Key="folder/big", UploadId=begun, PartNumber=1, Body=b"y" * 1000
    )
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(
        Bucket=bucket, Key="folder/big", UploadId=begun, MultipartUpload=parts
    )
    assert (
        s3.get_object(Bucket=bucket, Key="folder/big", Range="bytes=0-4")["Body"].read() == b"yyyyy"
    )
    names = [
        {"Key": item["Key"]}
        for item in s3.list_objects_v2(Bucket=bucket, Prefix="folder/")["Contents"]
    ]
    assert len(names) == 4
    assert "Errors" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": names})
    assert s3.list_objects_v2(Bucket=bucket, Prefix="folder/")["KeyCount"] == 0
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="twice", Body=b"1")["VersionId"]
    s3.put_object(Bucket=bucket, Key="twice", Body=b"2")
    s3.delete_object(Bucket=bucket, Key="twice", VersionId=first)
    assert s3.get_object(Bucket=bucket, Key="twice")["Body"].read() == b"2"


def test_nothing_but_s3_and_the_console_is_open_on_the_network(store: Stage) -> None:
    """SeaweedFS's other parts ask for no password: from the network they must not be there."""
    probe = (
        "for port in 7333 8080 8181 8888 9101 9333 9340 18080 18888 19333; do "
        f"(exec 3<>/dev/tcp/{store.namespace}-store/$port) 2>/dev/null && echo open $port; done; "
        f"(exec 3<>/dev/tcp/{store.namespace}-store/9000) && echo reached"
    )
    said = docker(
        "run", "--rm", "--network", store.namespace, "--entrypoint", "bash", SEAWEEDFS, "-c", probe
    )
    assert said == "reached"


def test_the_variables_and_the_ports_are_those_of_the_contract(store: Stage) -> None:
    found = store.variables("alpha", host=False)
    assert (
        found["S3_ENDPOINT"] == found["AWS_ENDPOINT_URL"] == f"http://{store.namespace}-store:9000"
    )
    assert (found["S3_BUCKET"], found["S3_REGION"]) == ("alpha-production", "us-east-1")
    assert found["AWS_ACCESS_KEY_ID"] == found["S3_ACCESS_KEY"]
    values = store.json("show", "store")["current_parameters"]
    assert values["secret_key"] == "***"
    published = docker("port", f"{store.namespace}-store")
    assert f"9000/tcp -> 127.0.0.1:{values['port']}" in published
    assert f"9001/tcp -> 127.0.0.1:{values['console_port']}" in published
    assert store.json("health", "store")["stage"] == "write"
    assert values["access_key"] not in docker("inspect", f"{store.namespace}-store")


@slow
def test_unlinking_ends_the_key_and_keeps_the_bucket(store: Stage) -> None:
    store.cli("project", "create", "back")
    store.cli("link", "store", "back")
    before = store.variables("back")
    connect(before).put_object(Bucket="back-production", Key="kept", Body=b"42")
    store.cli("unlink", "store", "back")
    with pytest.raises(ClientError):
        connect(before).get_object(Bucket="back-production", Key="kept")
    store.cli("link", "store", "back")
    after = store.variables("back")
    assert after["S3_SECRET_KEY"] != before["S3_SECRET_KEY"]
    assert connect(after).get_object(Bucket="back-production", Key="kept")["Body"].read() == b"42"
    store.cli("unlink", "store", "back", "--purge")
    done = store.run(
        "connect", "store", stdin="print([b['Name'] for b in s3.list_buckets()['Buckets']])\n"
    )
    assert "alpha-production" in done.stdout
    assert "back-production" not in done.stdout


def test_a_bucket_with_a_deletion_marker_of_no_version_is_purged(store: Stage) -> None:
    """SeaweedFS lists such a marker for ever, whatever is deleted: the purge ends nevertheless."""
    store.cli("project", "create", "marked")
    store.cli("link", "store", "marked")
    s3, bucket = connect(store.variables("marked")), "marked-production"
    for status in ("Enabled", "Suspended"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        s3.put_object(Bucket=bucket, Key="once", Body=b"1")
    s3.delete_object(Bucket=bucket, Key="once")
    store.cli("unlink", "store", "marked", "--purge")
    done = store.run(
        "connect", "store", stdin="print([b['Name'] for b in s3.list_buckets()['Buckets']])\n"
    )
    assert bucket not in done.stdout


@slow
def test_a_foreign_bucket_of_the_same_name_is_not_taken_over(store: Stage) -> None:
    store.run("connect", "store", stdin="s3.create_bucket(Bucket='intruder-production')\n")
    store.cli("project", "create", "intruder")
    assert "no recorded owner" in store.cli("link", "store", "intruder", code=5)


@slow
def test_long_names_that_fold_alike_get_buckets_of_their_own(store: Stage) -> None:
    store.cli("project", "create", "fold")
    store.cli("link", "store", "fold")
    longest = "e" * 40
    names = {
        store.variables("fold", environment)["S3_BUCKET"]
        for environment in ("production", longest, "a-b")
    }
    assert len(names) == 3
    assert all(3 <= len(name) <= 63 and name == name.lower() for name in names)


@pytest.mark.parametrize("store", ["seaweedfs"], indirect=True, scope="module")
def test_seaweedfs_has_room_for_many_buckets(store: Stage) -> None:
    """It sets files of a size aside for each bucket, and had none left after a few."""
    code = (
        "names = [f'many-{n}' for n in range(25)]\n"
        "for n in names: _ = s3.create_bucket(Bucket=n), s3.put_object(Bucket=n, Key='k', "
        "Body=b'x')\n"
        "for n in names: _ = s3.delete_object(Bucket=n, Key='k'), s3.delete_bucket(Bucket=n)\n"
        "print('all of them')\n"
    )
    done = store.run("connect", "store", stdin=code)
    assert "all of them" in done.stdout, done.stderr


@slow
def test_stopping_and_starting_keeps_objects_and_keys(store: Stage) -> None:
    for _ in range(2):  # all its parts end in peace, also after they have begun with data
        store.cli("stop", "store")
        assert docker("inspect", "-f", "{{.State.ExitCode}}", f"{store.namespace}-store") == "0"
        store.cli("start", "store")
    beta = connect(store.variables("beta"))
    assert beta.get_object(Bucket=BETA, Key="secret")["Body"].read() == b"beta's"


@slow
def test_an_image_of_no_known_server_is_refused_before_anything_is_done(store: Stage) -> None:
    before = store.world()
    said = store.cli("create", "s3", "other", "--image", "registry.example/storage:1", code=2)
    assert "flavour=minio" in said
    assert store.world() == before
