"""Variables as lines of the files that other programs read. What a form cannot say is refused, and
never said wrongly."""

import re
import shlex
from collections.abc import Callable, Mapping

from purveyor_hooks import BadInput

BARE = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")  # means itself to every reader, so it needs no quotes
FILE, TEXT = "_CA_CERT", "_CA_PEM"  # of one prefix: where a file is, and what is in it


def dotenv(name: str, value: str) -> str:
    """A line that python-dotenv, node and a shell read alike; one without quotes means the same to
    ``docker --env-file``.

    They differ in what a backslash and a dollar do, and in which quotes take which: what they would
    read differently is refused.
    """
    if BARE.fullmatch(value):
        return f"{name}={value}"
    if "${" in value or "\r" in value or "\0" in value:
        raise _refused(name, "dotenv")
    if "'" not in value and "\\\\" not in value and not value.endswith("\\"):
        return f"{name}='{value}'"
    if not any(character in value for character in '"\\$`!'):
        return f'{name}="{value}"'
    raise _refused(name, "dotenv")


def shell(name: str, value: str) -> str:
    """A line that a POSIX shell takes."""
    if "\0" in value:
        raise _refused(name, "shell")
    return f"export {name}={shlex.quote(value)}"


def docker(name: str, value: str) -> str:
    """A line of ``docker --env-file``, which takes lines as they are."""
    if any(character in value for character in "\n\r\0"):
        raise _refused(name, "docker")
    return f"{name}={value}"


def without_texts(variables: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables without those that hold the text of a file which another one names, and the
    names of these."""
    left = [
        name
        for name in variables
        if name.endswith(TEXT) and name.removesuffix(TEXT) + FILE in variables
    ]
    return {name: value for name, value in variables.items() if name not in left}, left


FORMS: dict[str, Callable[[str, str], str]] = {"dotenv": dotenv, "shell": shell, "docker": docker}


def _refused(name: str, form: str) -> BadInput:
    why = {
        "dotenv": "its readers would read it differently",
        "docker": "it has several lines",
        "shell": "it holds a zero byte",
    }[form]
    return BadInput(
        f"The value of {name} cannot be said in the form {form}: {why}.",
        remedy="Use --format json" + (" or shell." if form != "shell" else "."),
        errors={name: why},
    )
