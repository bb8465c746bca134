"""The doctor: what every part of the path from an app to its data says, and the first that
fails."""

import anyio
import anyio.to_thread
from packaging.version import Version

from purveyor.app import App
from purveyor.audit import store as audit
from purveyor.certified import of_certificates, of_ports
from purveyor.checks import (
    Check,
    of_app,
    of_apps,
    of_backups,
    of_containment,
    of_copies,
    of_disks,
    of_folder,
    of_names,
    of_services,
)
from purveyor.distributions import files
from purveyor.distributions import store as installed
from purveyor.examined import of_servers
from purveyor.kernel.db import Tx
from purveyor.kernel.db.database import integrity
from purveyor.kernel.db.faults import way_back
from purveyor.kernel.events import store as events
from purveyor.kernel.operations import store as operations
from purveyor.kernel.supervisor import Trouble
from purveyor.projects import store as projects
from purveyor.projects.models import BindingRecord
from purveyor.services import networks
from purveyor.services import store as services
from purveyor.services.handle import handle_of
from purveyor.services.models import AUTHORITIES, ServiceRecord
from purveyor_hooks import Command, ContainerSpec, EngineUnavailable, File, Probe, PurveyorError

__all__ = ["Check", "examine"]
OLDEST_API = Version("1.41")
RESOLVE_DEADLINE = 30.0
PROBE_DEADLINE = 20.0
FEW, MANY = 300, 5_000  # entries of the audit log that are looked at


async def examine(
    app: App, project: str | None, environment: str, *, quick: bool = False
) -> list[Check]:
    """Engine, network, store and plugins. For a project, its app as it runs, and each linked
    service from inside the network up to a write; without one, everything that should run, backups,
    schedules and disks.

    With `quick` the store is asked whether it answers, nothing is read as a whole, and no container
    is started: a path is looked at as far as the container and the account.
    """
    checks = [await (_answers(app) if quick else _store(app)), *await of_disks(app)]
    checks += await of_folder(app)
    for name, detail, remedy in await stuck(app):
        checks.append(Check(subject="operation", name=name, ok=False, detail=detail, remedy=remedy))
    for name, detail in [*await endings(app), *([] if quick else await owners(app))]:
        checks.append(Check(subject=name, name="account", ok=True, detail=detail))
    engine = await _engine(app)
    checks.append(engine)
    if engine.ok:
        checks.append(await _network(app))
        for name, detail in [] if quick else await newer(app):
            checks.append(Check(subject=name, name="image", ok=True, detail=detail))
    for plugin in app.context.registry.plugins:
        if plugin.error:
            checks.append(
                Check(
                    subject="plugin",
                    name=plugin.name,
                    ok=False,
                    detail=plugin.error,
                    remedy="See: purveyor plugin list",
                )
            )
    checks += await of_wheels(app)
    checks.append(await _audit(app, quick))
    checks += [_loop(trouble) for trouble in app.context.supervisor.troubles]
    if project is None:
        checks += [] if quick else await _whole(app, engine.ok)
    elif engine.ok:
        checks += await of_app(app, project, environment)
        linked = await app.context.store.read(lambda tx: _linked(tx, project, environment))
        for service, binding in linked:
            checks += await _path(app, service, binding, quick=quick)
        if not quick:
            chosen = [service for service, _ in linked]
            slug = await app.context.store.read(lambda tx: projects.get(tx, project).slug)
            checks += [*await of_ports(app, chosen), *await of_servers(app, chosen, slug)]
    return checks


def _loop(trouble: Trouble) -> Check:
    detail = (
        f"{trouble.error} (since {trouble.since:%Y-%m-%d %H:%M:%S} UTC, tried {trouble.times} "
        "times)"
    )
    return Check(
        subject="daemon",
        name=trouble.loop,
        ok=False,
        detail=detail,
        remedy="It is tried again; see the daemon's log.",
    )


async def _whole(app: App, engine: bool) -> list[Check]:
    try:
        running = (
            [
                *await of_services(app),
                *await of_apps(app),
                *await of_containment(app),
                *await of_ports(app),
                *await of_servers(app),
            ]
            if engine
            else []
        )
    except EngineUnavailable as error:  # it went away meanwhile
        running = [
            Check(
                subject="engine", name="answers", ok=False, detail=error.detail, remedy=error.remedy
            )
        ]
    return [
        *running,
        *await of_certificates(app),
        *await of_names(app),
        *await of_backups(app),
        *await of_copies(app),
    ]


async def _store(app: App) -> Check:
    try:
        answer = await app.context.store.examine(integrity)
    except PurveyorError as error:
        return Check(
            subject="store", name="integrity", ok=False, detail=error.detail, remedy=error.remedy
        )
    remedy = way_back(app.context.store.path)
    return Check(
        subject="store",
        name="integrity",
        ok=answer == "ok",
        detail=answer,
        remedy="" if answer == "ok" else remedy,
    )


