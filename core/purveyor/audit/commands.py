"""purveyor audit."""

from collections.abc import Mapping
from typing import Any

import click

from purveyor.cli import output
from purveyor.cli.client import Client, run
from purveyor.cli.options import Options

AUDIT = "/api/audit"


@click.group("audit", invoke_without_command=True)
@click.option(
    "--user",
    metavar="NAME",
    help="What one user did; local for this host's command line, token:NAME for a token.",
)
@click.option(
    "--target",
    metavar="NAME",
    help="What was done to one thing, or seen of it: main, shop/production.",
)
@click.option(
    "--since", metavar="TIME", help="From this time on: 2026-11-27, 2026-11-27T13:00 (UTC)."
)
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option(
    "-n",
    "--tail",
    default=100,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="How many at most.",
)
@click.pass_context
def audit_command(
    context: click.Context,
    user: str | None,
    target: str | None,
    since: str | None,
    until: str | None,
    tail: int,
) -> None:
    """Show who did what, and which secrets were seen: purveyor audit --user ada"""
    if context.invoked_subcommand is not None:
        return
    options: Options = context.obj
    given = {"user": user, "target": target, "since": since, "until": until}
    wanted = {name: value for name, value in given.items() if value is not None}

    async def work(client: Client) -> list[Any]:
        found: list[Any] = []
        while len(found) < tail:
            part = await client.get(
                f"{AUDIT}/", **wanted, limit=min(tail - len(found), 1000), offset=len(found)
            )
            found += part
            if not part:
                break
        return found

    found = run(options, work)
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (item["id"], item["at"][:19], output.who(item) or "nobody known", item["origin"],
        _what(item), item["target"],
         output.status(item["outcome"]), _more(item))
        for item in reversed(found)
    ]  # fmt: skip
    output.table(
        ["entry", "when", "who", "from", "what", "target", "outcome", "more"],
        rows,
        "There are no such entries.",
    )


def _what(item: Mapping[str, Any]) -> str:
    return (
        f"{item['action']} [{item['reveals']} revealed]" if item["reveals"] else str(item["action"])
    )


def _more(item: Mapping[str, Any]) -> str:
    times = f"{item['times']} times within a minute" if item["times"] > 1 else ""
    operation = f"operation {item['operation_id']}" if item["operation_id"] else ""
    return ", ".join(part for part in (times, operation, item["detail"]) if part)


@audit_command.command("verify")
@click.pass_obj
def verify(options: Options) -> None:
    """Check that no entry was changed or removed; exit code 1 when one was."""
    found = run(options, lambda client: client.get(f"{AUDIT}/verify"))
    if options.as_json:
        output.show_json(found)
    elif not found["problems"]:
        span = f", {found['first']} to {found['last']}" if found["entries"] else ""
        click.echo(f"All entries ({found['entries']}{span}) are as they were written.")
    else:
        for problem in found["problems"]:
            click.echo(f"{click.style('✖', fg='red', bold=True)} {problem}")
        click.echo(
            "Somebody has changed the database by hand, or put back an older copy of it.", err=True
        )
    if found["problems"]:
        raise SystemExit(1)
