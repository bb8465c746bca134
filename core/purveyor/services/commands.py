"""Commands on services."""

import sys
from collections.abc import Mapping
from typing import Any

import click

from purveyor.cli import output
from purveyor.cli.actions import act, command, pairs
from purveyor.cli.client import Client, run
from purveyor.cli.options import Options, plan_option
from purveyor.exposed import Exposed
from purveyor.services.exposed import (
    ATTACH_VOLUME,
    BASE,
    CLONE,
    CLONE_VOLUME,
    CREATE,
    DELETE,
    IMPORT,
    PURGE_VOLUME,
    RESTART,
    START,
    STOP,
    UNDELETE,
    UPDATE,
)
from purveyor_hooks import BadInput
from purveyor_hooks.confirm import destroys, interrupts, yes_option


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
        output.table(["parameter", "default", "editable", "description"], rows, "It has none.")
    else:
        rows = [(item["service_type"], item["display_name"], item["description"]) for item in found]
        output.table(["type", "name", "description"], rows, "No plugin brings a service type.")


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
@click.option(
    "--version", "wanted", metavar="VERSION", help="The version of the default image, such as 17."
)
@click.option("--image", metavar="IMAGE", help="The Docker image, instead of the default.")
@plan_option
@click.pass_obj
def create_command(
    options: Options,
    service_type: str,
    name: str,
    given: tuple[str, ...],
    wanted: str | None,
    image: str | None,
    plan: bool,
) -> None:
    """Create a service and wait until it is ready."""
    parameters = pairs(given, "-p") | ({"docker_image": image} if image else {})
    version = {"version": wanted} if wanted else {}
    call = CREATE.call(
        plan=plan, name=name, service_type=service_type, parameters=parameters, **version
    )
    if operation := act(options, f"Creating {name}", call):
        _show(options, str(operation["service_id"]))


@click.command("list")
@click.option("--deleted", is_flag=True, help="Volumes of deleted services.")
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
        (item["id"], item["slug"], item["service_type"], item["version"],
        output.status(item["status"]),
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
            "ending": ", ".join(map(ending, details["endings"])),
            **{
                f"  {name}": value
                for name, value in details["current_parameters"].items()
                if name != "docker_image"
            },
        }
    )
    if details["newer_image"]:
        text = (
            f"{item['docker_image']} means another image now than the one that runs. Take it: "
            f"purveyor update {item['slug']} "
        )
        click.secho(f"Note: {text}--image {item['docker_image']}", fg="yellow")
    for note in details["notes"]:
        click.secho(f"Note: {note}", dim=True)


def ending(item: Mapping[str, Any]) -> str:
    """An account that outlived its link or a rotation, in words."""
    if item["until"]:
        return (
            f"the former credentials of {item['project']}/{item['environment']} work until "
            f"{item['until'][:16].replace('T', ' ')} UTC"
        )
    until = (
        f"its next deploy (deployment {item['deployment']} uses it)"
        if item["deployment"]
        else "the service serves"
    )
    return f"{item['project']}/{item['environment']} has its account until {until}"


def _status(options: Options, given: Mapping[str, Any], _: Any) -> None:
    found = run(options, lambda client: client.get(f"{BASE}/{given['service']}"))["service"]
    text = f"{found['slug']} is {output.status(found['status'])}"
    output.say(options, found, text)


start_command, stop_command, restart_command = (
    command(exposed, _status) for exposed in (START, STOP, RESTART)
)


@click.command("update")
@click.argument("service")
@click.option(
    "-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="An editable parameter."
)
@click.option("--image", metavar="IMAGE", help="Another image of the same major version.")
@yes_option
@plan_option
@click.pass_obj
def update_command(
    options: Options, service: str, given: tuple[str, ...], image: str | None, yes: bool, plan: bool
) -> None:
    """Change a service's parameters. Rolls back on failure."""
    wanted: dict[str, Any] = {"parameters": pairs(given, "-p")}
    if image:
        wanted["docker_image"] = image
    if not given and not image:
        raise BadInput("There is nothing to change.", remedy="Give -p NAME=VALUE or --image IMAGE.")
    interrupts(
        f"The container of {service} is recreated: the service is unavailable until it is up again.",
        yes=yes,
        plan=plan,
    )
    if act(options, f"Updating {service}", UPDATE.call(plan=plan, service=service, **wanted)):
        _show(options, service)


