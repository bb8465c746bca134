"""The life of a service: stop, start, change, remove by hand, delete."""

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import redis

from purveyor.app import docker_engine
from purveyor.docker import Labels
from purveyor_hooks import Command
from support import Stage, docker, eventually

pytestmark = pytest.mark.fortnightly


def count(stage: Stage, service: str) -> int:
    said = stage.cli("connect", service, "--", "-Atc", "SELECT count(*) FROM precious")
    return int(said.strip())


@pytest.fixture(scope="module")
def precious(house: Stage) -> Stage:
    """A PostgreSQL and a Redis that hold something."""
    house.furnish({"main": "postgres", "cache": "redis"})
    house.cli(
        "connect",
        "main",
        "--",
        "-c",
        "CREATE TABLE precious AS SELECT generate_series(1, 1000) AS id",
    )
    house.cli("connect", "cache", "--", "SET", "precious", "gold")
    return house


def gold(stage: Stage) -> str:
    return stage.cli("connect", "cache", "--", "GET", "precious").strip()


def status(stage: Stage, service: str) -> str:
    return str(stage.json("show", service)["service"]["status"])


def test_stop_and_start_keep_the_data(precious: Stage) -> None:
    for service in ("main", "cache"):
        assert "stopped" in precious.cli("stop", service)
        assert status(precious, service) == "stopped"
        assert precious.run("health", service).returncode == 1
        assert "running" in precious.cli("start", service)
    assert count(precious, "main") == 1000
    assert gold(precious) == "gold"
    precious.cli("restart", "main")
    assert count(precious, "main") == 1000


def test_the_input_of_a_command_ends(precious: Stage) -> None:
    """One that reads all of it is not waited for."""

    async def run() -> list[tuple[int, str]]:
        engine = docker_engine(precious.namespace, Labels(""))
        try:
            name = f"{precious.namespace}-cache"
            found = [
                await engine.containers.execute(name, Command(argv=argv), stdin=text, timeout=20)
                for argv, text in (
                    (("cat",), b"all of it\n" * 20_000),
                    (("sh", "-c", "wc -c; exit 3"), b"four"),
                    (("true",), b"nobody reads this\n" * 100_000),
                )
            ]
        finally:
            await engine.close()
        return [(item.exit_code, item.stdout) for item in found]

    (code, text), counted, unread = anyio.run(run)
    assert (code, text) == (0, ("all of it\n" * 20_000)[: 64 * 1024])
    assert (counted[0], counted[1].strip()) == (3, "4")
    assert unread[0] == 0


def test_max_connections_and_port_are_really_applied(precious: Stage) -> None:
    port = precious.json("show", "main")["service"]["port"] + 7
    precious.cli("update", "main", "-p", "max_connections=37", "-p", f"port={port}")
    assert precious.cli("connect", "main", "--", "-Atc", "SHOW max_connections").strip() == "37"
    assert precious.json("show", "main")["service"]["port"] == port
    assert precious.json("health", "main")["healthy"]
    assert count(precious, "main") == 1000


def test_ssl_mode_require_refuses_plain_text_and_can_be_taken_back(precious: Stage) -> None:
    precious.cli("update", "main", "-p", "ssl_mode=require")
    host = f"{precious.namespace}-main"
    ask = (
        "run",
        "--rm",
        "--network",
        precious.namespace,
        "-e",
        "PGPASSWORD=x",
        "purveyor-test/postgres:17",
        "psql",
    )
    plain = docker(
        *ask, f"host={host} user=postgres sslmode=disable", "-c", "select 1", check=False
    )
    assert plain == ""
    assert precious.json("health", "main")["healthy"]
    precious.cli("project", "create", "tls")
    precious.cli("link", "main", "tls")
    variables = precious.variables("tls", host=False)
    assert variables["DATABASE_URL"].endswith("?sslmode=require&sslrootcert=/etc/purveyor/ca.crt")
    url = variables["DATABASE_URL"]
    network = ("run", "--rm", "--network", precious.namespace, "purveyor-test/postgres:17")
    # the owner of the data, as which a login works, does not see what the login does
    query = "SET ROLE NONE; SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert docker(*network, "psql", url, "-Atqc", query) == "t"
    precious.cli("update", "main", "-p", "ssl_mode=disable")
    assert count(precious, "main") == 1000


