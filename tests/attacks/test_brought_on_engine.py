"""A plugin's operation for projects, on the real engine: what each of them reaches, and a daemon
that is killed at it."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import support
from attacks.told import attack
from support import MakeStage, Stage, docker, eventually

OPERATION = "redis.stamp"
PROGRAM = '''
import purveyor_hooks as ph
import purveyor_redis
from purveyor.program import main
from purveyor_hooks import bases
from purveyor_redis.division import ask


class Given(ph.Arguments, frozen=True, kw_only=True):
    label: str
    rest: float = 0.0


class Stamp(ph.ServiceOperation[Given]):
    """Writes a label into the servers of the project that asks."""

    name = "stamp"
    summary = "Write a label."
    scope = "project"
    arguments = Given
    steps = (ph.Step(name="write"), ph.Step(name="note"))

    async def draft(self, asked):
        return ph.Draft(
            steps=("write", "note"),
            state={"runs": 0},
            resources=tuple(item.resource for item in asked.bindings),
        )

    async def do(self, step, run):
        await run.save(runs=run.state["runs"] + 1)
        key = "stamped" if step == "write" else "noted"
        for item in run.bindings:
            await ask(run.access, item.slot, "SET", key, run.given.label)
        if step == "write" and run.given.rest and run.state["runs"] == 1:
            import anyio

            await anyio.sleep(run.given.rest)


class WithStamp(purveyor_redis.Redis, bases.Operating):
    operations = lambda self: [Stamp()]


purveyor_redis.plugin = WithStamp()
main()
'''


@pytest.fixture(scope="module")
def stage(make_stage: MakeStage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    program = tmp_path_factory.mktemp("with-stamp") / "purveyor-with-stamp"
    program.write_text(f"#!{sys.executable} -u\n{PROGRAM}")
    program.chmod(0o755)
    own, support.PURVEYOR = support.PURVEYOR, [str(program)]
    try:
        made = make_stage()
        with made.serving():
            for name in ("cache", "spare"):
                made.cli("create", "redis", name)
            for project, service in (("alpha", "cache"), ("beta", "cache"), ("gamma", "spare")):
                made.cli("project", "create", project)
                made.cli("link", service, project)
        yield made
    finally:
        support.PURVEYOR = own


def value(stage: Stage, project: str, key: str) -> str:
    """What a project's server holds, asked behind Purveyor's back."""
    variables = stage.variables(project)
    container = "spare" if project == "gamma" else "cache"
    port = stage.variables(project, host=False)["REDIS_PORT"]
    assert variables
    return docker(
        "exec", f"{stage.namespace}-{container}", "redis-launcher", "ask", port, "GET", key
    )


def token(stage: Stage, project: str) -> str:
    given = {"name": f"of {project}", "scope": "project", "project": project}
    made: dict[str, Any] = stage.call("POST", "/tokens", json=given)
    return str(made["token"])


def post(client: httpx.Client, service: str, **given: Any) -> httpx.Response:
    return client.post(f"/api/external-services/{service}/operations/{OPERATION}", json=given)


@attack(
    "tokens and sign-in",
    "run a plugin's operation on another project's data of the same server",
    "run it on a server that is not linked",
    "run it with the token of an app",
    honest="each project runs it on its own, also over a kill of the daemon",
)
def test_each_project_runs_it_on_its_own_and_on_nothing_else(stage: Stage) -> None:
    with stage.serving():
        tokens = {project: token(stage, project) for project in ("alpha", "beta", "gamma")}
        for project, service in (("alpha", "cache"), ("beta", "cache")):
            with stage.http(tokens[project]) as client:
                done = post(client, service, label=project)
                assert done.status_code == 200, done.text
                assert post(client, "spare", label=project).status_code == 403
        with stage.http(tokens["gamma"]) as client:
            assert post(client, "cache", label="gamma").status_code == 403
        assert [value(stage, name, "stamped") for name in ("alpha", "beta", "gamma")] == [
            "alpha",
            "beta",
            "",
        ]
        stage.cli("unlink", "cache", "beta")
        with stage.http(tokens["beta"]) as client:
            assert post(client, "cache", label="later").status_code == 403
        stage.cli("link", "cache", "beta")


def test_killed_at_a_step_it_goes_on_there_and_reaches_no_more(stage: Stage) -> None:
    with stage.serving():
        with stage.http(token(stage, "alpha")) as client:
            client.headers["Prefer"] = "respond-async"
            begun = post(client, "cache", label="over a kill", rest=120)
            assert begun.status_code == 202, begun.text
        eventually(lambda: value(stage, "alpha", "stamped") == "over a kill")
        os.kill(stage.daemon, signal.SIGKILL)
    with stage.serving():
        number = begun.json()["operation_id"]
        eventually(lambda: stage.call("GET", f"/operations/{number}")["state"] != "running")
        assert stage.call("GET", f"/operations/{number}")["state"] == "succeeded"
        assert value(stage, "alpha", "noted") == "over a kill"
        assert value(stage, "beta", "noted") != "over a kill"
        assert Path(stage.state / "daemon.log").read_text().count("Traceback") == 0
