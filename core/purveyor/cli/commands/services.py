"""Commands on services."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from purveyor.cli import output
from purveyor.cli.client import Client, run
from purveyor.cli.main import Options
from purveyor_hooks import BadInput
from purveyor_hooks.confirm import destroys, interrupts, yes_option

BASE = "/api/external-services"
plan_option = click.option("--plan", is_flag=True, help="Show what it would do, change nothing.")


def pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    """NAME=VALUE options as a mapping; @FILE stands for what a file holds, which no process list shows, and @@ for @.

    Raises `BadInput`.
    """
    found = {}
    for item in given:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise BadInput(f"{item!r} is not NAME=VALUE.", remedy=f"For example: {option} port=5433")
        if value.startswith("@@"):
            value = value[1:]
        elif value.startswith("@"):
            try:
                value = Path(value[1:]).read_text().removesuffix("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise BadInput(f"{value[1:]} cannot be read: {error}.", errors={name: "the file cannot be read"}) from None
        found[name] = value
    return found


def act(options: Options, title: str, method: str, path: str, *, plan: bool, **request: Any) -> dict[str, Any] | None:
    """Run a verb with progress, or show its plan; the answer is the operation, None for a plan."""

    async def work(client: Client) -> dict[str, Any] | None:
        if plan:
            parameters = {**request.pop("params", {}), "plan": "true"}
            answer = await client.call(method, path, params=parameters, **request)
            output.show_json(answer) if options.as_json else output.show_plan(answer)
            return None
        with output.progress(title) as listener:
            return dict(await client.verb(method, path, listener, **request))

    return run(options, work)


@click.command("types")
@click.argument("service_type", required=False)
@click.pass_obj
def types_command(options: Options, service_type: str | None) -> None:
    """List the service types, or the parameters of one."""

    async def work(client: Client) -> Any:
        if service_type:
            return await client.get(f"{BASE}/types/{service_type}/parameters")
        return await client.get(f"{BASE}/providers/metadata")

    found = run(options, work)
    if options.as_json:
        output.show_json(found)
    elif service_type:
        rows: list[tuple[object, ...]] = [
            (name, item.get("default", f"({item['x-generated']})" if "x-generated" in item else ""),
             "yes" if item["x-editable"] else "no", item["description"])
            for name, item in found["properties"].items()
        ]  # fmt: skip
        output.table(["parameter", "default", "editable", "what it is"], rows, "It has none.")
    else:
        rows = [(item["service_type"], item["display_name"], item["description"]) for item in found]
        output.table(["type", "name", "what it is"], rows, "No plugin brings a service type.")


@click.command("create")
@click.argument("service_type")
@click.argument("name")
@click.option(
    "-p",
    "--parameter",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter; see: purveyor types TYPE. @FILE reads a file.",
)
@click.option("--version", "wanted", metavar="VERSION", help="The version of the default image, such as 17.")
@click.option("--image", metavar="IMAGE", help="The Docker image, instead of the default.")
@plan_option
@click.pass_obj
def create_command(
    options: Options, service_type: str, name: str, given: tuple[str, ...], wanted: str | None, image: str | None, plan: bool
) -> None:
    """Create a service and wait until it serves."""
    parameters = pairs(given, "-p") | ({"docker_image": image} if image else {})
    body = {"name": name, "service_type": service_type, "parameters": parameters}
    if wanted:
        body["version"] = wanted
    if operation := act(options, f"Creating {name}", "POST", f"{BASE}/", plan=plan, json=body):
        _show(options, str(operation["service_id"]))


@click.command("list")
@click.option("--deleted", is_flag=True, help="The volumes that were kept when their service was deleted.")
@click.pass_obj
def list_command(options: Options, deleted: bool) -> None:
    """List the services."""
    if deleted:
        _volumes(options, ["kept"])
        return
    found = run(options, lambda client: client.pages(f"{BASE}/"))
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (item["id"], item["slug"], item["service_type"], item["version"], output.status(item["status"]),
         item["port"] or "", item["docker_image"])
        for item in found
    ]  # fmt: skip
    hint = "There are no services yet. Make one: purveyor create postgres main"
    output.table(["id", "name", "type", "version", "status", "port", "image"], rows, hint)
    for item in found:
        if item["status_reason"]:
            click.secho(f"{item['slug']}: {item['status_reason']}", fg="yellow", err=True)


@click.command("show")
@click.argument("service")
@click.pass_obj
def show_command(options: Options, service: str) -> None:
    """Show a service: where it is, its parameters, its projects."""
    _show(options, service)


def _show(options: Options, service: str) -> None:
    async def work(client: Client) -> tuple[Any, Any]:
        return await client.get(f"{BASE}/{service}"), await client.get(f"{BASE}/{service}/projects")

    details, links = run(options, work)
    if options.as_json:
        output.show_json({**details, "projects": [link["project"]["slug"] for link in links]})
        return
    item = details["service"]
    output.fields(
        {
            "name": f"{item['name']} (id {item['id']})",
            "type": f"{item['service_type']} {item['version']}",
            "status": output.status(item["status"]),
            "reason": item["status_reason"],
            "on the network": item["connection_info"],
            "on this host": f"127.0.0.1:{item['port']}" if item["port"] else "",
            "container": item["container_name"],
            "image": item["docker_image"],
            "projects": ", ".join(link["project"]["slug"] for link in links),
            "unlinked": ", ".join(map(ending, details["endings"])),
            **{f"  {name}": value for name, value in details["current_parameters"].items() if name != "docker_image"},
        }
    )
    if details["newer_image"]:
        text = f"{item['docker_image']} means another image now than the one that runs. Take it: purveyor update {item['slug']} "
        click.secho(f"Note: {text}--image {item['docker_image']}", fg="yellow")
    for note in details["notes"]:
        click.secho(f"Note: {note}", dim=True)


def ending(item: Mapping[str, Any]) -> str:
    """An account that outlived its link, in words."""
    until = f"its next deploy (deployment {item['deployment']} uses it)" if item["deployment"] else "the service serves"
    return f"{item['project']}/{item['environment']} has its account until {until}"


def _lifecycle(options: Options, service: str, verb: str, title: str, plan: bool, **params: Any) -> None:
    if act(options, title, "POST", f"{BASE}/{service}/{verb}", plan=plan, params=params):
        found = run(options, lambda client: client.get(f"{BASE}/{service}"))["service"]
        output.show_json(found) if options.as_json else click.echo(f"{found['slug']} is {output.status(found['status'])}")


@click.command("start")
@click.argument("service")
@click.option("--accept-data", is_flag=True, help="Take the data set that is in the volume now for the recorded one.")
@plan_option
@click.pass_obj
def start_command(options: Options, service: str, accept_data: bool, plan: bool) -> None:
    """Start a service and wait until it serves."""
    _lifecycle(options, service, "start", f"Starting {service}", plan, accept_data=str(accept_data).lower())


@click.command("stop")
@click.argument("service")
@yes_option
@plan_option
@click.pass_obj
def stop_command(options: Options, service: str, yes: bool, plan: bool) -> None:
    """Stop a service; its data stays, and it stays stopped."""
    interrupts(f"{service} serves nobody until it is started again.", yes=yes, plan=plan)
    _lifecycle(options, service, "stop", f"Stopping {service}", plan)


@click.command("restart")
@click.argument("service")
@yes_option
@plan_option
@click.pass_obj
def restart_command(options: Options, service: str, yes: bool, plan: bool) -> None:
    """Stop a service and start it again."""
    interrupts(f"{service} serves nobody until it is up again.", yes=yes, plan=plan)
    _lifecycle(options, service, "restart", f"Restarting {service}", plan)


@click.command("update")
@click.argument("service")
@click.option("-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="An editable parameter.")
@click.option("--image", metavar="IMAGE", help="Another image of the same major version.")
@yes_option
@plan_option
@click.pass_obj
def update_command(options: Options, service: str, given: tuple[str, ...], image: str | None, yes: bool, plan: bool) -> None:
    """Change a service's parameters; when the change does not work, the old container comes back."""
    body: dict[str, Any] = {"parameters": pairs(given, "-p")}
    if image:
        body["docker_image"] = image
    if not given and not image:
        raise BadInput("There is nothing to change.", remedy="Give -p NAME=VALUE or --image IMAGE.")
    interrupts(f"The container of {service} is made anew: it serves nobody until it is up again.", yes=yes, plan=plan)
    if act(options, f"Updating {service}", "PUT", f"{BASE}/{service}", plan=plan, json=body):
        _show(options, service)


