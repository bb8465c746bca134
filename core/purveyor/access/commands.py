"""purveyor token, purveyor user."""

from typing import Any

import click

from purveyor.access.exposed import (
    CREATE_TOKEN,
    CREATE_USER,
    DISABLE_USER,
    ENABLE_USER,
    REMOVE_USER,
    REVOKE_TOKEN,
    TOKENS,
    USERS,
)
from purveyor.cli import output
from purveyor.cli.actions import change, command
from purveyor.cli.client import run
from purveyor.cli.options import Options, plan_option, seconds
from purveyor_hooks.confirm import interrupts, yes_option


@click.group("token")
def token_command() -> None:
    """API tokens."""


@token_command.command("create")
@click.argument("name")
@click.option(
    "--scope", type=click.Choice(["admin", "read", "project"]), default="admin", show_default=True
)
@click.option("--project", metavar="PROJECT", help="The project of a token of that scope.")
@click.option("--user", metavar="USER", help="The user that the token acts as.")
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
    wanted: dict[str, Any] = {"name": name, "scope": scope, "project": project, "user": user}
    if expires:
        wanted["expires_in"] = seconds(expires, "expires")
    found = change(options, CREATE_TOKEN.call(plan=plan, **wanted))
    output.show_json(found) if options.as_json else click.echo(found["token"])


@token_command.command("list")
@click.pass_obj
def list_tokens(options: Options) -> None:
    """List the tokens; never their text."""
    found = run(options, lambda client: client.pages(TOKENS))
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
    change(options, REVOKE_TOKEN.call(plan=plan, token=number))
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


@click.group("user")
def user_command() -> None:
    """Manage users: tokens of a user act in that name."""


@user_command.command("list")
@click.pass_obj
def list_users(options: Options) -> None:
    """List the users."""
    found = run(options, lambda client: client.pages(USERS))
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


for _exposed in (CREATE_USER, DISABLE_USER, ENABLE_USER, REMOVE_USER):
    user_command.add_command(command(_exposed))
