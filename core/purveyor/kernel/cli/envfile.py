"""Variables as lines of the files that other programs read. What a form cannot say is refused, and
never said wrongly."""

import re
import shlex
from collections.abc import Callable

from purveyor_hooks import BadInput

BARE = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")  # means itself to every reader, so it needs no quotes


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
