"""``purveyor backup``: make, verify, restore; where backups go, and when they are made."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from purveyor.archiving.exposed import BEGIN_ARCHIVE, END_ARCHIVE, RESTORE_MOMENT
from purveyor.backups import paper
from purveyor.backups.exposed import (
    ADOPT_FROM_BUCKET,
    ADOPT_FROM_FOLDER,
    BACKUPS,
    CREATE_SCHEDULE,
    CREATE_SOURCE,
    DELETE_BACKUP,
    DELETE_SCHEDULE,
    DELETE_SOURCE,
    DISABLE_SCHEDULE,
    ENABLE_SCHEDULE,
    RESTORE,
    RUN_BACKUP,
    SCHEDULES,
    SOURCES,
    UPDATE_SCHEDULE,
    VERIFY_BACKUP,
)
from purveyor.cli import output
from purveyor.cli.actions import act, change, command, pairs
from purveyor.cli.client import Client, run
from purveyor.cli.options import Options, plan_option
from purveyor.services.exposed import BASE as SERVICES
from purveyor_hooks import BadInput, Conflict, NotFound, PurveyorError
from purveyor_hooks.confirm import destroys, yes_option

unsigned_option = click.option(
    "--accept-unsigned",
    is_flag=True,
    help="Use it although nothing proves that it is yours: who wrote it chooses what is run.",
)


@click.group("backup")
def backup_command() -> None:
    """Backups: make, verify, restore."""


def _verified(item: Mapping[str, Any]) -> str:
    if not item["proven_at"]:
        return "not verified yet"
    deep = ", contents compared" if item["metadata"].get("deep") else ""
    return (
        f"verified {item['proven_at'][:16].replace('T', ' ')}{deep}, took "
        f"{item['proven_seconds']:.0f} s"
    )


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
            "size": output.size(item["size_bytes"]),
            "checksum": item["checksum"],
            "encryption": item["encryption"],
            "verification": _verified(item),
            "kept until": (item["expires_at"] or "")[:10],
            "where": item["location"],
        }
    )
    facts = item["metadata"]
    for kind, names in sorted(facts.get("counts", {}).items()):
        if total := sum(names.values()):
            click.echo(f"  {kind}: {total}")
    told = {
        "findings": facts.get("failed", []),
        "left_out": facts.get("left_out", []),
        "differences": facts.get("differences", []),
    }
    output.outcome({"outcome": told})


@backup_command.command("run")
@click.argument("service")
@click.option(
    "--to", "source", metavar="SOURCE", help="An S3 source instead of the folder of this host."
)
@click.option("--encrypt/--plain", default=None, help="Instead of what the settings say.")
@click.option(
    "--keep-days", type=click.IntRange(1), help="Delete automatically after so many days."
)
@plan_option
@click.pass_obj
def run_backup(
    options: Options,
    service: str,
    source: str | None,
    encrypt: bool | None,
    keep_days: int | None,
    plan: bool,
) -> None:
    """Make a backup of a service, now."""
    call = RUN_BACKUP.call(
        plan=plan, service=service, s3_source_id=source, encrypt=encrypt, keep_days=keep_days
    )
    if operation := act(options, f"Backing up {service}", call):
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
        (item["id"], item["service_name"], output.status(item["state"]),
        item["started_at"][:16].replace("T", " "),
         output.size(item["size_bytes"]), item["backup_type"], _verified(item),
         (item["expires_at"] or "never")[:10],
         item["location"].removesuffix(f"/{item['backup_id']}"))
        for item in found
    ]  # fmt: skip
    headings = ["id", "of", "state", "made", "size", "kind", "verification", "expires", "where"]
    output.table(headings, rows, "There are none. Make one: purveyor backup run NAME")


@backup_command.command("show")
@click.argument("backup")
@click.pass_obj
def show_backup(options: Options, backup: str) -> None:
    """Show a backup: what is in it, where it is, and when it was verified."""
    _show(options, run(options, lambda client: client.get(f"{BACKUPS}/{backup}")))


def _verified_now(options: Options, given: Mapping[str, Any], _: Any) -> None:
    _show(options, run(options, lambda client: client.get(f"{BACKUPS}/{given['backup']}")))


backup_command.add_command(command(VERIFY_BACKUP, _verified_now))


@backup_command.command("restore")
@click.argument("backup")
@click.option(
    "--at",
    metavar="TIME",
    help="To a moment: BACKUP is then a service that is archived, or a base copy.",
)
@click.option("--new", "new_name", metavar="NAME", help="Into a new service.")
@click.option(
    "--in-place",
    "service",
    metavar="SERVICE",
    help="Instead of the data that a service holds; that is kept.",
)
@click.option(
    "--database",
    "databases",
    multiple=True,
    metavar="NAME",
    help="Only this database or bucket; may be repeated.",
)
@click.option(
    "--keep-going",
    is_flag=True,
    help="Go on although not all comes: in place, or from an archive with a gap.",
)
@unsigned_option
@yes_option
@plan_option
@click.pass_obj
def restore_backup(
    options: Options,
    backup: str,
    at: str | None,
    new_name: str | None,
    service: str | None,
    databases: tuple[str, ...],
    keep_going: bool,
    accept_unsigned: bool,
    yes: bool,
    plan: bool,
) -> None:
    """Restore a backup into a new service, or in place; or a moment: --at 2026-11-25T15:00:00Z."""
    if service is not None:
        what = f"{service} gets other data: what was written since is not in it, and is kept aside."
        destroys(what, service, yes=yes, plan=plan)
    given = (
        ("new_name", new_name),
        ("service_id", service),
        ("at", at),
        ("databases", databases),
        ("keep_going", keep_going),
        ("accept_unsigned", accept_unsigned),
    )
    wanted = {name: value for name, value in given if value}
    if at is not None and not run(options, lambda client: _is_backup(client, backup)):
        call = RESTORE_MOMENT.call(plan=plan, archive=backup, **wanted)
    else:
        call = RESTORE.call(plan=plan, backup=backup, **wanted)
    if operation := act(options, f"Restoring {backup}", call):
        found = run(
            options, lambda client: client.get(f"/api/external-services/{operation['service_id']}")
        )["service"]
        if options.as_json:
            output.show_json({**found, "outcome": operation["outcome"]})
        elif operation["arguments"].get("base"):
            click.echo(
                f"{found['slug']} is as it "
                f"was{f' at {at}' if at else ' at the end of the archive'}."
            )
            output.outcome(operation)
        elif output.outcome(operation):
            click.echo(f"{found['slug']} holds the data of the backup, counted and compared.")
        else:
            click.echo(f"{found['slug']} is restored with the differences above.")
        if service and not options.as_json:
            click.echo("What it held before is kept: purveyor volumes")


@backup_command.command("extract")
@click.argument("backup")
@click.option("--database", required=True, metavar="NAME", help="The database or bucket.")
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file, instead of standard output.",
)
@click.pass_obj
def extract_database(options: Options, backup: str, database: str, target: Path | None) -> None:
    """Take one database or bucket out of a backup, as its server's own tools read it."""
    if target is None and sys.stdout.isatty():
        raise BadInput("The data would be written to the terminal.", remedy="Give a file: -o FILE")

    async def work(client: Client) -> None:
        chunks = client.stream(f"{BACKUPS}/{backup}/extract", database=database)
        if target is None:
            async for chunk in chunks:
                sys.stdout.buffer.write(chunk)
            return
        # a file of this name is never taken for the whole
        unfinished = target.with_name(f"{target.name}.unfinished")
        try:
            with unfinished.open("wb") as file:
                async for chunk in chunks:
                    file.write(chunk)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)

    run(options, work)
    if target is not None:
        click.echo(f"{database} is in {target}.", err=True)


