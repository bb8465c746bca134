"""What is told when a project cannot use its own Redis server, while the service's own server is
well."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from support import Stage, docker, eventually

ALPHA, BETA = "alpha_production", "beta_production"
RARE = pytest.mark.fortnightly  # each waits for a server to start again


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    with make_stage("health-interval = 1").serving() as made:
        made.cli("create", "redis", "q", "-p", "project_maxmemory=8mb")
        for project in ("alpha", "beta"):
            made.cli("project", "create", project)
            made.cli("link", "q", project)
            made.variables(project)
        yield made


@pytest.fixture
def port(stage: Stage) -> str:
    return stage.variables("alpha")["REDIS_PORT"]


def launcher(stage: Stage, *words: str) -> str:
    return docker("exec", f"{stage.namespace}-q", "redis-launcher", *words)


def told(stage: Stage) -> str:
    checked = stage.json("health", "q")
    assert checked["healthy"]
    return checked["detail"] or ""


def process_of(stage: Stage, port: str) -> str:
    lines = dict(line.split()[:2] for line in launcher(stage, "list").splitlines())
    return lines[port]


def signalled(stage: Stage, signal: str, port: str) -> None:
    docker("exec", f"{stage.namespace}-q", "sh", "-c", f"kill -{signal} {process_of(stage, port)}")


def details(stage: Stage) -> list[str]:
    rows = stage.rows(
        "SELECT data ->> 'reason' FROM events WHERE type = 'service.healthy' ORDER BY id"
    )
    return [row[0] or "" for row in rows]


def client_of(stage: Stage, project: str) -> Any:
    return redis.from_url(stage.variables(project)["REDIS_URL"], socket_timeout=10)


def fill(client: Any) -> None:
    for number in range(1000):
        client.set(f"k{number}", "x" * 100_000)


def wrong(stage: Stage, *words: str) -> list[dict[str, Any]]:
    checks: list[dict[str, Any]] = json.loads(stage.run("--json", "doctor", *words).stdout)
    return [item for item in checks if not item["ok"] and item["subject"] == "q"]


def test_all_is_well(stage: Stage) -> None:
    assert told(stage) == ""
    assert wrong(stage) == []
    assert wrong(stage, "alpha") == []


def test_one_that_is_killed_comes_back_and_is_told(stage: Stage, port: str) -> None:
    with client_of(stage, "alpha") as client:
        client.set("kept", "1")
        client.execute_command("WAITAOF", 1, 0, 5000)
    before = process_of(stage, port)
    signalled(stage, "KILL", port)
    eventually(lambda: process_of(stage, port) not in ("-", before))
    with client_of(stage, "alpha") as client:
        assert client.get("kept") == b"1"


def test_one_that_is_stopped_is_told_by_event_and_goes_on(stage: Stage, port: str) -> None:
    signalled(stage, "STOP", port)
    with client_of(stage, "alpha") as client:
        eventually(lambda: any(f"{ALPHA} (db1) was stopped" in item for item in details(stage)))
        assert client.ping()
    eventually(lambda: told(stage) == "")


def test_one_that_is_full_is_told_and_the_others_serve(stage: Stage) -> None:
    with client_of(stage, "beta") as client:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            fill(client)
        eventually(lambda: f"{BETA} (db2) is full" in told(stage), 15)
        eventually(lambda: any(f"{BETA} (db2) is full" in item for item in details(stage)))
        assert [item["name"] for item in wrong(stage)] == ["health"]
        assert "project_maxmemory" in wrong(stage)[0]["detail"]
        with client_of(stage, "alpha") as other:
            assert other.set("writes", "1")
        client.flushall()
    eventually(lambda: told(stage) == "")


@pytest.mark.parametrize(("change", "said"), [
    (("ACL", "SETUSER", "mallory", "on", "nopass", "+@all"), "mallory may log in there"),
    pytest.param(("ACL", "SETUSER", "default", "on", "nopass"), "default may log in there", marks=RARE),
    pytest.param(("ACL", "SETUSER", ALPHA, "nopass"), "lets its account in without a password", marks=RARE),
    pytest.param(("ACL", "SETUSER", ALPHA, "resetpass", ">other"), "does not know the password", marks=RARE),
    pytest.param(("ACL", "SETUSER", ALPHA, "off"), "does not know the password", marks=RARE),
    pytest.param(("ACL", "DELUSER", ALPHA), "does not know its account", marks=RARE),
    pytest.param(("CONFIG", "SET", "maxmemory", "77777777"), "it may take 77777777 bytes", marks=RARE),
])  # fmt: skip
def test_what_keeps_a_project_out_or_lets_others_in(
    change: tuple[str, ...], said: str, stage: Stage, port: str
) -> None:
    launcher(stage, "ask", port, *change)
    found = wrong(stage)
    assert [said in item["detail"] for item in found] == [True], found
    assert found[0]["name"] == ALPHA
    assert any(said in item["detail"] for item in wrong(stage, "alpha"))
    assert not any(said in item["detail"] for item in wrong(stage, "beta"))
    launcher(stage, "restart", port)  # it comes up with the accounts and the limit that are its own
    eventually(lambda: wrong(stage) == [])


def test_a_launcher_of_before_is_asked_what_it_knows(stage: Stage) -> None:
    """It took any word that it did not know for the start of all."""
    refused = docker("exec", f"{stage.namespace}-q", "redis-launcher", "nonsense", check=False)
    assert "list" not in refused
    with client_of(stage, "alpha") as client:
        assert client.ping()
