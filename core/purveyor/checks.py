"""What the doctor looks at beside the path to a project's data: the app that runs, and the
installation as a whole."""

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import starmap
from pathlib import Path

import anyio.to_thread
import msgspec

from purveyor.app import App
from purveyor.backups import paper
from purveyor.backups import store as backups
from purveyor.backups.manifest import key_id
from purveyor.backups.models import BackupRecord, ScheduleRecord
from purveyor.backups.repository import KEY_FILE, BackupRepository
from purveyor.deployments import store as deployment_store
from purveyor.deployments.models import DeploymentRecord
from purveyor.docker import names
from purveyor.kernel.api import address
from purveyor.kernel.db import Tx
from purveyor.projects import store as projects
from purveyor.projects import variables
from purveyor.recovery.copier import SILENT, Status
from purveyor.services import store as services
from purveyor.services.handle import handle_of
from purveyor.services.incidents import Subject, trouble
from purveyor.services.models import ServiceRecord
from purveyor.services.networks import Networks
from purveyor_hooks import PurveyorError, Variable

LATE = timedelta(minutes=10)
LEAST_SHARE, LEAST_BYTES = 0.05, 5 * 1024**3  # a disk with less than both is as good as full
# what is unknown is the engine's fault, and said there
GOOD = ("running", "creating", "deleting", "stopped", "unknown")
NAMES_SHOWN = 6


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check: `subject` is what was looked at, `detail` what was seen, `remedy` what to do when
    not ok, or to be better off."""

    subject: str
    name: str
    ok: bool
    detail: str = ""
    remedy: str = ""


# ---------------------------------------------------------------- what runs


async def of_services(app: App) -> list[Check]:
    """Whether every service that should run does."""
    records = [
        item
        for item in await app.context.store.read(services.list_all)
        if item.desired == "running"
    ]
    seen = await app.observer.statuses(records)
    wrong = [
        Check(
            subject=record.name,
            name=seen[record.id].status,
            ok=False,
            detail=seen[record.id].reason,
            remedy=(
                f"See: purveyor logs {record.slug}; purveyor events --service {record.slug}; "
                f"purveyor start {record.slug}"
            ),
        )
        for record in records
        if seen[record.id].status not in GOOD
    ]
    return wrong or [
        Check(
            subject="services",
            name="run",
            ok=True,
            detail=f"{len(records)} of {len(records)} that should",
        )
    ]


async def of_apps(app: App) -> list[Check]:
    """Whether the app of every active deployment runs."""
    found = []
    for record, name in await app.context.store.read(
        lambda tx: [(item, _name(tx, item)) for item in _active(tx)]
    ):
        check, _ = await _running(app, record, name)
        if not check.ok:
            found.append(check)
    return found


async def of_containment(app: App) -> list[Check]:
    """What was made before containers were contained, or with a root that is written to where its
    type needs none, and runs on as it was: nothing is restarted for that."""

    def look(tx: Tx) -> tuple[list[ServiceRecord], dict[str, tuple[str, str]]]:
        owned = [item for item in services.list_all(tx) if item.imported is None]
        names_of = [(item.container, _name(tx, item)) for item in _active(tx) if item.container]
        apps = {
            container: (name, f"purveyor deploy {name.replace('/', ' -e ')} IMAGE")
            for container, name in names_of
        }
        return owned, {
            item.container_name: (item.name, f"purveyor restart {item.slug}") for item in owned
        } | apps

    owned, ways = await app.context.store.read(look)
    closed = {
        item.container_name
        for item in owned
        if app.context.registry.find(item.service_type) is not None
        and app.provision.spec(handle_of(app.context, item)).read_only
    }
    found = []
    for container, (subject, way) in ways.items():
        seen = await app.context.engine.containers.inspect(container, foreign=True)
        if seen is None or not app.context.engine.labels.ours(seen.labels) or not seen.holds_on:
            continue
        if not seen.contained:
            detail = (
                "It runs with all that Docker gives by itself, as it was made by an older "
                f"Purveyor. Contain it: {way}"
            )
            found.append(Check(subject=subject, name="contained", ok=True, detail=detail))
        elif container in closed and not seen.read_only:
            detail = (
                "Its root file system can be written to, as it was made by an older Purveyor or "
                f"with the setting writable-images. Close it: {way}"
            )
            found.append(Check(subject=subject, name="contained", ok=True, detail=detail))
    return found


async def of_names(app: App) -> list[Check]:
    """Whether every name on the network is one thing's. What is older than that rule goes on under
    its name."""

    def look(tx: Tx) -> tuple[list[tuple[str, list[str]]], list[str]]:
        namespace = app.context.engine.namespace
        return names.find_shared(tx), [
            name
            for name, held in names.list_holders(tx).items()
            if name.startswith(f"{namespace}-") and held[0].environment_id
        ]

    shared, like_services = await app.context.store.read(look)
    remedy = (
        "Deploy one of them as another environment or project, and delete this one: whoever "
        "asks for the one gets the other."
    )
    found = [
        Check(
            subject=name,
            name="name",
            ok=False,
            detail=f"{' and '.join(who)} answer by it on the network.",
            remedy=remedy,
        )
        for name, who in shared
    ]
    found += [
        Check(
            subject=name,
            name="name",
            ok=True,
            detail="An app answers by it, and no service can be called so any more.",
        )
        for name in like_services
        if name not in dict(shared)
    ]
    return found


def _active(tx: Tx, environment_id: int | None = None) -> list[DeploymentRecord]:
    found = deployment_store.deployments(tx, environment_id=environment_id, state="active")
    return [item for item in found if item.app is not None]


def _name(tx: Tx, record: DeploymentRecord) -> str:
    environment = projects.environment_by_id(tx, record.environment_id).slug
    return f"{projects.get(tx, str(record.project_id)).slug}/{environment}"


async def _running(app: App, record: DeploymentRecord, name: str) -> tuple[Check, str]:
    """Whether an app runs, and its container's id."""
    engine, networks = app.context.engine, app.part(Networks)
    listed = await engine.containers.listed(deployment=record.id)
    found = await engine.containers.inspect(listed[0].id) if listed else None
    hosts = await app.context.store.read(address.hosts)
    wrong = trouble(
        found, await networks.expected(environment=record.environment_id), record.container, hosts
    )
    if not wrong and found is not None and found.health == "unhealthy":
        wrong = "Its health check fails."
    wrong = wrong or app.incidents.reason(Subject("app", record.id))
    remedy = (
        "See: purveyor events --type app; or deploy it again: purveyor deploy "
        f"{name.replace('/', ' -e ')} IMAGE"
        if wrong
        else ""
    )
    detail = wrong or f"deployment {record.id} runs"
    if not wrong and found is not None and engine.namespace in found.networks:
        detail += (
            f"; until its next deployment on the network {engine.namespace} too, where apps of "
            "others may be"
        )
    check = Check(subject=name, name="app", ok=not wrong, detail=detail, remedy=remedy)
    return check, found.id if found is not None else ""


