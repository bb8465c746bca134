"""``purveyor recover`` and ``purveyor takeover``: after the host was lost."""

import os
import platform
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from purveyor.cli import output
from purveyor.cli.actions import act, command
from purveyor.cli.client import Client, run
from purveyor.cli.main import LeftAlone
from purveyor.cli.options import Options, plan_option
from purveyor.recovery.exposed import FINISH_RECOVERY, RECOVER_SERVICE, RECOVERY
from purveyor_hooks import BadInput, Failed
from purveyor_hooks.confirm import interrupts, yes_option

if TYPE_CHECKING:
    from purveyor.backups.models import SourceRecord
    from purveyor.backups.storage import Storage
    from purveyor.context import Core
    from purveyor.recovery.outlook import ServiceOutlook
    from purveyor.recovery.rebuild import Prospect, Wanted

FROM = "from"


class _Recover(click.Group):
    """`purveyor recover PLACE` is `purveyor recover from PLACE`: what is no command is a place."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [FROM, *args]
        return super().resolve_command(ctx, args)


KEY_OPTION = click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Its backup.key, or a file with the four lines from paper; without it they are asked for.",
)
BUCKET = (
    click.option(
        "--endpoint",
        envvar="AWS_ENDPOINT_URL",
        help="Of the bucket, where it is not Amazon's.  [env: AWS_ENDPOINT_URL]",
    ),
    click.option(
        "--region",
        envvar="AWS_REGION",
        default="us-east-1",
        show_default=True,
        help="[env: AWS_REGION]",
    ),
    click.option(
        "--access-key",
        envvar="AWS_ACCESS_KEY_ID",
        help=(
            "Its access key; the secret one is asked for.  [env: AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY]"
        ),
    ),
    click.option(
        "--path-style/--host-style",
        default=None,
        help="How the bucket is addressed; path style with an endpoint.",
    ),
)


def _of_bucket(command: Callable[..., None]) -> Callable[..., None]:
    """What a bucket is reached with."""
    for option in reversed(BUCKET):
        command = option(command)
    return command


@click.group("recover", cls=_Recover)
def recover_command() -> None:
    """Bring a whole installation back after its host was lost: purveyor recover s3://BUCKET/PATH

    PLACE is where its backups went: a bucket (s3://BUCKET/PATH) or a folder.
    """


@recover_command.command(FROM)
@click.argument("place")
@KEY_OPTION
@_of_bucket
@click.option(
    "--installation", default="", metavar="ID", help="Which one, where the key opens several."
)
@click.option("--at", metavar="TIME", help="As it was at a point in time: 2026-11-25T13:13:53Z")
@click.option(
    "--accept-unsigned",
    multiple=True,
    metavar="SERVICE",
    help="Take a backup of it that nothing vouches for.",
)
@click.option(
    "--accept-suspect",
    multiple=True,
    metavar="SERVICE",
    help="Take its newest backup, though it looked wrong when made.",
)
@click.option(
    "--move-ports", is_flag=True, help="Choose other ports of this host for those that are taken."
)
@click.option(
    "--keep-purged",
    is_flag=True,
    help="Keep what was purged after the backup, closed, instead of purging it again.",
)
@yes_option
@plan_option
@click.pass_obj
def recover_from(options: Options, /, place: str, yes: bool, plan: bool, **given: Any) -> None:
    """Bring everything back: services, data, projects, links, credentials, ports, schedules,
    tokens, settings."""
    import anyio

    if options.url:
        raise BadInput(
            "A recovery is done on the machine itself.", remedy="Without --url, on that host."
        )
    try:
        anyio.run(
            lambda: _recover(options, place, yes, plan, given), backend_options={"use_uvloop": True}
        )
    except KeyboardInterrupt:
        raise LeftAlone(
            "What was begun goes on when this is called again, or when the daemon starts."
        ) from None


async def _recover(
    options: Options, place: str, yes: bool, plan: bool, given: Mapping[str, Any]
) -> None:
    from purveyor.recovery import rebuild

    under_way = rebuild.require_empty(options.state)
    if under_way is not None:
        click.echo(
            f"A recovery from {under_way.place} is under way in {options.state}; it goes on.",
            err=True,
        )
    else:
        wanted = _wanted(options.state, place, given)
        async with rebuild.prospect(wanted, options.require_program().built) as found:
            _show(options, found)
            if plan:
                return
            rebuild.problems(wanted, found)
            owner = found.owner.host if found.owner else found.header.host
            interrupts(
                f"{owner}, should it still live, is refused at {wanted.place.label} from now on.",
                yes=yes,
            )
            await rebuild.claim(wanted, found)
    await _bring_back(options)


@recover_command.command("containers")
@click.option(
    "--leave", multiple=True, metavar="CONTAINER", help="Leave out one that cannot be taken in."
)
@plan_option
@click.pass_obj
def recover_containers(options: Options, /, leave: tuple[str, ...], plan: bool) -> None:
    """Take services in again whose database was lost, and no copy of it is left: from their
    containers and data on this host.

    What runs, runs on. Passwords that nothing here holds are made anew.
    """
    import anyio

    if options.url:
        raise BadInput(
            "A recovery is done on the machine itself.", remedy="Without --url, on that host."
        )
    anyio.run(lambda: _take_in(options, leave, plan), backend_options={"use_uvloop": True})


async def _take_in(options: Options, leave: tuple[str, ...], plan: bool) -> None:
    from purveyor.recovery import retaken

    program = options.require_program()
    async with retaken.retaken(
        options.state, program.built, program.engine, plan=plan, leave=leave
    ) as taken:
        told = taken.told()
    if options.as_json:
        output.show_json(told)
        return
    click.echo(
        "Installation "
        f"{told['installation']}{', as it would be taken in' if plan else ' is taken in again'}:"
    )
    rows = [
        (item["service"], item["service_type"], item["image"], ", ".join(item["accounts"]) or "–")
        for item in told["services"]
    ]
    output.table(["service", "type", "image", "accounts"], rows, "There are no services in it.")
    for item in told["services"]:
        for text in item["notes"]:
            click.echo(f"  {item['service']}: {text}")
    for item in told["apps"]:
        click.echo(f"  The app {item} runs on. What it was made of is not known: deploy it again.")
    for text in told["left"]:
        click.echo(f"  Left alone: {text}")
    for name in told["rotate"]:
        click.echo(
            f"  {name}: the passwords of its accounts are lost; its app runs on with them. "
            f"purveyor rotate {name}, then deploy"
        )
    if not plan:
        click.echo(
            "Permanently lost: tokens, schedules, webhooks, the journal, parameters that no container "
            "shows. See: purveyor doctor"
        )


@recover_command.command("database")
@click.argument("place", required=False)
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="backup.key, or a file with the four lines from paper, where the state directory's is lost.",
)
@_of_bucket
@yes_option
@plan_option
@click.pass_obj
def recover_database(
    options: Options, /, place: str | None, yes: bool, plan: bool, **given: Any
) -> None:
    """Put the database alone back, where it was lost and containers and data are there: from the
    newest copy.

    Without PLACE the newest of Purveyor's own copies, of those in the folder of backups and in the
    buckets that they know. What runs, runs on.
    """
    import anyio

    if options.url:
        raise BadInput(
            "A recovery is done on the machine itself.", remedy="Without --url, on that host."
        )
    anyio.run(
        lambda: _put_back(options, place, yes, plan, given), backend_options={"use_uvloop": True}
    )


async def _put_back(
    options: Options, place: str | None, yes: bool, plan: bool, given: Mapping[str, Any]
) -> None:
    from purveyor.recovery import put_back

    def confirm(host: str) -> None:
        if host != platform.node():
            interrupts(
                f"The newest copy was written by {host}, and this is {platform.node()}: should "
                "that one live, both would act on the same.",
                yes=yes,
            )

    key = _key(given["key_file"])[0] if given["key_file"] else None
    program = options.require_program()
    async with put_back.put_back(
        options.state,
        _place(place, given) if place else None,
        key,
        program.built,
        program.engine,
        plan=plan,
        confirm=confirm,
    ) as found:
        told = found.told()
    if options.as_json:
        output.show_json(told)
        return
    click.echo(
        f"The database of {found.at:%Y-%m-%d %H:%M:%S} UTC from {found.label} "
        f"{'would be' if plan else 'is'} put back: {', '.join(found.services) or 'no service'}."
    )
    for text in found.passed_over:
        click.echo(f"  Passed over: {text}")
    for text in found.missing:
        click.echo(f"  {text} has no container on this host: see purveyor show {text}")
    for text in found.unknown:
        click.echo(f"  Left alone: {text}. It is of after this copy, or was being taken away.")
    for text in found.ended:
        click.echo(f"  Was under way, and is not gone on with: {text}. Begin it again.")
    if not plan:
        click.echo(
            "What was changed after that moment is not in it. See: purveyor doctor. Backups expire "
            "again in a week."
        )


async def _bring_back(options: Options) -> None:
    """Run what is pending in this process, and tell how it goes."""
    import anyio

    from purveyor.recovery.controller import Recovery

    try:
        async with (
            options.require_program().core(options.state) as core,
            anyio.create_task_group() as group,
        ):
            group.start_soon(_tell, core)
            await core.part(Recovery).run()
            group.cancel_scope.cancel()
    except ExceptionGroup as raised:
        raise _first(raised) from None
    _report(options, await _view(options))


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def _tell(core: "Core") -> None:
    from purveyor.services import store as services

    names = {record.id: record.name for record in await core.context.store.read(services.list_all)}
    async for event in core.bus.follow(await core.bus.last()):
        if event.type.startswith("service.recover.") and event.type.endswith(
            (".step", ".succeeded", ".failed", ".progress")
        ):
            name, step = (
                names.get(event.service or 0, event.service),
                event.data.get("step", event.type.rpartition(".")[2]),
            )
            what = event.data.get("text") or event.data.get("error") or event.data.get("state", "")
            click.echo(f"  {name}: {step} {what}".rstrip(), err=True)


async def _view(options: Options) -> Mapping[str, Any]:
    from purveyor.cli.client import connect

    async with connect(options) as client:
        return dict(await client.get(f"{RECOVERY}/"))


def _place(place: str, given: Mapping[str, Any]) -> "Storage":
    from purveyor.backups.storage import LocalStorage, S3Storage

    source, folder = _source(place, given)
    return S3Storage(source, source.secret_key) if source else LocalStorage(folder or Path())


def _source(place: str, given: Mapping[str, Any]) -> "tuple[SourceRecord | None, Path | None]":
    """A bucket, or a folder."""
    from purveyor.backups.models import SourceRecord

    source = folder = None
    if place.startswith("s3://"):
        bucket, _, path = place.removeprefix("s3://").partition("/")
        access = given["access_key"] or click.prompt("Access key", err=True)
        secret = os.environ.get("AWS_SECRET_ACCESS_KEY") or click.prompt(
            "Secret key", hide_input=True, err=True
        )
        endpoint = given["endpoint"] or ""
        style = bool(endpoint) if given["path_style"] is None else given["path_style"]
        source = SourceRecord(
            id=0,
            name=bucket,
            bucket_name=bucket,
            bucket_path=path.strip("/"),
            access_key_id=access,
            secret_key=secret,
            region=given["region"],
            endpoint=endpoint,
            force_path_style=style,
            created_at=datetime.now(UTC),
        )
    else:
        folder = Path(place).absolute()
        if not folder.is_dir():
            raise BadInput(
                f"{place} is neither a bucket nor a folder.",
                remedy="For example: s3://offsite/prod",
                errors={"place": "not there"},
            )
    return source, folder


def _wanted(state: Path, place: str, given: Mapping[str, Any]) -> "Wanted":
    from purveyor.recovery.outlook import Accepted
    from purveyor.recovery.rebuild import Wanted

    key, on_paper = _key(given["key_file"])
    source, folder = _source(place, given)
    return Wanted(
        state=state,
        source=source,
        folder=folder,
        key=key,
        on_paper=on_paper,
        installation=given["installation"],
        at=_moment(given["at"]),
        accepted=Accepted(frozenset(given["accept_unsigned"]), frozenset(given["accept_suspect"])),
        move_ports=given["move_ports"],
        keep_purged=given["keep_purged"],
    )


def _key(path: Path | None) -> tuple[bytes, bool]:
    """The key in a file, as it is or as it is on paper; without a file, the four lines from the
    terminal. The second is whether it came from paper."""
    from purveyor.backups import paper
    from purveyor.backups.repository import read_key

    if path is None:
        click.echo("Type the four lines of the key.", err=True)
        return paper.read([sys.stdin.readline() for _ in range(paper.LINES)]), True
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} cannot be read: {error}.", errors={"key": "the file cannot be read"}
        ) from None
    return (paper.read(lines), True) if len(lines) == paper.LINES else (read_key(path), False)


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        why = "give date, time and zone"
        raise BadInput(
            f"{text} is not a time: {why}.",
            remedy="For example: 2026-11-25T13:13:53Z",
            errors={"at": why},
        )
    return found


# ---------------------------------------------------------------- what is shown


def _show(options: Options, found: "Prospect") -> None:
    import msgspec

    header, outlook = found.header, found.outlook
    if options.as_json:
        output.show_json(
            {
                "header": msgspec.to_builtins(header),
                "newest": msgspec.to_builtins(found.newest),
                "refused": list(found.refused),
                **msgspec.to_builtins(outlook),
            }
        )
        return
    click.echo(
        f"Installation {header.name} ({header.installation}) of {header.host}: state of "
        f"{header.moment:%Y-%m-%d %H:%M:%S} UTC, "
        f"revision {header.revision}, term {header.term}. Is this the last that you remember?"
    )
    if found.newest.revision != header.revision:
        click.echo(f"The newest copy is of {found.newest.moment:%Y-%m-%d %H:%M:%S} UTC.")
    for text in found.refused:
        click.echo(f"  Passed over: {text}")
    rows = [_row(item) for item in outlook.services]
    output.table(
        ["service", "from", "of", "size", "image", "port", "projects"],
        rows,
        "There are no services in it.",
    )
    for item in outlook.services:
        for text in item.passed_over:
            click.echo(f"  {item.name}: passed over {text}")
        if not item.choice.backups:
            click.echo(f"  {item.name} cannot be brought back: {item.choice.reason}")
        for name in item.late:
            click.echo(f"  {item.name}: {name} was made after the backup, and comes back empty")
        for name in item.purged:
            click.echo(f"  {item.name}: {name} was purged after the backup, and is purged again")
    for text in [*found.record.notes, *outlook.gone_backups.values()]:
        click.echo(f"  {text}")
    needed, free = output.size(outlook.disk_needed), output.size(outlook.disk_free)
    click.echo(
        f"Disk: {needed} of {free} that are free. Until `purveyor recover finish`: no deploys, no "
        "webhooks, no expiry."
    )


def _row(item: "ServiceOutlook") -> tuple[Any, ...]:
    made = f"{item.of:%Y-%m-%d %H:%M}" if item.of else "–"
    origin = f"{item.backup} and what followed" if item.base else (item.backup or "–")
    port = "TAKEN" if item.ports_taken else "free"
    return (item.name, origin, made, output.size(item.plain_bytes),
        "here" if item.image_here else "pull", port,
            ", ".join(item.bound) or "–")  # fmt: skip


def _report(options: Options, state: Mapping[str, Any]) -> None:
    if options.as_json:
        output.show_json(state)
        return
    recovery = state["recovery"]
    if recovery is None:
        click.echo("No recovery is under way.")
    else:
        click.echo(
            f"Recovered from {recovery['place']}: the state of {recovery['host']}, "
            f"{recovery['state_of'][:19]} UTC."
        )
        rows = [
            (item["service"], output.status(item["state"]), item["error"])
            for item in recovery["services"]
        ]
        output.table(["service", "state", "why"], rows, "There are no services in it.")
        for item in recovery["services"]:
            for text in item["differences"]:
                click.echo(f"  {item['service']}: {text}")
        for text in recovery["notes"]:
            click.echo(f"  {text}")
        click.echo(
            "When all is as it should be: purveyor recover finish. Until then: no deploys, no "
            "webhooks, no expiry."
        )
    for item in state["copies"]:
        told = (
            item["superseded"]
            or item["error"]
            or (f"of {item['at'][:19]} UTC" if item["at"] else "none yet")
        )
        click.echo(f"Copy of the state at {item['place']}: {told}")


# ---------------------------------------------------------------- afterwards


@recover_command.command("status")
@click.pass_obj
def recover_status(options: Options) -> None:
    """What came back, what did not, and how far the copies of the state are."""
    _report(options, run(options, lambda client: client.get(f"{RECOVERY}/")))


@recover_command.command("service")
@click.argument("service")
@click.option("--backup", default="", metavar="BACKUP", help="What to bring it back from.")
@click.option("--empty", is_flag=True, help="Without data: its projects get empty databases.")
@click.option("--accept-unsigned", is_flag=True, help="Take a backup that nothing vouches for.")
@plan_option
@click.pass_obj
def recover_one(
    options: Options, service: str, backup: str, empty: bool, accept_unsigned: bool, plan: bool
) -> None:
    """Try one service again that did not come back."""
    call = RECOVER_SERVICE.call(
        plan=plan, service=service, backup=backup, empty=empty, accept_unsigned=accept_unsigned
    )
    act(options, f"Bringing {service} back", call)


recover_command.add_command(command(FINISH_RECOVERY))


@click.command("takeover")
@yes_option
@click.pass_obj
def takeover_command(options: Options, yes: bool) -> None:
    """Have this installation be the one that goes on, where another one has taken over."""
    interrupts("Every other one is refused at the places of backups from now on.", yes=yes)
    term = run(options, _take_over)
    if options.as_json:
        output.show_json({"term": term})
    else:
        click.echo(f"This installation writes in term {term} from now on.")


async def _take_over(client: Client) -> int:
    answer = await client.call("POST", f"{RECOVERY}/takeover")
    if not isinstance(answer, dict):
        raise Failed("The API did not answer.")
    return int(answer["term"])
