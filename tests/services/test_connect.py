"""`purveyor connect` opens the service's own client in its container, or a connected prompt on this
host where the image has none. On the fake engine, in processes of their own."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import forkserver
from fake import program
from fake.program import say, told
from fake.scene import Scene
from fake.server import CLIENTLESS

COMMAND = [sys.executable, str(Path(program.__file__))]


def connect(scene: Scene, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, str(scene.state), "connect", *words]
    return forkserver.run(command, env=dict(os.environ), stdin=stdin, timeout=30)


def test_the_client_in_the_container_gets_the_input_and_what_follows_the_dashes(
    scene: Scene,
) -> None:
    done = connect(scene, "main", stdin="select 1\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "select 1\n", "")
    done = connect(scene, "main", "--", "/no/such/file")
    assert done.returncode == 1, "its exit code is ours"
    assert (done.stdout, "/no/such/file" in done.stderr) == ("", True)


def test_where_the_image_has_none_a_connected_prompt_opens_here(scene: Scene) -> None:
    told(scene, "update", "idle", "-p", f"size={CLIENTLESS}", "--yes")
    done = connect(scene, "idle", "--", "again", stdin="print(6 * 7)\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "hello again\n42\n"


def test_on_a_terminal_every_key_is_the_clients_and_the_terminal_is_afterwards_as_it_was(
    scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "greeting").write_text("hello\n")
    main, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    command = [*COMMAND, str(scene.state), "connect", "main", "--", str(tmp_path / "greeting")]
    process = forkserver.Forked(command, os.environ, (terminal, terminal, terminal))
    assert process.wait(60) == 0
    assert termios.tcgetattr(terminal) == before
    assert b"hello" in os.read(main, 1000)
    os.close(main)
    os.close(terminal)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ("--url", "http://127.0.0.1:9", "connect", "main"),
            "A client is opened on the machine itself.",
        ),
        (("connect", "nosuch"), "nosuch"),
    ],
)
def test_what_cannot_be_connected_to_is_named(
    scene: Scene, words: tuple[str, ...], why: str
) -> None:
    said = say(scene, *words)
    assert said.code != 0
    assert why in said.err


def test_a_service_that_stands_still_has_no_client(scene: Scene) -> None:
    done = connect(scene, "asleep")
    assert done.returncode != 0
    assert "not running" in done.stderr