def test_a_change_that_fails_brings_the_old_container_back(precious: Stage) -> None:
    before = precious.json("show", "main")
    said = precious.cli("update", "main", "--image", "purveyor-test/postgres:17-nowhere", code=6)
    assert "pulling it failed" in said
    # an image of the right major that is no PostgreSQL: it starts and ends at once
    docker("tag", "purveyor-test/redis:8.0", f"{precious.namespace}/fake:17")
    try:
        said = precious.cli("update", "main", "--image", f"{precious.namespace}/fake:17", code=6)
        assert "main" in said
    finally:
        docker("rmi", f"{precious.namespace}/fake:17")
    after = precious.json("show", "main")
    assert after["current_parameters"] == before["current_parameters"]
    assert after["service"]["status"] == "running"
    assert count(precious, "main") == 1000


def test_another_major_is_refused_before_anything_is_touched(precious: Stage) -> None:
    container = docker("inspect", "--format", "{{.Id}}", f"{precious.namespace}-main")
    said = precious.cli("update", "main", "--image", "purveyor-test/postgres:16", code=2)
    assert "version 17" in said
    assert "version 16" in said
    assert docker("inspect", "--format", "{{.Id}}", f"{precious.namespace}-main") == container


@pytest.mark.every_engine
def test_a_container_removed_by_hand_comes_back_on_its_volume(precious: Stage) -> None:
    for service in ("main", "cache"):
        docker("rm", "-f", "-v", f"{precious.namespace}-{service}")
    eventually(lambda: status(precious, "main") == status(precious, "cache") == "running")
    eventually(lambda: precious.run("health", "main").returncode == 0)
    assert count(precious, "main") == 1000
    eventually(lambda: precious.run("health", "cache").returncode == 0)
    assert gold(precious) == "gold"


def test_a_service_stopped_by_its_owner_stays_stopped(precious: Stage) -> None:
    precious.cli("stop", "cache")
    docker("rm", "-v", f"{precious.namespace}-cache")
    assert status(precious, "cache") == "stopped"
    precious.cli("start", "cache")
    assert gold(precious) == "gold"
    docker("stop", f"{precious.namespace}-cache")  # by somebody else: it comes back
    assert status(precious, "cache") != "stopped"
    eventually(lambda: status(precious, "cache") == "running")
    assert gold(precious) == "gold"


@pytest.mark.every_engine
def test_the_network_comes_back_too(precious: Stage) -> None:
    for service in ("main", "cache"):
        precious.cli("stop", service)
        docker("rm", "-f", "-v", f"{precious.namespace}-{service}")
    docker("network", "rm", precious.namespace)
    for service in ("main", "cache"):
        precious.cli("start", service)
    assert count(precious, "main") == 1000


def test_delete_is_refused_while_linked_and_keeps_the_data(precious: Stage) -> None:
    precious.cli("create", "redis", "brief")
    precious.cli("connect", "brief", "--", "SET", "k", "v")
    precious.cli("project", "create", "user")
    precious.cli("unlink", "cache", "user", code=4)
    precious.cli("link", "brief", "user")
    said = precious.cli("delete", "brief", code=2)
    assert "still linked to user" in said
    assert "purveyor unlink brief user" in said
    precious.cli("unlink", "brief", "user")
    precious.cli("delete", "brief")
    assert not any(name.endswith("-brief") for name in precious.containers())
    kept = [item for item in precious.json("list", "--deleted") if item["origin"] == "brief"]
    assert len(kept) == 1
    assert b"SET" in b"".join(
        path.read_bytes() for path in (precious.state / "volumes" / kept[0]["id"]).rglob("*.aof")
    )
    precious.cli("create", "redis", "brief")  # the name is free again, and the new one is empty
    assert precious.cli("connect", "brief", "--", "DBSIZE").strip() == "0"


