"""The core, put together: made in one place, handed to the API, run by the daemon and by the CLI
alike."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Protocol, TypeVar

import anyio.abc
import msgspec
from sqlite_utils.migrations import Migrations

from purveyor.access.events import EVENTS as ACCESS_EVENTS
from purveyor.access.operations.tokens import CreateToken, RevokeToken
from purveyor.access.operations.users import CreateUser, DisableUser, EnableUser, RemoveUser
from purveyor.access.sign_ins import SignIns
from purveyor.archiving import controller as archiving
from purveyor.archiving.controller import ArchiveController
from purveyor.archiving.events import EVENTS as ARCHIVING_EVENTS
from purveyor.archiving.operations.archive import Archive, EndArchive
from purveyor.archiving.service_archives import ServiceArchives
from purveyor.archiving.wal_receiver import WalReceiver
from purveyor.audit.events import EVENTS as AUDIT_EVENTS
from purveyor.audit.log import AuditLog
from purveyor.backups import scheduler
from purveyor.backups.events import EVENTS as BACKUPS_EVENTS
from purveyor.backups.fence import Fence
from purveyor.backups.operations.adopt import AdoptBackups
from purveyor.backups.operations.backup import Backup, DeleteBackup
from purveyor.backups.operations.restore import Restore
from purveyor.backups.operations.schedules import (
    CreateSchedule,
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    UpdateSchedule,
)
from purveyor.backups.operations.sources import CreateSource, DeleteSource, UpdateSource
from purveyor.backups.operations.verify import VerifyBackup
from purveyor.backups.repository import BackupRepository
from purveyor.backups.scheduler import Scheduler
from purveyor.context import Context
from purveyor.deployments.controller import AppController
from purveyor.deployments.operations.deploy import Deploy
from purveyor.deployments.operations.repair_app import RepairApp
from purveyor.deployments.project_apps import ProjectApps
from purveyor.distributions.events import EVENTS as DISTRIBUTIONS_EVENTS
from purveyor.docker import Engine, Labels, subnet_registry
from purveyor.docker.models import Network
from purveyor.extensions.operations.of_plugin import types_of
from purveyor.kernel.actors import Who
from purveyor.kernel.alarm import Alarm
from purveyor.kernel.api.refusals import Refusals
from purveyor.kernel.cache import Cache
from purveyor.kernel.core import SignedIn
from purveyor.kernel.db import Store, Tx, copies
from purveyor.kernel.db.beginning import begin
from purveyor.kernel.db.database import installation
from purveyor.kernel.db.faults import translate_faults
from purveyor.kernel.db.lock import StateLock
from purveyor.kernel.db.rows import Row
from purveyor.kernel.db.secrets import Secrets, open_secrets
from purveyor.kernel.events.bus import Bus
from purveyor.kernel.events.catalog import Described
from purveyor.kernel.logs import libraries, make_logger
from purveyor.kernel.operations import ImmediateOperation, OperationType, Plan, Runner
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.immediate import Changed
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.operation import Key
from purveyor.kernel.operations.resumption import Resumption
from purveyor.kernel.plugins.registry import Plugin
from purveyor.kernel.subjects import Subject, Subjects
from purveyor.kernel.supervisor import Supervisor
from purveyor.migrations import migrations
from purveyor.projects import endings, resolve
from purveyor.projects import store as projects
from purveyor.projects.bindings import Binder
from purveyor.projects.endings import Endings
from purveyor.projects.events import EVENTS as PROJECTS_EVENTS
from purveyor.projects.operations.bind import Bind, BindArguments
from purveyor.projects.operations.end_access import EndAccess
from purveyor.projects.operations.environments import DeleteEnvironment
from purveyor.projects.operations.link import Link, Unlink
from purveyor.projects.operations.projects import CreateProject, DeleteProject
from purveyor.projects.operations.remove_database import RemoveDatabase
from purveyor.projects.operations.rotate import Rotate
from purveyor.projects.service_links import ProjectLinks
from purveyor.providers.registry import ProviderRegistry
from purveyor.recovery import document
from purveyor.recovery.controller import Recovery
from purveyor.recovery.copier import StateCopies
from purveyor.recovery.events import EVENTS as RECOVERY_EVENTS
from purveyor.recovery.operations.finish import FinishRecovery
from purveyor.recovery.operations.recover import Recover
from purveyor.services import hold, networks
from purveyor.services import store as services
from purveyor.services.controller import ServiceController
from purveyor.services.documents import ServiceDocuments
from purveyor.services.events import EVENTS as SERVICES_EVENTS
from purveyor.services.handle import handle_of
from purveyor.services.health import Observer
from purveyor.services.incidents import Incidents
from purveyor.services.networks import Networks
from purveyor.services.operations.authorities import FinishAuthority, RotateAuthority
from purveyor.services.operations.clone import Clone
from purveyor.services.operations.create import Create
from purveyor.services.operations.delete import Delete
from purveyor.services.operations.import_container import Import
from purveyor.services.operations.lifecycle import Repair, Restart, Start, Stop
from purveyor.services.operations.purge import Purge
from purveyor.services.operations.renew_certificate import RenewCertificate
from purveyor.services.operations.rotate_administrator import RotateAdministrator
from purveyor.services.operations.undelete import Undelete
from purveyor.services.operations.update import Update
from purveyor.services.operations.volumes import AttachVolume, CloneVolume
from purveyor.services.provisioning import Provisioner
from purveyor.services.reconciler import Reconciler
from purveyor.services.renewals import Renewals
from purveyor.services.repairs import Repairs
from purveyor.services.retention import Retention
from purveyor.settings import load as load_settings
from purveyor.upgrades.operations.undo import UndoUpgrade
from purveyor.upgrades.operations.upgrade import Upgrade
from purveyor_hooks import (
    Actor,
    BadInput,
    Bound,
    Conflict,
    Event,
    Health,
    Logger,
    NotFound,
    PurveyorError,
    Scope,
    Service,
)

EVENT_DEADLINE = 10.0
STARTUP_DEADLINE = 30.0
RECOVERY = 60.0  # seconds that a command waits for what an earlier process left
# seconds for the copies of the state, before the first operation and after the last
SETTLE, FLUSH = 3.0, 5.0


T = TypeVar("T")
SUBJECTS: Subjects = {
    "service": Subject(lambda tx, given: services.get(tx, given).id, services.slugs),
    "project": Subject(lambda tx, given: projects.get(tx, given).id, projects.slugs),
    "environment": Subject(
        lambda tx, given: projects.environment_by_id(tx, int(given)).id, projects.environment_slugs
    ),
}


# The tables that remembered answers are read from. Columns that say what was seen do not count.
WATCHED: Mapping[str, Sequence[str]] = {
    "bindings": (),
    "environments": (),
    "links": (),
    "networks": (),
    "projects": (),
    "services": (),
    "tokens": ("last_used_at",),
    "web_sessions": ("last_used_at",),
}


class StoreFactory(Protocol):
    def __call__(self, state: Path, secrets: Secrets, migrations: Migrations) -> Store: ...


class EngineFactory(Protocol):
    def __call__(self, namespace: str, labels: Labels) -> Engine: ...


def docker_engine(namespace: str, labels: Labels) -> Engine:
    """The real engine; its client is loaded only where one is needed."""
    from purveyor.docker.client import DockerEngine

    return DockerEngine(namespace, labels)


class App:
    """The running core."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.bus = Bus(context.store)
        context.store.watch_rows(WATCHED)
        self.memory = Cache(context.store)
        self.workers: anyio.abc.TaskGroup | None = None  # of plugins' own work
        self.token_uses: dict[int, datetime] = {}
        self.wrong_tokens = Refusals(context.store, "token.refused")
        self.audit = AuditLog(context.store, context.logger, self.now, context.settings.audit_days)
        self.sign_ins = SignIns(context.store, self.memory, self.audit, self.now, context.settings)
        context.parts.add(
            Fence(), Networks(context), BackupRepository(context), WalReceiver(context), self.audit
        )
        self.provision = Provisioner(context)
        context.parts.add(self.provision, Binder(context))
        context.parts.add(ProjectLinks(context), ServiceArchives(context), ProjectApps(context))
        self.operation_types = build(context)
        self.immediate = build_immediate(context)
        self.runner = Runner(context.store, context.registry, context.logger, self.operation_types)
        if context.settings.self_repair == "on":
            self.runner.lift = self._lift
        self.incidents = Incidents(context)
        self.observer = Observer(context, self.provision, self.incidents)
        # containers are another's when something of a service or a project is
        self.bus.watch(self._containers_changed)
        repairs = Repairs(context, self.runner, self.operation_types, self.incidents)
        self.service_controller = ServiceController(
            context, self.provision, self.runner, self.observer, self.incidents, repairs
        )
        self.app_controller = AppController(context, self.runner, self.incidents, repairs)
        context.parts.add(self.app_controller)
        self.resumption = Resumption(self.runner, Alarm(self.now), lambda: self.observer.following)
        self.reconciler = Reconciler(
            context,
            self.observer,
            self.incidents,
            repairs,
            self.service_controller,
            self.resumption.wake,
        )
        given = (context, self.runner, self.operation_types, self.now)
        self.archivist = ArchiveController(*given)
        self.endings = Endings(*given)
        self.renewals = Renewals(*given)
        self.scheduler = Scheduler(*given)
        wakes = self.bus.wakes
        wakes(self.archivist.wake, *archiving.WAKING, ends=archiving.ENDS)
        wakes(self.endings.alarm.wake, *endings.WAKING, ends=endings.ENDS)
        wakes(self.renewals.alarm.wake, "authority.signs")
        wakes(self.scheduler.alarm.wake, *scheduler.WAKING)
        self.retention = Retention(context, self.now)
        self.copies = StateCopies(context, self.now)
        context.store.committed = self.copies.changed
        context.part(Fence).look = self.copies.look
        self.recovery = Recovery(context, self.runner, self.operation_types)
        context.parts.add(self.observer, self.renewals, self.copies, self.recovery)
        self.subjects = SUBJECTS
        self.events: Sequence[Described] = EVENTS

    def _containers_changed(self, batch: Sequence[Event]) -> None:
        if any(event.service or event.project for event in batch):
            self.observer.stale()

    def part(self, kind: type[T]) -> T:
        """What a feature made once, by its class."""
        return self.context.part(kind)

    def operation_type(self, name: str) -> OperationType:
        """The type of operation of this name. Raises `NotFound`."""
        if name not in self.operation_types:
            raise self._unknown(name)
        return self.operation_types[name]

    def _unknown(self, name: str) -> NotFound:
        known = ", ".join([*self.operation_types, *self.immediate])
        return NotFound(f"There is no operation type {name!r}.", remedy=f"Known are: {known}.")

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def container_networks(self) -> Sequence[Network]:
        """The networks that containers of this host are on."""
        return await self.context.engine.networks.listed()

    async def home(self, address: str) -> networks.Home:
        """The environment on whose network an address is."""
        return await self.context.store.read(lambda tx: networks.home(tx, address))

    async def homes(self) -> Mapping[str, int]:
        """The ranges of addresses of apps, and the project that each is of."""
        return await self.context.store.read(networks.homes)

    async def signed_in(self, credential: str) -> SignedIn | None:
        """The session that this opens now; None for what is no session's."""
        return await self.sign_ins.lookup(credential)

    async def _lift(self, keys: Sequence[Key]) -> None:
        for number in sorted({number for kind, number in keys if kind == "service"}):
            await self.provision.lift(number)

    async def run(self, name: str, given: msgspec.Struct, actor: Who) -> OperationRecord:
        """Run an operation to its end. Raises what it failed with."""
        operation_id = await self.begin(name, given, actor)
        handle = self.runner.handle(operation_id)
        if handle is not None:
            await handle.wait()
        return await self.context.store.read(lambda tx: operations.get(tx, operation_id))

    async def change(self, name: str, given: msgspec.Struct, actor: Who) -> Changed:
        """Do an operation without steps: it is done when this returns."""
        if name not in self.immediate:
            raise self._unknown(name)
        return await self.runner.change(self.immediate[name], given, actor)

    async def begin(self, name: str, given: msgspec.Struct, actor: Who) -> int:
        """Start an operation; the answer is its operation's id."""
        if name in self.immediate:
            return (await self.change(name, given, actor)).operation_id
        return (await self.runner.submit(self.operation_type(name), given, actor)).operation_id

    async def plan(self, name: str, given: msgspec.Struct) -> Plan:
        """What an operation would do."""
        return await self.runner.plan(self.immediate.get(name) or self.operation_type(name), given)

    def background(self, plugin: Plugin | None, work: Callable[[], Awaitable[None]]) -> None:
        """Run a plugin's own work until the end; its faults are its own, and it is begun again
        after one."""

        async def guarded() -> None:
            try:
                await work()
            except Exception as error:
                if plugin is not None:
                    self.context.registry.note_fault(plugin, "startup", error)
                raise

        assert self.workers is not None
        name = f"{plugin.name if plugin else 'plugin'}: {getattr(work, '__name__', 'its work')}"
        self.workers.start_soon(self.context.supervisor.keep, name, guarded)

    async def listen(self, plugin: Plugin, call: Any, after: int) -> None:
        """Hand every event to one plugin, with a deadline; its faults are its own."""
        position = after

        async def follow() -> None:
            nonlocal position
            async for event in self.bus.follow(position):
                position = event.id
                try:
                    with anyio.fail_after(EVENT_DEADLINE):
                        await call(event=event)
                except Exception as error:
                    self.context.registry.note_fault(plugin, "on_event", error)

        await self.context.supervisor.keep(f"{plugin.name}: events", follow)


