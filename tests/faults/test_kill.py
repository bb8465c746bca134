"""SIGKILL at every transaction of a verb: after the next start nothing is orphaned and nothing is lost."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import DEMO, Stage, docker

KILLER = Path(__file__).with_name("killer.py")
MOST_WRITES = 40


def kill_at(stage: Stage, count: int, when: str, verb: str, **arguments: Any) -> bool:
    """Run a verb and kill it at its write number `count`; False when it ended before that."""
    command = [sys.executable, str(KILLER), str(stage.state), str(count), when, verb, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=stage.environment)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9


def assert_consistent(stage: Stage) -> None:
    """The next start has finished or undone everything, and world and record agree."""
    stage.cli("list")
    assert stage.rows("SELECT id, verb FROM operations WHERE state IN ('running', 'undoing')") == []
    services = stage.rows("SELECT id, container_name, volume_id, state, desired FROM services WHERE state != 'deleted'")
    assert all(state == "active" for _, _, _, state, _ in services), services
    apps = {row[0] for row in stage.rows("SELECT container FROM deployments WHERE state = 'active' AND container != ''")}
    assert stage.containers() == {name for _, name, *_ in services} | apps
    volumes = {row[0]: row[1] for row in stage.rows("SELECT id, name FROM volumes WHERE state != 'purged'")}
    folder = stage.state / "volumes"
    assert {path.name for path in folder.iterdir()} == set(volumes) if folder.exists() else not volumes
    held = {volume for _, _, volume, _, _ in services}
    assert stage.volumes() == {name for volume, name in volumes.items() if volume in held}
    claimed = stage.rows("SELECT service_id, deployment_id FROM ports")
    assert {service for service, _ in claimed if service} == {row[0] for row in services}
    current = {row[0] for row in stage.rows("SELECT id FROM deployments WHERE state = 'active'")}
    assert {deployment for _, deployment in claimed if deployment} <= current
    assert stage.rows("SELECT id FROM links WHERE state != 'linked'") == []
    assert stage.rows("SELECT id FROM bindings WHERE state = 'intended'") == []


def assert_accounts(stage: Stage) -> None:
    """Each server has the accounts and resources that are recorded, and no others."""
    for service, kind in stage.rows("SELECT slug, service_type FROM services WHERE state = 'active'"):
        recorded = {
            (row[0], row[1])
            for row in stage.rows(
                "SELECT resource, coalesce(slot, 0) FROM bindings JOIN services ON services.id = bindings.service_id "
                f"WHERE services.slug = '{service}'"
            )
        }
        names = {name for name, _ in recorded}
        if kind == "postgres":
            ask = ("connect", service, "--", "-Atc")
            roles = stage.cli(*ask, "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND NOT rolsuper").split()
            databases = stage.cli(*ask, "SELECT datname FROM pg_database WHERE datname !~ '^template|^postgres$'").split()
            assert set(roles) == set(databases) == names
        else:
            users = stage.cli("connect", service, "--", "ACL", "USERS").split()
            assert {user.strip('"') for user in users if user not in ("default",)} - {"default"} == names


Check = Callable[[Stage, int], None]


def at_every_write(stage: Stage, when: str, verb: str, arguments: Callable[[int], dict[str, Any]], check: Check) -> None:
    """Kill at the first write, the second, and so on until the verb comes through."""
    for count in range(1, MOST_WRITES):
        killed = kill_at(stage, count, when, verb, **arguments(count))
        assert_consistent(stage)
        check(stage, count)
        if not killed:
            assert count > 2, "the verb was never killed"
            return
    raise AssertionError(f"{verb} writes more often than {MOST_WRITES} times")


def service_is_whole_or_not_there(stage: Stage, count: int) -> None:
    listed = {item["slug"]: item for item in stage.json("list")}
    name = f"s{count}"
    if name in listed:
        assert listed[name]["status"] == "running"
        assert stage.json("health", name)["healthy"]
        stage.cli("delete", name, "--purge", "--yes")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_create(kind: str, when: str, make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    at_every_write(stage, when, "create", lambda n: {"name": f"s{n}", "service_type": kind}, service_is_whole_or_not_there)


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
    def fresh(count: int) -> dict[str, Any]:
        linked.cli("project", "create", f"{service}-{when}-{count}")
        return {"service": service, "project": f"{service}-{when}-{count}"}

    def check(stage: Stage, count: int) -> None:
        assert_accounts(stage)
        project = f"{service}-{when}-{count}"
        if stage.json("project", "show", project)["links"]:
            checks = stage.json("doctor", project)
            assert all(item["ok"] for item in checks), checks
            stage.cli("unlink", service, project, "--purge")
            assert_accounts(stage)

    at_every_write(linked, when, "link", fresh, check)


@pytest.mark.parametrize("when", ["before", "after"])
def test_deploy(when: str, linked: Stage) -> None:
    project = f"app-{when}"
    linked.cli("project", "create", project)
    linked.cli("link", "main", project)
    linked.cli("link", "cache", project)
    app = {"project": project, "image": DEMO, "port": 8000, "health_path": "/healthz"}

    def environment(count: int) -> dict[str, Any]:
        """Every other time a first deploy, every other time one over another."""
        return {**app, "environment": f"e{(count + 1) // 2}"}

    def check(stage: Stage, count: int) -> None:
        assert_accounts(stage)
        name = f"e{(count + 1) // 2}"
        found = [item for item in stage.json("project", "show", project)["deployments"] if item["environment"] == name]
        active = [item for item in found if item["state"] == "active"]
        assert len(active) <= 1
        for item in active:
            alias = docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", item["container"])
            assert f"{project}-{name}" in alias
        if count % 2 == 0 and active:
            stage.cli("project", "remove-environment", project, name, "--purge")

    at_every_write(linked, when, "deploy", environment, check)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("purge", [False, True])
def test_delete(purge: bool, when: str, make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()

    def fresh(count: int) -> dict[str, Any]:
        stage.cli("create", "redis", f"s{count}")
        return {"service": f"s{count}", "purge": purge}

    def check(stage: Stage, count: int) -> None:
        kept = [item for item in stage.json("list", "--deleted") if item["origin"] == f"s{count}"]
        alive = [item for item in stage.json("list") if item["slug"] == f"s{count}"]
        assert len(kept) + len(alive) == (0 if purge and not alive else 1)

    at_every_write(stage, when, "delete", fresh, check)


@pytest.mark.parametrize("when", ["before", "after"])
def test_update(when: str, make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    stage.cli("create", "postgres", "main")
    stage.cli("connect", "main", "--", "-c", "CREATE TABLE precious AS SELECT generate_series(1, 100) AS id")

    def check(stage: Stage, count: int) -> None:
        assert stage.cli("connect", "main", "--", "-Atc", "SELECT count(*) FROM precious").strip() == "100"
        wanted = stage.json("show", "main")["current_parameters"]["max_connections"]
        assert stage.cli("connect", "main", "--", "-Atc", "SHOW max_connections").strip() == wanted

    change = {"service": "main"}
    at_every_write(stage, when, "update", lambda n: {**change, "parameters": {"max_connections": 50 + n}}, check)