@click.command("delete")
@click.argument("service")
@click.option("--purge", is_flag=True, help="Delete the data too. Without it the volume is kept and listed.")
@yes_option
@plan_option
@click.pass_obj
def delete_command(options: Options, service: str, purge: bool, yes: bool, plan: bool) -> None:
    """Delete a service; its data is kept unless --purge is given."""
    if purge:
        destroys(f"This deletes all data of {service} for good.", service, yes=yes, plan=plan)
    else:
        interrupts(f"The container of {service} goes; its data is kept.", yes=yes, plan=plan)
    params = {"purge": str(purge).lower()}
    if act(options, f"Deleting {service}", "DELETE", f"{BASE}/{service}", plan=plan, params=params):
        if options.as_json:
            output.show_json({"deleted": service, "purged": purge})
        else:
            click.echo(f"{service} is deleted{' with its data' if purge else '; its data is kept: purveyor list --deleted'}.")


@click.command("health")
@click.argument("service")
@click.pass_obj
def health_command(options: Options, service: str) -> None:
    """Check a service by a real round trip; exit code 1 when it is not healthy."""
    found = run(options, lambda client: client.get(f"{BASE}/{service}/health"))
    if options.as_json:
        output.show_json(found)
    else:
        word = "healthy" if found["healthy"] else "unhealthy"
        click.echo(f"{service} is {output.status(word)}: {found['version']} {found['latency_ms']} ms".rstrip(": "))
        if found["detail"]:
            click.echo(f"  no further than {found['stage']}: {found['detail']}")
    if not found["healthy"]:
        raise SystemExit(1)