class PluginCore:
    """`Core` as plugins get it."""

    def __init__(self, app: App, plugin: Plugin | None = None) -> None:
        self._app = app
        self._plugin = plugin

    @property
    def logger(self) -> Logger:
        return self._app.context.logger

    async def run(
        self, verb: str, arguments: Mapping[str, Any], actor: Who = "plugin"
    ) -> Mapping[str, Any]:
        kind = (self._app.immediate.get(verb) or self._app.operation_type(verb)).arguments
        try:
            given = msgspec.convert(dict(arguments), kind)
        except msgspec.ValidationError as error:
            raise BadInput(f"The arguments of {verb} cannot be used: {error}.") from None
        operation = await self._app.run(verb, given, actor)
        return dict(msgspec.to_builtins(msgspec.structs.replace(operation, private=None)))

    def events(self, after: int) -> AsyncIterator[Event]:
        return self._app.bus.follow(after)

    async def last_event(self) -> int:
        return await self._app.bus.last()

    async def outward(self) -> bool:
        last = await self._app.bus.last()
        if not await self._app.context.store.read(hold.is_held):
            return False
        async for event in self._app.bus.follow(last):
            if event.type == "recovery.finished":
                break
        return True

    @property
    def history_days(self) -> int:
        return self._app.context.settings.history_days

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        self._app.background(self._plugin, work)

    def documents(self, service_id: int) -> ServiceDocuments:
        plugin = self._plugin
        if plugin is None or plugin.service_type is None:
            raise NotFound("What has no service type keeps no documents of services.")
        return ServiceDocuments(
            self._app.context.store, plugin.name, service_id, of_type=plugin.service_type
        )

    def folder(self, name: str) -> Path:
        return self._app.context.state / name

    def seal(self, text: str) -> str:
        return self._app.context.store.secrets.seal(text)

    def unseal(self, sealed: str) -> str:
        return str(self._app.context.store.secrets.open(sealed))

    async def services(self, service_type: str) -> Sequence[Service]:
        context = self._app.context
        found = await context.store.read(services.list_all)
        return [
            handle_of(context, item).from_host(context).view
            for item in found
            if item.service_type == service_type
        ]

    async def health(self, service_id: int) -> Health:
        record = await self._app.context.store.read(lambda tx: services.get(tx, service_id))
        seen = await self._app.observer.check(record)
        return Health(
            healthy=seen.healthy, stage=seen.stage, version=seen.version, detail=seen.detail or ""
        )

    async def bound(
        self, service_type: str, actor: Actor, project: str | int | None, environment: str | None
    ) -> Bound:
        question = ("bound", service_type, actor, project, environment)
        found, _ = await self._app.memory.get_or_load(
            question,
            lambda: self._bound(service_type, actor, project, environment),
            lambda answer: answer[1],
        )
        return found

    async def _bound(
        self, service_type: str, actor: Actor, project: str | int | None, environment: str | None
    ) -> tuple[Bound, Sequence[Row]]:
        """The binding, and the rows that it stands on."""
        context = self._app.context

        def look(tx: Tx) -> tuple[Bound | Scope, Sequence[Row]]:
            found = resolve.find(tx, context, service_type, actor, project, environment)
            return found, resolve.read_from(tx, found) if isinstance(found, Bound) else ()

        found, rows = await context.store.read(look)
        if isinstance(found, Bound):
            return found, rows
        await self._app.run(
            "bind", BindArguments(project=found.project, environment=found.environment), actor
        )
        made, rows = await context.store.read(look)
        if not isinstance(made, Bound):
            raise Conflict("The binding is not made yet.", remedy="Try again.")
        return made, rows


