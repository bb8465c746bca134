"""purveyor operations."""

import sys
from collections.abc import Mapping
from typing import Any

import click

from purveyor.cli import output
from purveyor.cli.client import Client, run
from purveyor.cli.options import Options, plan_option
from purveyor_hooks.confirm import destroys, yes_option


class Numbered(click.Group):
    """A group whose first argument may be a number: that stands for `show NUMBER`."""

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
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
        (item["id"], item["verb"], output.status(item["state"]), output.who(item),
        item["created_at"][:19],
         _why(item)[:60])
        for item in found
    ]  # fmt: skip
    output.table(
        ["id", "verb", "state", "who", "when", "error"], rows, "Nothing has been done yet."
    )
    for item in found:
        if item["waits"]:
            click.secho(
                f"{item['id']} cannot be ended yet, and is tried again: {item['waits']}",
                fg="yellow",
                err=True,
            )


def _why(item: Mapping[str, Any]) -> str:
    return str((item["error"] or {}).get("detail", ""))


@operations_command.command("show")
@click.argument("number", type=int)
@click.pass_obj
def show(options: Options, number: int) -> None:
    """Show the steps of an operation."""
    _show(
        options, run(options, lambda client: client.get(f"/api/operations/{number}"), resume=False)
    )


def _show(options: Options, found: Mapping[str, Any]) -> None:
    if options.as_json:
        output.show_json(found)
        return
    output.fields(
        {"operation": found["id"], "verb": found["verb"], "state": output.status(found["state"])}
    )
    output.fields(
        {
            "error": _why(found),
            "waits": found["waits"],
            "remedy": (found["error"] or {}).get("remedy"),
        }
    )
    output.outcome(found)
    rows: list[tuple[object, ...]] = [
        (step["name"], step["state"], step["started_at"][11:23], (step["ended_at"] or "")[11:23])
        for step in found["steps"]
    ]
    output.table(["step", "state", "from", "to"], rows, "It has no steps.")


@operations_command.command("follow")
@click.argument("number", type=int)
@click.pass_obj
def follow(options: Options, number: int) -> None:
    """Wait for an operation that is under way; it ends as the command that began it would have
    ended."""

    async def work(client: Client) -> Mapping[str, Any]:
        with output.progress(f"Operation {number}") as listener:
            return await client.follow_operation(number, listener)

    found = run(options, work)
    output.show_json(found) if options.as_json else click.echo(
        f"Operation {number} ({found['verb']}) is done."
    )


@operations_command.command("cancel")
@click.argument("number", type=int)
@plan_option
@click.pass_obj
def cancel(options: Options, number: int, plan: bool) -> None:
    """Stop an operation and roll it back."""
    path = f"/api/operations/{number}/cancel"
    if plan:
        _plan(options, path)
        return
    found = run(options, lambda client: client.call("POST", path), resume=False)
    if options.as_json:
        output.show_json(found)
    elif found["state"] == "failed":
        click.echo(
            f"Operation {number} ({found['verb']}) is cancelled, and what it began is taken back."
        )
    else:
        click.echo(
            f"Operation {number} ({found['verb']}) is cancelled; what it began is still to be "
            f"taken back: {found['waits']}"
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
    destroys(
        f"What operation {number} began is left as it is.", "abandon", yes=yes, thing="the word"
    )
    found = run(options, lambda client: client.call("POST", path), resume=False)
    if options.as_json:
        output.show_json(found)
    else:
        click.echo(f"{_why(found)} {found['error']['remedy']}")


def _plan(options: Options, path: str) -> None:
    plan = run(
        options, lambda client: client.call("POST", path, params={"plan": "true"}), resume=False
    )
    output.show_json(plan) if options.as_json else output.show_plan(plan)
