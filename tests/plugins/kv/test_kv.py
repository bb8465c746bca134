"""KV: one suite over all four ways to it, the REST protocol, and projects that do not see each
other's keys."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import redis
from anyio.from_thread import start_blocking_portal

from purveyor_kv import KV, AsyncKV, KVError
from support import Stage, eventually, hanging


@pytest.fixture(scope="module")
def stage(house: Stage) -> Stage:
    house.cli("kv", "enable")
    for project in ("alpha", "beta"):
        house.cli("project", "create", project)
        house.cli("link", "kv", project)
    return house


@pytest.fixture(scope="module")
def values(stage: Stage) -> dict[str, str]:
    """What a link injects into alpha's production."""
    return stage.variables("alpha")


@pytest.fixture(scope="module")
def beta(stage: Stage) -> str:
    """The token of beta's production."""
    return stage.variables("beta")["PURVEYOR_TOKEN"]


class Blocking:
    """`AsyncKV` called like `KV`."""

    def __init__(self, portal: Any, kv: AsyncKV) -> None:
        self._portal, self._kv = portal, kv

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any, **options: Any) -> Any:
            return await getattr(self._kv, name)(*arguments, **options)

        def blocking(*arguments: Any, **options: Any) -> Any:
            return self._portal.call(lambda: call(*arguments, **options))

        return blocking


@pytest.fixture(params=["http", "http-async", "redis", "redis-async"])
def kv(
    request: pytest.FixtureRequest, values: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Configured from the injected variables alone, as an app is."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    direct = request.param.startswith("redis")
    with redis.from_url(values["KV_URL"]) as owner:
        owner.flushdb()
    if request.param.endswith("async"):
        with start_blocking_portal() as portal:
            yield Blocking(portal, portal.call(lambda: _made(direct)))
    else:
        with KV(direct=direct) as opened:
            yield opened


async def _made(direct: bool) -> AsyncKV:
    return AsyncKV(direct=direct)


@pytest.mark.parametrize("value", [
    "text", "", "grün 💚 \u0000 \"quoted\"", 0, -7, 2**53, 1.5, True, False, None, [], {},
    [1, [2, {"x": None}]],
    {"name": "Ada", "tags": ["a", "b"], "n": {"deep": [True]}}, "null", "12",
    '{"text": "that looks like JSON"}', "x" * 200_000,
], ids=str)  # fmt: skip
def test_a_json_value_comes_back_as_it_was(value: Any, kv: Any) -> None:
    assert kv.set("key", value) is True
    found = kv.get("key")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "key",
    ["a", "with space", "a/b", "grün 💚", "100%", "a?b#c", "..", "{x}", "*", "k" * 32_768],
    ids=ascii,
)
def test_a_key_may_be_any_text(key: str, kv: Any) -> None:
    assert kv.set(key, 1)
    assert kv.get(key) == 1
    assert kv.keys() == [key]
    assert kv.delete(key) == 1


def test_a_key_that_is_not_there(kv: Any) -> None:
    assert kv.get("nothing") is None
    assert kv.ttl("nothing") == -2
    assert kv.delete("nothing") == 0
    assert kv.expire("nothing", 10) is False


def test_a_value_can_be_asked_for_with_its_type(kv: Any) -> None:
    kv.set("numbers", [1, 2, 3])
    assert kv.get("numbers", tuple[int, ...]) == (1, 2, 3)
    assert kv.get("nothing", int) is None
    with pytest.raises(KVError) as refused:
        kv.get("numbers", dict[str, int])
    assert refused.value.code == "bad-input"


def test_nx_and_xx(kv: Any) -> None:
    assert kv.set("once", 1, xx=True) is False
    assert kv.get("once") is None
    assert kv.set("once", 1, nx=True) is True
    assert kv.set("once", 2, nx=True) is False
    assert kv.get("once") == 1
    assert kv.set("once", 3, xx=True) is True
    assert kv.get("once") == 3