async def of_app(app: App, project: str, environment: str) -> list[Check]:
    """Whether the app of an environment runs, and has the variables that a deploy would give it
    now."""

    def look(tx: Tx) -> tuple[list[DeploymentRecord], str, list[Variable] | None]:
        record = projects.get(tx, project)
        place = projects.find_environment(tx, record.id, environment)
        active = _active(tx, place.id) if place else []
        if place is None or not active:
            return [], "", None
        try:
            expected = variables.merge_variables(
                tx, variables.variables_of(tx, app.context, record.id, place.id, by_name=True)
            )
        except PurveyorError:
            # a binding is missing, or two disagree: said where the services are looked at
            return active, f"{record.slug}/{place.slug}", None
        return active, f"{record.slug}/{place.slug}", expected

    active, name, expected = await app.context.store.read(look)
    checks = []
    for record in active:
        check, container = await _running(app, record, name)
        checks.append(check)
        if container and expected is not None:
            checks.append(await _variables(app, record, name, container, expected))
    return checks


async def _variables(
    app: App, record: DeploymentRecord, name: str, container: str, expected: Sequence[Variable]
) -> Check:
    """What the running app has, held against what a deploy would give it now. Names only."""
    engine = app.context.engine
    seen = await engine.containers.foreign_of(container)
    has = seen.environment if seen is not None else {}
    image = await engine.images.inspect(seen.image.id) if seen is not None else None
    own = {*(record.variables or {}), *(image.environment if image is not None else {})}
    wanted = {item.name: item.value for item in expected}
    differ = sorted(item for item, value in wanted.items() if has.get(item) != value)
    # of a deployment whose own variables are not recorded it is not known which are left over
    left = (
        sorted(set(has) - set(wanted) - own)
        if record.variables is not None and image is not None
        else []
    )
    if not differ and not left:
        return Check(
            subject=name, name="variables", ok=True, detail="as a deploy would give them now"
        )
    said = [f"{_few(differ)} of the running app differ from what is linked now"] if differ else []
    said += [f"{_few(left)} come from a link that is gone"] if left else []
    project, _, environment = name.partition("/")
    remedy = (
        f"It was deployed before the last change. Deploy it again: purveyor deploy {project} "
        f"-e {environment} IMAGE"
    )
    return Check(
        subject=name, name="variables", ok=False, detail=f"{'; '.join(said)}.", remedy=remedy
    )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


