"""An S3 server whose endpoint is https: verified with the installation's authority, renewed while
it runs, and its data moved as everywhere."""

import socket
import ssl
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, SSLError

from purveyor.services import certificates
from purveyor_hooks.certificates import self_signed
from support import SEAWEEDFS, Stage, docker, eventually


@pytest.fixture(scope="module", params=["rustfs", "minio"])
def store(request: pytest.FixtureRequest, house: Stage) -> tuple[Stage, str]:
    name, image = str(request.param), request.getfixturevalue(request.param)
    house.cli("create", "s3", name, "--image", image, "-p", "tls=on")
    house.cli("project", "create", f"of-{name}")
    house.cli("link", name, f"of-{name}")
    return house, name


def connect(variables: dict[str, str], verify: str | bool, endpoint: str = "") -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint or variables["S3_ENDPOINT"],
        region_name=variables["S3_REGION"],
        aws_access_key_id=variables["S3_ACCESS_KEY"],
        aws_secret_access_key=variables["S3_SECRET_KEY"],
        verify=verify,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def presented(stage: Stage, port: str) -> bytes:
    """What the server shows to whoever verifies it by this host's name."""
    context = ssl.create_default_context(cafile=str(stage.state / certificates.FILE))
    with (
        socket.create_connection(("127.0.0.1", int(port)), timeout=10) as line,
        context.wrap_socket(line, server_hostname="localhost") as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True) or b""


def test_its_endpoint_is_https_and_verified_and_plain_text_is_refused(
    store: tuple[Stage, str], tmp_path: Path
) -> None:
    stage, name = store
    variables = stage.variables(f"of-{name}")
    assert variables["AWS_ENDPOINT_URL"] == variables["S3_ENDPOINT"]
    assert variables["S3_ENDPOINT"].startswith("https://")
    assert variables["S3_CA_PEM"] == Path(variables["S3_CA_CERT"]).read_text()
    bucket = variables["S3_BUCKET"]
    client = connect(variables, variables["S3_CA_CERT"])
    client.put_object(Bucket=bucket, Key="a", Body=b"sealed")
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"sealed"
    _, strange = self_signed("other", ["other"], days=1, authority=True)
    (tmp_path / "other").write_text(strange)
    for verify in (str(tmp_path / "other"), True):
        with pytest.raises(SSLError):
            connect(variables, verify).list_objects_v2(Bucket=bucket)
    plain = variables["S3_ENDPOINT"].replace("https://", "http://")
    with pytest.raises((BotoCoreError, client.exceptions.ClientError)):
        connect(variables, True, plain).list_objects_v2(Bucket=bucket)
    inside = stage.variables(f"of-{name}", host=False)
    assert inside["S3_CA_CERT"] == "/etc/purveyor/ca.crt"
    assert not set(inside) & {"SSL_CERT_FILE", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"}


def test_our_own_tools_verify_it_and_its_certificate_is_renewed_while_it_runs(
    store: tuple[Stage, str],
) -> None:
    stage, name = store
    assert stage.json("health", name)["healthy"]
    port = stage.variables(f"of-{name}")["S3_PORT"]
    before = presented(stage, port)
    begun = docker("inspect", f"{stage.namespace}-{name}", "-f", "{{.State.StartedAt}}")
    stage.call("POST", f"/external-services/{name}/renew-certificate")
    eventually(lambda: presented(stage, port) != before, patience=60)
    after = docker("inspect", f"{stage.namespace}-{name}", "-f", "{{.State.StartedAt}}")
    assert after == begun
    said = stage.cli("doctor", f"of-{name}")
    assert "1 of 1 servers that speak TLS present what is recorded" in said
    prompt = stage.run("connect", name, stdin="print(len(s3.list_buckets()['Buckets']))\n")
    assert prompt.returncode == 0, prompt.stderr


def test_it_is_backed_up_and_restored_and_goes_back_to_plain_text(store: tuple[Stage, str]) -> None:
    stage, name = store
    backup = stage.json("backup", "run", name)
    assert backup["state"] == "ok"
    stage.cli("backup", "restore", backup["backup_id"], "--new", f"{name}-again")
    assert stage.json("show", f"{name}-again")["current_parameters"]["tls"] == "on"
    stage.cli("delete", f"{name}-again", "--yes")
    stage.cli("update", name, "-p", "tls=off")
    variables = stage.variables(f"of-{name}")
    assert variables["S3_ENDPOINT"].startswith("http://")
    assert "S3_CA_CERT" not in variables
    client = connect(variables, True)
    assert client.get_object(Bucket=variables["S3_BUCKET"], Key="a")["Body"].read() == b"sealed"
    shown = [item for found in stage.json("ca", "show") for item in found["services"]]
    assert name not in shown, "it keeps no authority any more"


def test_a_server_that_is_not_given_a_certificate_says_so(house: Stage) -> None:
    refused = house.run("create", "s3", "sea", "--image", SEAWEEDFS, "-p", "tls=on")
    assert refused.returncode
    assert "Choose RustFS or MinIO" in refused.stderr
    assert house.json("list") == [] or "sea" not in {item["name"] for item in house.json("list")}