@asynccontextmanager
async def built(
    state: Path,
    *,
    log_level: int = logging.WARNING,
    make_store: StoreFactory = Store,
    make_engine: EngineFactory = docker_engine,
    plugins: Iterable[EntryPoint] | None = None,
    patience: float = 0.0,
) -> AsyncIterator[App]:
    """The core of a state directory, of which nothing runs yet. `plugins` are loaded instead of
    those that are installed.

    Raises `StateLocked` when another process has the state directory for longer than `patience`
    seconds, `BadInput` for settings or a key that cannot be used, `StateRefused` and
    `StateUnavailable` for what `Store.open` says.
    """
    with translate_faults(state):
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings = load_settings(state)
    opened: list[Secrets] = []
    logger = make_logger(log_level, secrets=lambda: opened[0].known() if opened else ())
    lock = StateLock(state)
    await lock.wait(
        patience, lambda locked: logger.warning("waiting", process=locked.holder, state=str(state))
    )
    with lock, libraries(logger):
        begin(state, settings.folder_of_volumes(state))
        with translate_faults(state):
            secrets = open_secrets(state)
        opened.append(secrets)
        store = make_store(state, secrets, migrations)
        store.open()
        try:
            store.watch(document.watch)
            marks = Labels(await store.read(installation))
            engine = make_engine(settings.namespace, marks)
            try:
                await engine.require_here()
                registry = ProviderRegistry(logger)
                registry.load(plugins)
                yield App(
                    Context(
                        state,
                        settings,
                        store,
                        registry,
                        logger,
                        Supervisor(store, logger),
                        engine,
                    )
                )
            finally:
                with anyio.CancelScope(shield=True):
                    await engine.close()
        finally:
            store.close()


