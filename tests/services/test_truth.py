"""On a real engine: what somebody does to containers and networks by hand is seen, told and put
right, and no data is lost."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support import DEMO, MakeStage, Stage, docker, eventually

pytestmark = pytest.mark.fortnightly

WRITE = {
    "main": ("psql", "-U", "postgres", "-Atc", "CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS x"),
    "cache": ("sh", "-c", 'redis-cli --no-auth-warning -a "$REDIS_PASSWORD" set kept 7'),
}


@pytest.fixture(scope="module")
def stage(make_stage: MakeStage) -> Iterator[Stage]:
    with make_stage("health-interval = 2").serving() as made:
        made.furnish({"main": "postgres", "cache": "redis"}, ["alpha"])
        docker("exec", f"{made.namespace}-main", *WRITE["main"])
        yield made


@pytest.fixture(scope="module")
def app(stage: Stage) -> dict[str, Any]:
    """An app with an address, which reads and writes both services."""
    found: dict[str, Any] = stage.json(
        "deploy", "alpha", DEMO, "--port", "8000", "--health-path", "/healthz"
    )
    assert httpx.get(found["url"]).status_code == 200
    return found


def state(name: str) -> tuple[str, str]:
    """Id and state of a container."""
    number, _, word = docker("inspect", "-f", "{{.Id}} {{.State.Status}}", name).partition(" ")
    return number, word


def told(stage: Stage, kind: str) -> list[Any]:
    return [
        json.loads(data)
        for (data,) in stage.rows(f"SELECT data FROM events WHERE type = '{kind}' ORDER BY id")
    ]


def serves(stage: Stage, service: str) -> bool:
    """Healthy, and no incident is open."""
    listed = {item["slug"]: item for item in stage.call("GET", "/external-services/")}
    return bool(
        listed[service]["status"] == "running"
        and stage.call("GET", f"/external-services/{service}/health")["healthy"]
    )


def volume_of(stage: Stage, service: str) -> str:
    (name,) = [name for name in stage.volumes() if name.startswith(f"{stage.namespace}-{service}-")]
    return name


def users(stage: Stage, service: str) -> list[str]:
    """The running containers that have a service's volume."""
    volume = volume_of(stage, service)
    return docker("ps", "--format", "{{.Names}}", "--filter", f"volume={volume}").split()


@pytest.mark.parametrize("service", ["main", "cache"])
def test_a_container_renamed_and_taken_from_the_network_is_taken_back_as_it_runs(
    service: str, stage: Stage
) -> None:
    name = f"{stage.namespace}-{service}"
    before = state(name)
    docker("network", "disconnect", stage.namespace, name)
    docker("rename", name, f"{stage.namespace}-stolen-{service}")
    eventually(lambda: name in docker("ps", "--format", "{{.Names}}").split())
    eventually(lambda: serves(stage, service))
    assert state(name) == before
    assert users(stage, service) == [name]
    assert stage.namespace in docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", name)
    ask = f"import socket; print(socket.gethostbyname('{name}'))"
    assert docker("run", "--rm", "--network", stage.namespace, DEMO, "python3", "-c", ask)


@pytest.mark.parametrize("service", ["main", "cache"])
def test_a_copy_that_was_started_by_hand_on_the_data_keeps_the_service_from_starting(
    service: str, stage: Stage
) -> None:
    name, other = f"{stage.namespace}-{service}", f"{stage.namespace}-by-hand-{service}"
    stage.cli("stop", service)
    volume = volume_of(stage, service)
    mounts = json.loads(docker("inspect", "-f", "{{json .Mounts}}", name))
    (target,) = [item["Destination"] for item in mounts if item["Name"] == volume]
    docker("commit", name, f"{other}:1")
    try:
        mounted = ("-v", f"{volume}:{target}", "--entrypoint", "sleep")
        docker("run", "-d", "--name", other, *mounted, f"{other}:1", "600")
        said = stage.cli("start", service, code=5)
        assert f"is in use by the container {other}" in said
        assert f"docker stop {other}" in said
        assert users(stage, service) == [other]
        docker("stop", other)
        stage.cli("start", service)
        assert users(stage, service) == [name]
    finally:
        docker("rm", "-f", "-v", other, check=False)
        docker("rmi", "-f", f"{other}:1", check=False)


