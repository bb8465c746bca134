"""purveyor token, purveyor user."""

from typing import Any
from urllib.parse import quote

import click

from purveyor.cli import output
from purveyor.cli.actions import change
from purveyor.cli.client import run
from purveyor.cli.options import Options, plan_option, seconds
from purveyor_hooks.confirm import interrupts, yes_option

USERS = "/api/users"


@click.group("token")
def token_command() -> None:
    """API tokens."""


@token_command.command("create")
@click.argument("name")
@click.option(
    "--scope", type=click.Choice(["admin", "read", "project"]), default="admin", show_default=True
)
@click.option("--project", metavar="PROJECT", help="The project of a token of that scope.")
@click.option(
    "--user", metavar="USER", help="Whose it is: what is done with it is done in that name."
)
@click.option("--expires", metavar="TIME", help="How long it is valid: 30m, 12h, 90d.")
@plan_option
@click.pass_obj
def create(
    options: Options,
    name: str,
    scope: str,
    project: str | None,
    user: str | None,
    expires: str | None,
    plan: bool,
) -> None:
    """Make a token and print it, this once."""
    body: dict[str, Any] = {"name": name, "scope": scope, "project": project, "user": user}
    if expires:
        body["expires_in"] = seconds(expires, "expires")
    found = change(options, "POST", "/api/tokens", plan=plan, json=body)
    output.show_json(found) if options.as_json else click.echo(found["token"])


@token_command.command("list")
@click.pass_obj
def list_tokens(options: Options) -> None:
    """List the tokens; never their text."""
    found = run(options, lambda client: client.pages("/api/tokens"))
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (item["id"], item["name"], item["user"] or "", item["scope"],
         "revoked" if item["revoked_at"] else (item["expires_at"] or "never")[:19],
         (item["last_used_at"] or "never")[:19])
        for item in found
    ]  # fmt: skip
    output.table(
        ["id", "name", "user", "scope", "ends", "last used"],
        rows,
        "There are none. Make one: purveyor token create NAME",
    )


@token_command.command("revoke")
@click.argument("number", type=int)
@yes_option
@plan_option
@click.pass_obj
def revoke(options: Options, number: int, yes: bool, plan: bool) -> None:
    """Revoke a token."""
    interrupts(f"Whoever uses token {number} is refused from now on.", yes=yes, plan=plan)
    change(options, "DELETE", f"/api/tokens/{number}", plan=plan)
    if not options.as_json:
        click.echo(f"Token {number} is revoked.")


@token_command.command("sessions")
@click.pass_obj
def list_sessions(options: Options) -> None:
    """List who is signed in at the dashboard, with which token and from where."""
    found = run(options, lambda client: client.pages("/api/sessions"))
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (
            item["id"],
            item["token"],
            item["peer"],
            item["created_at"][:19],
            item["last_used_at"][:19],
            item["agent"],
        )
        for item in found
    ]
    output.table(
        ["id", "token", "from", "since", "last used", "browser"], rows, "Nobody is signed in."
    )


@token_command.command("end-session")
@click.argument("number", type=int)
@yes_option
@click.pass_obj
def end_session(options: Options, number: int, yes: bool) -> None:
    """Sign somebody out of the dashboard."""
    interrupts(f"Whoever has session {number} has to sign in again.", yes=yes)
    run(options, lambda client: client.call("DELETE", f"/api/sessions/{number}"))
    if not options.as_json:
        click.echo(f"Session {number} is ended.")


def _path(name: str, word: str = "") -> str:
    return f"{USERS}/{quote(name, safe='')}{word}"


@click.group("user")
def user_command() -> None:
    """Manage users: tokens of a user act in that name."""


@user_command.command("add")
@click.argument("name")
@plan_option
@click.pass_obj
def add(options: Options, name: str, plan: bool) -> None:
    """Add a user. A token for that one: purveyor token create laptop --user NAME"""
    found = change(options, "POST", f"{USERS}/", plan=plan, json={"name": name})
    output.say(
        options,
        found,
        f"Created user {name}. Make a token: purveyor token create laptop --user {name}",
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
@plan_option
@click.pass_obj
def disable(options: Options, name: str, yes: bool, plan: bool) -> None:
    """Revoke a user's tokens at once, and refuse new ones."""
    interrupts(f"Whoever uses a token of {name} is refused from now on.", yes=yes, plan=plan)
    found = change(options, "POST", _path(name, "/disable"), plan=plan)
    output.say(options, found, f"The user {name} is disabled, and has no valid token.")


@user_command.command("enable")
@click.argument("name")
@plan_option
@click.pass_obj
def enable(options: Options, name: str, plan: bool) -> None:
    """Allow a user tokens again. Revoked tokens stay revoked."""
    found = change(options, "POST", _path(name, "/enable"), plan=plan)
    output.say(
        options,
        found,
        f"The user {name} may have tokens. Make one: purveyor token create laptop --user {name}",
    )


@user_command.command("remove")
@click.argument("name")
@yes_option
@plan_option
@click.pass_obj
def remove(options: Options, name: str, yes: bool, plan: bool) -> None:
    """Revoke a user's tokens and remove the user. The name stays in the journal, and is not given
    again."""
    interrupts(
        f"Whoever uses a token of {name} is refused from now on, and nobody can be called {name} "
        "again.",
        yes=yes,
        plan=plan,
    )
    change(options, "DELETE", _path(name), plan=plan)
    output.say(options, {"removed": name}, f"The user {name} is removed.")