def test_purge_deletes_the_data_and_without_a_terminal_only_with_the_flag(precious: Stage) -> None:
    precious.cli("create", "redis", "doomed")
    volume = precious.json("show", "doomed")["service"]["volume"]
    folder = precious.state / "volumes" / volume
    done = precious.run("delete", "doomed", "--purge", stdin="doomed\n")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert folder.exists()
    precious.cli("delete", "doomed", "--purge", "--yes")
    assert not folder.exists()
    assert volume not in json.dumps(precious.json("volumes"))


def test_valkey_and_an_older_redis_serve_as_well(precious: Stage) -> None:
    for name, image in (
        ("valkey", "purveyor-test/valkey:8.1"),
        ("older", "purveyor-test/redis:7.0"),
    ):
        precious.cli("create", "redis", name, "--image", image)
        precious.cli("project", "create", f"on-{name}")
        precious.cli("link", name, f"on-{name}")
        with redis.from_url(precious.variables(f"on-{name}")["REDIS_URL"]) as client:
            assert client.set("k", "v")
            with pytest.raises(redis.ResponseError):
                client.execute_command("CONFIG", "SET", "maxclients", "9")
        precious.cli("restart", name)
        with redis.from_url(precious.variables(f"on-{name}")["REDIS_URL"]) as client:
            assert client.get("k") == b"v"


@pytest.mark.parametrize("major", ["15", pytest.param("16", marks=pytest.mark.nightly), "18"])
def test_every_supported_postgres_serves_on_the_same_layout(major: str, precious: Stage) -> None:
    name = f"pg{major}"
    precious.cli("create", "postgres", name, "--version", major)
    assert precious.json("health", name)["version"].startswith(major)
    data = f"/var/lib/postgresql/{major}/docker"
    assert precious.cli("connect", name, "--", "-Atc", "SHOW data_directory").strip() == data
    precious.cli("connect", name, "--", "-c", "CREATE TABLE precious AS SELECT 1 AS id")
    docker("rm", "-f", "-v", f"{precious.namespace}-{name}")
    eventually(lambda: precious.run("health", name).returncode == 0)
    assert count(precious, name) == 1
    assert precious.json("show", name)["service"]["major"] == major


@pytest.mark.every_engine
def test_shared_memory_logs_and_restart_are_set_for_a_database(precious: Stage) -> None:
    host = json.loads(
        docker("inspect", f"{precious.namespace}-main", "--format", "{{json .HostConfig}}")
    )
    assert host["ShmSize"] >= 256 * 1024 * 1024
    assert host["LogConfig"]["Config"]["max-size"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"


def test_what_happened_can_be_followed_from_any_number(precious: Stage) -> None:
    with precious.local() as client:
        every = client.get(
            "/api/events",
            params={"after": 0, "limit": 1000},
            headers={"Accept": "application/json"},
        ).json()
        assert [event["id"] for event in every] == list(range(1, len(every) + 1))
        seen = []
        headers = {"Last-Event-ID": "3", "Accept": "text/event-stream"}
        with client.stream("GET", "/api/events", headers=headers) as response:
            for line in response.iter_lines():
                if line.startswith("id:"):
                    seen.append(int(line[3:]))
                if len(seen) == 5:
                    break
        assert seen == [4, 5, 6, 7, 8]


def test_what_was_seen_of_a_service_outlives_the_daemon(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage("health-interval = 1")

    def seen() -> Any:
        found = stage.call("GET", "/external-services/cache/history")
        return found if len(found["health"]) > 2 and found["usage"] else None

    with stage.serving():
        stage.cli("create", "redis", "cache")
        before = eventually(seen)
    with stage.serving():
        after = seen()
        for kind in ("health", "usage"):
            assert after[kind][: len(before[kind])] == before[kind]
