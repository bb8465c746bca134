"""SIGKILL at every transaction of a verb: after the next start nothing is orphaned and nothing is lost."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import httpx
import pytest
import redis

from support import DEMO, Stage, docker, eventually

KILLER = Path(__file__).with_name("killer.py")
MOST_WRITES = 40


def kill_at(stage: Stage, count: int, when: str, verb: str, **arguments: Any) -> bool:
    """Run a verb and kill it at its write number `count`; False when it ended before that."""
    command = [sys.executable, str(KILLER), str(stage.state), str(count), when, verb, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=stage.environment)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9


def assert_consistent(stage: Stage) -> None:
    """The daemon that started has finished or undone everything, and world and record agree."""
    eventually(lambda: stage.rows("SELECT id FROM operations WHERE state IN ('running', 'undoing')") == [])
    services = stage.rows("SELECT id, container_name, volume_id, state FROM services WHERE state != 'deleted'")
    assert all(state == "active" for _, _, _, state in services), services
    apps = {row[0] for row in stage.rows("SELECT container FROM deployments WHERE state = 'active' AND container != ''")}
    eventually(lambda: stage.containers() == {name for _, name, *_ in services} | apps, 10)
    volumes = {row[0]: row[1] for row in stage.rows("SELECT id, name FROM volumes WHERE state != 'purged'")}
    folder = stage.state / "volumes"
    assert {path.name for path in folder.iterdir()} == set(volumes) if folder.exists() else not volumes
    held = {volume for _, _, volume, _ in services}
    assert stage.volumes() == {name for volume, name in volumes.items() if volume in held}
    claimed = stage.rows("SELECT service_id, deployment_id FROM ports")
    assert {service for service, _ in claimed if service} == {row[0] for row in services}
    current = {row[0] for row in stage.rows("SELECT id FROM deployments WHERE state = 'active'")}
    assert {deployment for _, deployment in claimed if deployment} <= current
    assert stage.rows("SELECT id FROM links WHERE state != 'linked'") == []
    assert stage.rows("SELECT id FROM bindings WHERE state = 'intended'") == []


def recorded(stage: Stage, service: str) -> set[str]:
    join = "bindings JOIN services ON services.id = bindings.service_id"
    return {row[0] for row in stage.rows(f"SELECT resource FROM {join} WHERE services.slug = '{service}'")}


def assert_accounts(stage: Stage) -> None:
    """Each server has the accounts and resources that are recorded, and no others."""
    roles = set(stage.sql("main", "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND NOT rolsuper"))
    databases = set(stage.sql("main", "SELECT datname FROM pg_database WHERE datname !~ '^template|^postgres$'"))
    assert roles == databases == recorded(stage, "main")
    client = stage.call("GET", "/external-services/cache/client")
    password = client["command"]["environment"]["REDISCLI_AUTH"]
    users = docker("exec", "-e", f"REDISCLI_AUTH={password}", client["container"], "redis-cli", "ACL", "USERS")
    assert set(users.split()) - {"default"} == recorded(stage, "cache")


async def reaches(variables: dict[str, str]) -> None:
    """The injected variables really work, from this host."""
    if "DATABASE_URL" in variables:
        connection = await asyncpg.connect(variables["DATABASE_URL"], timeout=10)
        await connection.execute("CREATE TABLE IF NOT EXISTS t (id int); INSERT INTO t VALUES (1)")
        await connection.close()
    if "REDIS_URL" in variables:
        with redis.from_url(variables["REDIS_URL"]) as client:
            assert client.set("k", "v")


def variables(stage: Stage, project: str, environment: str = "production") -> dict[str, str]:
    path = f"/projects/{project}/environments/{environment}/variables"
    found: dict[str, str] = stage.call("GET", path, params={"reach": "host"})["variables"]
    return found


Arguments = Callable[[Stage, int], dict[str, Any]]
Check = Callable[[Stage, int], None]


def at_every_write(stage: Stage, when: str, verb: str, arguments: Arguments, check: Check) -> None:
    """Kill at the first write, the second, and so on until the verb comes through."""
    with stage.serving():
        given = arguments(stage, 1)
    for count in range(1, MOST_WRITES):
        killed = kill_at(stage, count, when, verb, **given)
        with stage.serving():
            assert_consistent(stage)
            check(stage, count)
            if not killed:
                assert count > 2, "the verb was never killed"
                return
            given = arguments(stage, count + 1)
    raise AssertionError(f"{verb} writes more often than {MOST_WRITES} times")


@pytest.mark.xdist_group("kill-create")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_create(kind: str, when: str, make_stage: Callable[..., Stage]) -> None:
    def check(stage: Stage, count: int) -> None:
        for item in stage.call("GET", "/external-services"):
            assert item["status"] == "running"
            assert stage.call("GET", f"/external-services/{item['id']}/health")["healthy"]
            stage.call("DELETE", f"/external-services/{item['id']}", params={"purge": "true"})

    at_every_write(make_stage(), when, "create", lambda _, n: {"name": f"s{n}", "service_type": kind}, check)


@pytest.fixture(scope="module")
def linked(make_stage: Callable[..., Stage]) -> Stage:
    """Both services, and a project for the taking; nothing runs beside."""
    stage = make_stage()
    stage.cli("create", "postgres", "main")
    stage.cli("create", "redis", "cache")
    return stage


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("service", ["main", "cache"])
def test_link(service: str, when: str, linked: Stage) -> None:
    def fresh(stage: Stage, count: int) -> dict[str, Any]:
        project = f"{service}-{when}-{count}"
        stage.call("POST", "/projects", json={"name": project})
        return {"service": service, "project": project}

    def check(stage: Stage, count: int) -> None:
        assert_accounts(stage)
        project = f"{service}-{when}-{count}"
        if stage.call("GET", f"/external-services/projects/{project}"):
            anyio.run(reaches, variables(stage, project))
            stage.call("DELETE", f"/external-services/{service}/projects/{project}", params={"purge": "true"})
            assert_accounts(stage)

    at_every_write(linked, when, "link", fresh, check)


@pytest.mark.parametrize("when", ["before", "after"])
def test_deploy(when: str, linked: Stage) -> None:
    project = f"app-{when}"
    app = {"project": project, "image": DEMO, "port": 8000, "health_path": "/healthz"}

    def environment(stage: Stage, count: int) -> dict[str, Any]:
        """Every other time a first deploy, every other time one over another."""
        if count == 1:
            stage.call("POST", "/projects", json={"name": project})
            for service in ("main", "cache"):
                stage.call("POST", f"/external-services/{service}/projects", json={"project_id": project})
        return {**app, "environment": f"e{(count + 1) // 2}"}

    def check(stage: Stage, count: int) -> None:
        assert_accounts(stage)
        name = f"e{(count + 1) // 2}"
        found = [item for item in stage.call("GET", f"/projects/{project}/deployments") if item["environment"] == name]
        active = [item for item in found if item["state"] == "active"]
        assert len(active) <= 1
        for item in active:
            networks = docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", item["container"])
            assert f"{project}-{name}" in networks
            assert httpx.get(item["url"]).json()["hits"] > 0
        if count % 2 == 0 and active:
            stage.call("DELETE", f"/projects/{project}/environments/{name}", params={"purge": "true"})
            assert_accounts(stage)

    at_every_write(linked, when, "deploy", environment, check)


@pytest.mark.xdist_group("kill-delete")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("purge", [False, True])
def test_delete(purge: bool, when: str, make_stage: Callable[..., Stage]) -> None:
    def fresh(stage: Stage, count: int) -> dict[str, Any]:
        stage.call("POST", "/external-services", json={"name": f"s{count}", "service_type": "redis"})
        return {"service": f"s{count}", "purge": purge}

    def check(stage: Stage, count: int) -> None:
        kept = [item for item in stage.call("GET", "/volumes") if (item["origin"], item["state"]) == (f"s{count}", "kept")]
        alive = [item for item in stage.call("GET", "/external-services") if item["slug"] == f"s{count}"]
        assert len(kept) + len(alive) == (0 if purge and not alive else 1)

    at_every_write(make_stage(), when, "delete", fresh, check)


@pytest.mark.xdist_group("kill-update")
@pytest.mark.parametrize("when", ["before", "after"])
def test_update(when: str, make_stage: Callable[..., Stage]) -> None:
    def change(stage: Stage, count: int) -> dict[str, Any]:
        if count == 1:
            stage.call("POST", "/external-services", json={"name": "main", "service_type": "postgres"})
            stage.sql("main", "CREATE TABLE precious AS SELECT generate_series(1, 100) AS id")
        return {"service": "main", "parameters": {"max_connections": 50 + count}}

    def check(stage: Stage, count: int) -> None:
        assert stage.sql("main", "SELECT count(*) FROM precious") == ["100"]
        wanted = stage.call("GET", "/external-services/main")["current_parameters"]["max_connections"]
        assert stage.sql("main", "SHOW max_connections") == [wanted]

    at_every_write(make_stage(), when, "update", change, check)