@asynccontextmanager
async def open_app(
    state: Path,
    *,
    log_level: int = logging.WARNING,
    serve: bool = False,
    make_store: StoreFactory = Store,
    make_engine: EngineFactory = docker_engine,
    plugins: Iterable[EntryPoint] | None = None,
    patience: float = 0.0,
    resume: bool = True,
) -> AsyncIterator[App]:
    """The core of a state directory, running. `serve` keeps the world as it should be, as the
    daemon does.

    Without `resume` what an earlier process left unfinished is held and not gone on with: for
    whoever comes to cancel it. The rest, and what is raised, as `built` has it.
    """
    made = built(
        state,
        log_level=log_level,
        make_store=make_store,
        make_engine=make_engine,
        plugins=plugins,
        patience=patience,
    )
    async with made as app, anyio.create_task_group() as group:
        app.runner.attach(group)
        try:
            async with _plugins(app, group):
                await app.runner.hold_unfinished()
                await app.incidents.recall()
                app.context.engine.subnets = await app.context.store.read(subnet_registry.subnets)
                if serve:
                    await _serve(app, group)
                elif resume:
                    await _recover(app)
                yield app
            group.cancel_scope.cancel()
        finally:
            # what this process has done is to be at the places of backups when it ends
            with anyio.CancelScope(shield=True):
                await app.audit.turn(all_of_them=True)
                for place in await app.copies.flush(FLUSH):
                    remedy = "What was changed last is not at that place."
                    app.context.logger.warning("state-copy.missing", place=place, remedy=remedy)


