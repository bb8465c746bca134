"""``purveyor backup``: make, prove, restore; where backups go, and when they are made."""

from collections.abc import Mapping
from typing import Any

import click

from purveyor.cli import output
from purveyor.cli.client import Client, run
from purveyor.cli.commands.services import act, pairs, plan_option
from purveyor.cli.main import Options
from purveyor_hooks import NotFound
from purveyor_hooks.confirm import destroys, interrupts, yes_option

BACKUPS = "/api/backups"


@click.group("backup")
def backup_command() -> None:
    """Backups: make, prove, restore."""


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _proven(item: Mapping[str, Any]) -> str:
    if not item["proven_at"]:
        return "not proven yet"
    return f"proven {item['proven_at'][:16].replace('T', ' ')}, took {item['proven_seconds']:.0f} s"


def _show(options: Options, item: Mapping[str, Any]) -> None:
    if options.as_json:
        output.show_json(item)
        return
    output.fields(
        {
            "backup": f"{item['backup_id']} (id {item['id']})",
            "of": f"{item['service_name']} ({item['service_type']})",
            "state": output.status(item["state"]),
            "why": item["error_message"],
            "made": (item["completed_at"] or "")[:19],
            "size": _size(item["size_bytes"]),
            "checksum": item["checksum"],
            "encryption": item["encryption"],
            "proof": _proven(item),
            "kept until": (item["expires_at"] or "")[:10],
            "where": item["location"],
        }
    )
    for kind, names in sorted(item["metadata"].get("counts", {}).items()):
        if total := sum(names.values()):
            click.echo(f"  {kind}: {total}")


@backup_command.command("run")
@click.argument("service")
@click.option("--to", "source", metavar="SOURCE", help="An S3 source instead of the folder of this host.")
@click.option("--encrypt/--plain", default=None, help="Instead of what the settings say.")
@click.option("--keep-days", type=click.IntRange(1), help="Delete it by itself after so many days.")
@plan_option
@click.pass_obj
def run_backup(
    options: Options, service: str, source: str | None, encrypt: bool | None, keep_days: int | None, plan: bool
) -> None:
    """Make a backup of a service, now."""
    body = {"s3_source_id": source, "encrypt": encrypt, "keep_days": keep_days}
    path = f"{BACKUPS}/external-services/{service}/run"
    if operation := act(options, f"Backing up {service}", "POST", path, plan=plan, json=body):
        number = operation["arguments"]["backup"]
        _show(options, run(options, lambda client: client.get(f"{BACKUPS}/{number}")))


@backup_command.command("list")
@click.argument("service", required=False)
@click.pass_obj
def list_backups(options: Options, service: str | None) -> None:
    """List the backups, newest first."""
    query = {"service": service} if service else {}
    found = run(options, lambda client: client.call("GET", BACKUPS, params=query))
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (item["id"], item["service_name"], output.status(item["state"]), item["started_at"][:16].replace("T", " "),
         _size(item["size_bytes"]), item["backup_type"], _proven(item))
        for item in found
    ]  # fmt: skip
    output.table(
        ["id", "of", "state", "made", "size", "kind", "proof"], rows, "There are none. Make one: purveyor backup run NAME"
    )


@backup_command.command("show")
@click.argument("backup")
@click.pass_obj
def show_backup(options: Options, backup: str) -> None:
    """Show a backup: what is in it, where it is, and when it was proven."""
    _show(options, run(options, lambda client: client.get(f"{BACKUPS}/{backup}")))


@backup_command.command("verify")
@click.argument("backup")
@plan_option
@click.pass_obj
def verify_backup(options: Options, backup: str, plan: bool) -> None:
    """Prove a backup: restore it into a service made for that, and count what is in it."""
    if act(options, f"Proving {backup}", "POST", f"{BACKUPS}/{backup}/verify", plan=plan):
        _show(options, run(options, lambda client: client.get(f"{BACKUPS}/{backup}")))


