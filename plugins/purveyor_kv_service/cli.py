"""``purveyor kv``: a project's keys from the command line."""

import json
from typing import Any

import click

from purveyor_hooks import CommandLine, standing

BASE = "/api/kv"


@click.group("kv")
def kv() -> None:
    """Read and change a project's keys."""


def whose(command: Any) -> Any:
    """The options that say whose keys are meant."""
    environment = click.option(
        "-e", "--environment", metavar="ENVIRONMENT", help="Instead of production."
    )
    return click.option("-p", "--project", required=True, metavar="PROJECT", help="The project.")(
        environment(command)
    )


def ask(
    line: CommandLine, verb: str, project: str, environment: str | None, field: str, **values: Any
) -> Any:
    """One call; the answer's field, or with --json the whole answer is printed."""
    body = {
        "project_id": project,
        **{name: value for name, value in values.items() if value is not None},
    }
    if environment:
        body["environment"] = environment
    found = line.run(lambda api: api.call("POST", f"{BASE}/{verb}", json=body))
    if line.as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    return found[field]


def print_value(line: CommandLine, text: object) -> None:
    if not line.as_json:
        click.echo(text)


@kv.command("get")
@click.argument("key")
@whose
@click.pass_obj
def get_command(line: CommandLine, key: str, project: str, environment: str | None) -> None:
    """Print a key's value as JSON; null when there is none."""
    print_value(
        line,
        json.dumps(ask(line, "get", project, environment, "value", key=key), ensure_ascii=False),
    )


@kv.command("set")
@click.argument("key")
@click.argument("value")
@click.option("--ex", type=click.IntRange(min=1), metavar="SECONDS", help="Expire after this time.")
@click.option(
    "--px", type=click.IntRange(min=1), metavar="MILLISECONDS", help="Expire after this time."
)
@click.option("--nx", is_flag=True, help="Only if it does not exist.")
@click.option("--xx", is_flag=True, help="Only if it exists.")
@whose
@click.pass_obj
def set_command(
    line: CommandLine,
    key: str,
    value: str,
    ex: int | None,
    px: int | None,
    nx: bool,
    xx: bool,
    project: str,
    environment: str | None,
) -> None:
    """Set a key to a JSON value. What is not JSON is taken as text."""
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    body = {"project_id": project, "key": key, "value": parsed, "nx": nx, "xx": xx}
    body |= {
        name: given
        for name, given in (("ex", ex), ("px", px), ("environment", environment))
        if given is not None
    }
    found = line.run(lambda api: api.call("POST", f"{BASE}/set", json=body))
    click.echo(json.dumps(found) if line.as_json else found["result"] or "not set")


@kv.command("del")
@click.argument("keys", nargs=-1, required=True)
@whose
@click.pass_obj
def del_command(
    line: CommandLine, keys: tuple[str, ...], project: str, environment: str | None
) -> None:
    """Delete keys; prints how many were there."""
    print_value(line, ask(line, "del", project, environment, "deleted", keys=list(keys)))


@kv.command("incr")
@click.argument("key")
@click.argument("amount", type=int, default=1)
@whose
@click.pass_obj
def incr_command(
    line: CommandLine, key: str, amount: int, project: str, environment: str | None
) -> None:
    """Add to a whole number; prints the sum."""
    print_value(line, ask(line, "incr", project, environment, "value", key=key, amount=amount))


@kv.command("expire")
@click.argument("key")
@click.argument("seconds", type=click.IntRange(min=1))
@whose
@click.pass_obj
def expire_command(
    line: CommandLine, key: str, seconds: int, project: str, environment: str | None
) -> None:
    """Set a key's expiry in seconds."""
    done = ask(line, "expire", project, environment, "success", key=key, seconds=seconds)
    print_value(line, "OK" if done else "There is no such key.")


@kv.command("ttl")
@click.argument("key")
@whose
@click.pass_obj
def ttl_command(line: CommandLine, key: str, project: str, environment: str | None) -> None:
    """Print the seconds until a key expires: -1 for never, -2 when it does not exist."""
    print_value(line, ask(line, "ttl", project, environment, "ttl", key=key))


@kv.command("keys")
@click.argument("pattern", default="*")
@whose
@click.pass_obj
def keys_command(line: CommandLine, pattern: str, project: str, environment: str | None) -> None:
    """List the keys that match a pattern."""
    for key in ask(line, "keys", project, environment, "keys", pattern=pattern):
        print_value(line, key)


standing.add_commands(kv, "kv", "KV")
