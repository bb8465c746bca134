"""Whatever server an older Purveyor made, with all that Docker gives by itself: it runs on as it is
when this version takes over, the doctor names it, and its next start contains it, with its data."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import pymongo
import pytest
import redis

import data
from attacks.test_apps import SERVERS
from attacks.told import attack
from of_before import as_before, require_contained, shown
from support import DEMO, MakeStage, Stage, docker, eventually


class Kind(NamedTuple):
    """How a type is filled, what is in it, and one more that is written to it."""

    fill: Callable[[Stage, dict[str, str]], None]
    contents: Callable[[Stage, dict[str, str]], Any]
    write: Callable[[Stage, dict[str, str]], None]


def _write_mongodb(stage: Stage, variables: dict[str, str]) -> None:
    with pymongo.MongoClient(variables["MONGODB_URL"]) as client:
        client[variables["MONGODB_DATABASE"]].notes.insert_one({"text": "more"})


def _write_s3(stage: Stage, variables: dict[str, str]) -> None:
    data.s3(variables).put_object(Bucket=variables["S3_BUCKET"], Key="more", Body=b"more")


def _write_redis(stage: Stage, variables: dict[str, str]) -> None:
    with redis.from_url(variables["REDIS_URL"]) as client:
        client.set("more", "more")


def _kv(stage: Stage, variables: dict[str, str], *command: str) -> Any:
    with stage.http(variables["PURVEYOR_TOKEN"]) as client:
        answer = client.post("/api/kv/rest", json=list(command))
        assert answer.is_success, answer.text
        return answer.json()["result"]


def _blobs(stage: Stage, variables: dict[str, str]) -> Any:
    with stage.http(variables["PURVEYOR_TOKEN"]) as client:
        return client.get("/api/blob/own").content


def _put_blob(stage: Stage, variables: dict[str, str], text: bytes) -> None:
    with stage.http(variables["PURVEYOR_TOKEN"]) as client:
        assert client.post("/api/blob?pathname=own", content=text).is_success


KINDS = {
    "postgres": Kind(
        lambda stage, _: data.fill_postgres(stage),
        lambda stage, _: data.fingerprint(stage),
        lambda stage, variables: data.ask(variables, "CREATE TABLE more (x int)"),
    ),
    "redis": Kind(
        lambda _, variables: data.fill_redis(variables),
        lambda _, variables: data.redis_contents(variables),
        _write_redis,
    ),
    "mongodb": Kind(
        lambda _, variables: data.fill_mongodb(variables),
        lambda _, variables: data.mongodb_contents(variables),
        _write_mongodb,
    ),
    "s3": Kind(
        lambda _, variables: data.fill_s3(variables),
        lambda _, variables: data.s3_contents(variables),
        _write_s3,
    ),
    "kv": Kind(
        lambda stage, variables: _kv(stage, variables, "SET", "own", "grün 💚"),
        lambda stage, variables: _kv(stage, variables, "GET", "own"),
        lambda stage, variables: _kv(stage, variables, "SET", "own", "more"),
    ),
    "blob": Kind(
        lambda stage, variables: _put_blob(stage, variables, b"\x00\xff" * 100_000),
        _blobs,
        lambda stage, variables: _put_blob(stage, variables, b"more"),
    ),
}
APPS = {"kv": ("kv", None, []), "blob": ("blob", None, [])}
EVERYWHERE = ("postgres-17", "redis-8", "seaweedfs")  # on each engine that is tested
HERE = [
    pytest.param(
        name,
        marks=[
            *([pytest.mark.every_engine] if name in EVERYWHERE else []),
            *([] if name == EVERYWHERE[0] else [pytest.mark.fortnightly]),
        ],
    )
    for name in (*SERVERS, *APPS)
]


def made(stage: Stage, name: str) -> str:
    """A service called main, linked to a project; the answer is its type."""
    kind, image, options = (SERVERS | APPS)[name]
    stage.cli("project", "create", "shop")
    if kind in APPS:
        stage.cli(kind, "enable")
        stage.cli("link", kind, "shop")
    else:
        stage.cli("create", kind, "main", "--image", str(image), *options)
        stage.cli("link", "main", "shop")
    return kind


def named(stage: Stage) -> dict[str, Any]:
    """What the doctor says of containers of before, by whose they are."""
    checks = json.loads(stage.run("--json", "doctor").stdout)
    return {item["subject"]: item["detail"] for item in checks if item["name"] == "contained"}


def secret(variables: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in variables.items()
        if name.endswith(("PASSWORD", "SECRET_KEY", "TOKEN", "USER", "PORT"))
    }


@attack(
    "the engine",
    "go on having what an older version gave, past the next start of a server",
    "keep what was written to a server's root file system",
    honest="serves with its data, before and after, each server that there is",
)
@pytest.mark.parametrize("name", HERE)
def test_a_server_of_before_runs_on_and_its_next_start_contains_it(
    name: str, make_stage: MakeStage
) -> None:
    image = (SERVERS | APPS)[name][1]
    if image and not docker("images", "-q", image):
        pytest.skip(f"there is no {image} here")
    stage = make_stage("health-interval = 1")
    with stage.serving():
        kind = made(stage, name)
        slug = kind if kind in APPS else "main"
        container = f"{stage.namespace}-{slug}"
        variables = stage.variables("shop")
        KINDS[kind].fill(stage, variables)
        before = KINDS[kind].contents(stage, variables)
    number = as_before(container, stage.namespace)
    started = shown(container)["State"]["StartedAt"]
    with stage.serving():
        eventually(lambda: stage.run("health", slug).returncode == 0)
        again = stage.variables("shop")
        assert secret(again) == secret(variables)
        variables = again  # the daemon's own port is another one
        assert KINDS[kind].contents(stage, variables) == before
        found = shown(container)
        assert (found["Id"], found["State"]["StartedAt"]) == (number, started), "it is not cut off"
        assert f"purveyor restart {slug}" in named(stage)[slug]
        stage.cli("restart", slug)
        require_contained(container)
        said = docker(
            "exec", "-u", "0", container, "sh", "-c", "cat /mine; echo x >/mine", check=False
        )
        assert said == ""
        assert stage.variables("shop") == variables
        assert KINDS[kind].contents(stage, variables) == before
        KINDS[kind].write(stage, variables)
        assert KINDS[kind].contents(stage, variables) != before
        assert slug not in named(stage)


@pytest.mark.every_engine
def test_an_app_of_before_answers_on_and_its_next_deploy_contains_it(make_stage: MakeStage) -> None:
    stage = make_stage("health-interval = 1")
    given = ("deploy", "shop", DEMO, "--port", "8000", "--health-path", "/healthz")
    with stage.serving():
        stage.furnish({"cache": "redis"}, ["shop"])
        app = stage.json(*given)
    number = as_before(app["container"], stage.namespace, alias="shop-production")
    with stage.serving():
        network = f"{stage.namespace}.shop.production"
        eventually(lambda: network in shown(app["container"])["NetworkSettings"]["Networks"])
        assert httpx.get(f"{app['url']}/healthz").status_code == 200
        assert shown(app["container"])["Id"] == number
        assert "purveyor deploy shop -e production" in named(stage)["shop/production"]
        again = stage.json(*given)
        require_contained(again["container"], closed=False)
        assert set(shown(again["container"])["NetworkSettings"]["Networks"]) == {network}
        assert httpx.get(f"{again['url']}/healthz").status_code == 200
        assert "shop/production" not in named(stage)
