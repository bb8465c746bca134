"""What is printed: wrapped and coloured for whoever looks, one row a line for programs."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import click
import pytest

from purveyor.cli import output
from purveyor.cli.terminal import safe_output

NARROW = 40
ROWS = [
    ("main", output.status("running"), "a reason that is much longer than the terminal is wide"),
    ("数据库", "b", ""),
]
DRAWN = f"""
from purveyor.cli import output
from purveyor.cli.terminal import safe_output
with safe_output():
    output.table(["name", "status", "why"], {ROWS!r}, "none")
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(**environment: str) -> str:
    """The table as a terminal of 40 columns gets it."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, NARROW, 0, 0))
    given = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")
    }
    given |= {"TERM": "xterm", **environment}
    subprocess.run([sys.executable, "-c", DRAWN], stdout=its, env=given, check=True, timeout=120)
    os.close(its)
    said = b""
    try:
        while more := os.read(ours, 65536):
            said += more
    except OSError:  # all is read, and nobody is at the other end
        pass
    os.close(ours)
    return said.decode()


def test_a_table_is_wrapped_to_the_terminal_and_loses_nothing() -> None:
    said = drawn()
    assert "\x1b[32m" in said
    lines = click.unstyle(said).splitlines()
    assert max(map(len, lines)) <= NARROW
    assert lines[0].split() == ["NAME", "STATUS", "WHY"]
    for word in ("main", "● running", "数据库"):
        assert word in click.unstyle(said)
    why = " ".join(line[lines[0].index("WHY") :].strip() for line in lines[1:])
    assert why.strip() == ROWS[0][2]


def test_no_color_is_heeded() -> None:
    assert "\x1b[" not in drawn(NO_COLOR="1")


@pytest.mark.parametrize(("value", "colours"), [("1", False), ("", True)])
def test_no_color_holds_for_all_that_is_printed(
    monkeypatch: pytest.MonkeyPatch, value: str, colours: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    with redirect_stdout(Terminal()) as said, safe_output():
        click.secho("done\x07", fg="green")
    assert ("\x1b[32m" in said.getvalue()) is colours
    assert "done\\u0007" in said.getvalue()


def test_what_an_app_says_moves_no_cursor_in_a_table() -> None:
    with redirect_stdout(Terminal()) as said, safe_output():
        output.table(["name"], [("a\x1b[2Jb",)], "none")
    assert "\x1b[2J" not in said.getvalue()
    assert "a\\u001b[2Jb" in said.getvalue()


def test_in_a_pipe_a_row_is_a_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRAWN], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == (
        "NAME  STATUS     WHY\nmain  ● running  a reason that is much longer than the terminal is "
        "wide\n数据库   b\n"
    )


def test_progress_is_shown_to_whoever_looks_and_to_nobody_else() -> None:
    step = {"type": "service.create.step", "data": {"step": "volume", "state": "done"}}
    with redirect_stderr(io.StringIO()) as said, output.progress("create main") as listen:
        listen(step)
    assert said.getvalue() == ""
    with redirect_stderr(Terminal()) as said, output.progress("create main") as listen:
        listen(step)
    assert re.search("✓ volume", click.unstyle(said.getvalue()))


def test_the_version_is_told_without_what_draws(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom purveyor.program import main\n"
        "try: main(['--version'])\nexcept SystemExit: pass\n"
        "assert not {'rich', 'litestar', 'httpx', 'aiodocker'} & set(sys.modules), "
        "sorted(sys.modules)"
    )
    environment = {**os.environ, "PURVEYOR_STATE": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, env=environment, timeout=120
    )
