"""What goes wrong around us: each time a clear error, nothing changed, no trace."""

import json
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from support import PURVEYOR, Stage, docker

FORBIDDEN = ("Traceback", "Error(", "sqlite3", "aiohttp", "asyncpg.")


def refused(stage: Stage, code: int, *arguments: str) -> str:
    before = stage.world()
    said = stage.cli(*arguments, code=code)
    assert said.count("\n") <= 6, said
    assert not any(word in said for word in FORBIDDEN), said
    assert stage.world() == before
    return said


def test_what_cannot_be_created_is_refused_with_its_field(house: Stage) -> None:
    assert "Known are: " in refused(house, 2, "create", "oracle", "x")
    assert "unknown" in refused(house, 2, "create", "redis", "x", "-p", "maxclients=1")
    assert "whole number" in refused(house, 2, "create", "redis", "x", "-p", "port=http")
    assert "65535" in refused(house, 2, "create", "redis", "x", "-p", "port=99999")
    for name in ("", "a" * 300, "a'; DROP TABLE services", "../x", "é", "12"):
        assert "name" in refused(house, 2, "create", "redis", "--", name)


def test_a_port_in_use_is_named_and_an_automatic_one_steps_aside(house: Stage) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        said = refused(house, 2, "create", "redis", "x", "-p", f"port={port}")
        assert f"port {port} on 127.0.0.1 is in use" in said
    house.cli("create", "redis", "first")
    taken = house.json("show", "first")["service"]["port"]
    assert f"port {taken} is another service's" in refused(
        house, 2, "create", "redis", "x", "-p", f"port={taken}"
    )
    house.cli("create", "redis", "next")
    assert house.json("show", "next")["service"]["port"] > taken


def test_an_image_that_does_not_exist_is_said_and_nothing_is_left(house: Stage) -> None:
    said = refused(house, 6, "create", "redis", "x", "--image", "no.such.host/nothing:1")
    assert "was not found locally, and pulling it failed" in said
    assert "docker pull no.such.host/nothing:1" in said


def test_an_image_that_cannot_serve_is_given_up_at_once_with_its_last_words(house: Stage) -> None:
    said = house.cli("create", "redis", "liar", "--image", "purveyor-test/demo:1", code=6)
    assert "liar" not in {item["slug"] for item in house.json("list")}
    assert not any("liar" in name for name in house.containers() | house.volumes())
    assert "could not" in said or "ended at once" in said


def test_what_is_not_there_is_said(house: Stage) -> None:
    house.cli("create", "redis", "here")
    assert "no service 'nowhere'" in refused(house, 4, "start", "nowhere")
    assert "no project 'nobody'" in refused(house, 4, "link", "here", "nobody")
    assert "no project 'nobody'" in refused(house, 4, "env", "nobody")
    assert "no project 'nobody'" in refused(house, 4, "deploy", "nobody")


def test_a_stopped_service_says_so_when_it_is_linked(house: Stage) -> None:
    house.cli("create", "redis", "asleep")
    house.cli("stop", "asleep")
    house.cli("project", "create", "early")
    said = refused(house, 5, "link", "asleep", "early")
    assert "purveyor start asleep" in said


def test_a_service_that_is_lost_can_still_be_unlinked_and_deleted(house: Stage) -> None:
    house.cli("create", "redis", "lost")
    house.cli("project", "create", "loser")
    house.cli("link", "lost", "loser")
    house.cli("stop", "lost")
    assert "--force" in refused(house, 5, "unlink", "lost", "loser")
    house.cli("unlink", "lost", "loser", "--force")
    house.cli("delete", "lost", "--purge", "--yes")


