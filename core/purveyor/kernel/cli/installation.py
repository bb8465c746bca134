"""Commands on the installation: tokens, the doctor, completion."""

from typing import Any

import click

from purveyor.kernel.cli import output
from purveyor.kernel.cli.client import Client, run
from purveyor.kernel.cli.options import Options, seconds
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
@click.option(
    "--user", metavar="USER", help="Whose it is: what is done with it is done in that name."
)
@click.option("--expires", metavar="TIME", help="How long it is valid: 30m, 12h, 90d.")
@click.pass_obj
def create(
    options: Options,
    name: str,
    scope: str,
    project: str | None,
    user: str | None,
    expires: str | None,
) -> None:
    """Make a token and print it, this once."""
    body: dict[str, Any] = {"name": name, "scope": scope, "project": project, "user": user}
    if expires:
        body["expires_in"] = seconds(expires, "expires")
    found = run(options, lambda client: client.call("POST", "/api/tokens", json=body))
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
@click.pass_obj
def revoke(options: Options, number: int, yes: bool) -> None:
    """End a token."""
    interrupts(f"Whoever uses token {number} is refused from now on.", yes=yes)
    run(options, lambda client: client.call("DELETE", f"/api/tokens/{number}"))
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


@click.command("doctor")
@click.argument("project", required=False)
@click.option("-e", "--environment", default="production", show_default=True)
@click.pass_obj
def doctor_command(options: Options, project: str | None, environment: str) -> None:
    """Check engine, network, store, and whatever should run, backups, schedules and disks; for a
    PROJECT, its app as it runs and each step from its network to its data."""

    async def work(client: Client) -> Any:
        return await client.get("/api/doctor", project=project, environment=environment)

    found = run(options, work)
    if options.as_json:
        output.show_json(found)
    else:
        for item in found:
            mark = (
                click.style("✓", fg="green")
                if item["ok"]
                else click.style("✖", fg="red", bold=True)
            )
            click.echo(
                f"{mark} {item['subject']}: {item['name']}  "
                f"{click.style(item['detail'], dim=True)}".rstrip()
            )
            if item["remedy"]:
                click.echo(f"    {item['remedy']}")
    if not all(item["ok"] for item in found):
        raise SystemExit(1)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the completion script: purveyor completion bash > /etc/bash_completion.d/purveyor"""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "purveyor", "_PURVEYOR_COMPLETE").source())
