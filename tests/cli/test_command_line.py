"""The command line as its user meets it."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import asyncpg  # noqa: F401 - the driver that the variables are for
import pytest
from click.testing import CliRunner

import forkserver
from purveyor.kernel.db.lock import StateLock, daemon_is_there
from purveyor.program import COMMANDS, cli
from support import PURVEYOR, Stage, docker, eventually


def test_the_whole_path_works_without_a_daemon(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    assert "There are no services yet" in stage.cli("list")
    assert "running" in stage.cli("create", "redis", "cache")
    stage.cli("project", "create", "shop")
    assert "REDIS_URL" in stage.cli("link", "cache", "shop")
    assert (
        stage.cli("run", "shop", "--", "sh", "-c", "echo $REDIS_USERNAME").strip()
        == "shop_production"
    )
    assert stage.cli("connect", "cache", "--", "PING").strip() == "PONG"
    assert "ready" in stage.cli("logs", "cache").lower()
    stage.cli("unlink", "cache", "shop")
    stage.cli("delete", "cache")
    assert stage.containers() == set()


def test_every_module_of_commands_starts_as_a_real_process(
    make_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tests' commands are forked from a process that has imported everything: here what lacks
    an import is seen."""
    monkeypatch.setenv("PURVEYOR_TEST_FORK", "0")
    stage = make_stage()
    one_of_each = {module: name for name, module in COMMANDS.items()}.values()
    with ThreadPoolExecutor(2) as pool:
        for said in pool.map(lambda name: stage.cli(name, "--help"), one_of_each):
            assert "Usage:" in said
    assert "purveyor, version" in stage.cli("--version")
    alone = stage.cli("list")
    with stage.serving():
        assert stage.cli("list") == alone


def test_two_commands_at_once_take_turns(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    with open(stage.state / "said", "wb") as said:
        commands = [[*PURVEYOR, "project", "create", f"p{number}"] for number in range(3)]
        jobs = [
            forkserver.start(command, env=stage.environment, output=said) for command in commands
        ]
    assert [job.wait(60) for job in jobs] == [0, 0, 0]
    assert {item["slug"] for item in stage.json("project", "list")} == {"p0", "p1", "p2"}


@pytest.mark.parametrize("form", ["dotenv", "shell", "docker", "json"])
def test_variables_are_read_back_the_same_from_every_format(form: str, shops: Stage) -> None:
    expected = shops.variables("alpha", host=False)
    text = shops.cli("env", "alpha", "--format", form)
    if form == "json":
        found = json.loads(text)
    elif form == "docker":
        path = shops.state / "env"
        path.write_text(text)
        printed = docker(
            "run", "--rm", "--env-file", str(path), "purveyor-test/demo:1", "env", "-0"
        )
        found = dict(line.split("=", 1) for line in printed.split("\0") if "=" in line)
    else:
        script = text if form == "shell" else "set -a\n" + text
        printed = subprocess.run(
            ["sh", "-c", script + "\nenv -0"], capture_output=True, text=True, check=True
        ).stdout
        found = dict(line.split("=", 1) for line in printed.split("\0") if "=" in line)
    left = {"POSTGRES_CA_PEM", "REDIS_CA_PEM"} if form == "docker" else set()
    assert left <= set(expected)
    assert {name: found.get(name) for name in set(expected) - left} == {
        name: value for name, value in expected.items() if name not in left
    }


@contextmanager
def following(stage: Stage, *arguments: str) -> Iterator[list[str]]:
    """What a command that goes on prints, as it comes."""
    follower = subprocess.Popen(
        [*PURVEYOR, *arguments], env=stage.environment, stdout=subprocess.PIPE, text=True
    )
    said: list[str] = []

    def read() -> None:
        assert follower.stdout is not None
        for line in follower.stdout:
            said.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield said
    finally:
        follower.kill()
        follower.wait()
        reader.join()


def test_logs_can_be_followed(shops: Stage) -> None:
    with following(shops, "logs", "-f", "-n", "0", "main") as said:

        def heard() -> bool:
            shops.run("connect", "main", "--", "-c", "SELECT nonsense_that_is_logged")
            return any("nonsense_that_is_logged" in line for line in said)

        eventually(heard)


def test_events_can_be_followed(shops: Stage) -> None:
    with following(
        shops,
        "--json",
        "events",
        "-f",
        "-n",
        "0",
        "--type",
        "service.restart",
        "--service",
        "cache",
    ) as said:
        eventually(lambda: shops.run("restart", "cache", "--yes").returncode == 0 and said)
        assert json.loads(said[0])["type"].startswith("service.restart.")


def test_exit_codes_mean_something(shops: Stage) -> None:
    shops.cli("show", "nobody", code=4)
    shops.cli("create", "redis", "x", "-p", "nonsense", code=2)
    shops.cli("create", "redis", "cache", code=5)
    shops.cli("create", "redis", "y", "--image", "no.such.host/nothing:1", code=6)
    assert "y" not in {item["slug"] for item in shops.json("list")}


def test_every_command_has_help_and_the_completion_is_a_script(shops: Stage) -> None:
    runner = CliRunner()
    shown = runner.invoke(cli, ["--help"]).output
    for name in COMMANDS:
        assert f"  {name} " in shown
        said = runner.invoke(cli, [name, "--help"])
        assert said.exit_code == 0
        assert "Usage:" in said.output
    for shell in ("bash", "zsh", "fish"):
        assert "_PURVEYOR_COMPLETE" in shops.cli("completion", shell)


def test_a_password_that_nothing_can_quote_works_everywhere(shops: Stage) -> None:
    hostile = "a'b\"c`d$e%40@/:?#[]& ü日\\n" + "x" * 200
    file = shops.state / "password"
    file.write_text(hostile + "\n")
    for kind in ("postgres", "redis"):
        shops.cli("create", kind, f"hostile-{kind}", "-p", f"password=@{file}")
        assert shops.json("health", f"hostile-{kind}")["healthy"]
        shops.cli("project", "create", f"h-{kind}")
        shops.cli("link", f"hostile-{kind}", f"h-{kind}")
        assert all(item["ok"] for item in shops.json("doctor", f"h-{kind}"))
        shops.cli("restart", f"hostile-{kind}")
        assert hostile not in shops.cli("show", f"hostile-{kind}")
    assert shops.cli("connect", "hostile-redis", "--", "PING").strip() == "PONG"
    assert shops.cli("connect", "hostile-postgres", "--", "-Atc", "SELECT 1").strip() == "1"


def test_no_command_runs_the_core_before_a_daemon_that_waits_for_its_turn(
    make_stage: Callable[..., Stage],
) -> None:
    """Else it would wait for ever, behind one command after the other."""
    stage = make_stage()
    stage.cli("project", "create", "first")
    with StateLock(stage.state) as held:  # a command that takes long
        with open(stage.state / "daemon.log", "ab") as log:
            daemon = forkserver.start([*PURVEYOR, "serve"], env=stage.environment, output=log)
        eventually(lambda: daemon_is_there(stage.state))
        with ThreadPoolExecutor(1) as pool:
            command = pool.submit(stage.cli, "--json", "project", "list")
            eventually(lambda: "waiting" in (stage.state / "daemon.log").read_text())
            held.release()
            assert [item["slug"] for item in json.loads(command.result())] == ["first"]
    try:
        # it was the daemon that answered
        assert "serving" in (stage.state / "daemon.log").read_text()
    finally:
        daemon.terminate()
        daemon.wait(30)
