"""The command line itself: where --json may stand, what errors look like, what it does when nobody
reads."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from purveyor.program import COMMANDS, cli

PURVEYOR = [sys.executable, "-m", "purveyor"]


def leaves(command: click.Command, path: str = "") -> list[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        return [
            item
            for name in command.list_commands(context)
            for item in leaves(command.get_command(context, name), f"{path} {name}")
        ]  # type: ignore[arg-type]
    return [(path.strip(), command)]


def test_every_command_takes_json_after_it_but_those_that_hand_arguments_on() -> None:
    without = {
        path
        for path, command in leaves(cli)
        if sum("--json" in item.opts for item in command.params) != 1
    }
    assert without == {"run", "connect", "compose up", "compose down"}
    assert set(COMMANDS) <= set(cli.list_commands(click.Context(cli)))


def call(state: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    # an engine would be given the network of an ordinary installation
    nobody = f"unix://{state}/nobody.sock"
    environment = {**os.environ, "PURVEYOR_STATE": str(state), "DOCKER_HOST": nobody}
    return subprocess.run(
        [*PURVEYOR, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        **options,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["--json", "show", "nothing"], 4, "not-found"),
        (["show", "nothing", "--json"], 4, "not-found"),
        (["show", "--json"], 2, "bad-input"), (["show", "x", "--json", "--what"], 2, "bad-input"),
    ],
)  # fmt: skip
def test_an_error_is_a_problem_document_for_who_asked_for_json(
    tmp_path: Path, arguments: list[str], code: int, kind: str
) -> None:
    done = call(tmp_path / "none", *arguments)
    assert (done.returncode, done.stderr) == (code, "")
    problem = json.loads(done.stdout)
    assert problem["type"] == f"urn:purveyor:error:{kind}"
    assert problem["detail"]
    assert problem["remedy"]


def test_an_error_is_two_lines_for_a_person(tmp_path: Path) -> None:
    done = call(tmp_path / "none", "show", "nothing")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("Error: There is no installation in")
    done = call(tmp_path / "none", "show")
    assert (done.returncode, " show [OPTIONS] SERVICE" in done.stderr) == (2, True)
    assert call(tmp_path / "none", "show", "--help").returncode == 0


@pytest.mark.parametrize(
    ("listen", "code", "said"),
    [
        ("nonsense", 2, "must be HOST:PORT"), ("127.0.0.1:99999", 2, "must be HOST:PORT"),
        ("[::1]:x", 2, "must be HOST:PORT"),
        ("", 2, "must be HOST:PORT"), (f"{'é' * 64}:8400", 5, "not a valid host name"),
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_said_before_anything_begins(
    tmp_path: Path, listen: str, code: int, said: str
) -> None:
    done = call(tmp_path / "none", "serve", "--listen", listen)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == code
    assert (tmp_path / "none").exists() == (code != 2)


def test_an_output_that_takes_nothing_is_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        environment = {**os.environ, "PURVEYOR_STATE": str(tmp_path)}
        command = [*PURVEYOR, "completion", "bash"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, timeout=60
        )
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device: the output\n")


def test_a_client_is_opened_on_the_machine_itself_alone(tmp_path: Path) -> None:
    """Elsewhere it would be this host's container of that name, or code that another host sends."""
    done = call(tmp_path, "--url", "http://127.0.0.1:9", "connect", "main")
    assert (done.returncode, "on the machine itself" in done.stderr) == (2, True)
    assert "purveyor connect main" in done.stderr
