"""Services taken in again after the database was lost without a copy: from labels, volumes and what
containers and servers say.

What runs, runs on. A new database is made in a folder of its own, and put in place once all is
known.
"""

import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec

from purveyor.backups.repository import KEY_FILE
from purveyor.context import Context, Core
from purveyor.deployments import store as deployments
from purveyor.deployments.app_runtime import container_name
from purveyor.docker import Engine, Labels, image_registry, port_registry, ports
from purveyor.docker.labels import (
    DEPLOYMENT,
    ENVIRONMENT,
    INSTALLATION,
    PROJECT,
    SERVICE,
    TYPE,
    VOLUME,
    id_in,
)
from purveyor.docker.models import Found, FoundVolume
from purveyor.kernel import naming
from purveyor.kernel.db import Store, Tx, copies
from purveyor.kernel.db.beginning import MARK
from purveyor.kernel.db.database import note
from purveyor.kernel.db.faults import translate_faults
from purveyor.kernel.db.lock import StateLock
from purveyor.kernel.db.secrets import open_secrets
from purveyor.migrations import migrations
from purveyor.projects import naming as resources
from purveyor.projects import store as projects
from purveyor.recovery.beside import DATABASE, KEY, PART
from purveyor.services import networks, parameters
from purveyor.services import store as services
from purveyor.services.handle import ServiceHandle, handle_of, hooks_of
from purveyor.services.type_hooks import TypeHooks
from purveyor.settings import load as load_settings
from purveyor_hooks import (
    Binding,
    Conflict,
    FoundContainer,
    HeldAccount,
    Image,
    NotFound,
    PurveyorError,
    Retold,
    Scope,
)

ASIDE = ("", "-wal", "-shm")
PATIENCE = 120.0  # seconds for a server that was started anew to answer
FOR_WHAT = "This is for one whose database was lost while its containers and data are there."
STAND_IN = "PurveyorStandsHereForThePassword"


Build = Callable[[Path], AbstractAsyncContextManager[Core]]
MakeEngine = Callable[[str, Labels], Engine]


class TakenService(NamedTuple):
    """A service as it is recorded again. `notes` say what it has lost."""

    id: int
    slug: str
    hooks: TypeHooks
    retold: Retold
    volume: FoundVolume
    container: Found
    shown: FoundContainer
    image: Image
    ports: Mapping[int, int]
    renewed: tuple[str, ...]
    accounts: tuple[HeldAccount, ...]
    identity: str
    notes: tuple[str, ...]


class TakenApp(NamedTuple):
    """An app that runs."""

    project_id: int
    environment_id: int
    deployment_id: int
    scope: Scope
    container: Found
    shown: FoundContainer
    image: Image
    ports: Mapping[int, int]
    subnet: str


class Taken(NamedTuple):
    """What is there again. `left` names what is not taken in, with the reason."""

    installation: str
    services: tuple[TakenService, ...]
    apps: tuple[TakenApp, ...]
    left: tuple[str, ...]
    rotate: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """For people and programs; no secret is in it."""
        return {
            "installation": self.installation,
            "services": [
                {
                    "service": item.slug,
                    "service_type": item.hooks.kind.name,
                    "image": item.shown.image.reference,
                    "accounts": [account.account for account in item.accounts],
                    "notes": list(item.notes),
                }
                for item in self.services
            ],
            "apps": [item.container.name for item in self.apps],
            "left": list(self.left),
            "rotate": list(self.rotate),
        }


def require_lost(state: Path) -> None:
    """Raise `Conflict` for a state directory that has a database which can be gone on with,
    `StateLocked` for one in use."""
    if not state.is_dir():
        raise Conflict(f"There is no state directory {state}.", remedy=FOR_WHAT)
    with StateLock(state):
        if copies.identify_copy(state / DATABASE) is not None:
            raise Conflict(
                f"{state} has a database, and it is whole.",
                remedy=f"{FOR_WHAT} To have an older one, move that away first.",
            )


async def installation_of(folder: Path, engine: Engine) -> str:
    """Whose the data in a folder of volumes is. Raises `NotFound`, and `Conflict` for that of
    several."""
    volumes = [item for item in await engine.volumes.listed() if Path(item.path).parent == folder]
    found = sorted({item.labels.get(INSTALLATION, "") for item in volumes})
    if not found:
        raise NotFound(
            f"No volume of the engine has its data in {folder}.",
            remedy="Give the state directory that it was in.",
        )
    if len(found) > 1:
        raise Conflict(
            f"The data in {folder} is of {len(found)} installations: {', '.join(found)}."
        )
    return found[0]