@pytest.mark.parametrize("how", ["kill", "pause", "rm -f"])
def test_a_service_that_somebody_else_ends_is_told_and_up_again(how: str, stage: Stage) -> None:
    incidents, ends = len(told(stage, "service.incident")), len(told(stage, "service.recovered"))
    docker(*how.split(), f"{stage.namespace}-cache")
    eventually(lambda: len(told(stage, "service.recovered")) > ends)
    assert len(told(stage, "service.incident")) > incidents
    word = {"kill": "killed", "pause": "paused", "rm -f": "removed"}[how]
    assert any(word in item["reason"] for item in told(stage, "service.incident")[incidents:])
    assert serves(stage, "cache")


@pytest.mark.parametrize("how", ["stop", "rm -f"])
def test_an_app_that_somebody_else_ends_is_told_and_answers_again(
    how: str, stage: Stage, app: dict[str, Any]
) -> None:
    ends = len(told(stage, "app.recovered"))
    rows = httpx.get(app["url"]).json()["rows"]
    docker(*how.split(), app["container"])
    eventually(lambda: len(told(stage, "app.recovered")) > ends)
    assert eventually(lambda: _rows(app["url"])) > rows
    assert told(stage, "app.incident")[-1]["deployment"] == app["id"]


def _rows(url: str) -> int:
    try:
        return int(httpx.get(url).json()["rows"])
    except (httpx.HTTPError, ValueError):
        return 0


def test_a_network_that_was_lost_is_made_anew_with_everything_on_it(
    stage: Stage, app: dict[str, Any]
) -> None:
    network, show = (
        stage.namespace,
        ("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}"),
    )
    stage.cli("create", "redis", "asleep")
    stage.cli("stop", "asleep")
    before = {name: state(f"{network}-{name}") for name in ("main", "cache")}
    subnet = docker(*show, network)
    eventually(lambda: stage.rows("SELECT value FROM meta WHERE key = 'network-subnets'"))
    for name in docker("ps", "--format", "{{.Names}}", "--filter", f"network={network}").split():
        docker("network", "disconnect", network, name)
    docker("network", "rm", network, check=False)  # the daemon may have put one back by now
    eventually(lambda: serves(stage, "main") and serves(stage, "cache"))
    assert eventually(lambda: _rows(app["url"]))
    assert {name: state(f"{network}-{name}") for name in ("main", "cache")} == before
    assert docker(*show, network) == subnet
    ask = (
        "import urllib.request as u; "
        "print(u.urlopen('http://alpha-production:8000/healthz').status)"
    )
    assert (
        docker(
            "run", "--rm", "--network", f"{network}.alpha.production", DEMO, "python3", "-c", ask
        )
        == "200"
    )
    stage.cli("start", "asleep")
    stage.cli("delete", "asleep", "--purge", "--yes")


def test_an_app_that_ends_again_and_again_is_told_with_what_it_ends_with(stage: Stage) -> None:
    script = "import time; time.sleep(3); raise SystemExit(3)"
    found = stage.json(
        "deploy", "alpha", DEMO, "-e", "looping", "--create", "--", "python3", "-c", script
    )
    eventually(
        lambda: [item for item in told(stage, "app.incident") if item["deployment"] == found["id"]]
    )
    (said,) = [
        item["reason"] for item in told(stage, "app.incident") if item["deployment"] == found["id"]
    ][:1]
    assert "exit code 3" in said
    stage.cli("project", "remove-environment", "alpha", "looping")


def test_nothing_was_lost(stage: Stage) -> None:
    assert stage.sql("main", "SELECT x FROM kept") == ["7"]
    assert stage.json("operations")[0]["state"] != "undoing"
