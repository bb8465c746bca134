"""New credentials for a service's administrator: the new ones work, the old ones end, and no app
notices."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import botocore.exceptions
import pymongo
import pymongo.errors
import pytest
import redis
from botocore.config import Config

import data
from support import Stage, docker

pytestmark = pytest.mark.fortnightly

SECRETS = {
    "postgres": "password",
    "redis": "password",
    "mongodb": "password",
    "s3": "secret_key",
    "minio": "secret_key",
}


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    with make_stage().serving() as made:
        yield made


def client(stage: Stage, service: str) -> dict[str, str]:
    """What the administrator logs in with."""
    found: dict[str, str] = stage.call("GET", f"/external-services/{service}/client")["client"][
        "environment"
    ]
    return found


def postgres(environment: dict[str, str], stage: Stage, name: str) -> None:
    port = stage.json("show", name)["service"]["port"]
    data.ask(
        {
            "DATABASE_URL": f"postgresql://postgres:{environment['PGPASSWORD']}@127.0.0.1:{port}/postgres"
        },
        "SELECT 1",
    )


def cache(environment: dict[str, str], stage: Stage, name: str) -> None:
    port = stage.json("show", name)["service"]["port"]
    with redis.Redis(port=port, password=environment["REDISCLI_AUTH"]) as opened:
        opened.ping()


def documents(environment: dict[str, str], stage: Stage, name: str) -> None:
    with pymongo.MongoClient(environment["PURVEYOR_HERE"], serverSelectionTimeoutMS=3000) as opened:
        opened.admin.command("usersInfo", 1)


def objects(environment: dict[str, str], stage: Stage, name: str) -> None:
    boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    ).list_buckets()


REFUSED = (
    data.asyncpg.PostgresError,
    redis.RedisError,
    pymongo.errors.PyMongoError,
    botocore.exceptions.ClientError,
)


@pytest.mark.parametrize(("kind", "log_in"), [
    ("postgres", postgres), ("redis", cache), ("mongodb", documents), ("s3", objects),
    pytest.param("minio", objects, marks=pytest.mark.nightly),
])  # fmt: skip
def test_the_new_ones_work_the_old_ones_end_and_apps_go_on(
    kind: str, log_in: Any, stage: Stage, request: pytest.FixtureRequest
) -> None:
    image = ["--image", request.getfixturevalue("minio")] if kind == "minio" else []
    stage.cli("create", "s3" if kind == "minio" else kind, kind, *image)
    stage.cli("project", "create", f"of-{kind}")
    stage.cli("link", kind, f"of-{kind}")
    app, old = stage.variables(f"of-{kind}"), client(stage, kind)
    log_in(old, stage, kind)
    plan = stage.cli("rotate", "--administrator", kind, "--plan")
    assert SECRETS[kind] in plan
    log_in(old, stage, kind)
    assert "no app had" in stage.cli("rotate", "--administrator", kind).lower()
    new = client(stage, kind)
    assert new != old
    log_in(new, stage, kind)
    with pytest.raises(REFUSED):
        log_in(old, stage, kind)
    assert stage.variables(f"of-{kind}") == app
    assert stage.json("health", kind)["healthy"]
    stage.cli("restart", kind)
    log_in(new, stage, kind)
    secrets = {
        value for value in (*old.values(), *new.values()) if len(value) >= 16 and "://" not in value
    }
    said = stage.cli("--json", "events", "-n", "500") + json.dumps(
        stage.call("GET", "/operations?limit=1000")
    )
    assert not [secret for secret in secrets if secret in said and "purveyor" not in secret]


@pytest.mark.parametrize("kind", ["kv", "blob"])
def test_what_stands_on_another_type_goes_on_too(kind: str, stage: Stage) -> None:
    stage.cli(kind, "enable")
    stage.cli("project", "create", f"of-{kind}")
    stage.cli("link", kind, f"of-{kind}")
    put = ("set", "-p", f"of-{kind}", "a", "1") if kind == "kv" else ("list", "-p", f"of-{kind}")
    stage.cli(kind, *put)
    stage.cli("rotate", "--administrator", kind)
    stage.cli(kind, *put)
    assert stage.json("health", kind)["healthy"]


@pytest.mark.parametrize(("arguments", "says"), [
    (("rotate",), "whose"), (("rotate", "shop", "--administrator", "postgres"), "whose"),
    (("rotate", "--administrator", "nobody"), "no service"),
])  # fmt: skip
def test_what_is_not_clear_is_refused(arguments: tuple[str, ...], says: str, stage: Stage) -> None:
    done = stage.run(*arguments, "--yes")
    assert done.returncode
    assert says in done.stderr


def test_a_stopped_service_is_told_to_be_started(stage: Stage) -> None:
    stage.cli("create", "redis", "asleep")
    stage.cli("stop", "asleep")
    assert "Start it first" in stage.run("rotate", "--administrator", "asleep", "--yes").stderr
    assert docker("inspect", "-f", "{{.State.Status}}", f"{stage.namespace}-asleep") == "exited"