@click.command("logs")
@click.argument("service")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-n", "--tail", default=200, show_default=True, type=click.IntRange(0, 100_000), help="How many lines back.")
@click.pass_obj
def logs_command(options: Options, service: str, follow: bool, tail: int) -> None:
    """Show what a service's container printed."""

    async def work(client: Client) -> None:
        parameters = {"tail": tail, "follow": str(follow).lower()}
        async for chunk in client.text(f"{BASE}/{service}/logs", **parameters):
            click.echo(chunk, nl=False)

    run(options, work)


@click.command("volumes")
@click.pass_obj
def volumes_command(options: Options) -> None:
    """List the volumes that hold data, those of deleted services too."""
    _volumes(options, ["new", "used", "kept"])


def _moment(text: str) -> str:
    return text[:16].replace("T", " ")


def _volumes(options: Options, states: list[str]) -> None:
    listed = run(options, lambda client: client.pages("/api/volumes", sizes="true"))
    found = [item for item in listed if item["state"] in states]
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (item["id"][:12], item["origin"], f"{item['service_type']} {item['major']}".strip(), item["state"],
         output.size(item["size_bytes"]), item["facts"].get("before", ""), _moment(item["kept_at"] or item["created_at"]),
         (item["kept_until"] or "")[:10], item["path"])
        for item in found
    ]  # fmt: skip
    headings = ["id", "made for", "type", "state", "size", "kept before", "since", "until", "where the data is"]
    output.table(headings, rows, "There are none.")