async def _is_backup(client: Client, reference: str) -> bool:
    try:
        await client.get(f"{BACKUPS}/{reference}")
    except NotFound:
        return False
    return True


backup_command.add_command(command(DELETE_BACKUP))


@backup_command.command("adopt")
@click.option(
    "--from", "source", metavar="SOURCE", help="An S3 source instead of the folder of this host."
)
@unsigned_option
@plan_option
@click.pass_obj
def adopt_backups(options: Options, source: str | None, accept_unsigned: bool, plan: bool) -> None:
    """Register existing backups found at a destination: after the host was lost, before a
    restore."""
    if source:
        call = ADOPT_FROM_BUCKET.call(plan=plan, source=source, accept_unsigned=accept_unsigned)
    else:
        call = ADOPT_FROM_FOLDER.call(plan=plan, accept_unsigned=accept_unsigned)
    if plan:
        change(options, call)
    answer = run(options, lambda client: client.send(call.method, call.path, **call.given))
    found, refused = answer.json(), int(answer.headers.get("X-Refused", 0))
    if refused:
        text = (
            f"{refused} were not taken up: altered, or not signed with the backup.key that is "
            "here. See the log."
        )
        click.secho(text, fg="yellow", err=True)
    if options.as_json:
        output.show_json(found)
    else:
        for item in found:
            click.echo(f"{item['id']}  {item['backup_id']}  {item['service_name']}")
        click.echo(f"Registered {len(found)} backups.")