@asynccontextmanager
async def retaken(
    state: Path, build: Build, make_engine: MakeEngine, *, plan: bool, leave: Collection[str] = ()
) -> AsyncIterator[Taken]:
    """What is taken in; without `plan` the database is in place afterwards. Raises `Conflict`, and
    records nothing, while there is a service that cannot be taken in and is not among those to
    `leave`."""
    require_lost(state)
    settings = load_settings(state)
    part = state / PART
    with StateLock(state):
        engine = make_engine(settings.namespace, Labels(""))
        try:
            installation = await installation_of(settings.folder_of_volumes(state), engine)
        finally:
            await engine.close()
        try:
            await _begin(state, part, installation)
            async with build(part) as app:
                taken = await _look(app.context, installation, frozenset(leave), plan=plan)
                if not plan:
                    rotate: list[str] = []
                    await app.context.store.write(
                        lambda tx: rotate.extend(_record(tx, app.context, taken))
                    )
                    taken = taken._replace(rotate=tuple(sorted(set(rotate))))
            if not plan:
                await anyio.to_thread.run_sync(in_place, part, state)
            yield taken
        finally:
            shutil.rmtree(part, ignore_errors=True)


async def _begin(state: Path, part: Path, installation: str) -> None:
    """A state directory of the same settings and key, with an empty database of that very
    installation."""
    shutil.rmtree(part, ignore_errors=True)
    with translate_faults(part):
        part.mkdir(mode=0o700)
        for name in (KEY, "settings.toml"):
            if (state / name).exists():
                shutil.copy2(state / name, part / name)
        (part / MARK).touch(mode=0o600)
    store = Store(part, open_secrets(part), migrations)
    store.open()
    try:
        await store.write(lambda tx: note(tx, "installation", installation))
    finally:
        store.close()


def in_place(part: Path, state: Path) -> None:
    """Have the database, and keys that are lost as well, be those of the folder beside; what is
    left of the lost one stays, as `.lost`."""
    with translate_faults(state):
        for suffix in ASIDE:  # what is left of the lost one is not this one's
            old = state / f"{DATABASE}{suffix}"
            if old.exists():
                old.replace(old.with_name(f"{old.name}.lost"))
        for name in (KEY, KEY_FILE):
            if (part / name).exists() and not (state / name).exists():
                (part / name).replace(state / name)
        with (part / DATABASE).open("rb") as opened:
            os.fsync(opened.fileno())
        (part / DATABASE).replace(state / DATABASE)


# ---------------------------------------------------------------- what there is


async def _look(context: Context, installation: str, leave: frozenset[str], *, plan: bool) -> Taken:
    engine = context.engine
    volumes = {
        item.name: item for item in await engine.volumes.listed() if engine.labels.ours(item.labels)
    }
    users = await engine.containers.users({name: item.path for name, item in volumes.items()})
    of = {item.id: volumes[name] for name, items in users.items() for item in items}
    found, apps, left = [], [], []
    for item in sorted(await engine.containers.listed(), key=lambda item: item.name):
        if id_in(item.labels, DEPLOYMENT):
            if app := await _app(engine, item):
                apps.append(app)
            else:
                left.append(f"{item.name}: an app that does not run, or has another name")
        elif id_in(item.labels, SERVICE) and "." not in item.name:
            try:
                found.append(await _service(context, item, of.get(item.id), plan=plan))
            except PurveyorError as error:
                if not plan and item.name not in leave:
                    raise Conflict(
                        f"{item.name} cannot be taken in: {error.detail}",
                        remedy=(
                            "Nothing is taken in. Mend it, or leave it out permanently: --leave "
                            f"{item.name}"
                        ),
                    ) from error
                left.append(f"{item.name}: {error.detail}")
        else:
            left.append(f"{item.name}: a helper of an operation that is lost as well")
    newest = {app.environment_id: app for app in sorted(apps, key=lambda app: app.deployment_id)}
    left += [
        f"{app.container.name}: an earlier app"
        for app in apps
        if newest[app.environment_id] is not app
    ]
    return Taken(installation, tuple(found), tuple(newest.values()), tuple(left), ())