async def _serve(app: App, group: anyio.abc.TaskGroup) -> None:
    """Begin all that the daemon does by itself."""
    keep = app.context.supervisor.keep
    group.start_soon(keep, "unfinished operations", app.resumption.run)
    group.start_soon(app.reconciler.run)
    group.start_soon(keep, "schedules", app.scheduler.run)
    group.start_soon(keep, "archives", app.archivist.run)
    group.start_soon(keep, "retention", app.retention.run)
    group.start_soon(keep, "audit log", app.audit.run)
    group.start_soon(keep, "accounts that end", app.endings.run)
    group.start_soon(keep, "certificates", app.renewals.run)
    group.start_soon(keep, "copies of the database", lambda: copies.keep(app.context.store.path))
    group.start_soon(keep, "copies of the state", app.copies.run)
    group.start_soon(keep, "recovery", app.recovery.run)
    group.start_soon(keep, "wrong tokens", app.wrong_tokens.run)
    group.start_soon(keep, "sessions", app.sign_ins.run)
    await app.copies.settle(SETTLE)


async def _recover(app: App) -> None:
    """Finish what an earlier process left unfinished, as far as the engine lets us. What takes
    long, as a copy of much data does, goes on beside the command, which is not kept from its own
    work by it; whoever comes next goes on with it."""
    try:
        with anyio.move_on_after(RECOVERY) as scope:
            await app.runner.recover()
        if scope.cancelled_caught:
            app.context.logger.warning(
                "recover",
                error=f"Not all is done that was left unfinished: {app.runner.unfinished()}.",
            )
    except PurveyorError as error:
        app.context.logger.warning("recover", error=error.detail)