@backup_command.command("restore")
@click.argument("backup")
@click.option("--at", metavar="TIME", help="To a moment: BACKUP is then a service that is archived, or a base copy.")
@click.option("--new", "new_name", metavar="NAME", help="Into a new service.")
@click.option("--in-place", "service", metavar="SERVICE", help="Instead of the data that a service holds; that is kept.")
@yes_option
@plan_option
@click.pass_obj
def restore_backup(
    options: Options, backup: str, at: str | None, new_name: str | None, service: str | None, yes: bool, plan: bool
) -> None:
    """Restore a backup into a new service, or in place; or a moment: --at 2026-11-25T15:00:00Z."""
    if service is not None:
        what = f"{service} gets other data: what was written since is not in it, and is kept aside."
        destroys(what, service, yes=yes, plan=plan)
    given = (("new_name", new_name), ("service_id", service), ("at", at))
    body = {name: value for name, value in given if value is not None}
    archived = at is not None and not run(options, lambda client: _is_backup(client, backup))
    path = f"{BACKUPS}/archives/{backup}/restore" if archived else f"{BACKUPS}/{backup}/restore"
    if operation := act(options, f"Restoring {backup}", "POST", path, plan=plan, json=body):
        found = run(options, lambda client: client.get(f"/api/external-services/{operation['service_id']}"))["service"]
        if options.as_json:
            output.show_json(found)
        elif operation["arguments"].get("base"):
            click.echo(f"{found['slug']} is as it was{f' at {at}' if at else ' at the end of the archive'}.")
        else:
            click.echo(f"{found['slug']} holds the data of the backup, counted and compared.")
        if service and not options.as_json:
            click.echo("What it held before is kept: purveyor volumes")


async def _is_backup(client: Client, reference: str) -> bool:
    try:
        await client.get(f"{BACKUPS}/{reference}")
    except NotFound:
        return False
    return True


@backup_command.command("delete")
@click.argument("backup")
@yes_option
@plan_option
@click.pass_obj
def delete_backup(options: Options, backup: str, yes: bool, plan: bool) -> None:
    """Delete a backup and its files."""
    destroys(f"This deletes the backup {backup} for good.", backup, yes=yes, plan=plan, thing="its id")
    if act(options, f"Deleting {backup}", "DELETE", f"{BACKUPS}/{backup}", plan=plan):
        output.show_json({"deleted": backup}) if options.as_json else click.echo(f"The backup {backup} is deleted.")


@backup_command.command("adopt")
@click.option("--from", "source", metavar="SOURCE", help="An S3 source instead of the folder of this host.")
@click.pass_obj
def adopt_backups(options: Options, source: str | None) -> None:
    """Take up backups that are there and have no record: after the host was lost, before a restore."""
    path = f"{BACKUPS}/s3-sources/{source}/adopt" if source else f"{BACKUPS}/adopt"
    found = run(options, lambda client: client.call("POST", path))
    if options.as_json:
        output.show_json(found)
    else:
        for item in found:
            click.echo(f"{item['id']}  {item['backup_id']}  {item['service_name']}")
        click.echo(f"{len(found)} backups were taken up.")


# ---------------------------------------------------------------- every moment


@backup_command.group("archive")
def archive_group() -> None:
    """Continuous archiving: every moment can be restored."""


@archive_group.command("start")
@click.argument("service")
@click.option("--to", "source", metavar="SOURCE", help="An S3 source instead of the folder of this host.")
@click.option("--encrypt/--plain", default=None, help="Instead of what the settings say.")
@click.option("--keep-days", default=7, show_default=True, type=click.IntRange(1), help="How far back one can go.")
@plan_option
@click.pass_obj
def start_archive(options: Options, service: str, source: str | None, encrypt: bool | None, keep_days: int, plan: bool) -> None:
    """Write down every change of a service from now on."""
    body = {"service_id": service, "s3_source_id": source, "encrypt": encrypt, "keep_days": keep_days}
    if act(options, f"Archiving {service}", "POST", f"{BACKUPS}/archives", plan=plan, json=body):
        _list_archives(options)


@archive_group.command("stop")
@click.argument("service")
@yes_option
@plan_option
@click.pass_obj
def stop_archive(options: Options, service: str, yes: bool, plan: bool) -> None:
    """Write down no more; what was archived stays and can be restored."""
    interrupts(f"What {service} writes from now on can be restored from backups alone.", yes=yes, plan=plan)
    if act(options, f"Ending the archive of {service}", "DELETE", f"{BACKUPS}/archives/{service}", plan=plan):
        output.show_json({"ended": service}) if options.as_json else click.echo(f"{service} is archived no more.")


@archive_group.command("list")
@click.pass_obj
def list_archives(options: Options) -> None:
    """How far back, how far behind, and what waits."""
    _list_archives(options)


def _list_archives(options: Options) -> None:
    found = run(options, lambda client: client.get(f"{BACKUPS}/archives"))
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (item["service"], output.status(item["state"]), (item["since"] or "")[:19], (item["until"] or "")[:19],
         f"{item['lag_seconds']:.0f} s" if item["lag_seconds"] is not None else "", _size(item["queue_bytes"]), item["reason"])
        for item in found
    ]  # fmt: skip
    headings = ["service", "state", "since", "until", "lag", "waits", "why"]
    output.table(headings, rows, "No service is archived. Begin: purveyor backup archive start NAME")


# ---------------------------------------------------------------- buckets


@backup_command.group("source")
def source_group() -> None:
    """Buckets that backups go to."""


