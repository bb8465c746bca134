"""A hostile project on a Redis with one server for all: what it tries against others and the server, and what honest apps
do all the same."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from purveyor_redis.rdb import CHECKSUM
from support import Stage, docker, eventually

ALPHA = "alpha_production"


def opened(stage: Stage, project: str, **options: Any) -> Any:
    return redis.from_url(stage.variables(project)["REDIS_URL"], socket_timeout=20, **options)


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    """One small server for two projects, alpha and beta; alpha is the hostile one."""
    with make_stage().serving() as made:
        body = {
            "name": "cache",
            "service_type": "redis",
            "parameters": {"maxmemory": "48mb", "channels": "divided"},
        }
        made.call("POST", "/external-services", json=body)
        for project in ("alpha", "beta"):
            made.call("POST", "/projects", json={"name": project})
            made.call("POST", "/external-services/cache/projects", json={"project_id": project})
        yield made


def fill(client: Any) -> None:
    for number in range(100):
        client.set(f"fill:{number}", b"x" * 1_000_000)


def test_payloads_made_by_hand_are_refused_and_honest_ones_are_taken(stage: Stage) -> None:
    """The payload of a list whose listpack says that it is longer than it is, with the right
    checksum."""
    with opened(stage, "alpha") as client:
        client.rpush("list", *range(20))
        honest = client.dump("list")
        client.restore("again", 0, honest)
        assert client.lrange("again", 0, -1) == client.lrange("list", 0, -1)
        refused = 0
        for place in range(3, len(honest) - 10):
            body = bytearray(honest[:-8])
            body[place] ^= 0xFF
            try:
                client.restore(
                    "made",
                    0,
                    bytes(body) + CHECKSUM.calc(bytes(body)).to_bytes(8, "little"),
                    replace=True,
                )
                client.lrange("made", 0, -1)
                client.rpop("made")
            except redis.exceptions.ResponseError:
                refused += 1
        assert refused
        assert client.ping()


def test_one_that_fills_the_memory_stops_at_the_limit_and_the_administrator_gets_in(
    stage: Stage,
) -> None:
    with opened(stage, "alpha") as client:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            fill(client)
        assert client.info("memory")["used_memory"] < 60 * 2**20
        health = stage.call("GET", "/external-services/cache/health")
        assert health["healthy"], health
        assert stage.call("POST", "/backups/external-services/cache/run", json={})["state"] == "ok"
        client.flushdb()
    with opened(stage, "beta") as client:
        assert client.set("honest", "1")


def test_with_a_grace_both_passwords_work_and_then_the_old_one_ends(stage: Stage) -> None:
    with opened(stage, "beta") as old:
        old.set("kept", "1")
        said = stage.cli("rotate", "beta", "--grace", "1h")
        assert "work for 1h more" in said
        assert "former credentials of beta/production work until" in stage.cli(
            "project", "show", "beta"
        )
        with opened(stage, "beta") as new:
            assert old.get("kept") == new.get("kept") == b"1"
            old.connection_pool.disconnect()
            assert old.ping()
            stage.cli("rotate", "beta")
            for ended in (old, new):
                with pytest.raises(redis.exceptions.RedisError):
                    ended.ping()
    with opened(stage, "beta") as client:
        assert client.get("kept") == b"1"
    assert "former" not in stage.cli("show", "cache")


def test_rotation_ends_the_sessions_that_the_old_password_opened(stage: Stage) -> None:
    with opened(stage, "alpha", single_connection_client=True, retry=None) as thief:
        assert thief.ping()
        stage.cli("rotate", "alpha")
        with pytest.raises(redis.exceptions.ConnectionError):
            thief.ping()
    with opened(stage, "alpha") as client:
        assert client.ping()


def test_unlinking_ends_the_sessions(stage: Stage) -> None:
    with opened(stage, "alpha", single_connection_client=True, retry=None) as client:
        assert client.ping()
        stage.cli("unlink", "cache", "alpha")
        with pytest.raises(redis.exceptions.ConnectionError):
            client.ping()
    stage.cli("link", "cache", "alpha")


def test_a_copy_lets_nobody_in(stage: Stage) -> None:
    variables = stage.variables("alpha")
    stage.cli("clone", "cache", "copy")
    port = stage.json("show", "copy")["service"]["port"]
    copied = redis.Redis(
        port=port, username=ALPHA, password=variables["REDIS_PASSWORD"], socket_timeout=10
    )
    with copied, pytest.raises(redis.exceptions.AuthenticationError):
        copied.ping()
    with opened(stage, "alpha") as client:
        assert client.ping()
    stage.cli("delete", "copy", "--purge", "--yes")


def test_an_endless_script_is_ended(stage: Stage) -> None:
    """What one server for all cannot keep from others lasts no longer than until somebody looks."""
    with opened(stage, "alpha", retry=None) as client:
        client.connection_pool.connection_kwargs["socket_timeout"] = 1
        with pytest.raises(redis.exceptions.RedisError):
            client.eval("while true do end", 0)
    details = set()
    deadline = time.monotonic() + 30
    while (
        not (health := stage.call("GET", "/external-services/cache/health"))["healthy"]
        or not details
    ):
        details.add(health["detail"] or "")
        assert time.monotonic() < deadline, details
        time.sleep(0.2)
    assert any("It was ended" in detail for detail in details), details
    with opened(stage, "beta") as client:
        assert client.ping()


@pytest.mark.nightly
def test_a_script_that_takes_memory_ends_this_server_and_not_the_host(stage: Stage) -> None:
    """What `maxmemory` does not count is counted by the engine."""
    with opened(stage, "beta") as client:
        client.set("kept", "1")
    time.sleep(1.1)  # it is on the disk then
    begun = docker("inspect", "-f", "{{.State.StartedAt}}", f"{stage.namespace}-cache")
    with opened(stage, "alpha", retry=None) as client, pytest.raises(redis.exceptions.RedisError):
        client.eval(
            "local t = {} for n = 1, 3000 do t[n] = string.rep(tostring(n), 500000) end return #t",
            0,
        )
    eventually(
        lambda: (
            docker("inspect", "-f", "{{.State.StartedAt}}", f"{stage.namespace}-cache") != begun
        ),
        150,
    )
    eventually(lambda: stage.call("GET", "/external-services/cache/health")["healthy"])
    with opened(stage, "beta") as client:
        assert client.get("kept") == b"1"
