"""A server for each environment, beside the service's own in its container."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

import everything_redis
from purveyor.kernel.db.secrets import open_secrets
from purveyor_hooks import FoundContainer, Image, Service
from purveyor_redis import plugin
from support import REDIS, Stage, docker, eventually

pytestmark = pytest.mark.fortnightly
OLDER = "purveyor-test/redis:7.0"


def opened(stage: Stage, project: str, environment: str = "production", **options: Any) -> Any:
    return redis.from_url(
        stage.variables(project, environment)["REDIS_URL"], socket_timeout=20, **options
    )


def make(stage: Stage, name: str, *projects: str, **parameters: str) -> str:
    """A Redis of this kind with its projects; the answer is its container."""
    values = {"project_maxmemory": "32mb", **parameters}
    stage.call(
        "POST",
        "/external-services",
        json={"name": name, "service_type": "redis", "parameters": values},
    )
    for project in projects:
        stage.call("POST", "/projects", json={"name": project})
        stage.call("POST", f"/external-services/{name}/projects", json={"project_id": project})
    return f"{stage.namespace}-{name}"


def end(stage: Stage, name: str, *projects: str) -> None:
    for project in projects:
        stage.cli("unlink", name, project, "--now")
    stage.cli("delete", name, "--purge")


def launched(container: str) -> dict[str, list[str]]:
    """What the launcher says of each server: process, starts, last status."""
    lines = docker("exec", container, "redis-launcher", "list").splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines}


@contextmanager
def writer(url: str) -> Iterator[list[int]]:
    """Somebody who counts all the time; what was answered, one after the other."""
    over, answered = threading.Event(), [0]

    def work() -> None:
        with redis.from_url(url, socket_timeout=5, retry=None) as client:
            while not over.is_set():
                try:
                    answered.append(client.incr("w:count"))
                except redis.RedisError:  # it is exchanged or killed in between
                    time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield answered
    finally:
        over.set()
        thread.join()


def contents(client: Any) -> dict[bytes, Any]:
    return everything_redis.contents(client, b"w:")


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    """Two projects, one with everything that a Redis can hold."""
    with make_stage().serving() as made:
        make(made, "queue", "alpha", "beta")
        with opened(made, "alpha") as client:
            everything_redis.fill(client)
            client.function_load(everything_redis.LIBRARY)
            client.select(5)
            client.set("further", "1")
        with opened(made, "beta") as client:
            client.mset({"one": 1, "two": 2})
        yield made


@pytest.mark.daily
def test_each_environment_has_a_server_with_all_numbers_and_all_channels(stage: Stage) -> None:
    variables, others = stage.variables("alpha", host=False), stage.variables("beta", host=False)
    assert (variables["REDIS_HOST"], variables["REDIS_PORT"]) == (
        f"{stage.namespace}-queue",
        "7001",
    )
    assert (variables["REDIS_DATABASE"], others["REDIS_PORT"]) == ("0", "7002")
    with opened(stage, "alpha") as alpha, opened(stage, "beta") as beta:
        assert {*beta.keys()} == {b"one", b"two"}
        ears = beta.pubsub()
        ears.psubscribe("*")
        assert ears.get_message(timeout=20)["type"] == "psubscribe"
        alpha.publish("news", "of alpha")
        beta.publish("news", "of beta")
        assert ears.get_message(timeout=20)["data"] == b"of beta"
    assert [item for item in stage.json("doctor", "alpha") if not item["ok"]] == []


@pytest.mark.daily
def test_it_is_looked_at(stage: Stage) -> None:
    def rows(*path: str) -> dict[str, list[str]]:
        found = stage.call("GET", "/external-services/queue/browse", params={"path": list(path)})
        return {row[0]: row[1:] for row in found["rows"]}

    assert set(rows()) == {"db1", "db2"}
    assert rows("db2") == {"one": ["string", "for ever"], "two": ["string", "for ever"]}
    assert rows("db2", "one") == {"value": ["1"]}
    assert rows("db1", "hash:small") == {"a": ["1"], "b": ["zwei"]}
    assert rows("db1", "zset:small")["2.5"] == ["two"]
    assert len(rows("db1", "list")) == 200


def test_more_than_fifteen(stage: Stage) -> None:
    container = make(stage, "many", "crowd")
    for number in range(17):
        with opened(stage, "crowd", f"e{number}") as client:
            client.set("number", number)
    assert len(launched(container)) == 18
    for number in range(17):
        with opened(stage, "crowd", f"e{number}") as client:
            assert (client.get("number"), client.dbsize()) == (str(number).encode(), 1)
    stage.cli("unlink", "many", "crowd", "--purge")
    assert launched(container) == {}
    stage.cli("delete", "many", "--purge")


@pytest.mark.daily
def test_beside_a_writer_it_is_proven_restored_and_copied_and_nobody_is_let_in(
    stage: Stage,
) -> None:
    with opened(stage, "alpha") as client:
        before = contents(client)
    variables = stage.variables("alpha")
    with writer(variables["REDIS_URL"]):
        made = stage.call("POST", "/backups/external-services/queue/run", json={})
        assert (made["state"], made["error_message"]) == ("ok", "")
        assert set(made["metadata"]["counts"]["keys"]) == {"db1", "db2"}
        assert made["metadata"]["counts"]["functions"] == {"db1": 1}
        assert stage.call("POST", f"/backups/{made['id']}/verify")["proven_at"]
        stage.call("POST", f"/backups/{made['id']}/restore", json={"new_name": "again"})
        stage.cli("clone", "queue", "copy")
    for name in ("again", "copy"):
        assert set(launched(f"{stage.namespace}-{name}")) == {"7001", "7002"}
        said = docker(
            "exec", f"{stage.namespace}-{name}", "redis-launcher", "ask", "7001", "ACL", "USERS"
        ).split()
        assert sorted(said) == ["default", "purveyor"]
    stage.cli("unlink", "queue", "alpha", "--now")
    stage.cli("link", "copy", "alpha")
    with opened(stage, "alpha") as client:
        after = contents(client)
        client.select(5)
        assert client.get("further") == b"1"
        assert client.fcall("double", 0, 4) == 8
    stage.cli("unlink", "copy", "alpha", "--now")
    stage.cli("link", "queue", "alpha")
    for name in ("again", "copy"):
        stage.cli("delete", name, "--purge")
    assert after == before


def test_one_of_them_is_taken_out_of_a_backup(stage: Stage, tmp_path: Path) -> None:
    made = stage.call("POST", "/backups/external-services/queue/run", json={})
    stage.cli(
        "backup", "extract", str(made["id"]), "--database", "db2", "-o", str(tmp_path / "two.rdb")
    )
    assert (tmp_path / "two.rdb").read_bytes().startswith(b"REDIS")


def test_in_place_everything_is_as_it_was_and_upgraded_too(stage: Stage) -> None:
    container = make(stage, "old", "elder", docker_image=OLDER)
    with opened(stage, "elder") as client:
        everything_redis.fill(client, 300_000)
        before = contents(client)
    with writer(stage.variables("elder")["REDIS_URL"]):
        made = stage.call("POST", "/backups/external-services/old/run", json={})
        with opened(stage, "elder") as client:
            client.flushall()
        stage.call("POST", f"/backups/{made['id']}/restore", json={"service_id": "old"})
        stage.call("POST", "/external-services/old/upgrade", json={"docker_image": REDIS})
    with opened(stage, "elder") as client:
        assert contents(client) == before
        assert client.info("server")["redis_version"].startswith("8.")
    assert list(launched(container)) == ["7001"]
    end(stage, "old", "elder")


@pytest.mark.daily
def test_a_service_with_one_server_for_all_is_divided_with_its_data_and_back(stage: Stage) -> None:
    stage.call(
        "POST",
        "/external-services",
        json={"name": "one", "service_type": "redis", "parameters": {"channels": "divided"}},
    )
    for project in ("gamma", "delta"):
        stage.cli("project", "create", project)
        stage.cli("link", "one", project)
    with opened(stage, "gamma") as gamma, opened(stage, "delta") as delta:
        everything_redis.fill(gamma)
        before = contents(gamma)
        delta.set("mine", "1")
    stage.cli("connect", "one", "--", "SET", "nobodys", "1")
    old = stage.variables("gamma")
    assert "deploy its projects again" in stage.cli(
        "upgrade", "one", "-p", "channels=open", "--plan"
    )
    stage.cli("upgrade", "one", "-p", "channels=open", "--rehearse")
    with writer(old["REDIS_URL"]):
        stage.cli("upgrade", "one", "-p", "channels=open")
    assert stage.variables("gamma", host=False)["REDIS_PORT"] == "7001"
    with opened(stage, "gamma") as gamma, opened(stage, "delta") as delta:
        assert contents(gamma) == before
        assert delta.keys() == [b"mine"]
        delta.set("since", "1")
    with (
        redis.from_url(old["REDIS_URL"]) as client,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        client.ping()
    assert stage.cli("connect", "one", "--", "GET", "nobodys").strip() == "1"
    stage.cli("update", "one", "-p", "maxmemory_policy=allkeys-lru", "-p", "project_maxmemory=16mb")
    with opened(stage, "gamma") as gamma:
        assert gamma.config_get("maxmemory*") | {
            "maxmemory-policy": "allkeys-lru",
            "maxmemory": str(16 * 2**20),
        } == (gamma.config_get("maxmemory*"))
    assert "runs" in stage.cli("upgrade", "one", "-p", "channels=open", code=2)
    stage.cli("upgrade", "one", "--undo")
    assert stage.variables("gamma") == old
    with opened(stage, "gamma") as gamma, opened(stage, "delta") as delta:
        assert contents(gamma) == before
        assert delta.keys() == [b"mine"]
    end(stage, "one", "gamma", "delta")


def test_a_kill_of_the_launcher_or_of_a_server_loses_nothing_that_was_answered(
    stage: Stage,
) -> None:
    container = f"{stage.namespace}-queue"
    with writer(stage.variables("beta")["REDIS_URL"]) as answered:
        for kill in (
            lambda: docker(
                "exec", container, "sh", "-c", f"kill -9 {launched(container)['7002'][0]}"
            ),
            lambda: docker("kill", "-s", "KILL", container),
        ):
            eventually(lambda known=len(answered): len(answered) > known + 100)
            kill()
            known = len(answered)
            if docker("inspect", "-f", "{{.State.Running}}", container) != "true":
                stage.cli("start", "queue", code=0)
            eventually(lambda known=known: len(answered) > known + 100, 120)
    counts = answered[1:]
    assert counts == sorted({*counts})
    assert [item for item in stage.json("doctor", "beta") if not item["ok"]] == []


def test_with_a_grace_both_passwords_work_and_then_the_old_one_ends(stage: Stage) -> None:
    with opened(stage, "beta") as old:
        stage.cli("rotate", "beta", "--grace", "1h")
        with opened(stage, "beta") as new:
            old.connection_pool.disconnect()
            assert old.get("two") == new.get("two") == b"2"
            stage.cli("restart", "queue")
            assert eventually(lambda: answers(old) and answers(new))
            stage.cli("rotate", "beta")
            assert not answers(old)
            assert not answers(new)


def answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def test_rotation_and_unlinking_end_sessions_even_of_a_script_without_end(stage: Stage) -> None:
    with opened(stage, "beta", single_connection_client=True, retry=None) as thief:
        thief.connection_pool.connection_kwargs["socket_timeout"] = 1
        with pytest.raises(redis.exceptions.RedisError):
            thief.eval("redis.call('SET', 'x', 1) while true do end", 0)
        stage.cli("rotate", "beta")
    with opened(stage, "beta", single_connection_client=True, retry=None) as client:
        assert client.get("two") == b"2"
        stage.cli("unlink", "queue", "beta", "--now")
        with pytest.raises(redis.exceptions.ConnectionError):
            client.ping()
    assert set(launched(f"{stage.namespace}-queue")) == {"7001", "7002"}
    stage.cli("link", "queue", "beta")
    with opened(stage, "beta") as client:
        assert client.get("two") == b"2"


def test_a_keeper_that_is_killed_is_replaced_and_its_server_is_kept_again(stage: Stage) -> None:
    container = make(stage, "kept", "keeper")
    keeper = "/run/redis-projects/7001.keeper/pid"
    former, server = docker("exec", container, "cat", keeper), launched(container)["7001"][0]
    docker("exec", container, "sh", "-c", f"kill -9 {former.strip()} && kill -9 {server}")
    eventually(lambda: launched(container)["7001"][0] not in ("-", server), 60)
    assert docker("exec", container, "cat", keeper) != former
    with opened(stage, "keeper") as client:
        eventually(lambda: answers(client))
    former = docker("exec", container, "cat", keeper)
    docker("exec", container, "sh", "-c", f"kill -9 {former.strip()}")
    stage.cli("unlink", "kept", "keeper", "--purge")  # the server runs, and nobody keeps it
    assert launched(container) == {}
    assert docker("exec", container, "ls", "/data/projects") == ""
    stage.cli("delete", "kept", "--purge")


def test_a_bind_that_was_cut_off_is_made_again(stage: Stage) -> None:
    container = make(stage, "cut", "cutter")
    stage.cli("unlink", "cut", "cutter", "--purge")
    docker(
        "exec",
        container,
        "sh",
        "-c",
        "mkdir -p /data/projects/7001 && echo x >/data/projects/7001/accounts.new",
    )
    stage.cli("link", "cut", "cutter")
    with opened(stage, "cutter") as client:
        assert client.ping()
    end(stage, "cut", "cutter")


def test_one_made_before_there_was_the_choice_stays_one_server_for_all(stage: Stage) -> None:
    """Started, copied, restored, exported and upgraded: nothing divides it but who says so."""
    stage.cli("create", "redis", "elder", "-p", "channels=divided")
    stage.cli("project", "create", "ancient")
    stage.cli("link", "elder", "ancient")
    secrets = open_secrets(stage.state)
    with sqlite3.connect(stage.state / "purveyor.db") as db:
        (sealed,) = db.execute("SELECT parameters FROM services WHERE slug = 'elder'").fetchone()
        values = secrets.open(sealed)
        del values["channels"]
        db.execute(
            "UPDATE services SET parameters = ? WHERE slug = 'elder'", (secrets.seal(values),)
        )
    before = stage.variables("ancient")
    with opened(stage, "ancient") as client:
        client.set("kept", "1")
    stage.cli("restart", "elder")
    made = stage.call("POST", "/backups/external-services/elder/run", json={})
    assert stage.call("POST", f"/backups/{made['id']}/verify")["proven_at"]
    stage.call("POST", f"/backups/{made['id']}/restore", json={"service_id": "elder"})
    stage.call("POST", f"/backups/{made['id']}/restore", json={"new_name": "elder-again"})
    stage.cli("clone", "elder", "elder-copy")
    assert 'channels = "divided"' in stage.cli("export")
    for name in ("elder", "elder-again", "elder-copy"):
        found = stage.json("show", name)
        assert (found["service"]["major"], found["current_parameters"]["channels"]) == (
            "",
            "divided",
        )
        assert f"purveyor upgrade {name} -p channels=open" in found["notes"][0]
    assert stage.variables("ancient") == before
    with opened(stage, "ancient") as client:
        assert client.get("kept") == b"1"
    stage.cli("upgrade", "elder", "-p", "channels=open")
    found = stage.json("show", "elder")
    assert (found["service"]["major"] != "", found["notes"]) == (True, [])
    with opened(stage, "ancient") as client:
        assert client.get("kept") == b"1"
    for name in ("elder-again", "elder-copy"):
        stage.cli("delete", name, "--purge")
    end(stage, "elder", "ancient")


def test_the_administrator_opens_the_server_of_an_environment(stage: Stage) -> None:
    with opened(stage, "alpha") as client:
        client.set("seen", "by the administrator")
    words = ("connect", "queue", "--")
    assert stage.cli(*words, "-p", "7001", "GET", "seen").strip() == "by the administrator"
    assert stage.cli(*words, "-n", "3", "-p", "7001", "DBSIZE").strip() == "0"
    assert stage.cli(*words, "EXISTS", "seen").strip() == "0"
    assert stage.cli(*words, "ACL", "WHOAMI").strip() == "default"


def test_one_whose_data_was_taken_away_does_not_come_up_empty(stage: Stage) -> None:
    container = f"{stage.namespace}-queue"
    lost = "kill -9 $1; rm -rf /data/projects/7002/data/*"
    docker("exec", container, "sh", "-c", lost, "sh", launched(container)["7002"][0])
    eventually(
        lambda: launched(container)["7002"][0] == "-" and launched(container)["7002"][2] == "99"
    )
    health = stage.call("GET", "/external-services/queue/health")
    assert health["healthy"]
    assert "db2" in health["detail"]
    made = stage.call("POST", "/backups/external-services/queue/run", json={})
    assert "db2" in made["error_message"] or "db2" in str(made["metadata"])
    assert made["metadata"]["counts"]["keys"]["db1"]
    stage.cli("unlink", "queue", "beta", "--now")
    with opened(stage, "alpha") as client:
        assert client.ping()


def test_tls_is_shown_and_demanded(stage: Stage) -> None:
    make(stage, "sealed", "sealed", ssl_mode="require")
    make(stage, "both", "both")
    inner = stage.variables("both", host=False)
    assert (inner["REDIS_PORT"], inner["REDIS_TLS_PORT"]) == ("7001", "17001")
    encrypted = (
        stage.variables("both")["REDIS_URL"]
        .replace("redis://", "rediss://")
        .replace(":7001", ":17001")
    )
    authority = str(stage.state / "ca.crt")
    for url in (encrypted, stage.variables("sealed")["REDIS_URL"].partition("?")[0]):
        with redis.from_url(url, ssl_ca_certs=authority, ssl_check_hostname=False) as client:
            assert client.set("sealed", "1")
    plain = (
        stage.variables("sealed")["REDIS_URL"].replace("rediss://", "redis://").partition("?")[0]
    )
    with redis.from_url(plain, retry=None) as client, pytest.raises(redis.exceptions.RedisError):
        client.ping()
    for name in ("sealed", "both"):
        end(stage, name, name)


def test_what_a_container_tells_of_the_service_whose_record_was_lost() -> None:
    parameters = {
        "channels": "open",
        "project_maxmemory": "32mb",
        "maxmemory_policy": "allkeys-lru",
        "maxmemory": "1gb",
    }
    image = Image(reference=REDIS, environment={"REDIS_VERSION": "8.0"})
    service = Service(
        id=1, name="queue", slug="queue", service_type="redis",
        parameters={**parameters, "password": "x"}, secrets={},
        image=image, host="queue", major=plugin.data_major(image, parameters),
    )  # fmt: skip
    made = plugin.container(service)
    files = {item.path: item.content for item in made.files}
    found = FoundContainer(id="1", name="queue", image=image, running=True, ports=())

    async def read(path: str) -> str | None:
        return files.get(path)

    told = anyio.run(plugin.retell, found, read).parameters
    assert {name: told[name] for name in parameters} == parameters
    assert plugin.data_major(image, told) == service.major
    del files["/etc/purveyor/project.conf"]
    assert plugin.data_major(image, anyio.run(plugin.retell, found, read).parameters) == ""