# ---------------------------------------------------------------- every moment


@backup_command.group("archive")
def archive_group() -> None:
    """Continuous archiving: point-in-time recovery."""


@archive_group.command("start")
@click.argument("service")
@click.option(
    "--to", "source", metavar="SOURCE", help="An S3 source instead of the folder of this host."
)
@click.option("--encrypt/--plain", default=None, help="Instead of what the settings say.")
@click.option(
    "--keep-days",
    default=7,
    show_default=True,
    type=click.IntRange(1),
    help="The recovery window, in days.",
)
@plan_option
@click.pass_obj
def start_archive(
    options: Options,
    service: str,
    source: str | None,
    encrypt: bool | None,
    keep_days: int,
    plan: bool,
) -> None:
    """Start continuous archiving of a service: it can be restored to any point in time."""
    call = BEGIN_ARCHIVE.call(
        plan=plan, service=service, s3_source_id=source, encrypt=encrypt, keep_days=keep_days
    )
    if act(options, f"Archiving {service}", call):
        _list_archives(options)


archive_group.add_command(command(END_ARCHIVE))


@archive_group.command("list")
@click.pass_obj
def list_archives(options: Options) -> None:
    """Show archives: recovery window, lag, queue."""
    _list_archives(options)


def _list_archives(options: Options) -> None:
    found = run(options, lambda client: client.get(f"{BACKUPS}/archives"))
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (item["service"], output.status(item["state"]), (item["since"] or "")[:19],
        (item["until"] or "")[:19],
         f"{item['lag_seconds']:.0f} s" if item["lag_seconds"] is not None else "",
         output.size(item["queue_bytes"]),
         item["reason"])
        for item in found
    ]  # fmt: skip
    headings = ["service", "state", "since", "until", "lag", "waits", "why"]
    output.table(
        headings, rows, "No service is archived. Begin: purveyor backup archive start NAME"
    )


# ---------------------------------------------------------------- buckets


@backup_command.group("source")
def source_group() -> None:
    """Manage backup destinations."""


@source_group.command("add")
@click.argument("name")
@click.option("-p", "--parameter", "given", multiple=True, required=True, metavar="NAME=VALUE",
              help="bucket_name, access_key_id, secret_key; region, endpoint, bucket_path, force_path_style.")  # fmt: skip
@click.option(
    "--accept-own",
    is_flag=True,
    help="Take a bucket of this very installation, which is lost with its host.",
)
@plan_option
@click.pass_obj
def add_source(
    options: Options, name: str, given: tuple[str, ...], accept_own: bool, plan: bool
) -> None:
    """Add an S3 bucket. A test object is written and read first."""
    wanted: dict[str, Any] = {"name": name, **pairs(given, "-p"), "accept_own": accept_own}
    if "force_path_style" in wanted:
        wanted["force_path_style"] = wanted["force_path_style"].lower() in ("true", "1", "yes")
    found = change(options, CREATE_SOURCE.call(wanted, plan=plan))
    output.show_json(found) if options.as_json else click.echo(
        f"Created {found['name']} (id {found['id']})."
    )


@source_group.command("list")
@click.pass_obj
def list_sources(options: Options) -> None:
    """List the buckets."""
    found = run(options, lambda client: client.get(SOURCES))
    if options.as_json:
        output.show_json(found)
    else:
        rows = [
            (item["id"], item["name"], item["bucket_name"], item["bucket_path"], item["endpoint"])
            for item in found
        ]
        output.table(
            ["id", "name", "bucket", "path", "endpoint"],
            rows,
            "There are none; backups go to a folder of this host.",
        )


source_group.add_command(command(DELETE_SOURCE))


# ---------------------------------------------------------------- the key


@backup_command.group("key")
def key_group() -> None:
    """The key that signs backups and opens those that are sealed."""


