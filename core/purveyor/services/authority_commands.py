"""purveyor ca."""

import click

from purveyor.cli import output
from purveyor.cli.actions import change
from purveyor.cli.client import run
from purveyor.cli.options import Options, plan_option
from purveyor.services.exposed import AUTHORITIES, FINISH_AUTHORITY, ROTATE_AUTHORITY
from purveyor.services.unaware import objection
from purveyor_hooks.confirm import interrupts, yes_option


@click.group("ca")
def ca_command() -> None:
    """The installation's own certificate authority."""


@ca_command.command("show")
@click.pass_obj
def show(options: Options) -> None:
    """Who signs the certificates of services, until when, and who shows them."""
    found = run(options, lambda client: client.call("GET", f"{AUTHORITIES}/"))
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (
            item["id"],
            item["state"],
            item["expires_at"][:10],
            item["sha256"][:16],
            ", ".join(item["services"]),
        )
        for item in found
    ]
    output.table(
        ["id", "state", "until", "sha256", "services"],
        rows,
        "There is none yet: it comes with the first service.",
    )


@ca_command.command("rotate")
@plan_option
@click.pass_obj
def rotate(options: Options, plan: bool) -> None:
    """Begin to replace the authority: apps get to know another one, which signs nothing yet."""
    found = change(options, ROTATE_AUTHORITY.call(plan=plan))
    text = (
        "Another authority is there. Deploy the apps again that verify, then have it sign: "
        "purveyor ca finish"
    )
    behind = [*found["unaware"], *(f"{name} (elsewhere)" for name in found["elsewhere"])]
    output.say(
        options,
        found,
        "\n".join([text, *([f"Not yet: {', '.join(behind)}"] if behind else [])]),
    )


@ca_command.command("finish")
@yes_option
@plan_option
@click.pass_obj
def finish(options: Options, yes: bool, plan: bool) -> None:
    """Have the other authority sign from now on; servers show its certificates while they run, and
    the old one goes."""
    known = run(options, lambda client: client.call("GET", f"{AUTHORITIES}/"))
    waiting = next((item for item in known if item["state"] == "next"), None)
    why = objection(waiting["unaware"], waiting["elsewhere"]) if waiting else ""
    if why:
        interrupts(why, yes=yes, plan=plan)
    found = change(options, FINISH_AUTHORITY.call(plan=plan, anyway=bool(why)))
    output.say(
        options,
        found,
        "It signs from now on. What stands still shows its certificate from its next start on.",
    )
