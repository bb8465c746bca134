"""Other people's deploy tools as clients: docker compose by its provider protocol, a git hook, and
one HTTP call."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import compose
from support import DEMO, Stage, docker, eventually

pytestmark = pytest.mark.fortnightly

EXAMPLES = Path(__file__).resolve().parents[2] / "contrib/deploy"


@pytest.fixture(scope="module")
def stage(
    make_stage: Callable[..., Stage], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("bin")
    launcher = folder / "purveyor"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m purveyor "$@"\n')
    launcher.chmod(0o755)
    with make_stage().serving() as made:
        made.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
        yield made


def run(
    stage: Stage, *command: object, cwd: Path | None = None, check: bool = True, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {**stage.environment, **more}
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


def lines(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_protocol_is_spoken_in_json_lines(stage: Stage) -> None:
    found = json.loads(stage.cli("compose", "metadata"))
    assert {"service", "name"} <= {item["name"] for item in found["up"]["parameters"]}
    words = ("compose", "--project-name=talk", "up", "--service=redis", "--name=cache", "db")
    first = lines(stage.cli(*words))
    assert {item["type"] for item in first} <= {"info", "debug", "setenv"}
    told = dict(item["message"].split("=", 1) for item in first if item["type"] == "setenv")
    assert told["URL"] == told["REDIS_URL"]
    assert told["REDIS_HOST"] == f"{stage.namespace}-cache"
    again = lines(stage.cli(*words))
    assert dict(item["message"].split("=", 1) for item in again if item["type"] == "setenv") == told
    assert not [item for item in again if item["type"] == "info"]
    # compose's own name of a folder: ours has no underscore
    folder = ("compose", "--project-name=my_app", *words[2:])
    for _ in range(2):
        assert {item["type"] for item in lines(stage.cli(*folder))} <= {"info", "debug", "setenv"}
    assert "my-app" in stage.json("show", "cache")["projects"]
    stage.cli("compose", "--project-name=my_app", "down", "--service=redis", "--name=cache", "db")
    assert "my-app" not in stage.json("show", "cache")["projects"]
    down = ("compose", "--project-name=talk", "down", "--service=redis", "--name=cache", "db")
    assert "data is kept" in stage.cli(*down)
    stage.cli(*down)


@pytest.mark.parametrize("words", [
    ("up", "db"), ("up", "--service=nothing", "db"),
    ("up", "--service=redis", "--name=x", "--colour=red", "db"),
])  # fmt: skip
def test_what_cannot_be_is_an_error_line(words: tuple[str, ...], stage: Stage) -> None:
    done = stage.run("compose", "--project-name=bad", *words)
    assert done.returncode == 1
    assert lines(done.stdout)[-1]["type"] == "error"
    assert "Traceback" not in done.stderr


def test_docker_compose_provisions_links_and_injects(stage: Stage, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "compose.yaml", tmp_path / "compose.yaml")
    project = f"shop-{stage.namespace}"
    extra = {"APP_IMAGE": DEMO, "PURVEYOR_NETWORK": stage.namespace, "HOME": str(tmp_path)}
    binary = compose.compose()
    says = rf"database at {stage.namespace}-postgres \w+_production"

    def log() -> str:
        return run(stage, *logs, cwd=tmp_path, **extra).stdout

    try:
        stage.cli("create", "redis", "network-maker")  # an external network has to be there
        run(stage, binary, "--project-name", project, "up", "--detach", cwd=tmp_path, **extra)
        logs = (binary, "--project-name", project, "logs", "app")
        eventually(lambda: re.search(says, log()))
        run(stage, binary, "--project-name", project, "up", "--detach", cwd=tmp_path, **extra)
    finally:
        run(stage, binary, "--project-name", project, "down", cwd=tmp_path, check=False, **extra)
    # compose 2.40 calls no provider at `down`; what the protocol has for it works all the same
    stage.cli("compose", f"--project-name={project}", "down", "--service=postgres", "db")
    assert stage.json("show", "postgres")["projects"] == []
    assert stage.json("health", "postgres")["healthy"]


def test_a_git_push_deploys(stage: Stage, tmp_path: Path) -> None:
    if stage.run("show", "cache").returncode != 0:
        stage.cli("create", "redis", "cache")
    project = f"pushed-{stage.namespace}"
    stage.cli("project", "create", project)
    stage.cli("link", "cache", project)
    bare, work = tmp_path / f"{project}.git", tmp_path / "work"
    git = [
        "git",
        "-c",
        "user.name=Ada",
        "-c",
        "user.email=ada@example.com",
        "-c",
        "init.defaultBranch=main",
    ]
    run(stage, *git, "init", "--bare", bare)
    shutil.copy(EXAMPLES / "post-receive", bare / "hooks/post-receive")
    run(stage, *git, "clone", bare, work)
    code = "import os, time; print(os.environ['REDIS_HOST'], flush=True); time.sleep(600)"
    (work / "Dockerfile").write_text(f"FROM {DEMO}\nCMD {json.dumps(['python3', '-c', code])}\n")
    run(stage, *git, "add", ".", cwd=work)
    run(stage, *git, "commit", "-m", "first", cwd=work)
    try:
        done = run(
            stage,
            *git,
            "push",
            "origin",
            "HEAD:main",
            cwd=work,
            DOCKER_BUILDKIT="0",
            PROJECT=project,
        )
        assert "active" in done.stderr
        (found,) = stage.call("GET", f"/projects/{project}/deployments")
        assert docker("logs", found["container"]) == f"{stage.namespace}-cache"
        run(stage, *git, "config", "purveyor.port", "8000", cwd=bare)
        (work / "Dockerfile").write_text(f"FROM {DEMO}\n")
        run(stage, *git, "commit", "-am", "it listens", cwd=work)
        extra = {"DOCKER_BUILDKIT": "0", "PROJECT": project}
        run(stage, *git, "push", "origin", "HEAD:feature/Log_in", cwd=work, **extra)
        newest = stage.call("GET", f"/projects/{project}/deployments")[0]
        assert newest["environment"] == "feature-log-in"
        assert httpx.get(f"{newest['url']}/healthz").status_code == 200
        run(stage, *git, "push", "origin", ":feature/Log_in", cwd=work, **extra)
        assert len(stage.call("GET", f"/projects/{project}/deployments")) == 2
    finally:
        stage.cli("unlink", "cache", project)
        stage.call("DELETE", f"/projects/{project}")  # with the container that runs the image
        for image in docker("images", "-q", "--filter", f"reference={project}").split():
            docker("rmi", "-f", image)


def test_one_call_binds_and_returns_the_environment_of_a_deploy(stage: Stage) -> None:
    stage.cli("project", "create", "called")
    stage.cli("link", "cache", "called")
    token = stage.cli("token", "create", "ci", "--scope", "project", "--project", "called").strip()
    with stage.http(token) as client:
        path = "/api/projects/called/environments/preview-3/variables"
        assert client.get(path).status_code == 404, "asking makes no environment"
        stage.add_environment("called", "preview-3")
        answer: Any = client.get(path)
        assert answer.json()["variables"]["REDIS_USERNAME"] == "called_preview_3"
        assert client.get("/api/projects/talk/environments/production/variables").status_code == 403
        done = client.post("/api/projects/called/deployments", json={})
        assert done.status_code == 201
        assert done.json()["state"] == "active"


@pytest.mark.parametrize("name", ["github-actions.yaml", "kamal.md"])
def test_the_examples_that_cannot_be_run_here_call_what_is_there(name: str, stage: Stage) -> None:
    text = (EXAMPLES / name).read_text()
    paths = set(re.findall(r"/api/[a-z/]+", text))
    described = stage.call("GET", "/schema/openapi.json")["paths"]
    for path in paths:
        pattern = re.compile(
            re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path.replace("/shop", "/{project}")))
        )
        assert any(
            pattern.fullmatch(re.sub(r"\{[^}]*\}", "{project}", known)) for known in described
        ), path
    for word in re.findall(r"purveyor (?:--\S+ (?:\"[^\"]*\" )?)*(\w+)", text):
        assert "Usage" in stage.cli(word, "--help")