def test_keys_end_when_they_should(kv: Any) -> None:
    kv.set("lasting", 1)
    kv.set("seconds", 1, ex=100)
    kv.set("milliseconds", 1, px=90_000)
    assert kv.ttl("lasting") == -1
    assert 60 <= kv.ttl("seconds") <= 100
    assert 60 <= kv.ttl("milliseconds") <= 90
    assert kv.expire("lasting", 50) is True
    assert 20 <= kv.ttl("lasting") <= 50
    kv.set("seconds", 2)
    assert kv.ttl("seconds") == -1
    kv.set("short", 1, px=20)
    eventually(lambda: kv.get("short") is None)


def test_incr(kv: Any) -> None:
    assert [kv.incr("n"), kv.incr("n", 41), kv.incr("n", -2)] == [1, 42, 40]
    assert kv.get("n") == 40
    kv.set("n", 7)
    assert kv.incr("n") == 8


def test_delete_many(kv: Any) -> None:
    for key in "abc":
        kv.set(key, key)
    assert kv.delete("a", "b", "none") == 2
    assert kv.keys() == ["c"]


def test_keys_by_pattern(kv: Any) -> None:
    for key in ("user:1", "user:22", "user:x", "team:1", "a*b"):
        kv.set(key, 1)
    assert kv.keys("user:*") == ["user:1", "user:22", "user:x"]
    assert kv.keys("user:?") == ["user:1", "user:x"]
    assert kv.keys("user:[0-9]*") == ["user:1", "user:22"]
    assert kv.keys("a\\*b") == ["a*b"]
    assert kv.keys("none*") == []


def test_keys_finds_every_key_of_many(kv: Any, values: dict[str, str]) -> None:
    with redis.from_url(values["KV_URL"]) as client:
        client.mset({f"many:{number:05}": number for number in range(20_000)})
    assert kv.keys("many:*9") == [f"many:{number:05}" for number in range(9, 20_000, 10)]


BAD: dict[str, Callable[[Any], Any]] = {
    "a key of 64 KiB": lambda kv: kv.get("k" * 65_536),
    "an empty key": lambda kv: kv.set("", 1),
    "an empty key to delete": lambda kv: kv.delete("a", ""),
    "ex of nothing": lambda kv: kv.set("a", 1, ex=0),
    "px below nothing": lambda kv: kv.set("a", 1, px=-5),
    "ex beyond time": lambda kv: kv.set("a", 1, ex=2**63),
    "ex and px": lambda kv: kv.set("a", 1, ex=1, px=1),
    "nx and xx": lambda kv: kv.set("a", 1, nx=True, xx=True),
    "an amount beyond 64 bits": lambda kv: kv.incr("a", 2**64),
    "expire at once": lambda kv: kv.expire("a", 0),
    "no pattern": lambda kv: kv.keys(""),
    "an open bracket": lambda kv: kv.keys("user:[1"),
    "a lone backslash": lambda kv: kv.keys("user\\"),
    "a pattern of 2 KiB": lambda kv: kv.keys("*" * 2048),
    "text that UTF-8 cannot hold": lambda kv: kv.set("\ud800", 1),
    "a value that is not JSON": lambda kv: kv.set("a", object()),
}


@pytest.mark.parametrize("attempt", BAD)
def test_bad_input_is_refused_and_changes_nothing(attempt: str, kv: Any) -> None:
    kv.set("there", "before")
    with pytest.raises(KVError) as refused:
        BAD[attempt](kv)
    error = refused.value
    assert (error.code, error.status) == ("bad-input", 400)
    assert error.title
    assert error.detail
    assert kv.keys() == ["there"]
    assert kv.get("there") == "before"


def test_incr_on_text_says_why(kv: Any) -> None:
    kv.set("word", "twelve")
    with pytest.raises(KVError) as refused:
        kv.incr("word")
    assert refused.value.status == 400
    assert "not a whole number" in refused.value.detail
    assert kv.get("word") == "twelve"


