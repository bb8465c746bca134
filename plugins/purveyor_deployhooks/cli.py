"""``purveyor webhook``: where events go."""

import json
from typing import Any

import click

from purveyor_hooks import CommandLine

BASE = "/api/webhooks"


def _out(line: CommandLine, value: Any, text: str) -> None:
    click.echo(json.dumps(value, indent=2) if line.as_json else text)


@click.group("webhook")
def webhook() -> None:
    """Webhooks: signed, retried with backoff until they are accepted."""


@webhook.command("add")
@click.argument("name")
@click.argument("url")
@click.option(
    "--event",
    "events",
    multiple=True,
    metavar="PREFIX",
    help="Only types with this prefix: service.create",
)
@click.option("--attempts", type=int, help="Attempts before a delivery is dead.")
@click.option(
    "--first-retry",
    type=float,
    metavar="SECONDS",
    help="Pause before the first retry; it doubles with each further one.",
)
@click.pass_obj
def add(
    line: CommandLine,
    name: str,
    url: str,
    events: tuple[str, ...],
    attempts: int | None,
    first_retry: float | None,
) -> None:
    """Send events to URL. The signing secret is printed this once."""
    given = {
        "name": name,
        "url": url,
        "events": list(events),
        "attempts": attempts,
        "first_retry": first_retry,
    }
    body = {key: value for key, value in given.items() if value is not None}
    made = line.run(lambda api: api.call("POST", BASE, json=body))
    _out(line, made, made["secret"])


@webhook.command("list")
@click.pass_obj
def list_webhooks(line: CommandLine) -> None:
    """List the webhooks and the states of their deliveries."""
    found = line.run(lambda api: api.call("GET", BASE))
    rows = [
        f"{item['id']:>3}  {item['name']}  {item['url']}  "
        f"{', '.join(item['events']) or 'all events'}  "
        + " ".join(f"{state}: {number}" for state, number in sorted(item["deliveries"].items()))
        for item in found
    ]
    _out(line, found, "\n".join(rows) or "There are none. Add one: purveyor webhook add NAME URL")


@webhook.command("delete")
@click.argument("name")
@click.pass_obj
def delete(line: CommandLine, name: str) -> None:
    """Delete a webhook."""
    line.run(lambda api: api.call("DELETE", f"{BASE}/{name}"))
    _out(line, {"deleted": name}, f"{name} is deleted.")


@webhook.command("deliveries")
@click.argument("name")
@click.option("--state", type=click.Choice(["pending", "delivered", "dead"]))
@click.pass_obj
def deliveries(line: CommandLine, name: str, state: str | None) -> None:
    """List deliveries and their states."""
    params = {"state": state} if state else {}
    found = line.run(lambda api: api.call("GET", f"{BASE}/{name}/deliveries", params=params))
    rows = [
        f"{item['id']:>6}  {item['state']:<9}  {item['type']}  tried {item['attempts']}  "
        f"{item['error']}".rstrip()
        for item in found
    ]
    _out(line, found, "\n".join(rows) or "There are none.")


@webhook.command("resend")
@click.argument("name")
@click.argument("delivery", type=int, required=False)
@click.pass_obj
def resend(line: CommandLine, name: str, delivery: int | None) -> None:
    """Redeliver one DELIVERY, or all dead ones."""
    params = {"delivery": delivery} if delivery is not None else {}
    found = line.run(lambda api: api.call("POST", f"{BASE}/{name}/resend", params=params))
    _out(line, found, f"{found['resent']} are tried again.")