def test_two_services_that_disagree_on_a_variable_are_both_named(house: Stage) -> None:
    house.cli("create", "redis", "clash")
    house.cli("project", "create", "clashing")
    house.cli("link", "clash", "clashing")
    said = refused(house, 2, "deploy", "clashing", "--set", "REDIS_URL=mine")
    assert "REDIS_URL is set by a linked service" in said


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'"x"', b'{"name": 1}', b'{"name": "a", "service_type": ["redis"]}',
    b"\xff\xfe",
    b'{"name": "a", "service_type": "redis", "parameters": "x"}',
    b'{"name": "a", "service_type": "redis", "extra": 1}',
    b"{" * 5000,
])  # fmt: skip
def test_a_body_that_is_none_is_a_problem_with_its_field(body: bytes, house: Stage) -> None:
    with house.local() as client:
        answer = client.post(
            "/api/external-services", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400, answer.text
        problem = answer.json()
        assert set(problem) >= {"type", "title", "status", "detail", "instance"}
        assert not any(word in answer.text for word in FORBIDDEN)


def test_a_huge_body_and_odd_requests_are_refused(house: Stage) -> None:
    with house.local() as client:
        huge = json.dumps(
            {"name": "a", "service_type": "redis", "parameters": {"password": "x" * 2_000_000}}
        )
        assert client.post("/api/external-services", content=huge).status_code == 413
        for method, path, status in [
            ("GET", "/api/nothing", 404),
            ("PATCH", "/api/external-services", 405),
            ("GET", "/api/external-services?limit=0", 400),
            ("GET", "/api/external-services?limit=x", 400),
            ("GET", "/api/operations/99999", 404),
            ("GET", f"/api/operations/{2**63}", 404),
            ("GET", f"/api/external-services/{2**64}", 404),
            ("GET", "/api/events?after=-1", 400),
        ]:
            answer = client.request(method, path)
            assert answer.status_code == status, (path, answer.text)
            assert answer.headers["content-type"].startswith("application/problem+json")
        assert client.get("/api/events", headers={"Last-Event-ID": "x"}).status_code == 400


def test_a_second_daemon_is_refused_and_the_first_goes_on(house: Stage) -> None:
    done = subprocess.run(
        [*PURVEYOR, "serve"], env=house.environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 5
    assert "Another Purveyor (process" in done.stderr
    assert "Traceback" not in done.stderr
    house.cli("list")


def without_engine(make_stage: Callable[..., Stage], host: str) -> Stage:
    stage = make_stage()
    stage.environment["DOCKER_HOST"] = host
    return stage


def test_without_an_engine_everything_says_so_and_nothing_changes(
    make_stage: Callable[..., Stage], tmp_path: Any
) -> None:
    stage = without_engine(make_stage, f"unix://{tmp_path}/nothing.sock")
    said = stage.cli("create", "redis", "x", code=7)
    assert "does not answer" in said
    assert "systemctl start docker" in said
    assert stage.json("list") == []
    stage.cli("project", "create", "shop")
    checks = json.loads(stage.run("--json", "doctor").stdout)
    failed = [item for item in checks if not item["ok"]]
    assert [item["subject"] for item in failed] == ["engine"]


def test_an_engine_that_goes_away_is_shown_as_unknown_and_work_is_resumed(
    make_stage: Callable[..., Stage], tmp_path: Any
) -> None:
    stage = make_stage()
    stage.cli("create", "redis", "cache")
    stage.environment["DOCKER_HOST"] = f"unix://{tmp_path}/nothing.sock"
    (found,) = stage.json("list")
    assert found["status"] == "unknown"
    assert "does not answer" in found["status_reason"]
    stage.cli("stop", "cache", code=7)
    del stage.environment["DOCKER_HOST"]
    (found,) = stage.json("list")
    assert found["status"] == "running"
    assert stage.json("health", "cache")["healthy"]


def test_a_user_who_may_not_use_the_engine_is_told_how(
    make_stage: Callable[..., Stage], tmp_path: Any
) -> None:
    """Root may open any socket, so the command runs as a user who may not."""
    stage = make_stage()
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o600)
        for folder in (tmp_path, *tmp_path.parents):
            folder.chmod(folder.stat().st_mode | 0o011)
        ask = (
            "import os, anyio\n"
            "from purveyor.docker import Labels\n"
            "from purveyor.docker.client import DockerEngine\n"
            "from purveyor_hooks import PurveyorError\n"
            "async def main():\n"
            "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"    os.environ['DOCKER_HOST'] = 'unix://{path}'\n"
            "    engine = DockerEngine('x', Labels('x'))\n"
            "    try:\n"
            "        await engine.version()\n"
            "    except PurveyorError as error:\n"
            "        print(error)\n"
            "    finally:\n"
            "        await engine.close()\n"
            "anyio.run(main)\n"
        )
        done = subprocess.run(
            [PURVEYOR[0], "-c", ask],
            capture_output=True,
            text=True,
            env=stage.environment,
            timeout=120,
        )
    assert "may not use the Docker Engine" in done.stdout, done.stdout + done.stderr
    assert "add your user to the group `docker`" in done.stdout


def test_a_foreign_container_of_the_same_name_is_not_touched(house: Stage) -> None:
    name = f"{house.namespace}-squatter"
    docker("create", "--name", name, "purveyor-test/redis:8.0")
    try:
        said = house.cli("create", "redis", "squatter", code=5)
        assert "not Purveyor's" in said
        assert docker("inspect", "--format", "{{.State.Status}}", name) == "created"
    finally:
        docker("rm", "-f", "-v", name)