def test_another_kind_of_value_is_said(kv: Any, values: dict[str, str]) -> None:
    with redis.from_url(values["KV_URL"]) as client:
        client.lpush("list", 1)
        client.set("plain", "not JSON")
        client.set("binary", b"\xff\xfe")
    with pytest.raises(KVError, match="another kind"):
        kv.get("list")
    assert kv.get("plain") == "not JSON"
    with pytest.raises(KVError, match="neither JSON nor text"):
        kv.get("binary")


def test_what_one_way_writes_the_others_read(kv: Any, values: dict[str, str]) -> None:
    kv.set("shared", {"from": "here"}, ex=100)
    with KV(values["PURVEYOR_API_URL"], values["PURVEYOR_TOKEN"]) as other:
        assert other.get("shared") == {"from": "here"}
        assert other.ttl("shared") > 60
    assert redis.from_url(values["KV_URL"]).get("shared") == b'{"from":"here"}'


# ---------------------------------------------------------------- configuration, errors


def test_without_configuration_the_sdk_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in ("PURVEYOR", "TEMPS"):
        for name in ("API_URL", "TOKEN", "PROJECT_ID"):
            monkeypatch.delenv(f"{prefix}_{name}", raising=False)
    monkeypatch.delenv("KV_URL", raising=False)
    with pytest.raises(KVError, match="PURVEYOR_API_URL"):
        KV()
    with pytest.raises(KVError, match="KV_URL is not set"):
        AsyncKV(direct=True)


