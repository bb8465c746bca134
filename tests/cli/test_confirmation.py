"""One rule of confirmation: what destroys data asks for the name, what interrupts asks y/N, and
nobody is asked in vain."""

import inspect
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from types import CodeType
from typing import Any

import click
import click.testing
import pytest

from purveyor.exposed import Exposed
from purveyor.program import cli
from purveyor_hooks import BadInput

DESTROY: dict[tuple[str, ...], str] = {
    ("delete", "main", "--purge"): "main",
    ("unlink", "main", "shop", "--purge"): "shop",
    ("project", "remove-environment", "shop", "preview", "--purge"): "preview",
    ("purge", "main-1"): "main-1",
    ("upgrade", "main", "--undo"): "main",
    ("backup", "delete", "7"): "7",
    ("backup", "restore", "7", "--in-place", "main"): "main",
    ("operations", "abandon", "7"): "abandon",
    ("volume", "attach", "main-1", "main"): "main",
    ("volume", "delete", "main-1"): "main-1",
}
INTERRUPT: tuple[tuple[str, ...], ...] = (
    ("stop", "main"),
    ("restart", "main"),
    ("update", "main", "-p", "port=1"),
    ("upgrade", "main", "x:2"),
    ("delete", "main"),
    ("unlink", "main", "shop", "--now"),
    ("rotate", "shop"),
    ("rotate", "--administrator", "main"),
    ("project", "delete", "shop"),
    ("project", "remove-environment", "shop", "preview"),
    ("token", "revoke", "1"),
    ("token", "end-session", "1"),
    ("user", "disable", "ada"),
    ("user", "remove", "ada"),
    ("takeover",),
    ("backup", "archive", "stop", "main"),
    ("kv", "disable"),
    ("blob", "disable"),
)
LOOK_FIRST = {
    "plugin install",
    "plugin uninstall",
    "apply",
    "ca finish",
    "service run",
}  # they ask when there is something to lose, which they have to look up
NAMED = {"purge", "volume delete"}  # the name itself is the flag
HARMLESS = {
    "backup schedule delete": "its backups stay",
    "backup schedule disable": "its backups stay",
    "backup schedule update": "its backups stay; how many are kept is what was asked for",
    "backup source delete": "what is in it stays",
    "webhook delete": "a setting",
    "backup key restore": "refuses where there is another key",
    "kv del": "names each key that goes",
    "blob del": "names each file that goes",
    "compose down": "docker compose asked for it, and data is kept",
    "ca rotate": "another authority is known, and signs nothing yet",
    "operations cancel": "takes back, and destroys nothing",
}
WORDS = {"stop", "restart", "update", "upgrade", "delete", "del", "unlink", "rotate", "purge",
         "revoke", "disable", "uninstall", "abandon", "cancel", "remove-environment", "restore", "apply", "down"}  # fmt: skip


def walk(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            found = command.get_command(context, word)
            assert found is not None
            yield from walk(found, f"{name} {word}".strip())
    else:
        yield name, command


def names(code: CodeType) -> set[Any]:
    """What a function's code calls and says, inner functions included."""
    found: set[Any] = {
        *code.co_names,
        *(f"says {item}" for item in code.co_consts if isinstance(item, str)),
    }
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= names(inner)
    return found


def said_by(command: click.Command) -> set[Any]:
    """What a command calls and says; of one that is made of a declaration, what that says."""
    function: Any = command.callback
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    made_of = inspect.getclosurevars(function).nonlocals.get("exposed")
    if isinstance(made_of, Exposed) and made_of.command is not None:
        shape = made_of.command
        asks = {"destroys": shape.destroys, "interrupts": shape.interrupts}
        return {name for name, text in asks.items() if text} | {f"says {made_of.method}"}
    found = names(function.__code__)
    used = [function.__globals__.get(name) for name in found]
    return found | {f"says {item.method}" for item in used if isinstance(item, Exposed)}


def test_every_command_that_destroys_or_interrupts_asks_by_the_one_rule() -> None:
    asked = {
        " ".join(word for word in words if not word.startswith("-"))
        for words in (*DESTROY, *INTERRUPT)
    }
    for name, command in walk(cli):
        said = said_by(command)
        asks = bool({"destroys", "interrupts", "_purge"} & said)
        assert not {"confirm", "prompt"} & said or name in ("import", "apply"), (
            f"{name} asks by a rule of its own"
        )
        if name in HARMLESS:
            assert not asks, name
        elif name.rpartition(" ")[2] in WORDS or "says DELETE" in said:
            assert asks, f"{name} destroys or interrupts: have it asked for, or say why not"
        if asks:
            assert name in LOOK_FIRST or any(words.startswith(name) for words in asked), (
                f"{name} has no test here"
            )
            assert (
                "--yes" in {option for parameter in command.params for option in parameter.opts}
                or name in NAMED
            )


@pytest.mark.parametrize("words", [*DESTROY, *INTERRUPT], ids=" ".join)
def test_without_a_terminal_and_without_the_flag_it_refuses_before_anything_is_done(
    words: tuple[str, ...],
) -> None:
    done = click.testing.CliRunner().invoke(
        cli, ["--url", "http://127.0.0.1:9", *words], input="y\nmain\n"
    )
    assert isinstance(done.exception, BadInput)
    assert done.exception.exit_code == 2
    assert "there is no terminal to ask at" in done.exception.detail
    assert (
        "--confirm" if words[0] == "purge" or words[:2] == ("volume", "delete") else "--yes"
    ) in done.exception.remedy


def at_a_terminal(words: tuple[str, ...], typed: str) -> tuple[int, str]:
    """Run a command at a terminal against a daemon that is not there."""
    ours, its = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "purveyor",
        "--url",
        "http://127.0.0.1:9",
        *words,
    ]
    with subprocess.Popen(
        command, stdin=its, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as done:
        os.write(ours, f"{typed}\n".encode())
        said, _ = done.communicate(timeout=30)
    os.close(ours)
    os.close(its)
    return done.returncode, said


@pytest.mark.parametrize(("words", "wrong", "right"), [
    (("stop", "main"), "n", "y"),
    (("delete", "main", "--purge"), "y", "main"),
    (("upgrade", "main", "--undo"), "y", "main"),
], ids=str)  # fmt: skip
def test_at_a_terminal_it_goes_on_with_the_right_word_alone(
    words: tuple[str, ...], wrong: str, right: str
) -> None:
    code, said = at_a_terminal(words, wrong)
    assert (code, "does not answer" in said) == (2, False), said
    code, said = at_a_terminal(words, right)
    assert "The daemon at http://127.0.0.1:9 does not answer" in said, said


def test_a_plan_and_the_flag_ask_nothing() -> None:
    for more in ("--plan", "--yes"):
        done = click.testing.CliRunner().invoke(
            cli, ["--url", "http://127.0.0.1:9", "stop", "main", more]
        )
        assert "does not answer" in str(done.exception)
