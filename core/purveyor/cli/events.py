"""purveyor events."""

import json
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from purveyor.cli.client import Client, run
from purveyor.cli.options import Options


def _line(event: Mapping[str, Any]) -> str:
    data = " ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in event["data"].items()
    )
    subject = (
        f"service={event['service']}"
        if event["service"]
        else f"project={event['project']}"
        if event["project"]
        else ""
    )
    at = click.style(event["at"][11:19], dim=True)
    return f"{event['id']:>6}  {at}  {click.style(event['type'], bold=True)}  {subject}  {data}".rstrip()


@click.command("events")
@click.option("-f", "--follow", is_flag=True, help="Follow new output.")
@click.option(
    "-n",
    "--tail",
    default=50,
    show_default=True,
    type=click.IntRange(0, 1000),
    help="How many back.",
)
@click.option(
    "--type", "kind", metavar="PREFIX", help="Only types with this prefix: service.create"
)
@click.option("--service", metavar="SERVICE", help="Only those of one service.")
@click.option(
    "--catalogue",
    is_flag=True,
    help="Instead: every type of event, when it comes, and what it carries.",
)
@click.pass_obj
def events_command(
    options: Options,
    follow: bool,
    tail: int,
    kind: str | None,
    service: str | None,
    catalogue: bool,
) -> None:
    """Show past events; with -f, new ones too."""
    if catalogue:
        _catalogue(options)
        return

    def show(event: Mapping[str, Any]) -> None:
        click.echo(json.dumps(event) if options.as_json else _line(event))

    async def work(client: Client) -> None:
        given = {"type": kind, "service": service}
        filters = {name: value for name, value in given.items() if value}
        parameters = {**filters, "limit": max(tail, 1)}
        last = 0
        found = await client.call(
            "GET", "/api/events", params=parameters, headers={"Accept": "application/json"}
        )
        for event in found:
            last = event["id"]
            if tail:
                show(event)
        if follow:
            async for event in client.follow(last, **filters):
                show(event)

    run(options, work)


def _catalogue(options: Options) -> None:
    from purveyor.cli.event_pages import markdown
    from purveyor.kernel.events import catalog

    if options.url:  # of that installation, with its plugins

        async def ask(client: Client) -> Any:
            return await client.call("GET", "/api/events/catalogue")

        entries = msgspec.convert(run(options, ask), list[catalog.Entry])
    else:
        program = options.require_program()
        entries = catalog.build(program.load_operation_types(), program.load_event_types())
    if options.as_json:
        click.echo(msgspec.json.encode(entries))
    else:
        click.echo(markdown(entries), nl=False)