def test_the_published_names_work_as_well(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    values = stage.variables("alpha")
    monkeypatch.delenv("KV_URL", raising=False)
    for name in ("API_URL", "TOKEN", "PROJECT_ID"):
        monkeypatch.delenv(f"PURVEYOR_{name}", raising=False)
        monkeypatch.setenv(f"TEMPS_{name}", values[f"TEMPS_{name}"])
    with KV() as opened:
        opened.set("temps", 1)
        assert opened.get("temps") == 1


def test_an_api_that_is_not_there_is_said(stage: Stage) -> None:
    with KV("http://127.0.0.1:9", "token") as lost, pytest.raises(KVError) as refused:
        lost.get("a")
    assert refused.value.status == 502
    assert "does not answer" in refused.value.detail


# ---------------------------------------------------------------- who may what


def post(stage: Stage, token: str, path: str, body: Any, **headers: str) -> httpx.Response:
    with stage.http(token) as client:
        return client.post(f"/api/kv{path}", json=body, headers=headers)


def token_of(stage: Stage, project: str, environment: str = "production") -> str:
    return stage.variables(project, environment)["PURVEYOR_TOKEN"]


def test_a_project_sees_its_own_keys_only(stage: Stage) -> None:
    alpha, beta = token_of(stage, "alpha"), token_of(stage, "beta")
    assert post(stage, beta, "/set", {"key": "secret", "value": "beta's"}).json() == {
        "result": "OK"
    }
    assert post(stage, alpha, "/get", {"key": "secret"}).json() == {"value": None}
    assert "secret" not in post(stage, alpha, "/keys", {"pattern": "*"}).json()["keys"]
    assert post(stage, alpha, "/del", {"keys": ["secret"]}).json() == {"deleted": 0}
    assert post(stage, beta, "/get", {"key": "secret"}).json() == {"value": "beta's"}


def test_environments_of_a_project_do_not_share_keys(stage: Stage) -> None:
    production, preview = token_of(stage, "alpha"), token_of(stage, "alpha", "preview-7")
    post(stage, production, "/set", {"key": "where", "value": "production"})
    assert post(stage, preview, "/get", {"key": "where"}).json() == {"value": None}


def test_a_token_cannot_name_another_project(stage: Stage) -> None:
    beta = stage.json("project", "show", "beta")["id"]
    for named in (beta, str(beta), "beta"):
        refused = post(
            stage, token_of(stage, "alpha"), "/get", {"key": "secret", "project_id": named}
        )
        assert refused.status_code == 403
        assert refused.headers["content-type"] == "application/problem+json"


def test_no_token_and_a_foreign_token_are_refused(stage: Stage) -> None:
    assert post(stage, "", "/get", {"key": "a"}).status_code == 401
    assert post(stage, "pvy_foreign", "/get", {"key": "a"}).status_code == 401
    assert post(stage, "pvy_foreign", "/rest", ["GET", "a"]).status_code == 401


@pytest.mark.parametrize(("verb", "body"), [
    ("set", {"key": "a"}), ("set", {"value": 1}), ("get", {}), ("get", {"key": 7}),
    ("del", {"keys": "a"}),
    ("incr", {"key": "a", "amount": "much"}), ("expire", {"key": "a"}), ("keys", {"pattern": 1}),
    ("get", ["a"]), ("get", "a"),
])  # fmt: skip
def test_bodies_that_do_not_fit_are_refused_by_name(verb: str, body: Any, stage: Stage) -> None:
    refused = post(stage, token_of(stage, "alpha"), f"/{verb}", body)
    assert refused.status_code == 400
    assert refused.json()["errors"]


def test_a_body_that_is_not_json_is_refused(stage: Stage) -> None:
    with stage.http(token_of(stage, "alpha")) as client:
        for body in (b"{", b'{"key": "a", "value": nope}', b"\xff", b""):
            refused = client.post(
                "/api/kv/set", content=body, headers={"Content-Type": "application/json"}
            )
            assert refused.status_code == 400


# ---------------------------------------------------------------- the Upstash REST protocol


REFUSED = [
    ["SELECT", "18"], ["select", 0], ["AUTH", "x"], ["HELLO", 3], ["RESET"], ["QUIT"],
    ["CLIENT", "REPLY", "OFF"], ["MULTI"],
    ["WATCH", "a"], ["EXEC"], ["SUBSCRIBE", "c"], ["PSUBSCRIBE", "*"], ["MONITOR"],
    ["BLPOP", "a", 0], ["WAIT", 1, 0],
    ["XREAD", "block", 0, "STREAMS", "s", "$"], ["CONFIG", "GET", "*"], ["ACL", "LIST"],
    ["FLUSHALL"], ["SWAPDB", 17, 18],
    ["MOVE", "a", 18], ["COPY", "a", "b", "DB", 18],
    ["EVAL", "return redis.call('SELECT', '18')", 0], ["SHUTDOWN"],
    ["FUNCTION", "FLUSH"], ["DEBUG", "SLEEP", 0], ["REPLICAOF", "h", 1], ["KEYS"],
    ["NO-SUCH-COMMAND"], [], {}, "GET a", None,
    [["GET"]],
]  # fmt: skip


@pytest.mark.parametrize("command", REFUSED, ids=json.dumps)
def test_rest_refuses_and_goes_on(
    command: Any, stage: Stage, values: dict[str, str], beta: str
) -> None:
    token = values["PURVEYOR_TOKEN"]
    refused = post(stage, token, "/rest", command)
    assert refused.status_code == 400
    assert list(refused.json()) == ["error"]
    piped = post(stage, token, "/rest/pipeline", [command, ["PING"]])
    assert piped.status_code == 400 or "error" in piped.json()[0]
    assert post(stage, token, "/rest", ["ACL", "WHOAMI"]).json() == {"result": "alpha_production"}
    assert post(stage, beta, "/rest", ["ACL", "WHOAMI"]).json() == {"result": "beta_production"}


def test_rest_takes_commands_as_paths(stage: Stage) -> None:
    with stage.http(token_of(stage, "alpha")) as client:
        base = "/api/kv/rest"
        assert client.get(f"{base}/set/a%2Fb%20c/v%25?EX=100").json() == {"result": "OK"}
        assert client.get(f"{base}/get/a%2Fb%20c").json() == {"result": "v%"}
        assert 60 < client.get(f"{base}/ttl/a%2Fb%20c").json()["result"] <= 100
        assert client.post(f"{base}/set/bytes", content=b"\x00\xffraw").json() == {"result": "OK"}
        plain = client.get(f"{base}/get/bytes", headers={"Upstash-Encoding": "base64"}).json()
        assert plain == {"result": "AP9yYXc="}
        assert client.post(f"{base}/set/once?NX", content=b"1").json() == {"result": "OK"}
        assert client.post(f"{base}/set/once?NX", content=b"2").json() == {"result": None}
        assert client.get(f"{base}/select/18").status_code == 400


def test_rest_encodes_in_base64_when_asked(stage: Stage) -> None:
    token = token_of(stage, "alpha")
    encoded = {"Upstash-Encoding": "base64"}
    assert post(stage, token, "/rest", ["SET", "k", "wörd"], **encoded).json() == {"result": "OK"}
    assert post(stage, token, "/rest", ["GET", "k"], **encoded).json() == {"result": "d8O2cmQ="}
    assert post(stage, token, "/rest", ["GET", "none"], **encoded).json() == {"result": None}
    assert post(stage, token, "/rest", ["STRLEN", "k"], **encoded).json() == {"result": 5}
    post(stage, token, "/rest", ["HSET", "h", "OK", "OK"])
    assert post(stage, token, "/rest", ["HGETALL", "h"], **encoded).json() == {
        "result": ["T0s=", "T0s="]
    }


def test_rest_pipelines_go_on_and_transactions_do_not(stage: Stage) -> None:
    token = token_of(stage, "alpha")
    post(stage, token, "/rest", ["DEL", "t"])
    found = post(
        stage, token, "/rest/pipeline", [["SET", "t", "x"], ["INCR", "t"], ["GET", "t"]]
    ).json()
    assert found[0] == {"result": "OK"}
    assert "not an integer" in found[1]["error"]
    assert found[2] == {"result": "x"}
    done = post(
        stage, token, "/rest/multi-exec", [["SET", "t", 5], ["INCR", "t"], ["MGET", "t", "none"]]
    )
    assert done.json() == [{"result": "OK"}, {"result": 6}, {"result": ["6", None]}]
    undone = post(stage, token, "/rest/multi-exec", [["SET", "t", 9], ["NO-SUCH-COMMAND"]])
    assert undone.status_code == 400
    assert "Nothing was done" in undone.json()["error"]
    assert post(stage, token, "/rest", ["GET", "t"]).json() == {"result": "6"}


def test_many_at_once_never_get_each_others_replies(stage: Stage) -> None:
    tokens = {project: token_of(stage, project) for project in ("alpha", "beta")}

    async def one(client: httpx.AsyncClient, project: str, number: int) -> None:
        headers = {"Authorization": f"Bearer {tokens[project]}"}
        value = f"{project}-{number}"
        body = [
            ["SET", f"n{number % 7}:{number}", value],
            ["GET", f"n{number % 7}:{number}"],
            ["ACL", "WHOAMI"],
        ]
        answer = await client.post("/api/kv/rest/pipeline", json=body, headers=headers)
        assert [item["result"] for item in answer.json()] == ["OK", value, f"{project}_production"]

    async def work() -> None:
        async with httpx.AsyncClient(base_url=stage.address, timeout=120) as client:
            await asyncio.gather(
                *(one(client, project, number) for number in range(200) for project in tokens)
            )

    asyncio.run(work())


# ---------------------------------------------------------------- its life


def test_the_variables_are_those_of_the_contract(stage: Stage) -> None:
    inside = stage.variables("alpha", host=False)
    assert set(inside) == {
        "PURVEYOR_API_URL", "PURVEYOR_TOKEN", "PURVEYOR_PROJECT_ID", "TEMPS_API_URL", "TEMPS_TOKEN",
        "TEMPS_PROJECT_ID",
        "KV_REST_API_URL", "KV_REST_API_TOKEN", "KV_URL",
    }  # fmt: skip
    assert inside["KV_REST_API_URL"] == f"{inside['PURVEYOR_API_URL']}/api/kv/rest"
    assert inside["TEMPS_TOKEN"] == inside["PURVEYOR_TOKEN"] == inside["KV_REST_API_TOKEN"]
    assert f"@{stage.namespace}-kv:6379/" in inside["KV_URL"]
    masked = stage.call("GET", "/external-services/kv/preview-environment-masked")
    assert masked["KV_REST_API_TOKEN"] == masked["PURVEYOR_TOKEN"] == "***"


def test_the_command_line_does_what_the_api_does(stage: Stage) -> None:
    stage.cli("project", "create", "shell")
    stage.cli("link", "kv", "shell")
    whose = ("-p", "shell")
    assert stage.cli("kv", "set", "a", '{"x": [1]}', *whose).strip() == "OK"
    assert json.loads(stage.cli("kv", "get", "a", *whose)) == {"x": [1]}
    assert stage.cli("kv", "set", "b", "plain words", *whose, "--ex", "100").strip() == "OK"
    assert stage.cli("kv", "get", "b", *whose).strip() == '"plain words"'
    assert stage.cli("kv", "set", "b", "1", *whose, "--nx").strip() == "not set"
    assert stage.cli("kv", "incr", "n", "5", *whose).strip() == "5"
    assert 60 < int(stage.cli("kv", "ttl", "b", *whose)) <= 100
    assert stage.cli("kv", "expire", "a", "50", *whose).strip() == "OK"
    assert stage.cli("kv", "keys", *whose).split() == ["a", "b", "n"]
    assert stage.json("kv", "keys", "n*", *whose) == {"keys": ["n"]}
    assert stage.cli("kv", "del", "a", "b", "none", *whose).strip() == "2"
    assert "no environment" in stage.cli("kv", "get", "n", *whose, "-e", "preview", code=4)
    stage.add_environment(whose[1], "preview")
    assert stage.cli("kv", "get", "n", *whose, "-e", "preview").strip() == "null"
    stage.cli("kv", "set", "word", "text", *whose)
    assert "not a whole number" in stage.cli("kv", "incr", "word", *whose, code=2)
    assert "healthy" in stage.cli("kv", "status")


def test_status_tells_the_truth_about_a_server_that_hangs(stage: Stage) -> None:
    assert stage.call("GET", "/kv/status")["healthy"]
    with hanging(f"{stage.namespace}-kv"):
        found = stage.call("GET", "/kv/status")
        assert (found["enabled"], found["healthy"]) == (True, False)
    eventually(lambda: stage.call("GET", "/kv/status")["healthy"])


def test_disable_stops_it_and_enable_brings_everything_back(stage: Stage) -> None:
    token = token_of(stage, "beta")
    post(stage, token, "/set", {"key": "kept", "value": 42})
    found = stage.call("DELETE", "/kv/disable")
    assert (found["enabled"], found["healthy"]) == (False, False)
    refused = post(stage, token, "/get", {"key": "kept"})
    assert refused.status_code == 409
    assert "start" in refused.json()["remedy"]
    found = stage.call("POST", "/kv/enable")
    assert (found["enabled"], found["healthy"], found["version"]) == (True, True, "8.0.2")
    assert post(stage, token, "/get", {"key": "kept"}).json() == {"value": 42}
    assert stage.call("POST", "/kv/enable") == found


def test_update_changes_the_image_and_keeps_the_keys(stage: Stage) -> None:
    token = token_of(stage, "beta")
    post(stage, token, "/set", {"key": "kept", "value": 43})
    with stage.local() as client:
        refused = client.patch("/api/kv/update", json={"parameters": {"nonsense": 1}})
    assert refused.status_code == 400
    assert "nonsense" in refused.json()["errors"]
    found = stage.call(
        "PATCH",
        "/kv/update",
        json={"parameters": {"port": stage.json("show", "kv")["service"]["port"] + 3}},
    )
    assert found["healthy"]
    assert post(stage, token, "/get", {"key": "kept"}).json() == {"value": 43}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "enable"), ("DELETE", "disable"), ("PATCH", "update")]
)
def test_an_app_may_not_switch_it(method: str, path: str, stage: Stage) -> None:
    with stage.http(token_of(stage, "alpha")) as client:
        assert client.request(method, f"/api/kv/{path}", json={}).status_code == 403


