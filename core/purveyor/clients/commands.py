"""``purveyor plan``, ``apply`` and ``export``: one file that says what is to be."""

from pathlib import Path

import click

from purveyor.cli import output
from purveyor.cli.client import Client, run
from purveyor.cli.options import Options
from purveyor.clients import declarative
from purveyor.clients.declarative import Change
from purveyor.projects.exposed import PROJECTS
from purveyor.services.exposed import BASE as SERVICES
from purveyor_hooks.confirm import interrupts, yes_option

COLOURS = {"+": "green", "~": "yellow", "-": "red"}
file_argument = click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False), default="purveyor.toml"
)


def _show(changes: list[Change], left: list[Change]) -> None:
    for change in changes:
        click.echo(f"{click.style(change.sign, fg=COLOURS[change.sign], bold=True)} {change.text}")
    if not changes:
        click.echo("Everything is as the file says.")
    for change in left:
        click.secho(
            f"  not in the file, and left as it is: {change.text}  (--prune {change.name})",
            dim=True,
        )


def _as_json(options: Options, changes: list[Change], left: list[Change]) -> None:
    def plain(items: list[Change]) -> list[dict[str, str]]:
        return [{"change": item.sign, "name": item.name, "text": item.text} for item in items]

    output.show_json({"changes": plain(changes), "left": plain(left)})


HARMFUL = ("~", "-")
SERVED = (SERVICES, PROJECTS)


@click.command("plan")
@file_argument
@click.option("--prune", multiple=True, metavar="NAME", help="As for apply.")
@click.pass_obj
def plan_command(options: Options, file: Path, prune: tuple[str, ...]) -> None:
    """Show what applying FILE would change."""
    wanted = declarative.load(file)

    async def work(client: Client) -> tuple[list[Change], list[Change]]:
        return await declarative.find_changes(client, wanted, prune)

    changes, left = run(options, work)
    _as_json(options, changes, left) if options.as_json else _show(changes, left)


@click.command("apply")
@file_argument
@click.option(
    "--prune",
    multiple=True,
    metavar="NAME",
    help="Delete what is not in the file, by its name: service.old. Data is kept.",
)
@yes_option
@click.pass_obj
def apply_command(options: Options, file: Path, prune: tuple[str, ...], yes: bool) -> None:
    """Apply FILE. What is not in the file stays, unless --prune names it."""
    wanted = declarative.load(file)

    async def work(client: Client) -> tuple[list[Change], list[Change]]:
        changes, left = await declarative.find_changes(client, wanted, prune)
        if hit := [
            change.text
            for change in changes
            if change.sign in HARMFUL and change.call.path.startswith(SERVED)
        ]:
            interrupts(f"This interrupts what is used now: {'; '.join(hit)}.", yes=yes)
        for change in changes:
            if not options.as_json:
                click.echo(
                    f"{click.style(change.sign, fg=COLOURS[change.sign], bold=True)} {change.text}"
                )
            await client.ask(change.call)
        return changes, left

    changes, left = run(options, work)
    if options.as_json:
        _as_json(options, changes, left)
        return
    if not changes:
        _show([], left)
    for item in left if changes else []:
        click.secho(f"  left as it is: {item.text}", dim=True)


@click.command("export")
@click.pass_obj
def export_command(options: Options) -> None:
    """Print the current state as such a file: purveyor export > purveyor.toml"""

    async def work(client: Client) -> str:
        return declarative.export(await declarative.load_present(client))

    click.echo(run(options, work), nl=False)