@click.command("delete")
@click.argument("service")
@click.option(
    "--purge", is_flag=True, help="Delete the data too. Without it the volume is kept and listed."
)
@yes_option
@plan_option
@click.pass_obj
def delete_command(options: Options, service: str, purge: bool, yes: bool, plan: bool) -> None:
    """Delete a service; its data is kept unless --purge is given."""
    if purge:
        destroys(f"This permanently deletes all data of {service}.", service, yes=yes, plan=plan)
    else:
        interrupts(f"The container of {service} goes; its data is kept.", yes=yes, plan=plan)
    call = DELETE.call(plan=plan, service=service, purge=purge)
    if act(options, f"Deleting {service}", call):
        if options.as_json:
            output.show_json({"deleted": service, "purged": purge})
        else:
            click.echo(
                f"{service} is "
                f"deleted{' with its data' if purge else '; its data is kept: purveyor list --deleted'}."
            )


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
        click.echo(
            f"{service} is {output.status(word)}: {found['version']} {found['latency_ms']} "
            "ms".rstrip(": ")
        )
        if found["detail"]:
            reached = "" if found["healthy"] else f"failed at {found['stage']}: "
            click.echo(f"  {reached}{found['detail']}")
    if not found["healthy"]:
        raise SystemExit(1)


@click.command("logs")
@click.argument("service")
@click.option("-f", "--follow", is_flag=True, help="Follow new output.")
@click.option(
    "-n",
    "--tail",
    default=200,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help="How many lines back.",
)
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
        (item["id"][:12], item["origin"], f"{item['service_type']} {item['major']}".strip(),
        item["state"],
         output.size(item["size_bytes"]), item["facts"].get("before", ""),
         _moment(item["kept_at"] or item["created_at"]),
         (item["kept_until"] or "")[:10], item["path"])
        for item in found
    ]  # fmt: skip
    headings = [
        "id",
        "made for",
        "type",
        "state",
        "size",
        "kept before",
        "since",
        "until",
        "where the data is",
    ]
    output.table(headings, rows, "There are none.")
    for reason in sorted({item["size_missing"] for item in found} - {""}):
        origins = ", ".join(
            sorted({item["origin"] for item in found if item["size_missing"] == reason})
        )
        click.secho(f"The size of {origins} is not known. {reason}", fg="yellow", err=True)


def tell_of(options: Options, service: str | int, text: str) -> None:
    """Tell of a service that was changed: as JSON, or in words that name what it is now."""
    found = run(options, lambda client: client.get(f"{BASE}/{service}"))["service"]
    output.say(options, found, text.format(**found))


def _command(exposed: Exposed) -> click.Command:
    text = exposed.command.says if exposed.command else ""
    return command(
        exposed, lambda options, _, operation: tell_of(options, operation["service_id"], text)
    )


@click.command("import")
@click.argument("container", required=False)
@click.argument("name", required=False)
@click.option(
    "--type", "service_type", metavar="TYPE", help="Its service type, if it cannot be detected."
)
@click.option(
    "-p",
    "--parameter",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A credential. @FILE reads a file.",
)
@click.option(
    "--use-found",
    is_flag=True,
    help="Take what is not given from the container's own environment; do not ask.",
)
@plan_option
@click.pass_obj
def import_command(
    options: Options,
    container: str | None,
    name: str | None,
    service_type: str | None,
    given: tuple[str, ...],
    use_found: bool,
    plan: bool,
) -> None:
    """Import an existing CONTAINER as NAME. Without arguments, list what can be imported."""
    found = run(options, lambda client: client.get(f"{BASE}/available-containers"))
    if container is None:
        _available(options, found)
        return
    mine = [
        item
        for item in found
        if container in (item["container_name"], item["container_id"], item["container_id"][:12])
    ]
    kind = service_type or next((item["service_type"] for item in mine), None)
    if kind is None:
        raise BadInput(
            f"Could not determine what {container} is.",
            remedy="Say it: --type postgres. Or see: purveyor import",
        )
    if mine and mine[0]["suggested"] and not use_found and sys.stdin.isatty():
        told = ", ".join(f"{key}={value}" for key, value in mine[0]["suggested"].items())
        use_found = click.confirm(
            f"Its environment tells {told}. Use what you did not give?", err=True
        )
    call = IMPORT.call(
        plan=plan,
        container_id=container,
        name=name or container,
        service_type=kind,
        parameters=pairs(given, "-p"),
        use_found=use_found,
    )
    if operation := act(options, f"Importing {container}", call):
        tell_of(
            options,
            operation["service_id"],
            "{slug} is imported. Its container is untouched, and stays yours.",
        )


