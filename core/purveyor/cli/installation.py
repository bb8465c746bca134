"""Commands on the installation: the doctor, completion."""

from typing import Any

import click

from purveyor.cli import output
from purveyor.cli.client import Client, run
from purveyor.cli.options import Options


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