async def _audit(app: App, quick: bool) -> Check:
    """Whether the audit log is as it was written; of a long one the newest entries tell."""
    if app.audit.waiting:
        detail = f"{app.audit.waiting} entries could not be written yet."
        return Check(
            subject="audit log",
            name="entries",
            ok=False,
            detail=detail,
            remedy="See: purveyor doctor, the store.",
        )
    try:
        found = await app.context.store.examine(lambda tx: audit.verify(tx, FEW if quick else MANY))
    except PurveyorError as error:
        return Check(
            subject="audit log", name="entries", ok=False, detail=error.detail, remedy=error.remedy
        )
    detail = "; ".join(found.problems) or f"the newest {found.entries} are as they were written"
    remedy = (
        "The database was changed by hand, or an older copy was put back. See: purveyor audit "
        "verify"
        if found.problems
        else ""
    )
    return Check(
        subject="audit log", name="entries", ok=not found.problems, detail=detail, remedy=remedy
    )


async def of_wheels(app: App) -> list[Check]:
    """Whether what was installed beside Purveyor is as it was installed."""
    noted = await app.context.store.read(installed.list_all)
    differing = await anyio.to_thread.run_sync(
        lambda: [(item, files.differs(item)) for item in noted]
    )
    remedy = (
        "If that was not you, ask who. To have it as noted: purveyor plugin install its wheel "
        "again."
    )
    return [
        Check(
            subject="plugin",
            name=item.distribution,
            ok=False,
            detail=f"It is not as it was installed: {how}.",
            remedy=remedy,
        )
        for item, how in differing
        if how
    ]


async def _answers(app: App) -> Check:
    last = await app.context.store.read(events.last)
    return Check(subject="store", name="answers", ok=True, detail=f"{last} events so far")


async def _engine(app: App) -> Check:
    try:
        version = await app.context.engine.version()
    except PurveyorError as error:
        return Check(
            subject="engine", name="answers", ok=False, detail=error.detail, remedy=error.remedy
        )
    detail = f"Docker Engine {version['Version']}, API {version['ApiVersion']}"
    remedy = (
        ""
        if Version(version["ApiVersion"]) >= OLDEST_API
        else "Purveyor needs API 1.41 or later: upgrade Docker to 20.10 or later."
    )
    return Check(subject="engine", name="answers", ok=not remedy, detail=detail, remedy=remedy)


async def _network(app: App) -> Check:
    try:
        await app.context.engine.ensure_network()
    except PurveyorError as error:
        return Check(
            subject="network",
            name=app.context.engine.namespace,
            ok=False,
            detail=error.detail,
            remedy=error.remedy,
        )
    return Check(subject="network", name=app.context.engine.namespace, ok=True, detail="is there")


def _linked(
    tx: Tx, project: str, environment: str
) -> list[tuple[ServiceRecord, BindingRecord | None]]:
    record = projects.get(tx, project)
    found = projects.find_environment(tx, record.id, environment)
    answers = []
    for link in projects.links(tx, project_id=record.id):
        binding = projects.binding_of(tx, link.service_id, found.id) if found else None
        answers.append((services.get(tx, link.service_id), binding))
    return answers


async def _path(
    app: App, service: ServiceRecord, binding: BindingRecord | None, *, quick: bool
) -> list[Check]:
    """Container, resolve, then the type's own probes; stops at the first that fails."""
    subject = service.name
    found = await app.provision.found(service)
    if found is None or found.state != "running":
        word = found.state if found else "gone"
        remedy = f"purveyor start {service.slug}; purveyor logs {service.slug}"
        return [
            Check(
                subject=subject,
                name="container",
                ok=False,
                detail=f"The container is {word}.",
                remedy=remedy,
            )
        ]
    checks = [Check(subject=subject, name="container", ok=True, detail=service.container_name)]
    if binding is None or binding.state != "bound":
        remedy = "Deploy the environment, or ask for its variables: purveyor env PROJECT"
        return [
            *checks,
            Check(
                subject=subject,
                name="binding",
                ok=False,
                detail="It is not bound yet.",
                remedy=remedy,
            ),
        ]
    if quick:
        return checks
    resolve = Probe(
        name="resolve", command=Command(argv=("getent", "hosts", service.container_name))
    )
    probes = [
        resolve,
        *handle_of(app.context, service).probes(binding.view()),
    ]
    for probe in probes:
        check = await _probe(app, service, binding, probe)
        checks.append(check)
        if not check.ok:
            break
    return checks


