"""One Redis server for all projects: what is restored is what was there, however much is written
meanwhile; what is not is said by name."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

import everything_redis
from support import REDIS, Stage, docker, eventually

pytestmark = pytest.mark.fortnightly

OLDER = "purveyor-test/redis:7.0"


def admin(stage: Stage, service: str, *words: str, database: int = 0) -> str:
    return stage.cli("connect", service, "--", "-n", str(database), *words).strip()


def own(stage: Stage, project: str = "shop") -> Any:
    return redis.from_url(stage.variables(project)["REDIS_URL"], socket_timeout=30)


def run(stage: Stage, service: str) -> Any:
    return stage.call("POST", f"/backups/external-services/{service}/run", json={})


def manifest(made: dict[str, Any]) -> Any:
    return json.loads((Path(made["location"]) / "manifest.json").read_text())["manifest"]


@contextmanager
def writer(url: str) -> Iterator[None]:
    """Somebody who writes all the time: new keys, and ones that go."""
    over = threading.Event()

    def work() -> None:
        with redis.from_url(url, socket_timeout=30) as client:
            number = int(time.time() * 1000) % 10**9 * 1000
            while not over.is_set():
                number += 1
                try:
                    client.set(f"w:{number}", "x" * 50)
                    client.set(f"w:ends:{number}", "x", px=200)
                except redis.RedisError:  # it is exchanged in between
                    time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def settled(client: Any) -> dict[bytes, Any]:
    """Everything but what the writer wrote."""
    return everything_redis.contents(client, b"w:")


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    """A Redis that holds one of everything, in the database of the one project and in another."""
    with make_stage().serving() as made:
        made.cli("create", "redis", "main", "-p", "channels=divided")
        made.cli("project", "create", "shop")
        made.cli("link", "main", "shop")
        with own(made) as client:
            everything_redis.fill(client)
        admin(made, "main", "FUNCTION", "LOAD", everything_redis.LIBRARY)
        admin(
            made,
            "main",
            "ACL",
            "SETUSER",
            "reporting",
            "on",
            ">secret",
            "~reports:*",
            "+get",
            "(~other:* +set)",
        )
        admin(made, "main", "CONFIG", "SET", "notify-keyspace-events", "KEA")
        admin(made, "main", "CONFIG", "SET", "activerehashing", "no")
        admin(made, "main", "SET", "elsewhere", "here", database=9)
        yield made


def test_the_count_is_of_what_was_written_and_says_what_is_left_out(stage: Stage) -> None:
    with own(stage) as client:
        slot = client.connection_pool.connection_kwargs["db"]
    with writer(stage.variables("shop")["REDIS_URL"]):
        made = run(stage, "main")
    assert made["state"] == "ok", made
    told = manifest(made)
    assert set(told["counts"]["keys"]) == {f"db{slot}", "db9"}
    assert told["counts"]["functions"] == {"libraries": 1}
    assert told["counts"]["keys"][f"db{slot}"] >= 28
    assert told["fleeting"]["keys"][f"db{slot}"] >= 5
    assert [item["what"] for item in told["left_out"]] == ["setting activerehashing"]


def test_beside_a_writer_it_is_proven_restored_and_copied(stage: Stage) -> None:
    with own(stage) as client:
        before = settled(client)
    with writer(stage.variables("shop")["REDIS_URL"]):
        made = run(stage, "main")
        assert stage.call("POST", f"/backups/{made['id']}/verify")["proven_at"]
        stage.call("POST", f"/backups/{made['id']}/restore", json={"new_name": "again"})
        stage.cli("clone", "main", "copy")
    assert admin(stage, "copy", "GET", "elsewhere", database=9) == "here"
    assert "double" in admin(stage, "copy", "FUNCTION", "LIST")
    for name in ("again", "copy"):
        assert "KEA" in admin(
            stage, name, "CONFIG", "GET", "notify-keyspace-events"
        ) or "AKE" in admin(stage, name, "CONFIG", "GET", "notify-keyspace-events")
        users = admin(stage, name, "ACL", "LIST").splitlines()
        assert any("user reporting on" in line and "(~other:*" in line for line in users), users
        assert [line.split()[2] for line in users if "user shop_production" in line] == ["off"]
    stage.cli("restart", "copy")
    assert "A" in admin(stage, "copy", "CONFIG", "GET", "notify-keyspace-events").splitlines()[-1]
    stage.cli("unlink", "main", "shop")
    stage.cli("link", "again", "shop")
    with own(stage) as client:
        after = settled(client)
    stage.cli("unlink", "again", "shop")
    stage.cli("link", "main", "shop")
    stage.cli("delete", "again", "--purge", "--yes")
    stage.cli("delete", "copy", "--purge", "--yes")
    assert after == before


def test_in_place_everything_is_as_it_was(stage: Stage) -> None:
    with own(stage) as client:
        before = settled(client)
    with writer(stage.variables("shop")["REDIS_URL"]):
        made = run(stage, "main")
        admin(stage, "main", "FLUSHALL")
        stage.call("POST", f"/backups/{made['id']}/restore", json={"service_id": "main"})
    with own(stage) as client:
        assert settled(client) == before
    assert admin(stage, "main", "CONFIG", "GET", "notify-keyspace-events").splitlines()[-1]


def test_keys_whose_fields_end_may_go_before_the_proof(stage: Stage) -> None:
    with own(stage) as client:
        client.hset("goes", "field", "x")
        client.execute_command("HPEXPIRE", "goes", 1500, "FIELDS", 1, "field")
        made = run(stage, "main")
        eventually(lambda: not client.exists("goes"))
    assert stage.call("POST", f"/backups/{made['id']}/verify")["proven_at"]


def test_an_upgrade_carries_everything(stage: Stage) -> None:
    stage.call(
        "POST",
        "/external-services",
        json={
            "name": "old",
            "service_type": "redis",
            "parameters": {"docker_image": OLDER, "channels": "divided"},
        },
    )
    stage.cli("project", "create", "elder")
    stage.cli("link", "old", "elder")
    with own(stage, "elder") as client:
        everything_redis.fill(client)
        before = settled(client)
        with writer(stage.variables("elder")["REDIS_URL"]):
            made = run(stage, "old")
            assert stage.call("POST", f"/backups/{made['id']}/verify")["proven_at"]
            stage.call("POST", "/external-services/old/upgrade", json={"docker_image": REDIS})
    with own(stage, "elder") as client:
        assert settled(client) == before
    stage.cli("unlink", "old", "elder")
    stage.cli("delete", "old", "--purge", "--yes")


def test_a_server_that_cannot_read_it_says_why_at_once(stage: Stage) -> None:
    begun = time.monotonic()
    with stage.local() as client:
        body = {"name": "older", "docker_image": OLDER}
        answer = client.post("/api/external-services/main/clone", json=body)
    assert not answer.is_success
    assert "Can't handle RDB format version" in answer.json()["detail"], answer.text
    assert time.monotonic() - begun < 30
    assert "older" not in [item["name"] for item in stage.json("list")]


def test_a_database_beyond_the_sixteenth_comes_over(stage: Stage) -> None:
    network, name = f"{stage.namespace}-theirs", f"{stage.namespace}-wide"
    docker("network", "create", network)
    try:
        docker(
            "run",
            "-d",
            "--name",
            name,
            "--network",
            network,
            REDIS,
            "redis-server",
            "--requirepass",
            "pw",
            "--databases",
            "64",
        )
        eventually(
            lambda: "PONG" in docker("exec", name, "redis-cli", "-a", "pw", "PING", check=False)
        )
        for number in (0, 15, 16, 40):
            docker(
                "exec",
                name,
                "redis-cli",
                "-a",
                "pw",
                "-n",
                str(number),
                "SET",
                "key",
                f"of {number}",
            )
        body = {
            "container_id": name,
            "name": "wide",
            "service_type": "redis",
            "parameters": {"password": "pw"},
        }
        stage.call("POST", "/external-services/import", json=body)
        made = run(stage, "wide")
        assert made["metadata"]["counts"]["keys"] == {"db0": 1, "db15": 1, "db16": 1, "db40": 1}
        stage.cli("clone", "wide", "taken")
        for number in (0, 15, 16, 40):
            assert admin(stage, "taken", "GET", "key", database=number) == f"of {number}"
        assert run(stage, "taken")["metadata"]["counts"] == made["metadata"]["counts"]
        stage.cli("delete", "taken", "--purge", "--yes")
    finally:
        docker("rm", "-f", "-v", name)
        stage.run("delete", "wide", "--yes")
        docker("network", "rm", network, check=False)
