"""What `env` prints is read back right, by those who read it."""

import json
import os
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purveyor.cli import envfile
from purveyor_hooks import BadInput

dotenv = pytest.importorskip("dotenv")  # neither is beside the oldest dependencies
npm = pytest.importorskip("npm")

VALUES = [
    "", "plain", "postgresql://shop:p%40ss@purveyor-main:5432/shop_production?sslmode=require&x=1",
    "two words", " spaces ",
    "a$b", "a$HOME", "$(id)", "`id`", 'quo"ted', "it's", "a#b", "# not a comment", "a=b",
    "back\\slash", "a\\nb", "tab\there",
    "line one\nline two", "-----BEGIN-----\nabc+/=\n-----END-----\n", "ünï 日本 🦆", "~", "~/x",
    "a;b", "a|b&c", "*?[x]", "!history", "%s",
    "export X=1", "{'json': 1}", '{"json": [1, "two"]}', "trailing\\ space", "a,b", "(x)", "<x>",
    "null", "true", "0123",
]  # fmt: skip
UNSAYABLE = [
    "a${HOME}b",
    "it's $5",
    "it's `x`",
    'it\'s "x"',
    "carriage\rreturn",
    "two\\\\backslashes",
    "ends with \\",
]


def python(text: str) -> dict[str, str | None]:
    return dict(dotenv.dotenv_values(stream=StringIO(text)))


def node(text: str) -> dict[str, str]:
    script = (
        "const text = require('fs').readFileSync(0, 'utf8'); "
        "console.log(JSON.stringify(require('util').parseEnv(text)))"
    )
    done = subprocess.run(
        [npm.NODE / "bin/node", "-e", script],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def shell(text: str) -> dict[str, str]:
    script = (
        f"set -a; . /dev/stdin; exec {os.sys.executable} -c 'import os, json; "
        "print(json.dumps(dict(os.environ)))'"
    )  # type: ignore[attr-defined]
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    done = subprocess.run(
        ["sh", "-c", script],
        input=text,
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    return {name: value for name, value in json.loads(done.stdout).items() if name.startswith("V")}


@pytest.mark.parametrize("read", [python, node, shell])
def test_dotenv_is_read_back_as_it_was(read: object) -> None:
    assert callable(read)
    wanted = {f"V{number}": value for number, value in enumerate(VALUES)}
    text = "".join(envfile.dotenv(name, value) + "\n" for name, value in wanted.items())
    assert read(text) == wanted


def test_what_stands_without_quotes_means_the_same_to_docker() -> None:
    for value in VALUES[:3]:
        line = envfile.dotenv("V", value)
        assert line == f"V={value}" or "&" in value


@pytest.mark.parametrize("value", UNSAYABLE)
def test_what_readers_would_read_differently_is_refused(value: str) -> None:
    with pytest.raises(BadInput, match="V cannot be said") as told:
        envfile.dotenv("V", value)
    assert "--format json or shell" in told.value.remedy
    assert shell(envfile.shell("V", value)) == {"V": value}


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30))
def test_whatever_is_said_python_reads_back(value: str) -> None:
    try:
        line = envfile.dotenv("V", value)
    except BadInput:
        return
    assert python(line + "\n") == {"V": value}


def test_docker_takes_lines_as_they_are() -> None:
    assert envfile.docker("V", "a $b 'c' \"d\"") == "V=a $b 'c' \"d\""
    for value in ("a\nb", "a\rb"):
        with pytest.raises(BadInput, match="several lines"):
            envfile.docker("V", value)


def test_random_values_are_read_back_by_node_and_a_shell(tmp_path: Path) -> None:
    import random

    letters = "abc'\"$`\\ #=\n!{}~&;ü"
    chance = random.Random(7)
    said: dict[str, str] = {}
    lines = ""
    for number in range(2000):
        value = "".join(chance.choice(letters) for _ in range(chance.randrange(8)))
        try:
            lines += envfile.dotenv(f"V{number}", value) + "\n"
        except BadInput:
            continue
        said[f"V{number}"] = value
    assert len(said) > 500
    for read in (node, shell, python):
        assert read(lines) == said
