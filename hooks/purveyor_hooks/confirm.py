"""The one rule of confirmation for commands, a plugin's too: what destroys data asks for the name,
what interrupts service or credentials asks y/N.

Without a terminal nobody can be asked: then the command goes on with its flag alone. A plan changes
nothing and asks nothing.
"""

import sys

import click

from purveyor_hooks.errors import BadInput

FLAG = "--yes"

yes_option = click.option(FLAG, is_flag=True, help="Do not ask.")


def destroys(
    what: str,
    name: str,
    *,
    yes: bool,
    plan: bool = False,
    thing: str = "its name",
    flag: str = FLAG,
) -> None:
    """Have a name typed before data is gone for good; `what` says what is lost. Raises `BadInput`
    for anything else."""
    if yes or plan:
        return
    _require_terminal(what, flag)
    if click.prompt(f"{what} Type {thing} to go on ({name})", err=True) != name:
        raise BadInput(
            f"That is not {thing}; nothing was changed.",
            remedy=f"Type it as it is: {name}. Or give {flag}.",
        )


def interrupts(what: str, *, yes: bool, plan: bool = False) -> None:
    """Ask before somebody loses service or credentials; `what` says who loses what. Raises
    `BadInput` for a no."""
    if yes or plan:
        return
    _require_terminal(what, FLAG)
    if not click.confirm(f"{what} Go on?", err=True):
        raise BadInput("Nothing was changed.", remedy=f"Say y, or give {FLAG}.")


def _require_terminal(what: str, flag: str) -> None:
    if not sys.stdin.isatty():
        remedy = f"Nothing was changed. Give {flag} to go on."
        raise BadInput(
            f"{what} It was not confirmed, and there is no terminal to ask at.", remedy=remedy
        )
