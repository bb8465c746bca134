"""Commands that run what plugins bring to services."""

from collections.abc import Mapping
from typing import Any

import click

from purveyor.cli import output
from purveyor.cli.actions import act, pairs
from purveyor.cli.client import Client, run
from purveyor.cli.options import Options, plan_option
from purveyor.exposed import Call
from purveyor_hooks import BadInput, NotFound
from purveyor_hooks.confirm import interrupts, yes_option

BASE = "/api/external-services"
BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}


@click.group("service")
def service_command() -> None:
    """Run the operations that a service's plugin brings."""


@service_command.command("operations")
@click.argument("service")
@click.pass_obj
def operations_command(options: Options, service: str) -> None:
    """List the operations that a service's plugin brings, with their arguments."""
    found = run(options, lambda client: client.get(f"{BASE}/{service}/operations"))
    if options.as_json:
        output.show_json(found)
        return
    rows: list[tuple[object, ...]] = [
        (item["name"], ", ".join(_told(item["arguments"])), item["scope"], item["summary"])
        for item in found
    ]
    hint = f"The plugin of {service} brings none."
    output.table(["operation", "arguments", "for", "what it does"], rows, hint)


def _told(schema: Mapping[str, Any]) -> list[str]:
    needed = schema.get("required", ())
    return [name if name in needed else f"[{name}]" for name in schema["properties"]]


@service_command.command("run")
@click.argument("service")
@click.argument("operation")
@click.option(
    "-a",
    "--arg",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument; see: purveyor service operations SERVICE. @FILE reads a file. Repeat it for a list.",
)
@yes_option
@plan_option
@click.pass_obj
def run_command(
    options: Options, service: str, operation: str, given: tuple[str, ...], yes: bool, plan: bool
) -> None:
    """Run an OPERATION that the plugin of a SERVICE brings, and wait for its end."""
    offered = run(options, lambda client: client.get(f"{BASE}/{service}/operations"))
    chosen = next((item for item in offered if operation in (item["name"], item["type"])), None)
    if chosen is None:
        names = ", ".join(item["name"] for item in offered) or "none"
        raise NotFound(
            f"{service} has no operation {operation!r}.", remedy=f"Its plugin brings: {names}."
        )
    body = arguments_of(chosen["arguments"], given)
    path = f"{BASE}/{service}/operations/{chosen['type']}"
    if not plan and not yes:

        async def look(client: Client) -> Any:
            return await client.call("POST", path, params={"plan": True}, json=body)

        if (downtime := run(options, look)["downtime"]) != "none":
            interrupts(f"{service} does not serve {downtime}.", yes=yes)
    call = Call("POST", path, {"plan": True} if plan else {}, body)
    if ended := act(options, f"{chosen['name']} of {service}", call):
        output.show_json(ended) if options.as_json else click.echo(
            f"{chosen['name']} of {service} is done."
        )


def arguments_of(schema: Mapping[str, Any], given: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE options as the kinds that an operation takes. Raises `BadInput`."""
    found: dict[str, Any] = {}
    for item in given:
        for name, text in pairs((item,), "-a").items():
            shape = schema["properties"].get(name)
            if shape is None:
                raise BadInput(
                    f"There is no argument {name!r}.",
                    remedy=f"Known are: {', '.join(_told(schema)) or 'none'}.",
                    errors={name: "not known"},
                )
            kind = _kind(shape)
            if kind.get("type") == "array":
                found.setdefault(name, []).append(_value(name, text, _kind(kind.get("items", {}))))
            else:
                found[name] = _value(name, text, kind)
    return found


def _kind(shape: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a value is that is given at all."""
    choices = [item for item in shape.get("anyOf", ()) if item.get("type") != "null"]
    return choices[0] if choices else shape


def _value(name: str, text: str, kind: Mapping[str, Any]) -> Any:
    try:
        if kind.get("type") == "integer":
            return int(text)
        if kind.get("type") == "number":
            return float(text)
        if kind.get("type") == "boolean":
            return BOOLEANS[text.lower()]
    except (ValueError, KeyError):
        raise BadInput(
            f"{name} is {kind['type']}, and {text!r} is not.", errors={name: f"not {kind['type']}"}
        ) from None
    return text
