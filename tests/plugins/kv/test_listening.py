"""Channels over the REST API: an environment hears its own and no other's, and costs no more than
its limits."""

import contextlib
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import anyio
import anyio.lowlevel
import httpx
import pytest
import redis

from purveyor_kv.errors import KVError
from purveyor_kv_service import listening
from purveyor_kv_service.patterns import Patterns, compile_pattern
from servers import awaited
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
            "[-a]ews", "n[e]ws", "\\news", "*[w]s", "news?",
            "n[\\]e]ws", "[^\\]]ews", "[]ews", "[m-\\]]ews", "[^]ews", "n[*]s"]  # fmt: skip
NAMES = ["news", "mews", "n*s", "newss", "n", "s", "-ews", "knews", "nws"]


def test_patterns_mean_what_the_server_means(stage: Stage, alpha: httpx.Client) -> None:
    with redis.from_url(stage.variables("alpha")["KV_URL"]) as client:
        client.flushdb()
        client.mset(dict.fromkeys(NAMES, "1"))
        for pattern in PATTERNS:
            found = {key.decode() for key in client.keys(pattern)}
            ours = {name for name in NAMES if Patterns([pattern]).matches(name.encode()) == [True]}
            assert ours == found, pattern


def test_patterns_of_a_listener_are_held_against_a_name_together() -> None:
    """One step for each byte of the name, whoever chose them: pattern by pattern, going back to the
    last star, thirty-two such as this one held the daemon up for seconds with each message."""
    looks = 0

    class Counted(bytes):
        def __iter__(self) -> Iterator[int]:
            nonlocal looks
            for byte in super().__iter__():
                looks += 1
                yield byte

    hard = "*" + "a" * 500 + "b"
    patterns = Patterns([hard, "a*", hard, "*a"])
    assert patterns.matches(Counted(b"a" * 1024)) == [False, True, False, True]
    assert looks == 1024
    assert patterns.matches(b"a" * 500 + b"b") == [True, True, True, False]
    with pytest.raises(KVError, match="not closed"):
        compile_pattern("[a")


def test_patterns_mean_what_a_plain_search_finds() -> None:
    """Random ones over few letters, held against the meaning written down as it is read."""
    chosen = random.Random(1)

    def fits(places: list[int | None], text: bytes) -> bool:
        if not places:
            return not text
        if places[0] is None:
            return any(fits(places[1:], text[skipped:]) for skipped in range(len(text) + 1))
        return bool(text) and bool(places[0] >> text[0] & 1) and fits(places[1:], text[1:])

    agreed = 0
    for _ in range(300):
        patterns = ["".join(chosen.choices(["a", "b", "*", "?", "[^a]"], k=5)) for _ in range(3)]
        text = bytes(chosen.choices(b"ab", k=chosen.randrange(7)))
        expected = [fits(compile_pattern(pattern), text) for pattern in patterns]
        assert Patterns(patterns).matches(text) == expected, (patterns, text)
        agreed += any(expected)
    assert agreed > 30


class Wire:
    """What stands for the connection to the server."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True


def message(text: bytes) -> bytes:
    return b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$%d\r\n%b\r\n" % (len(text), text)


def an_ear(room: listening.Room) -> tuple[listening.Ear, Wire]:
    ear, wire = listening.Ear(room), Wire()
    ear.connection_made(cast(Any, wire))
    return ear, wire


@awaited
async def test_listeners_of_a_project_hold_so_much_of_ours_together() -> None:
    """One message of 31 MB, or many listeners that read nothing, cost gigabytes before."""
    room = listening.Room()
    large, wire = an_ear(room)
    begin = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$31000000\r\n"
    large.data_received(begin)
    while not wire.aborted:
        large.data_received(b"x" * 65536)
        assert room.waiting <= listening.BACKLOG + listening.MESSAGE + 65536 * 2
    assert room.waiting >= listening.MESSAGE
    large.forget()
    assert room.waiting == 0
    ears = []
    while True:
        ear, wire = an_ear(room)
        ears.append(ear)
        ear.data_received(message(b"x" * 900_000))
        if wire.aborted:
            break
    assert len(ears) == listening.BACKLOGS // 900_000 + 1
    for ear in ears:
        ear.forget()
    assert room.waiting == 0
    ear, wire = an_ear(room)  # one message of the largest size, and others after it, are heard
    for _ in range(3):
        ear.data_received(message(b"x" * listening.MESSAGE))
        assert not wire.aborted
        assert (await ear.next())[2] == b"x" * listening.MESSAGE
    assert room.waiting < 65536


@awaited
async def test_listeners_of_a_project_leave_most_of_the_time_to_others() -> None:
    now = busy = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        await anyio.lowlevel.checkpoint()

    room = listening.Room(lambda: now, sleep)

    async def listener() -> None:
        nonlocal now, busy
        for _ in range(10):
            async with room.turn():
                now, busy = now + 0.002, busy + 0.002

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(listener)
    assert busy == pytest.approx(0.4)
    assert now >= busy / listening.PART - 0.01


def test_a_message_that_nobody_could_hear_is_refused(alpha: httpx.Client) -> None:
    with hearing(alpha, "subscribe/large") as heard:
        next(heard)
        refused = alpha.post("/api/kv/rest/publish/large", content=b"x" * (listening.MESSAGE + 1))
        assert refused.status_code == 400
        assert "bytes at most" in refused.json()["error"]
        assert publish(alpha, "large", "x" * listening.MESSAGE) == 1
        assert len(next(heard)) == len("message,large,") + listening.MESSAGE


@pytest.mark.fortnightly
def test_hard_patterns_and_floods_of_one_project_hold_nobody_else_up(
    stage: Stage, beta: httpx.Client
) -> None:
    """A hundred listeners with thirty-two such patterns each took minutes for one message."""
    variables = stage.variables("alpha")
    hard = "/".join("%2A" + "a" * 120 + chr(ord("b") + number % 20) * (1 + number // 20)
                    for number in range(32))  # fmt: skip
    with contextlib.ExitStack() as held:
        client = held.enter_context(stage.http(variables["PURVEYOR_TOKEN"], connections=None))
        listeners = [
            held.enter_context(hearing(client, f"psubscribe/{hard}")) for _ in range(listening.EACH)
        ]
        assert len([next(each) for each in listeners]) == listening.EACH
        with redis.from_url(variables["KV_URL"]) as direct:
            for _ in range(200):
                direct.publish("alpha_production:" + "a" * 1000, "x" * 1000)
        for number in range(20):
            assert beta.post("/api/kv/set", json={"key": "k", "value": number}).is_success
        assert beta.post("/api/kv/get", json={"key": "k"}).json() == {"value": 19}


def test_a_project_has_so_many_listeners_however_many_environments_it_has() -> None:
    rooms, held = listening.Listening(), contextlib.ExitStack()
    with held:
        for number in range(listening.OF_PROJECT):
            held.enter_context(rooms._counted(bound_to("alpha", number % 7)))
        with pytest.raises(KVError, match="of this project"):
            held.enter_context(rooms._counted(bound_to("alpha", 8)))
        held.enter_context(rooms._counted(bound_to("beta", 9)))
    assert not rooms._rooms


def bound_to(project: str, number: int) -> Any:
    scope = SimpleNamespace(project=project)
    return SimpleNamespace(binding=SimpleNamespace(id=number, scope=scope))