@asynccontextmanager
async def _plugins(app: App, group: anyio.abc.TaskGroup) -> AsyncIterator[None]:
    """Plugins started, listening, and shut down in the end, once nothing of theirs runs any
    more."""
    registry = app.context.registry
    last = await app.bus.last()
    for plugin, call in registry.each("on_event"):
        group.start_soon(app.listen, plugin, call, last)
    try:
        async with anyio.create_task_group() as work:
            app.workers = work
            for plugin, call in registry.each("startup"):
                try:
                    with anyio.fail_after(STARTUP_DEADLINE):
                        await call(core=PluginCore(app, plugin))
                except Exception as error:
                    registry.note_fault(plugin, "startup", error)
            yield
            work.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            async for _ in registry.ask("shutdown", STARTUP_DEADLINE):
                pass


EVENTS: tuple[Described, ...] = (
    *ACCESS_EVENTS,
    *ARCHIVING_EVENTS,
    *AUDIT_EVENTS,
    *BACKUPS_EVENTS,
    *DISTRIBUTIONS_EVENTS,
    *PROJECTS_EVENTS,
    *RECOVERY_EVENTS,
    *SERVICES_EVENTS,
)
OPERATION_TYPES: tuple[Callable[[Context], OperationType], ...] = (
    Archive,
    AttachVolume,
    Backup,
    Bind,
    Clone,
    CloneVolume,
    Create,
    CreateProject,
    Delete,
    DeleteBackup,
    DeleteEnvironment,
    DeleteProject,
    Deploy,
    EndAccess,
    EndArchive,
    Import,
    Link,
    Purge,
    Recover,
    RemoveDatabase,
    RenewCertificate,
    Repair,
    RepairApp,
    Restart,
    Restore,
    Rotate,
    RotateAdministrator,
    Start,
    Stop,
    Undelete,
    UndoUpgrade,
    Unlink,
    Update,
    Upgrade,
    VerifyBackup,
)

# those without steps
IMMEDIATE_OPERATIONS: tuple[Callable[[Context], ImmediateOperation], ...] = (
    AdoptBackups,
    CreateSchedule,
    CreateSource,
    lambda context: CreateToken(context, SUBJECTS["project"]),
    CreateUser,
    DeleteSchedule,
    DeleteSource,
    DisableSchedule,
    DisableUser,
    EnableSchedule,
    EnableUser,
    FinishAuthority,
    FinishRecovery,
    RemoveUser,
    RevokeToken,
    RotateAuthority,
    UpdateSchedule,
    UpdateSource,
)


def build(context: Context) -> Mapping[str, OperationType]:
    """Every type of operation with steps, by its name."""
    made = [
        *(make(context) for make in OPERATION_TYPES),
        *(make(context) for make in types_of(context.registry)),
    ]
    return {kind.name: kind for kind in made}


def build_immediate(context: Context) -> Mapping[str, ImmediateOperation]:
    """Every type of operation without steps, by its name."""
    made = [make(context) for make in IMMEDIATE_OPERATIONS]
    return {kind.name: kind for kind in made}
