"""Commands on the life of data: upgrade, copy, bring back, delete for good, new credentials."""

import sys
from typing import Any

import click

from purveyor.cli import output
from purveyor.cli.client import run
from purveyor.cli.commands.projects import PROJECTS, environment_option
from purveyor.cli.commands.services import BASE, act, pairs, plan_option
from purveyor.cli.main import Options
from purveyor_hooks import BadInput
from purveyor_hooks.confirm import destroys, interrupts, yes_option


def _told(options: Options, service: str, text: str) -> None:
    found = run(options, lambda client: client.get(f"{BASE}/{service}"))["service"]
    output.show_json(found) if options.as_json else click.echo(text.format(**found))


@click.command("upgrade")
@click.argument("service")
@click.argument("image", required=False)
@click.option("--rehearse", is_flag=True, help="Run the whole of it on a copy, and change nothing.")
@click.option("--undo", is_flag=True, help="Go back to the image and the data of before the last upgrade.")
@click.option("--keep-going", is_flag=True, help="Go on although not all came over.")
@click.option("--skip-setting", "skipped", multiple=True, metavar="NAME", help="A server setting that is not to come along.")
@yes_option
@plan_option
@click.pass_obj
def upgrade_command(
    options: Options,
    service: str,
    image: str | None,
    rehearse: bool,
    undo: bool,
    keep_going: bool,
    skipped: tuple[str, ...],
    yes: bool,
    plan: bool,
) -> None:
    """Take a service to another IMAGE; when that does not work, it goes on as before."""
    if undo == (image is not None) or (undo and rehearse):
        raise BadInput("It is not clear what to do.", remedy="Give an IMAGE, or --undo.")
    if undo:
        what = f"{service} goes back to the data of before the upgrade: what was written since is not in it, and is kept aside."
        destroys(what, service, yes=yes, plan=plan)
        if act(options, f"Going back with {service}", "POST", f"{BASE}/{service}/undo-upgrade", plan=plan):
            _told(options, service, "{slug} is back on {docker_image}, with the data of before.")
        return
    interrupts(f"{service} serves nobody while its data is carried over.", yes=yes, plan=plan or rehearse)
    body = {"docker_image": image, "rehearse": rehearse, "keep_going": keep_going, "skip_settings": skipped}
    title = f"{'Rehearsing the upgrade of' if rehearse else 'Upgrading'} {service}"
    if operation := act(options, title, "POST", f"{BASE}/{service}/upgrade", plan=plan, json=body):
        whole = options.as_json or output.outcome(operation)
        if rehearse:
            word = "It works" if whole else "It works, with the differences above, which would stop the upgrade"
            click.echo(f"{word}: see how long each step took with: purveyor operations {operation['id']}", err=options.as_json)
        else:
            _told(options, service, "{slug} runs {docker_image}. The data of before is kept: purveyor volumes")


@click.command("import")
@click.argument("container", required=False)
@click.argument("name", required=False)
@click.option("--type", "service_type", metavar="TYPE", help="Its service type, where that cannot be told.")
@click.option("-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="A credential. @FILE reads a file.")
@click.option("--use-found", is_flag=True, help="Take what is not given from the container's own environment; do not ask.")
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
    """Take a CONTAINER that somebody else made into the list, as NAME. Without arguments: what could be imported."""
    found = run(options, lambda client: client.get(f"{BASE}/available-containers"))
    if container is None:
        _available(options, found)
        return
    mine = [item for item in found if container in (item["container_name"], item["container_id"], item["container_id"][:12])]
    kind = service_type or next((item["service_type"] for item in mine), None)
    if kind is None:
        raise BadInput(f"It cannot be told what {container} is.", remedy="Say it: --type postgres. Or see: purveyor import")
    if mine and mine[0]["suggested"] and not use_found and sys.stdin.isatty():
        told = ", ".join(f"{key}={value}" for key, value in mine[0]["suggested"].items())
        use_found = click.confirm(f"Its environment tells {told}. Use what you did not give?", err=True)
    body = {"container_id": container, "name": name or container, "service_type": kind, "parameters": pairs(given, "-p")}
    title = f"Importing {container}"
    if operation := act(options, title, "POST", f"{BASE}/import", plan=plan, json={**body, "use_found": use_found}):
        _told(options, str(operation["service_id"]), "{slug} is imported. Its container is untouched, and stays yours.")


def _available(options: Options, found: list[dict[str, Any]]) -> None:
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (item["container_name"], item["service_type"], item["version"], "yes" if item["is_running"] else "no", item["image"],
         ", ".join(sorted(item["suggested"])))
        for item in found
    ]  # fmt: skip
    headings = ["container", "type", "version", "runs", "image", "its environment tells"]
    output.table(headings, rows, "No container on this engine looks like a service that could be imported.")


@click.command("clone")
@click.argument("service")
@click.argument("name")
@click.option("--image", metavar="IMAGE", help="The Docker image of the copy, instead of the same one.")
@plan_option
@click.pass_obj
def clone_command(options: Options, service: str, name: str, image: str | None, plan: bool) -> None:
    """Copy a service with all its data into a new one called NAME."""
    title = f"Copying {service}"
    body = {"name": name} | ({"docker_image": image} if image else {})
    if operation := act(options, title, "POST", f"{BASE}/{service}/clone", plan=plan, json=body):
        whole = options.as_json or output.outcome(operation)
        words = "a copy." if whole else "a copy with the differences above."
        _told(options, str(operation["service_id"]), f"{{slug}} is there, {words}")