@source_group.command("add")
@click.argument("name")
@click.option("-p", "--parameter", "given", multiple=True, required=True, metavar="NAME=VALUE",
              help="bucket_name, access_key_id, secret_key; region, endpoint, bucket_path, force_path_style.")  # fmt: skip
@click.pass_obj
def add_source(options: Options, name: str, given: tuple[str, ...]) -> None:
    """Add a bucket; it is written to and read from first."""
    body: dict[str, Any] = {"name": name, **pairs(given, "-p")}
    if "force_path_style" in body:
        body["force_path_style"] = body["force_path_style"].lower() in ("true", "1", "yes")
    found = run(options, lambda client: client.call("POST", f"{BACKUPS}/s3-sources", json=body))
    output.show_json(found) if options.as_json else click.echo(f"{found['name']} is there (id {found['id']}).")


@source_group.command("list")
@click.pass_obj
def list_sources(options: Options) -> None:
    """List the buckets."""
    found = run(options, lambda client: client.get(f"{BACKUPS}/s3-sources"))
    if options.as_json:
        output.show_json(found)
    else:
        rows = [(item["id"], item["name"], item["bucket_name"], item["bucket_path"], item["endpoint"]) for item in found]
        output.table(["id", "name", "bucket", "path", "endpoint"], rows, "There are none; backups go to a folder of this host.")


@source_group.command("delete")
@click.argument("name")
@click.pass_obj
def delete_source(options: Options, name: str) -> None:
    """Forget a bucket; what is in it stays."""
    run(options, lambda client: client.call("DELETE", f"{BACKUPS}/s3-sources/{name}"))
    output.show_json({"deleted": name}) if options.as_json else click.echo(f"{name} is forgotten; what is in it stays.")


# ---------------------------------------------------------------- schedules


@backup_command.group("schedule")
def schedule_group() -> None:
    """Backups that are made by themselves."""


@schedule_group.command("add")
@click.argument("name")
@click.argument("expression")
@click.option("--service", "services", multiple=True, metavar="SERVICE", help="Only these; all without it.")
@click.option("--to", "source", type=int, metavar="SOURCE", help="The id of an S3 source.")
@click.option("--keep-days", default=30, show_default=True, type=click.IntRange(1))
@click.option("--keep-count", default=0, type=click.IntRange(0), help="At most so many of each service; 0 is any number.")
@click.option("--verify", is_flag=True, help="Prove each one right after it was made.")
@click.pass_obj
def add_schedule(
    options: Options,
    name: str,
    expression: str,
    services: tuple[str, ...],
    source: int | None,
    keep_days: int,
    keep_count: int,
    verify: bool,
) -> None:
    """Make backups by a cron line (UTC): purveyor backup schedule add nightly "0 3 * * *" """
    body = {
        "name": name,
        "schedule_expression": expression,
        "service_ids": list(services),
        "s3_source_id": source,
        "retention_period": keep_days,
        "retention_count": keep_count,
        "verify": verify,
    }
    found = run(options, lambda client: client.call("POST", f"{BACKUPS}/schedules", json=body))
    output.show_json(found) if options.as_json else click.echo(
        f"{name} is there; the next backup comes at {found['next_run'][:16]}."
    )


@schedule_group.command("list")
@click.pass_obj
def list_schedules(options: Options) -> None:
    """List the schedules."""
    found = run(options, lambda client: client.get(f"{BACKUPS}/schedules"))
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (item["name"], item["schedule_expression"], "enabled" if item["enabled"] else "disabled",
         (item["next_run"] or "")[:16], f"{item['retention_period']} days", "proven" if item["verify"] else "")
        for item in found
    ]  # fmt: skip
    output.table(["name", "when", "state", "next", "kept", "proof"], rows, "There are none.")


def _switch(options: Options, name: str, word: str) -> None:
    found = run(options, lambda client: client.call("POST", f"{BACKUPS}/schedules/{name}/{word}"))
    output.show_json(found) if options.as_json else click.echo(f"{name} is {word}d.")


@schedule_group.command("enable")
@click.argument("name")
@click.pass_obj
def enable_schedule(options: Options, name: str) -> None:
    """Go on with a schedule."""
    _switch(options, name, "enable")


@schedule_group.command("disable")
@click.argument("name")
@click.pass_obj
def disable_schedule(options: Options, name: str) -> None:
    """Let a schedule rest."""
    _switch(options, name, "disable")


@schedule_group.command("delete")
@click.argument("name")
@click.pass_obj
def delete_schedule(options: Options, name: str) -> None:
    """Delete a schedule; its backups stay."""
    run(options, lambda client: client.call("DELETE", f"{BACKUPS}/schedules/{name}"))
    output.show_json({"deleted": name}) if options.as_json else click.echo(f"{name} is deleted; its backups stay.")
