"""Commands on what happened and what is under way."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import click
import msgspec

from purveyor.cli import output
from purveyor.cli.client import Client, run
from purveyor.cli.commands.services import plan_option
from purveyor.cli.main import Options
from purveyor_hooks.confirm import destroys, yes_option


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


class Numbered(click.Group):
    """A group whose first argument may be a number: that stands for `show NUMBER`."""

    def resolve_command(self, context: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(context, ["show", *args] if args[0].isdigit() else args)


@click.group("operations", cls=Numbered, invoke_without_command=True)
@click.pass_context
def operations_command(context: click.Context) -> None:
    """List the operations, or show the steps of one: purveyor operations 7"""
    if context.invoked_subcommand is not None:
        return
    options: Options = context.obj
    found = run(options, lambda client: client.get("/api/operations"))
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (item["id"], item["verb"], output.status(item["state"]), item["actor"], item["created_at"][:19],
         _why(item)[:60])
        for item in found
    ]  # fmt: skip
    output.table(["id", "verb", "state", "who", "when", "error"], rows, "Nothing has been done yet.")
    for item in found:
        if item["waits"]:
            click.secho(f"{item['id']} cannot be ended yet, and is tried again: {item['waits']}", fg="yellow", err=True)


def _why(item: Mapping[str, Any]) -> str:
    return str((item["error"] or {}).get("detail", ""))


@operations_command.command("show")
@click.argument("number", type=int)
@click.pass_obj
def show(options: Options, number: int) -> None:
    """Show the steps of an operation."""
    _show(options, run(options, lambda client: client.get(f"/api/operations/{number}"), resume=False))


def _show(options: Options, found: Mapping[str, Any]) -> None:
    if options.as_json:
        output.show_json(found)
        return
    output.fields({"operation": found["id"], "verb": found["verb"], "state": output.status(found["state"])})
    output.fields({"error": _why(found), "waits": found["waits"], "remedy": (found["error"] or {}).get("remedy")})
    output.outcome(found)
    rows: list[tuple[object, ...]] = [
        (step["name"], step["state"], step["started_at"][11:23], (step["ended_at"] or "")[11:23]) for step in found["steps"]
    ]
    output.table(["step", "state", "from", "to"], rows, "It has no steps.")


@operations_command.command("follow")
@click.argument("number", type=int)
@click.pass_obj
def follow(options: Options, number: int) -> None:
    """Wait for an operation that is under way; it ends as the command that began it would have ended."""

    async def work(client: Client) -> Mapping[str, Any]:
        with output.progress(f"Operation {number}") as listener:
            return await client.follow_operation(number, listener)

    found = run(options, work)
    output.show_json(found) if options.as_json else click.echo(f"Operation {number} ({found['verb']}) is done.")


@operations_command.command("cancel")
@click.argument("number", type=int)
@plan_option
@click.pass_obj
def cancel(options: Options, number: int, plan: bool) -> None:
    """Stop an operation where it is, and take back what it began."""
    path = f"/api/operations/{number}/cancel"
    if plan:
        _plan(options, path)
        return
    found = run(options, lambda client: client.call("POST", path), resume=False)
    if options.as_json:
        output.show_json(found)
    elif found["state"] == "failed":
        click.echo(f"Operation {number} ({found['verb']}) is cancelled, and what it began is taken back.")
    else:
        click.echo(
            f"Operation {number} ({found['verb']}) is cancelled; what it began is still to be taken back: {found['waits']}"
        )


@operations_command.command("abandon")
@click.argument("number", type=int)
@yes_option
@plan_option
@click.pass_obj
def abandon(options: Options, number: int, yes: bool, plan: bool) -> None:
    """Leave an operation that cannot be ended as it is, and free what it holds."""
    path = f"/api/operations/{number}/abandon"
    if plan:
        _plan(options, path)
        return
    if not yes and sys.stdin.isatty():
        _plan(options, path)
    destroys(f"What operation {number} began is left as it is.", "abandon", yes=yes, thing="the word")
    found = run(options, lambda client: client.call("POST", path), resume=False)
    if options.as_json:
        output.show_json(found)
    else:
        click.echo(f"{_why(found)} {found['error']['remedy']}")


def _plan(options: Options, path: str) -> None:
    plan = run(options, lambda client: client.call("POST", path, params={"plan": "true"}), resume=False)
    output.show_json(plan) if options.as_json else output.show_plan(plan)