async def _app(engine: Engine, item: Found) -> TakenApp | None:
    parts = item.name.removeprefix(f"{engine.namespace}.").split(".")
    shown = await engine.containers.foreign_of(item.id)
    project, environment, deployment = (
        id_in(item.labels, name) for name in (PROJECT, ENVIRONMENT, DEPLOYMENT)
    )
    if (
        len(parts) != 3
        or shown is None
        or not item.holds_on
        or not (project and environment and deployment)
    ):
        return None
    scope = Scope(project=parts[0], environment=parts[1])
    if item.name != container_name(engine, scope, deployment):
        return None
    name = networks.name_of(engine.namespace, *_words(scope))
    subnet = next(
        (
            one.subnets[0]
            for one in await engine.networks.listed()
            if one.name == name and one.subnets
        ),
        "",
    )
    published = await engine.containers.published(item.id)
    return TakenApp(
        project,
        environment,
        deployment,
        scope,
        item,
        shown,
        await _image(engine, shown),
        published,
        subnet,
    )


async def _image(engine: Engine, shown: FoundContainer) -> Image:
    found = await engine.images.inspect(shown.image.id) if shown.image.id else None
    return msgspec.structs.replace(found or shown.image, reference=shown.image.reference)


async def _service(
    context: Context, item: Found, volume: FoundVolume | None, *, plan: bool
) -> TakenService:
    """What its container, and its server if that runs, say of a service. Raises what keeps it from
    being taken in."""
    engine = context.engine
    slug = item.name.removeprefix(f"{engine.namespace}-")
    shown = await engine.containers.foreign_of(item.id)
    if (
        shown is None
        or volume is None
        or not item.name.startswith(f"{engine.namespace}-")
        or naming.slug_of(slug) != slug
    ):
        raise Conflict("its container was renamed, or has no volume of this installation")
    hooks = hooks_of(context, item.labels.get(TYPE, ""))
    image = await _image(engine, shown)

    async def read(path: str) -> str | None:
        return await engine.containers.contents(item.id, path)

    retold = await hooks.retell(shown, read)
    secret = [one for one in hooks.kind.parameters if one.secret and one.generated]
    renewed = tuple(one.name for one in secret if one.name not in retold.parameters)
    told = {
        **retold.parameters,
        **{one.name: naming.password(one.length) for one in secret if one.name in renewed},
    }
    published = {
        inner: outer for outer, inner in (await engine.containers.published(item.id)).items()
    }
    taken = TakenService(
        id_in(item.labels, SERVICE), slug, hooks,
        Retold(parameters=told, secrets=retold.secrets), volume, item, shown, image,
        published, renewed, (), "", (),
    )  # fmt: skip
    notes = (
        [f"{', '.join(renewed)} of the administrator is made anew, and it is started again"]
        if renewed
        else []
    )
    if renewed:
        hooks.require("regain", "new credentials for an administrator whose own are lost")
    if item.state != "running":
        if renewed:
            raise Conflict(
                f"it does not run, and its {', '.join(renewed)} is lost: docker start {item.name}, "
                "then try again"
            )
        notes.append(f"it does not run: purveyor start {slug} --accept-data")
        return taken._replace(notes=tuple(notes))
    record = await _recorded_as(context, taken)
    service = handle_of(context, record)
    if renewed and plan:
        return taken._replace(notes=(*notes, "its accounts are seen then"))
    if renewed:
        await service.regain()
        await engine.containers.stop(item.id)
        await engine.containers.start(item.id)
    await _answers(service)
    identity = await service.identity(False) if service.offers("identity") else ""
    return taken._replace(
        accounts=tuple(await service.held()), identity=identity,
        notes=tuple(notes)
    )  # fmt: skip


async def _recorded_as(context: Context, taken: TakenService) -> Any:
    """The record that it will have, without writing it."""

    class _Back(Exception):
        pass

    found: list[Any] = []

    def work(tx: Tx) -> None:
        _insert(tx, context, taken)
        found.append(services.get(tx, taken.id))
        raise _Back

    with suppress(_Back):
        await context.store.write(work)
    return found[0]


async def _answers(service: ServiceHandle) -> None:
    health = None
    with anyio.move_on_after(PATIENCE):
        while True:
            health = await service.ready()
            if health.healthy:
                return
            await anyio.sleep(0.5)
    raise Conflict(f"its server denies access: {health.detail if health else 'no answer'}")


# ---------------------------------------------------------------- what is recorded