@click.command("undelete")
@click.argument("service")
@plan_option
@click.pass_obj
def undelete_command(options: Options, service: str, plan: bool) -> None:
    """Bring a deleted service back, with the data that was kept."""
    if operation := act(options, f"Bringing {service} back", "POST", f"{BASE}/{service}/undelete", plan=plan):
        _told(options, str(operation["service_id"]), "{slug} is back.")


@click.command("purge")
@click.argument("volume")
@click.option("--confirm", metavar="NAME", help="The name of the service that the data was made for, instead of being asked.")
@plan_option
@click.pass_obj
def purge_command(options: Options, volume: str, confirm: str | None, plan: bool) -> None:
    """Delete the data of a VOLUME that is kept, for good. It is named as `purveyor volumes` does."""
    _purge(options, volume, confirm, plan)


def _purge(options: Options, volume: str, confirm: str | None, plan: bool) -> None:
    if confirm is None:
        confirm = _origin(options, volume) if plan or sys.stdin.isatty() else volume
        whose, flag = "the name of its service", "--confirm NAME"
        destroys("This deletes the data for good.", confirm, yes=False, plan=plan, thing=whose, flag=flag)
    path = f"/api/volumes/{volume}/purge"
    if act(options, f"Purging {volume}", "POST", path, plan=plan, json={"confirm": confirm}):
        output.show_json({"purged": volume}) if options.as_json else click.echo("The data is gone.")


@click.group("volume")
def volume_command() -> None:
    """Data that is kept: bring it back, copy it, delete it. List it with: purveyor volumes"""


@volume_command.command("attach")
@click.argument("volume")
@click.argument("service")
@yes_option
@plan_option
@click.pass_obj
def attach_volume(options: Options, volume: str, service: str, yes: bool, plan: bool) -> None:
    """Have a SERVICE go on with the data of a VOLUME; what it holds now is kept."""
    destroys(f"{service} gets other data: what it holds now is not in it, and is kept aside.", service, yes=yes, plan=plan)
    title = f"Attaching {volume}"
    if act(options, title, "POST", f"/api/volumes/{volume}/attach", plan=plan, json={"service": service}):
        _told(options, service, "{slug} goes on with the data of that volume. What it held is kept: purveyor volumes")


@volume_command.command("clone")
@click.argument("volume")
@click.argument("name")
@plan_option
@click.pass_obj
def clone_volume(options: Options, volume: str, name: str, plan: bool) -> None:
    """Copy the data of a VOLUME into a new service called NAME."""
    title = f"Copying {volume}"
    if operation := act(options, title, "POST", f"/api/volumes/{volume}/clone", plan=plan, json={"name": name}):
        _told(options, str(operation["service_id"]), "{slug} is there, with a copy of that data.")


@volume_command.command("delete")
@click.argument("volume")
@click.option("--confirm", metavar="NAME", help="The name of the service that the data was made for, instead of being asked.")
@plan_option
@click.pass_obj
def delete_volume(options: Options, volume: str, confirm: str | None, plan: bool) -> None:
    """Delete the data of a VOLUME that is kept, for good."""
    _purge(options, volume, confirm, plan)


def _origin(options: Options, volume: str) -> str:
    """The service that a volume was made for."""
    found = run(options, lambda client: client.pages("/api/volumes"))
    return next((str(item["origin"]) for item in found if volume in (item["id"], item["name"])), volume)


@click.command("rotate")
@click.argument("project", required=False)
@environment_option
@click.option("--service", metavar="SERVICE", help="Only the credentials on one service.")
@click.option("--administrator", metavar="SERVICE", help="Instead of a project's: those of a service's administrator.")
@yes_option
@plan_option
@click.pass_obj
def rotate_command(
    options: Options, project: str | None, environment: str, service: str | None, administrator: str | None, yes: bool, plan: bool
) -> None:
    """Give a project's environment new credentials, or a service's administrator."""
    if (project is None) == (administrator is None):
        raise BadInput("It is not clear whose credentials are meant.", remedy="Give a PROJECT, or --administrator SERVICE.")
    if administrator is not None:
        interrupts(f"The container of {administrator} is made anew: it serves nobody until it is up again.", yes=yes, plan=plan)
        if act(options, f"Rotating {administrator}", "POST", f"{BASE}/{administrator}/rotate", plan=plan):
            _told(options, administrator, "The administrator of {slug} has new credentials. No app had the old ones.")
        return
    what = f"The credentials of {project}/{environment} end: the app that runs needs a deploy to connect again."
    interrupts(what, yes=yes, plan=plan)
    params = {"service": service} if service else {}
    path = f"{PROJECTS}/{project}/environments/{environment}/rotate"
    if act(options, f"Rotating {project}", "POST", path, plan=plan, params=params):
        if options.as_json:
            output.show_json({"project": project, "environment": environment})
        else:
            click.echo(f"The old credentials of {project}/{environment} are ended. Deploy it to inject the new ones.")