# ---------------------------------------------------------------- backups, schedules, disks


async def of_backups(app: App) -> list[Check]:
    """Whether the last backup of each service is good, and schedules keep to their times."""

    def look(tx: Tx) -> tuple[list[ServiceRecord], list[BackupRecord], list[ScheduleRecord]]:
        return services.list_all(tx), backups.list_backups(tx), backups.schedules(tx)

    every, made, schedules = await app.context.store.read(look)
    found = [_last(service, made) for service in every] + [
        _schedule(item, app.now()) for item in schedules if item.enabled
    ]
    wrong = [check for check in found if check is not None and not check.ok]
    return wrong or [check for check in found if check is not None][:1]


def _last(service: ServiceRecord, made: Sequence[BackupRecord]) -> Check | None:
    """The last backup that was tried; None without any."""
    last = next(
        (item for item in made if item.service_id == service.id and item.state != "running"), None
    )
    if last is None:
        return None
    if last.state == "ok":
        return Check(subject="backups", name="last ones", ok=True, detail="are good")
    return Check(
        subject=service.name,
        name="last backup",
        ok=False,
        detail=f"{last.backup_id} is {last.state}: {last.error_message or 'it was not verified'}",
        remedy=f"Make another: purveyor backup run {service.slug}",
    )


def _schedule(schedule: ScheduleRecord, now: datetime) -> Check:
    late = schedule.next_run is not None and now - schedule.next_run > LATE
    return Check(
        subject="schedule",
        name=schedule.name,
        ok=not late,
        detail=f"was due at {schedule.next_run:%Y-%m-%d %H:%M} UTC"
        if late
        else "keeps to its times",
        remedy="Backups are made by the daemon: is it running? See its log for what holds it up."
        if late
        else "",
    )


async def of_copies(app: App) -> list[Check]:
    """How far the copies of this installation's state are, at each place that is not lost together
    with it."""
    places = await app.copies.places()
    if not places:
        remedy = (
            "Have backups go to a bucket elsewhere, or to another disk: purveyor backup source "
            "add; the setting backups."
        )
        detail = (
            "none is made: all that backups go to is lost with this host's state directory, or "
            "is a service of its own"
        )
        return [
            Check(
                subject="copy of the state", name="elsewhere", ok=True, detail=detail, remedy=remedy
            )
        ]
    key = await app.context.part(BackupRepository).key()
    paper = [await _on_paper(app, key_id(key))] if key else []
    return [
        *paper,
        *_copies(app, places),
        *starmap(_left_out, (await app.copies.too_large()).items()),
    ]