def _insert(tx: Tx, context: Context, taken: TakenService) -> None:
    kind, volume = taken.hooks.kind, taken.volume
    volume_id = volume.labels.get(VOLUME) or Path(volume.path).name
    known = parameters.declared_parameters(kind, context.settings)
    given = {name: value for name, value in taken.retold.parameters.items() if name in known}
    values = parameters.for_imported_service(kind, given)
    for port in kind.ports:
        values[port.parameter] = taken.ports.get(port.container) or ports.lowest_free(
            known[port.parameter].base, port_registry.ports_taken(tx)
        )
    services.insert_volume(
        tx,
        id=volume_id,
        name=volume.name,
        path=volume.path,
        service_type=kind.name,
        origin=taken.slug,
    )
    services.update_volume(
        tx, volume_id, state="used", identity=taken.identity,
        major=taken.hooks.data_major(taken.image, values)
    )  # fmt: skip
    services.insert(
        tx,
        id=taken.id,
        name=taken.slug,
        slug=taken.slug,
        service_type=kind.name,
        parameters=values,
        secrets=taken.retold.secrets,
        given=sorted(name for name, value in given.items() if value != known[name].default),
        image=taken.shown.image.reference,
        image_id=taken.image.id,
        image_environment=taken.image.environment,
        volume_id=volume_id,
        container_name=taken.container.name,
        desired="running" if taken.container.holds_on else "stopped",
        state="active",
    )
    for port in kind.ports:
        port_registry.claim_port(tx, values[port.parameter], port.parameter, service=taken.id)
    image_registry.note(tx, taken.image)


def _record(tx: Tx, context: Context, taken: Taken) -> Iterator[str]:
    """Record everything; the answer are the projects whose passwords nobody knows."""
    for service in taken.services:
        _insert(tx, context, service)
    for app in taken.apps:
        _insert_app(tx, context, app)
    for service in taken.services:
        for account in service.accounts:
            yield from _insert_binding(tx, context, service, account, taken.apps)


def _insert_app(tx: Tx, context: Context, app: TakenApp) -> None:
    scope = app.scope
    if projects.find(tx, app.project_id) is None:
        projects.insert(tx, id=app.project_id, slug=scope.project, name=scope.project)
    projects.insert_environment(tx, app.project_id, scope.environment, id=app.environment_id)
    port = next(iter(app.ports), None)
    deployments.take_in(
        tx,
        id=app.deployment_id,
        project_id=app.project_id,
        environment_id=app.environment_id,
        variables=_variables(app),
        container=app.container.name,
        image_id=app.image.id,
        url=f"http://127.0.0.1:{port}" if port else "",
    )
    if port:
        port_registry.claim_port(tx, port, "port", deployment=app.deployment_id)
    image_registry.note(tx, app.image)
    if app.subnet:
        name = networks.name_of(context.engine.namespace, scope.project, scope.environment)
        networks.take_in(tx, app.environment_id, name, app.subnet)


def _variables(app: TakenApp) -> dict[str, str]:
    """What a deployment gave its container: what its image does not bring."""
    image = app.image.environment
    return {
        name: value for name, value in app.shown.environment.items() if image.get(name) != value
    }


def _insert_binding(
    tx: Tx,
    context: Context,
    service: TakenService,
    account: HeldAccount,
    apps: tuple[TakenApp, ...],
) -> Iterator[str]:
    kind = service.hooks.kind
    app = next(
        (app for app in apps if resources.resource(*_words(app.scope), kind.naming,
        set()) == account.resource), None
    )  # fmt: skip
    if app is None:
        project, _, environment = account.resource.rpartition(kind.naming.separator)
        scope = Scope(
            project=project.replace("_", "-") or account.resource,
            environment=environment.replace("_", "-"),
        )
    else:
        scope = app.scope
    record = services.get(tx, service.id)
    password = _password(handle_of(context, record), account, scope, app) if app else ""
    projects.take_in_binding(
        tx,
        number=account.number,
        service_id=service.id,
        project=scope.project,
        environment=scope.environment,
        owner=(app.project_id, app.environment_id) if app else None,
        service_type=kind.name,
        password=password or naming.password(),
        resource=account.resource,
        account=account.account,
        slot=account.slot,
        extras=account.extras,
    )
    if app and not password:
        yield scope.project


def _words(scope: Scope) -> tuple[str, str]:
    return scope.project, scope.environment


def _password(service: ServiceHandle, account: HeldAccount, scope: Scope, app: TakenApp) -> str:
    """The password that an app has, told by the variables that it would have with another, "" when
    they do not fit."""
    if service.kind.uses_api:
        return ""
    binding = Binding(
        id=account.number,
        scope=scope,
        resource=account.resource,
        account=account.account,
        password=STAND_IN,
        slot=account.slot,
    )
    found: set[str] = set()
    for variable in service.environment(binding):
        pattern = re.escape(variable.value).replace(STAND_IN, "([A-Za-z0-9]{16,64})")
        matched = re.fullmatch(pattern, app.shown.environment.get(variable.name, ""))
        if matched is None:
            return ""
        found.update(matched.groups())
    return found.pop() if len(found) == 1 else ""