async def _probe(app: App, service: ServiceRecord, binding: BindingRecord, probe: Probe) -> Check:
    """Run one command in a throw-away container of the service's image on the project's network."""
    spec = ContainerSpec(
        image=service.image,
        entrypoint=(probe.command.argv[0],),
        command=probe.command.argv[1:],
        environment=dict(probe.command.environment),
        files=(File(path=AUTHORITIES, content=service.authorities),) if service.authorities else (),
        capabilities=(),
    )
    name = f"{app.context.engine.namespace}.doctor.{service.id}.{probe.name}"
    try:
        with anyio.fail_after(PROBE_DEADLINE + RESOLVE_DEADLINE):
            ended = await app.context.engine.containers.run_once(
                name,
                spec,
                volume=None,
                network=await _network_of(app, binding),
                timeout=PROBE_DEADLINE,
            )
    except PurveyorError as error:
        return Check(
            subject=service.name,
            name=probe.name,
            ok=False,
            detail=error.detail,
            remedy=error.remedy,
        )
    output = ended.stdout.replace(binding.password, "***").strip()
    last = output.splitlines()[-1] if output else ""
    if ended.exit_code == 0:
        return Check(subject=service.name, name=probe.name, ok=True, detail=last)
    remedy = f"See: purveyor logs {service.slug}; purveyor health {service.slug}"
    if probe.name == "login":
        again = f"purveyor rotate {binding.project} -e {binding.environment}, then deploy it again"
        remedy += f"\n    If the project changed its password on the server: {again}"
    return Check(
        subject=service.name,
        name=probe.name,
        ok=False,
        detail=last or f"exit code {ended.exit_code}",
        remedy=remedy,
    )


async def _network_of(app: App, binding: BindingRecord) -> str:
    """Where the environment's app is, and would be: the installation's own network as long as it
    has none."""
    found = await app.context.store.read(lambda tx: networks.find(tx, binding.environment_id or 0))
    return found.name if found else app.context.engine.namespace


async def stuck(app: App) -> list[tuple[str, str, str]]:
    """Operations that cannot be ended now: what each is, why it waits, and what to do."""
    found = await app.context.store.read(operations.list_unfinished)
    waiting = [(item, app.runner.waiting(item.id)) for item in found]
    return [
        (
            f"{item.id} {item.verb}",
            f"It cannot be ended, and is tried again: {reason}",
            f"See: purveyor operations {item.id}; if it can never be ended: purveyor operations "
            f"abandon {item.id}",
        )
        for item, reason in waiting
        if reason
    ]


async def newer(app: App) -> list[tuple[str, str]]:
    """Services whose image's name means another image now: what runs goes on until somebody takes
    the newer one."""
    found = []
    for record in await app.context.store.read(services.list_all):
        if await app.provision.newer_image(record):
            take = f"purveyor update {record.slug} --image {record.image}"
            found.append(
                (
                    record.name,
                    f"{record.image} means another image now than the one that runs. Take it: "
                    f"{take}",
                )
            )
    return found


async def endings(app: App) -> list[tuple[str, str]]:
    """Accounts that outlived their link or a rotation: whose service, and until when."""

    def work(tx: Tx) -> list[tuple[str, str]]:
        found = []
        for item in projects.ending(tx):
            until = (
                "it serves"
                if projects.is_due(tx, item)
                else f"its next deploy (deployment {item.ends_after} uses it)"
            )
            text = (
                f"{item.project}/{item.environment} is not linked any more, and has its "
                f"account until {until}."
            )
            found.append((services.get(tx, item.service_id).name, text))
        for item in projects.list_outlived(tx):
            text = (
                f"Former credentials of {item.project}/{item.environment} work until "
                f"{item.former_until:%Y-%m-%d %H:%M:%S %Z}."
            )
            found.append((services.get(tx, item.service_id).name, text))
        return found

    return await app.context.store.read(work)


async def owners(app: App) -> list[tuple[str, str]]:
    """Accounts that their type would not make so any more: whose service, what is amiss, and how
    to have another."""

    def work(tx: Tx) -> list[tuple[str, str]]:
        found = []
        for service in services.list_all(tx):
            if app.context.registry.find(service.service_type) is None:
                continue
            server = handle_of(app.context, service)
            for item in projects.bindings(tx, service_id=service.id):
                amiss = server.outdated(item.view()) if item.state == "bound" else ""
                if amiss:
                    where = f"{item.project} -e {item.environment}"
                    # the old login works on until the deploy has been made, where the type can
                    grace = " --grace 1h" if server.offers("retire") else ""
                    how = f"purveyor rotate {where} --service {service.slug}{grace}"
                    found.append(
                        (
                            service.name,
                            f"{item.project}/{item.environment} {amiss}. Give it a login of its "
                            f"own: {how}, then deploy it again: purveyor deploy {where}",
                        )
                    )
        return found

    return await app.context.store.read(work)