def _left_out(path: Path, size: int) -> Check:
    detail = (
        f"{size >> 20} MB: no copy of the state has it, and after the loss of the host it is lost"
    )
    remedy = "Keep it outside of the state directory, and a copy of it elsewhere."
    return Check(
        subject="copy of the state", name=str(path), ok=False, detail=detail, remedy=remedy
    )


async def _on_paper(app: App, name: str) -> Check:
    """Whether the key that opens all of it is anywhere else."""
    printed = await anyio.to_thread.run_sync(paper.was_printed, app.context.state / KEY_FILE, name)
    detail = (
        f"{name} was printed"
        if printed
        else f"{name} is on this host alone: when that is lost, nothing opens the copies"
    )
    remedy = "" if printed else "Print it, and keep the paper elsewhere: purveyor backup key print"
    return Check(subject="backup key", name="on paper", ok=printed, detail=detail, remedy=remedy)


def _copies(app: App, places: Mapping[str, str]) -> list[Check]:
    if not app.copies.follows:
        detail = "brought up to date when a command ends; the daemon keeps it so"
        return [
            Check(subject="copy of the state", name=label, ok=True, detail=detail)
            for label in places.values()
        ]
    statuses = app.copies.statuses
    return [_copy(label, statuses.get(address)) for address, label in sorted(places.items())]


def _copy(label: str, status: Status | None) -> Check:
    detail, remedy = "the first one is on its way", ""
    if status is not None and status.superseded:
        detail = f"another installation has taken over there: {status.superseded}"
        remedy = (
            "Nothing is written there any more, and nothing deleted. If this is the one that "
            "is to go on: purveyor takeover"
        )
    elif status is not None and status.late:
        since = f"{status.behind_since:%Y-%m-%d %H:%M:%S} UTC"
        detail = (
            f"{'lacks what has changed' if status.at else 'there is none'} since {since}: "
            f"{status.error or SILENT}"
        )
        remedy = "Can it be reached, and written to? It is tried again every few seconds."
    elif status is not None and status.at is not None:
        detail = f"of {status.at:%Y-%m-%d %H:%M:%S} UTC, {status.size // 1000} kB"
    return Check(
        subject="copy of the state", name=label, ok=not remedy, detail=detail, remedy=remedy
    )


async def of_folder(app: App) -> list[Check]:
    """Whether others of this host may enter the state directory. Its files are closed to them each
    by itself, and servers' data is not."""
    state = app.context.state
    mode = stat.S_IMODE((await anyio.to_thread.run_sync(os.stat, state)).st_mode)
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return []
    detail = f"{state} is open to others of this host ({mode:o}), and so is some servers' data"
    return [
        Check(subject="state", name="folder", ok=True, detail=detail, remedy=f"chmod 700 {state}")
    ]


async def of_disks(app: App) -> list[Check]:
    """Whether there is room where data, backups and the journal are written."""
    places = {
        "state": app.context.state,
        "data": app.context.volumes,
        "backups": Path(app.context.settings.backups or app.context.state),
    }
    seen: dict[int, Check] = {}
    for name, path in places.items():
        folder = path if path.exists() else app.context.state
        usage = await anyio.to_thread.run_sync(shutil.disk_usage, folder)
        full = usage.free < usage.total * LEAST_SHARE and usage.free < LEAST_BYTES
        read_only = bool((await anyio.to_thread.run_sync(os.statvfs, folder)).f_flag & os.ST_RDONLY)
        detail = f"{usage.free / 1024**3:.1f} of {usage.total / 1024**3:.0f} GB free at {folder}"
        remedy = (
            "Make room: purveyor volumes, purveyor backup list; docker system df" if full else ""
        )
        if read_only:
            detail, remedy = (
                f"{detail}: it is read-only",
                "Mount it for writing: until then nothing can be changed.",
            )
        seen.setdefault(
            folder.stat().st_dev,
            Check(subject="disk", name=name, ok=not remedy, detail=detail, remedy=remedy),
        )
    return list(seen.values())