def test_before_it_is_enabled_status_says_so_and_update_says_what_to_do(
    make_stage: Callable[..., Stage],
) -> None:
    with make_stage().serving() as fresh:
        assert fresh.call("GET", "/kv/status")["enabled"] is False
        with fresh.local() as client:
            for method, path in (("PATCH", "update"), ("DELETE", "disable")):
                refused = client.request(
                    method, f"/api/kv/{path}", json={} if method == "PATCH" else None
                )
                assert refused.status_code == 404
                assert "enable" in refused.json()["remedy"]
        assert "kv enable" in fresh.cli("kv", "status")


def test_unlinking_ends_access_on_every_way_and_linking_again_brings_the_keys_back(
    stage: Stage,
) -> None:
    stage.cli("project", "create", "back")
    stage.cli("link", "kv", "back")
    before = stage.variables("back")
    post(stage, before["PURVEYOR_TOKEN"], "/set", {"key": "kept", "value": 1})
    opened = redis.from_url(before["KV_URL"])
    assert opened.get("kept") == b"1"
    stage.cli("unlink", "kv", "back")
    assert post(stage, before["PURVEYOR_TOKEN"], "/get", {"key": "kept"}).status_code == 401
    with pytest.raises(redis.RedisError):
        opened.get("kept")
    stage.cli("link", "kv", "back")
    assert post(stage, token_of(stage, "back"), "/get", {"key": "kept"}).json() == {"value": 1}
    stage.cli("unlink", "kv", "back", "--purge")
    stage.cli("link", "kv", "back")
    assert post(stage, token_of(stage, "back"), "/get", {"key": "kept"}).json() == {"value": None}