@key_group.command("print")
@click.pass_obj
def print_key(options: Options) -> None:
    """Print the key for paper: after the host is lost, nothing else proves that a backup is
    yours."""
    from purveyor.backups import age
    from purveyor.backups.manifest import key_id
    from purveyor.backups.repository import KEY_FILE, read_key

    path = options.state / KEY_FILE
    if options.url or not path.exists():
        where = (
            "on the host of the daemon"
            if options.url
            else "after the first backup: it makes the key"
        )
        raise BadInput(f"{path} is not here.", remedy=f"Do this {where}.")
    key = read_key(path)
    try:
        run(
            options,
            lambda client: client.call("POST", "/api/audit/backup-key-printed"),
            resume=False,
        )
    except (PurveyorError, ExceptionGroup):
        # it lies in a file: who may read that needs nobody's leave
        click.echo(
            "Note: it could not be written into the audit log that the key was printed.", err=True
        )
    lines = paper.render_lines(key)
    paper.note_printed(path, key_id(key))
    if options.as_json:
        output.show_json({"key": key_id(key), "lines": lines, "age": age.identity(key)})
        return
    click.echo(
        f"Key of the backups of this installation (id {key_id(key)}). Keep it away from this "
        "host.\n"
    )
    for line in lines:
        click.echo(f"    {line}")
    click.echo(
        "\nTo put it back: purveyor backup key restore\n\nWhere there is no Purveyor, age opens "
        "sealed backups with this:\n"
    )
    click.echo(f"    {age.identity(key)}")


@key_group.command("restore")
@click.pass_obj
def restore_key(options: Options) -> None:
    """Put a key back from paper: four lines, read from the terminal or from standard input."""
    from purveyor.backups.repository import KEY_FILE, read_key, write_key

    path = options.state / KEY_FILE
    click.echo("Type the four lines.", err=True)
    key = paper.read([sys.stdin.readline() for _ in range(paper.LINES)])
    if path.exists():
        if read_key(path) == key:
            click.echo("It is the key that is here.")
            return
        raise Conflict(
            f"{path} holds another key.", remedy="Move that file away first, if no backup needs it."
        )
    options.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_key(path, key)
    click.echo(f"The key is in {path}.")


# ---------------------------------------------------------------- schedules


@backup_command.group("schedule")
def schedule_group() -> None:
    """Scheduled backups."""


@schedule_group.command("add")
@click.argument("name")
@click.argument("expression")
@click.option(
    "--service", "services", multiple=True, metavar="SERVICE", help="Only these; all without it."
)
@click.option(
    "--to", "source", metavar="SOURCE", help="An S3 source instead of the folder of this host."
)
@click.option("--keep-days", default=30, show_default=True, type=click.IntRange(1))
@click.option(
    "--keep-count",
    default=0,
    type=click.IntRange(0),
    help="At most so many of each service; 0 is any number.",
)
@click.option("--verify", is_flag=True, help="Verify each one right after it was made.")
@click.option("--verify-deep", is_flag=True, help="The same, with its contents compared.")
@click.option(
    "--timezone",
    default="UTC",
    show_default=True,
    metavar="ZONE",
    help="The time zone of the cron expression: Europe/Berlin.",
)
@click.option(
    "--jitter",
    default=0,
    type=click.IntRange(0),
    metavar="SECONDS",
    help="Delay each run by a random time up to this.",
)
@plan_option
@click.pass_obj
def add_schedule(
    options: Options,
    name: str,
    expression: str,
    services: tuple[str, ...],
    source: str | None,
    keep_days: int,
    keep_count: int,
    verify: bool,
    verify_deep: bool,
    timezone: str,
    jitter: int,
    plan: bool,
) -> None:
    """Schedule backups with a cron expression: purveyor backup schedule add nightly "0 3 * * *" """
    call = CREATE_SCHEDULE.call(
        plan=plan,
        name=name,
        schedule_expression=expression,
        service_ids=list(services),
        s3_source_id=source,
        retention_period=keep_days,
        retention_count=keep_count,
        verify=verify or verify_deep,
        verify_deep=verify_deep,
        timezone=timezone,
        jitter=jitter,
    )
    found = change(options, call)
    output.show_json(found) if options.as_json else click.echo(
        f"{name} is there; the next backup comes at {found['next_run'][:16]}."
    )


