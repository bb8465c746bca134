"""Channels over the REST API: an environment hears its own and no other's, and costs no more than
its limits."""

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import redis

from purveyor_kv.errors import KVError
from purveyor_kv_service import listening
from purveyor_kv_service.patterns import compiled, matches
from support import Stage, eventually


@pytest.fixture(scope="module")
def stage(house: Stage) -> Stage:
    house.cli("kv", "enable")
    for project in ("alpha", "beta"):
        house.cli("project", "create", project)
        house.cli("link", "kv", project)
    return house


@pytest.fixture
def alpha(stage: Stage) -> Iterator[httpx.Client]:
    with stage.http(stage.variables("alpha")["PURVEYOR_TOKEN"]) as client:
        yield client


@pytest.fixture
def beta(stage: Stage) -> Iterator[httpx.Client]:
    with stage.http(stage.variables("beta")["PURVEYOR_TOKEN"]) as client:
        yield client


def publish(client: httpx.Client, channel: str, text: str) -> int:
    answer = client.post("/api/kv/rest", json=["PUBLISH", channel, text])
    assert answer.is_success, answer.text
    reached: int = answer.json()["result"]
    return reached


@contextmanager
def hearing(client: httpx.Client, path: str) -> Iterator[Iterator[str]]:
    with client.stream("POST", f"/api/kv/rest/{path}", timeout=20) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield (line.removeprefix("data: ") for line in answer.iter_lines() if line)


def test_an_environment_hears_its_own_channels_and_no_others(
    alpha: httpx.Client, beta: httpx.Client
) -> None:
    with (
        hearing(alpha, "subscribe/news/a%2Fb") as heard,
        hearing(beta, "subscribe/news") as others,
        hearing(beta, "psubscribe/*") as everything,
    ):
        assert [next(heard), next(heard)] == ["subscribe,news,1", "subscribe,a/b,2"]
        assert (next(others), next(everything)) == ("subscribe,news,1", "psubscribe,*,1")
        assert publish(alpha, "news", "alpha's, \n of two lines") == 1
        assert publish(alpha, "a/b", "x") == 1
        assert [next(heard), next(heard), next(heard)] == [
            "message,news,alpha's, ",
            " of two lines",
            "message,a/b,x",
        ]
        assert publish(beta, "news", "beta's") == 2
        assert next(others) == "message,news,beta's"
        assert next(everything) == "pmessage,*,news,beta's"


def test_scripts_pipelines_paths_and_the_server_itself_reach_the_same_channel(
    stage: Stage, alpha: httpx.Client
) -> None:
    name = "alpha_production:news"
    with hearing(alpha, "subscribe/news") as heard:
        next(heard)
        with redis.from_url(stage.variables("alpha")["KV_URL"]) as client:
            assert client.publish(name, "direct") == 1
        script = f"return redis.call('PUBLISH', '{name}', 'script')"
        assert alpha.post("/api/kv/rest", json=["EVAL", script, 0]).json() == {"result": 1}
        assert alpha.post("/api/kv/rest/publish/news", content=b"path").json() == {"result": 1}
        for way in ("pipeline", "multi-exec"):
            done = alpha.post(f"/api/kv/rest/{way}", json=[["PUBLISH", "news", way]])
            assert done.json() == [{"result": 1}]
        assert publish(alpha, name, "whole name") == 1
        assert [next(heard).rpartition(",")[2] for _ in range(6)] == [
            "direct", "script", "path", "pipeline", "multi-exec", "whole name",
        ]  # fmt: skip


@pytest.mark.parametrize("path", [
    "subscribe/a//b", "subscribe/" + "/".join(map(str, range(33))),
    "subscribe/" + "x" * 1025, "psubscribe/[a",
])  # fmt: skip
def test_what_cannot_be_listened_to_is_refused(path: str, alpha: httpx.Client) -> None:
    refused = alpha.post(f"/api/kv/rest/{path}")
    assert refused.status_code == 400, refused.text
    assert list(refused.json()) == ["error"]