def test_a_second_kv_of_a_project_is_refused(stage: Stage) -> None:
    stage.cli("create", "kv", "second")
    assert "kv" in stage.cli("link", "second", "alpha", code=5)
    stage.cli("delete", "second", "--yes")


def test_a_request_that_is_given_up_leaves_no_reply_behind_for_the_next(stage: Stage) -> None:
    token = token_of(stage, "alpha")
    with hanging(f"{stage.namespace}-kv"):
        for number in range(3):
            with stage.http(token) as client, pytest.raises(httpx.ReadTimeout):
                client.post("/api/kv/rest", json=["ECHO", f"late {number}"], timeout=0.3)
    for number in range(50):
        assert post(stage, token, "/rest", ["ECHO", f"n{number}"]).json() == {
            "result": f"n{number}"
        }


def test_a_server_that_hangs_is_given_up_and_taken_up_again(stage: Stage) -> None:
    token = token_of(stage, "alpha")
    with hanging(f"{stage.namespace}-kv"):
        refused = post(stage, token, "/get", {"key": "a"})
    assert refused.status_code == 502
    assert "does not answer" in refused.json()["detail"]
    assert post(stage, token, "/rest", ["PING"]).json() == {"result": "PONG"}


def test_a_backup_brings_the_keys_back_and_tokens_go_on(stage: Stage) -> None:
    token = token_of(stage, "beta")
    post(stage, token, "/set", {"key": "kept", "value": {"n": 1}})
    made = stage.call("POST", "/backups/external-services/kv/run")
    assert made["state"] == "ok"
    assert stage.call("POST", f"/backups/{made['id']}/verify")["proven_at"]
    post(stage, token, "/del", {"keys": ["kept"]})
    stage.call("POST", f"/backups/{made['id']}/restore", json={"service_id": "kv"})
    assert post(stage, token, "/get", {"key": "kept"}).json() == {"value": {"n": 1}}
    assert stage.call("GET", "/kv/status")["healthy"]
