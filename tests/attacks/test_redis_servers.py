"""A hostile project on a Redis where each environment has a server of its own: it has that, and its
neighbour notices nothing."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from attacks.matrix import REDIS_SERVERS, Attack
from support import Stage, docker, eventually

ALPHA = "alpha_production"


def opened(stage: Stage, project: str, **options: Any) -> Any:
    return redis.from_url(
        stage.variables(project)["REDIS_URL"], **{"socket_timeout": 20, **options}
    )


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    """Alpha is the hostile one; beta has something."""
    with make_stage().serving() as made:
        body = {
            "name": "cache",
            "service_type": "redis",
            "parameters": {"project_maxmemory": "32mb"},
        }
        made.call("POST", "/external-services", json=body)
        for project in ("alpha", "beta"):
            made.call("POST", "/projects", json={"name": project})
            made.call("POST", "/external-services/cache/projects", json={"project_id": project})
        with opened(made, "beta") as client:
            client.set("secret", "beta's")
        yield made


@pytest.fixture(scope="module")
def alpha(stage: Stage) -> str:
    return stage.variables("alpha")["REDIS_URL"]


@pytest.fixture
def beta(stage: Stage) -> Iterator[Any]:
    """The neighbour, before and after: the same process, and what it had."""
    container = f"{stage.namespace}-cache"
    with opened(stage, "beta") as client:
        before = client.info("server")["run_id"]
        yield client
        assert client.get("secret") == b"beta's"
        assert client.info("server")["run_id"] == before
        assert client.set("honest", "1")
    assert docker("inspect", "-f", "{{.State.Running}}", container) == "true"


@pytest.mark.parametrize("attack", REDIS_SERVERS.attacks, ids=REDIS_SERVERS.ids())
def test_what_is_refused(attack: Attack, alpha: str, beta: Any) -> None:
    with redis.from_url(alpha, socket_timeout=20) as client:
        with pytest.raises(redis.exceptions.RedisError) as refused:
            client.execute_command(*attack.do)
        assert "unknown" not in str(refused.value).lower(), refused.value
    with redis.from_url(alpha, socket_timeout=20) as client:
        client.execute_command(*REDIS_SERVERS.honest[attack.honest])


def test_what_it_may_see_is_its_own(stage: Stage, alpha: str, beta: Any) -> None:
    with redis.from_url(
        alpha, socket_timeout=20, protocol=3, single_connection_client=True
    ) as client:
        client.flushall()
        client.set("own", "1")
        assert {*client.scan_iter()} == {b"own"}
        assert {item["user"] for item in client.client_list()} <= {ALPHA, "purveyor"}
        for number in range(16):
            client.select(number)
            assert set(client.keys()) <= {b"own"}
        client.execute_command("CLIENT", "TRACKING", "ON", "BCAST")
        ears = client.pubsub()
        ears.psubscribe("*", "__keyevent@*__:*")
        for _ in range(2):
            assert ears.get_message(timeout=20)["type"] == "psubscribe"
        beta.set("touched", "1")
        beta.publish("news", "x")
        assert ears.get_message(timeout=1) is None
        with redis.from_url(alpha) as other:
            other.set("own", "2")
            assert ears.get_message(timeout=20)["type"] == "pmessage"


def test_anothers_server_lets_nobody_else_in(stage: Stage, alpha: str, beta: Any) -> None:
    own, others = stage.variables("alpha"), stage.variables("beta")
    host = others["REDIS_HOST"]
    for user, password in ((ALPHA, own["REDIS_PASSWORD"]), ("purveyor", ""), ("default", "")):
        client = redis.Redis(
            host, int(others["REDIS_PORT"]), username=user, password=password, retry=None
        )
        with client, pytest.raises(redis.exceptions.RedisError):
            client.ping()
    client = redis.Redis(host, 6379, username=ALPHA, password=own["REDIS_PASSWORD"], retry=None)
    with client, pytest.raises(redis.exceptions.AuthenticationError):
        client.ping()
    container = f"{stage.namespace}-cache"
    for words in (
        ("ls", "/data/projects/7002/data"),
        ("cat", "/data/projects/7002/accounts.conf"),
        ("cat", "/data/users.acl"),
        ("redis-cli", "-s", "/run/redis-projects/7002/sock", "PING"),
        ("cat", "/run/redis-projects/admin/7001"),
        ("sh", "-c", "echo x > /data/projects/7001/accounts.conf"),
        ("cat", "/etc/purveyor/server.pem"),
    ):  # who broke out of its server
        said = docker(
            "exec", "-u", "7001:7001", container, "sh", "-c", '"$@" 2>&1; true', "sh", *words
        )
        assert "denied" in said, (words, said)
    with redis.from_url(alpha) as client:
        assert client.ping()


MOST = 1000  # connections of one environment


@pytest.mark.fortnightly
def test_its_memory_and_its_connections_are_its_own(stage: Stage, alpha: str, beta: Any) -> None:
    with redis.from_url(alpha, socket_timeout=20) as client:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            _fill(client)
        assert beta.set("more", b"x" * 1_000_000)
        assert client.flushall()
        beta.delete("more")
    held: list[Any] = []
    try:
        assert _open_many(alpha, held) <= MOST
        with opened(stage, "beta") as another:
            assert another.ping()
        health = stage.call("GET", "/external-services/cache/health")
        assert health["healthy"], health
    finally:
        for client in held:
            client.close()
    with redis.from_url(alpha) as client:
        eventually(lambda: _answers(client))


def _fill(client: Any) -> None:
    for number in range(100):
        client.set(f"fill:{number}", b"x" * 1_000_000)


def _open_many(url: str, held: list[Any]) -> int:
    """How many are open when one more is refused, or when 1100 were let in: then the first ones
    were closed, for what they take of the environment's memory."""
    for number in range(MOST + 100):
        try:
            held.append(redis.from_url(url, single_connection_client=True, retry=None))
            held[-1].ping()
        except redis.RedisError:
            return number
    with redis.from_url(url) as client:
        return int(client.info("clients")["connected_clients"])


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.mark.fortnightly
def test_a_script_without_end_keeps_nobody_else_waiting_and_no_backup_from_others(
    stage: Stage, alpha: str, beta: Any
) -> None:
    def run() -> None:
        with (
            redis.from_url(alpha, socket_timeout=1, retry=None) as client,
            pytest.raises(redis.exceptions.RedisError),
        ):
            client.eval("redis.call('SET', 'x', 1) while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert beta.get("secret") == b"beta's"
    made = stage.call("POST", "/backups/external-services/cache/run", json={})
    assert made["state"] == "ok", made
    assert made["metadata"]["counts"]["keys"]["db2"] >= 1
    with redis.from_url(alpha) as client:
        eventually(lambda: _answers(client))


@pytest.mark.nightly
def test_a_script_that_takes_memory_ends_its_own_server(
    stage: Stage, alpha: str, beta: Any
) -> None:
    with redis.from_url(alpha, socket_timeout=60, retry=None) as client:
        client.set("kept", "1")
        client.execute_command("WAITAOF", 1, 0, 10_000)
        with pytest.raises(redis.exceptions.RedisError):
            client.eval(
                "local t = {} for n = 1, 3000 do t[n] = string.rep(tostring(n), 500000) end return "
                "#t",
                0,
            )
        eventually(lambda: _answers(client))
        assert client.get("kept") == b"1"