@schedule_group.command("update")
@click.argument("name")
@click.option("--name", "new_name", metavar="NAME", help="Another name.")
@click.option("--when", metavar="EXPRESSION", help='Another cron expression: "0 3 * * *".')
@click.option("--service", "services", multiple=True, metavar="SERVICE", help="Only these.")
@click.option("--all-services", is_flag=True, help="All services.")
@click.option("--to", "source", metavar="SOURCE", help="Another S3 source.")
@click.option("--to-host", is_flag=True, help="The folder of this host.")
@click.option("--keep-days", type=click.IntRange(1), help="For backups that are made from now on.")
@click.option("--keep-count", type=click.IntRange(0), help="0 is any number.")
@click.option("--verify/--no-verify", default=None, help="Verify each one.")
@click.option("--verify-deep/--no-verify-deep", default=None, help="With its contents compared.")
@click.option("--timezone", metavar="ZONE", help="The time zone of the cron expression.")
@click.option("--jitter", type=click.IntRange(0), metavar="SECONDS")
@plan_option
@click.pass_obj
def update_schedule(
    options: Options,
    name: str,
    new_name: str | None,
    when: str | None,
    services: tuple[str, ...],
    all_services: bool,
    source: str | None,
    to_host: bool,
    keep_days: int | None,
    keep_count: int | None,
    verify: bool | None,
    verify_deep: bool | None,
    timezone: str | None,
    jitter: int | None,
    plan: bool,
) -> None:
    """Change a schedule. What is not named stays, and so do its backups."""
    for one, other, both in (
        ("--service", "--all-services", services and all_services),
        ("--to", "--to-host", source is not None and to_host),
        ("--no-verify", "--verify-deep", verify is False and verify_deep),
    ):
        if both:
            raise click.UsageError(f"Give {one} or {other}, not both.")
    body = {
        "name": new_name,
        "schedule_expression": when,
        "service_ids": [] if all_services else list(services) or None,
        "s3_source_id": "" if to_host else source,
        "retention_period": keep_days,
        "retention_count": keep_count,
        "verify": True if verify_deep else verify,
        "verify_deep": False if verify is False else verify_deep,
        "timezone": timezone,
        "jitter": jitter,
    }
    body = {key: value for key, value in body.items() if value is not None}
    if not body:
        raise click.UsageError("Nothing to change was given.")
    found = change(options, UPDATE_SCHEDULE.call(body, plan=plan, schedule=name))
    output.show_json(found) if options.as_json else click.echo(
        f"{found['name']} is changed; the next backup comes at {found['next_run'][:16]}."
    )


@schedule_group.command("list")
@click.pass_obj
def list_schedules(options: Options) -> None:
    """List the schedules."""
    found = run(options, lambda client: client.get(SCHEDULES))
    if options.as_json:
        output.show_json(found)
        return
    sources = {
        item["id"]: item["name"] for item in run(options, lambda client: client.get(SOURCES))
    }
    names = {
        item["id"]: item["slug"]
        for item in run(options, lambda client: client.pages(f"{SERVICES}/"))
    }
    rows = [
        (item["name"], f"{item['schedule_expression']} {item['timezone']}",
         ", ".join(names.get(n, f"{n} (deleted)") for n in item["service_ids"]) or "all",
        "enabled" if item["enabled"] else "disabled",
         (item["next_run"] or "")[:16], (item["last_run"] or "never")[:16],
         _result(item["last_result"]),
         sources.get(item["s3_source_id"], "this host"), f"{item['retention_period']} days",
         _asked(item))
        for item in found
    ]  # fmt: skip
    output.table(
        [
            "name",
            "when",
            "services",
            "state",
            "next",
            "last",
            "result",
            "where",
            "retention",
            "verification",
        ],
        rows,
        "There are none.",
    )


def _result(found: Mapping[str, int] | None) -> str:
    """What came of a run: only what there was."""
    return ", ".join(f"{number} {word}" for word, number in (found or {}).items() if number) or (
        "nothing to do" if found else ""
    )


def _asked(item: Mapping[str, Any]) -> str:
    """What is done with each backup of a schedule."""
    return "contents compared" if item["verify_deep"] else "verified" if item["verify"] else ""


for _exposed in (ENABLE_SCHEDULE, DISABLE_SCHEDULE, DELETE_SCHEDULE):
    schedule_group.add_command(command(_exposed))
