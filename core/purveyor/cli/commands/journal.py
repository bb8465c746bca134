"""Commands on what happened and what is under way."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import click
import msgspec

from purveyor.cli import output
from purveyor.cli.client import Client, run
from purveyor.cli.main import Options


def _line(event: Mapping[str, Any]) -> str:
    data = " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in event["data"].items())
    subject = f"service={event['service']}" if event["service"] else f"project={event['project']}" if event["project"] else ""
    at = click.style(event["at"][11:19], dim=True)
    return f"{event['id']:>6}  {at}  {click.style(event['type'], bold=True)}  {subject}  {data}".rstrip()


@click.command("events")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-n", "--tail", default=50, show_default=True, type=click.IntRange(0, 1000), help="How many back.")
@click.option("--type", "kind", metavar="PREFIX", help="Only types that begin so: service.create")
@click.option("--service", metavar="SERVICE", help="Only those of one service.")
@click.option("--catalogue", is_flag=True, help="Instead: every type of event, when it comes, and what it carries.")
@click.pass_obj
def events_command(options: Options, follow: bool, tail: int, kind: str | None, service: str | None, catalogue: bool) -> None:
    """Show what happened, and with -f what happens."""
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
        found = await client.call("GET", "/api/events", params=parameters, headers={"Accept": "application/json"})
        for event in found:
            last = event["id"]
            if tail:
                show(event)
        if follow:
            async for event in client.follow(last, **filters):
                show(event)

    run(options, work)


def _catalogue(options: Options) -> None:
    from purveyor import catalogue
    from purveyor.operations import Verb
    from purveyor.verbs import VERBS

    entries = catalogue.build(cast("Sequence[type[Verb]]", VERBS))
    if options.as_json:
        click.echo(msgspec.json.encode(entries))
    else:
        click.echo(catalogue.markdown(entries), nl=False)


@click.command("operations")
@click.argument("number", required=False, type=int)
@click.pass_obj
def operations_command(options: Options, number: int | None) -> None:
    """List the operations, or show the steps of one."""

    async def work(client: Client) -> Any:
        return await client.get(f"/api/operations/{number}" if number else "/api/operations")

    found = run(options, work)
    if options.as_json:
        output.show_json(found)
    elif number:
        output.fields({"operation": found["id"], "verb": found["verb"], "state": output.status(found["state"])})
        output.fields({"error": (found["error"] or {}).get("detail")})
        output.outcome(found)
        rows: list[tuple[object, ...]] = [
            (step["name"], step["state"], step["started_at"][11:23], (step["ended_at"] or "")[11:23]) for step in found["steps"]
        ]
        output.table(["step", "state", "from", "to"], rows, "It has no steps.")
    else:
        rows = [
            (item["id"], item["verb"], output.status(item["state"]), item["actor"], item["created_at"][:19],
             (item["error"] or {}).get("detail", "")[:60])
            for item in found
        ]  # fmt: skip
        output.table(["id", "verb", "state", "who", "when", "error"], rows, "Nothing has been done yet.")