def test_an_environment_has_so_many_listeners_and_leaves_room_for_others(
    stage: Stage, alpha: httpx.Client, beta: httpx.Client
) -> None:
    variables = stage.variables("alpha")
    listeners = []  # one that nothing holds is closed
    with contextlib.ExitStack() as held:
        client = held.enter_context(stage.http(variables["PURVEYOR_TOKEN"], connections=None))
        for _ in range(listening.EACH):
            listeners.append(held.enter_context(hearing(client, "subscribe/many")))
            assert next(listeners[-1]) == "subscribe,many,1"
        refused = alpha.post("/api/kv/rest/subscribe/many")
        assert refused.status_code == 429
        assert "listeners" in refused.json()["error"]
        assert publish(alpha, "many", "x") == listening.EACH
        with hearing(beta, "subscribe/many") as heard:
            assert next(heard) == "subscribe,many,1"

    def room() -> bool:
        with alpha.stream("POST", "/api/kv/rest/subscribe/many") as answer:
            return answer.status_code == 200

    eventually(room)


def test_one_who_does_not_read_is_let_go(stage: Stage, alpha: httpx.Client) -> None:
    host, port = alpha.base_url.host, alpha.base_url.port or 80
    token = stage.variables("alpha")["PURVEYOR_TOKEN"]
    with socket.create_connection((host, port), timeout=30) as slow:
        slow.sendall(
            f"POST /api/kv/rest/subscribe/slow HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
        eventually(lambda: publish(alpha, "slow", "x" * 1_000_000) == 0)
        seen = b""
        while not seen.endswith(b"0\r\n\r\n") and (data := slow.recv(1_000_000)):
            seen += data
    assert b"message,slow,xxx" in seen


@pytest.mark.parametrize("verb", ["rotate", "unlink", "token"])
def test_what_ends_the_access_ends_who_listens(verb: str, stage: Stage, beta: httpx.Client) -> None:
    with hearing(beta, "subscribe/news") as heard:
        next(heard)
        if verb == "rotate":
            stage.cli("rotate", "beta")
        elif verb == "unlink":
            stage.cli("unlink", "kv", "beta", "--now", "--yes")
        else:
            tokens = stage.json("token", "list")
            mine = [item["id"] for item in tokens if item["name"] == "beta/production"]
            stage.cli("token", "revoke", str(max(mine)))
            # the next message is not for it any more
            with redis.from_url(stage.variables("beta")["KV_URL"]) as client:
                client.publish("beta_production:news", "x")
        assert list(heard) == []
    if verb == "unlink":
        stage.cli("link", "kv", "beta")


PATTERNS = ["*", "n?ws", "n*s", "[mn]ews", "[^m]ews", "[k-o]ews", "[o-k]ews", "n\\*s", "*e*", "news*", "n", "", "**s",
            "[-a]ews", "n[e]ws", "\\news", "*[w]s", "news?"]  # fmt: skip
NAMES = ["news", "mews", "n*s", "newss", "n", "s", "-ews", "knews", "nws"]


def test_patterns_mean_what_the_server_means(stage: Stage, alpha: httpx.Client) -> None:
    with redis.from_url(stage.variables("alpha")["KV_URL"]) as client:
        client.flushdb()
        client.mset(dict.fromkeys(NAMES, "1"))
        for pattern in PATTERNS:
            found = {key.decode() for key in client.keys(pattern)}
            ours = {name for name in NAMES if matches(compiled(pattern), name.encode())}
            assert ours == found, pattern


def test_no_pattern_costs_more_than_its_length_times_the_texts() -> None:
    looks = 0

    class Counted(bytes):
        def __getitem__(self, place: Any) -> Any:
            nonlocal looks
            looks += 1
            return super().__getitem__(place)

    pattern = compiled("*a" * 500 + "b")
    assert not matches(pattern, Counted(b"a" * 1024))
    assert looks <= len(pattern) * 1024
    with pytest.raises(KVError, match="not closed"):
        compiled("[a")
