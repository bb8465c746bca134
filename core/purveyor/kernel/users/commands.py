"""purveyor user."""

from urllib.parse import quote

import click

from purveyor.kernel.cli import output
from purveyor.kernel.cli.client import run
from purveyor.kernel.cli.options import Options
from purveyor_hooks.confirm import interrupts, yes_option

USERS = "/api/users"


def _path(name: str, word: str = "") -> str:
    return f"{USERS}/{quote(name, safe='')}{word}"


@click.group("user")
def user_command() -> None:
    """Users: people with a name, whose tokens act in it."""


@user_command.command("add")
@click.argument("name")
@click.pass_obj
def add(options: Options, name: str) -> None:
    """Add a user. A token for that one: purveyor token create laptop --user NAME"""
    found = run(options, lambda client: client.call("POST", f"{USERS}/", json={"name": name}))
    output.say(
        options,
        found,
        f"The user {name} is there. A token: purveyor token create laptop --user {name}",
    )


@user_command.command("list")
@click.pass_obj
def list_users(options: Options) -> None:
    """List the users."""
    found = run(options, lambda client: client.pages(f"{USERS}/"))
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (
            item["name"],
            "disabled" if item["disabled_at"] else "active",
            item["tokens"],
            item["created_at"][:19],
        )
        for item in found
    ]
    output.table(
        ["name", "state", "tokens", "since"],
        rows,
        "There are none. Add one: purveyor user add NAME",
    )


@user_command.command("disable")
@click.argument("name")
@yes_option
@click.pass_obj
def disable(options: Options, name: str, yes: bool) -> None:
    """End a user's tokens at once, and let there be no new ones."""
    interrupts(f"Whoever uses a token of {name} is refused from now on.", yes=yes)
    found = run(options, lambda client: client.call("POST", _path(name, "/disable")))
    output.say(options, found, f"The user {name} is disabled, and has no valid token.")


@user_command.command("enable")
@click.argument("name")
@click.pass_obj
def enable(options: Options, name: str) -> None:
    """Let a user have tokens again; those that were ended stay so."""
    found = run(options, lambda client: client.call("POST", _path(name, "/enable")))
    output.say(
        options,
        found,
        f"The user {name} may have tokens. Make one: purveyor token create laptop --user {name}",
    )


@user_command.command("remove")
@click.argument("name")
@yes_option
@click.pass_obj
def remove(options: Options, name: str, yes: bool) -> None:
    """End a user's tokens and remove the user. The name stays in the journal, and nobody else gets
    it."""
    interrupts(
        f"Whoever uses a token of {name} is refused from now on, and nobody can be called {name} "
        "again.",
        yes=yes,
    )
    run(options, lambda client: client.call("DELETE", _path(name)))
    output.say(options, {"removed": name}, f"The user {name} is removed.")