def _available(options: Options, found: list[dict[str, Any]]) -> None:
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (item["container_name"], item["service_type"], item["version"],
        "yes" if item["is_running"] else "no", item["image"],
         ", ".join(sorted(item["suggested"])))
        for item in found
    ]  # fmt: skip
    headings = ["container", "type", "version", "runs", "image", "credentials found"]
    output.table(
        headings, rows, "No container on this engine looks like a service that could be imported."
    )


@click.command("clone")
@click.argument("service")
@click.argument("name")
@click.option(
    "--image", metavar="IMAGE", help="The Docker image of the copy, instead of the same one."
)
@click.option(
    "--keep-going", is_flag=True, help="Copy the rest where that image's server does not take all."
)
@plan_option
@click.pass_obj
def clone_command(
    options: Options, service: str, name: str, image: str | None, keep_going: bool, plan: bool
) -> None:
    """Copy a service with all its data into a new one called NAME."""
    wanted: dict[str, Any] = {"docker_image": image} if image else {}
    wanted |= {"keep_going": True} if keep_going else {}
    call = CLONE.call(plan=plan, service=service, name=name, **wanted)
    if operation := act(options, f"Copying {service}", call):
        whole = options.as_json or output.outcome(operation)
        words = "a copy." if whole else "a copy with the differences above."
        tell_of(options, operation["service_id"], f"{{slug}} is there, {words}")


undelete_command = _command(UNDELETE)


@click.command("purge")
@click.argument("volume")
@click.option(
    "--confirm",
    metavar="NAME",
    help="The name of the service that the data was made for, instead of being asked.",
)
@plan_option
@click.pass_obj
def purge_command(options: Options, volume: str, confirm: str | None, plan: bool) -> None:
    """Permanently delete the data of a VOLUME that is kept. It is named as `purveyor volumes`
    does."""
    _purge(options, volume, confirm, plan)


def _purge(options: Options, volume: str, confirm: str | None, plan: bool) -> None:
    if confirm is None:
        confirm = _origin(options, volume) if plan or sys.stdin.isatty() else volume
        whose, flag = "the name of its service", "--confirm NAME"
        destroys(
            "This permanently deletes the data.",
            confirm,
            yes=False,
            plan=plan,
            thing=whose,
            flag=flag,
        )
    call = PURGE_VOLUME.call(plan=plan, volume=volume, confirm=confirm)
    if act(options, f"Purging {volume}", call):
        output.say(options, {"purged": volume}, "The data is gone.")


@click.group("volume")
def volume_command() -> None:
    """Kept data: attach, copy or delete it. List it with: purveyor volumes"""


volume_command.add_command(_command(ATTACH_VOLUME))
volume_command.add_command(_command(CLONE_VOLUME))


@volume_command.command("delete")
@click.argument("volume")
@click.option(
    "--confirm",
    metavar="NAME",
    help="The name of the service that the data was made for, instead of being asked.",
)
@plan_option
@click.pass_obj
def delete_volume(options: Options, volume: str, confirm: str | None, plan: bool) -> None:
    """Permanently delete the data of a VOLUME that is kept."""
    _purge(options, volume, confirm, plan)


def _origin(options: Options, volume: str) -> str:
    """The service that a volume was made for."""
    found = run(options, lambda client: client.pages("/api/volumes"))
    return next(
        (str(item["origin"]) for item in found if volume in (item["id"], item["name"])), volume
    )
