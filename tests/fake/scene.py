"""An installation on the fake engine, furnished with one of everything, and what it looks like from
outside."""

import logging
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec

from fake import server
from fake.engine import FakeEngine
from fake.server import Server
from purveyor.app import App, StoreFactory, open_app
from purveyor.archiving import store as archives
from purveyor.backups import store as backups
from purveyor.backups.models import BackupRecord
from purveyor.deployments import store as deployment_store
from purveyor.docker import Labels
from purveyor.kernel.db import Store, Tx
from purveyor.projects import store as projects
from purveyor.services import store as services
from purveyor.services.operations.create import CreateArguments

PLUGINS = [EntryPoint(name="fake", value="fake.server", group="purveyor")]
NAMESPACE = "fk"
IMAGES = {
    "fake:1": {"FAKE_MAJOR": "1"},
    "fake:1-b": {"FAKE_MAJOR": "1"},
    "fake:2": {"FAKE_MAJOR": "2"},
    "app:1": {},
    "app:2": {},
}
SETTINGS = f"""
namespace = "{NAMESPACE}"
listen = "127.0.0.1:0"
ready-timeout = 2
stall-timeout = 10
port-offset = 20000
"""


class Scene:
    """A state directory whose engine is the fake one. `engine` is that of the core opened last."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.plugins: Sequence[Any] = PLUGINS  # entry points, or what is like one
        self.away = ""  # what the engine says at the next start, when it is not there
        self.engine: FakeEngine

    def begin(self) -> None:
        """A new installation with the images that there are."""
        self.state.mkdir(parents=True, mode=0o700)
        (self.state / "settings.toml").write_text(SETTINGS)

    def engine_of(self, namespace: str, labels: Labels) -> FakeEngine:
        self.engine = FakeEngine(namespace, labels, self.state)
        self.engine.world.images = IMAGES
        self.engine.run = server.run
        self.engine.away, self.away = self.away, ""
        return self.engine

    @asynccontextmanager
    async def open(
        self, *, serve: bool = False, make_store: StoreFactory = Store, resume: bool = True
    ) -> AsyncIterator[App]:
        """The core, running. What an earlier process left is finished first, unless it serves."""
        async with open_app(
            self.state,
            serve=serve,
            make_store=make_store,
            make_engine=self.engine_of,
            plugins=self.plugins,
            log_level=logging.CRITICAL,
            resume=resume,
        ) as app:
            yield app

    def keep(self, folder: Path) -> None:
        """Copy all there is. No process may be writing."""
        shutil.copytree(self.state, folder)

    def bring_back(self, folder: Path) -> None:
        """Be as it was when it was kept: in the same place, for paths are recorded."""
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.copytree(folder, self.state)

    def server(self, service: str) -> Server:
        """What a service's server holds."""
        return Server.of(self.engine, f"{NAMESPACE}-{service}")

    def put(self, service: str, resource: str, **keys: str) -> None:
        """An app writes."""
        held = self.server(service)
        held.held.resources[resource].update(keys)
        held.save()


async def do(app: App, verb: str, **given: Any) -> int:
    """Run a verb to its end; the answer is its operation. Raises what it failed with."""
    return (
        await app.run(verb, msgspec.convert(given, app.operation_type(verb).arguments), "test")
    ).id


async def create(app: App, name: str, **parameters: Any) -> None:
    await app.run(
        "create", CreateArguments(name=name, service_type="fake", parameters=parameters), "test"
    )


async def furnish(scene: Scene, app: App) -> None:
    """One of everything that a verb can be about."""
    for name in ("main", "idle", "tracked", "risen", "gone", "asleep"):
        await create(app, name)
    for project, service in (("shop", "main"), ("blog", "tracked"), ("news", "risen")):
        await do(app, "create-project", name=project)
        await do(app, "link", service=service, project=project)
        await do(app, "bind", project=project, environment="production")
        scene.put(service, f"{project}_production", precious="gold")
    await do(app, "create-project", name="bare")
    await do(app, "backup", service="main")  # backup 1
    await do(app, "deploy", project="shop", image="app:1")
    await do(app, "deploy", project="shop", environment="preview", create=True, image="app:1")
    await do(app, "archive", service="tracked")  # backup 2, a base copy
    scene.put("tracked", "blog_production", later="silver")
    await look_after(app, ship=True)
    await do(app, "upgrade", service="risen", docker_image="fake:2")
    await do(app, "delete", service="gone")
    await do(app, "stop", service="asleep")
    scene.engine.foreign("theirs", "fake:1", {"ADMIN": "hunter22"}, server.DATA)
    scene.engine.foreign("lent-db", "fake:1", {"ADMIN": "hunter23"}, server.DATA)
    await do(
        app, "import", container_id="lent-db", name="lent", service_type="fake", use_found=True
    )


async def look_after(app: App, *, ship: bool = False) -> None:
    """One round of what the daemon does by itself: finish, repair, sweep, and see to archives that
    do not follow.

    With `ship`, what every archive's helper has written down is shipped.
    """
    await app.runner.recover()
    await app.reconciler.sweep()
    await app.endings.turn()
    for archive in await app.context.store.read(archives.list_all):
        service = await app.context.store.read(lambda tx: services.get(tx, archive.service_id))
        found = await app.context.engine.containers.inspect(f"{service.container_name}.archive")
        follows = (
            archive.state == "following"
            and archive.base_at is not None
            and archive.volume_id == service.volume_id
        )
        # a turn takes three processes: when there is cause
        if ship or not follows or found is None or found.state != "running":
            await app.archivist.turn(archive)


async def picture(scene: Scene, app: App) -> Any:
    """All that a person would call the state of the installation, with the random parts of names
    left out."""
    recorded = await app.context.store.read(_recorded)
    world = scene.engine.world
    folders = sorted(path.name for path in (scene.state / "volumes").iterdir())
    known, passwords, backups_of = (
        recorded.pop("folders"),
        recorded.pop("passwords"),
        recorded.pop("backups"),
    )
    return {
        **recorded,
        "folders": "as recorded" if folders == known else (folders, known),
        "containers": sorted(
            (item.name, item.image, item.state == "running", sorted(item.networks))
            for item in world.containers
        ),
        "names of apps": sorted(
            (item.name, item.aliases) for item in world.containers if item.aliases
        ),
        "volumes on the engine": sorted(item.name.rpartition("-")[0] for item in world.volumes),
        "servers": {
            item.name: _server(scene, item.name, passwords)
            for item in world.containers
            if server.DATA in item.mounts
        },
        "backups": sorted(_files(scene, backups_of)),
        "stray backups": sorted(_stray(scene, backups_of)),
        "wrong": world.wrongs,
    }


def _files(scene: Scene, made: list[BackupRecord]) -> Iterator[Any]:
    """What is called a backup, and whether its files are whole. Those that an in-place restore
    makes for safety are left out."""
    for item in made:
        if item.state != "failed" and item.backup_type != "safety":
            files = sorted(path.name for path in (scene.state / "backups" / item.folder).glob("*"))
            yield item.service_name, item.backup_type, item.state, item.proven_at is not None, files


def _stray(scene: Scene, made: list[BackupRecord]) -> Iterator[str]:
    """Files of backups that nobody has a record of, or that failed."""
    good = {item.folder for item in made if item.state != "failed"}
    for path in (scene.state / "backups").glob("*/*"):
        folder = str(path.relative_to(scene.state / "backups"))
        if folder not in good and not path.name.startswith("changes-") and any(path.iterdir()):
            yield folder


def _server(scene: Scene, container: str, passwords: dict[str, Any]) -> Any:
    try:
        held = Server.of(scene.engine, container).held
    except FileNotFoundError:
        return "not filled yet"
    expected = passwords.get(container, {})
    return {
        "major": held.major,
        "marked": bool(held.identity),
        "administrator": held.admin == expected.get("", held.admin),
        "accounts": {
            name: password == expected.get(name)
            for name, (password, _) in sorted(held.accounts.items())
        },
        "former": sorted(held.former),
        "resources": dict(sorted(held.resources.items())),
        "slot": held.slot,
    }


def _recorded(tx: Tx) -> dict[str, Any]:
    every = [
        services.get(tx, row["id"])
        for row in tx.rows("SELECT id FROM services WHERE state != 'deleted' ORDER BY id")
    ]
    bound = {record.id: projects.bindings(tx, service_id=record.id) for record in every}
    volumes = services.volumes(tx, ["new", "used", "kept"])
    return {
        "passwords": {
            record.container_name: {
                "": record.parameters.get("password"),
                **{item.account: item.password for item in bound[record.id]},
            }
            for record in every
        },
        "services": [
            (
                record.slug,
                record.state,
                record.desired,
                record.image,
                record.refusal,
                record.parameters.get("size"),
                record.major,
            )
            for record in every
        ],
        "volumes": sorted((item.origin, item.state, bool(item.identity)) for item in volumes),
        "folders": sorted(item.id for item in volumes),
        "ports": sorted(
            str(row["slug"] or f"deployment of {row['project']}")
            for row in tx.rows(
                "SELECT services.slug AS slug, deployments.project_id AS project FROM ports "
                "LEFT JOIN services ON services.id = ports.service_id LEFT JOIN deployments ON "
                "deployments.id = deployment_id"
            )
        ),
        "projects": [
            (project.slug, sorted(item.slug for item in projects.environments(tx, project.id)))
            for project in projects.list_all(tx)
        ],
        "links": [
            (link.service_id, link.project_id, link.state)
            for link in sorted(projects.links(tx), key=lambda link: link.id)
        ],
        "bindings": [
            (item.service_id, item.project, item.environment, item.state)
            for items in bound.values()
            for item in items
        ],
        "deployments": [
            (
                item.project_id,
                item.environment_id,
                item.app.image if item.app else "",
                item.container,
            )
            for item in deployment_store.deployments(tx, state="active")
        ],
        "backups": backups.list_backups(tx),
        "documents": [
            tuple(row.values())
            for row in tx.rows(
                "SELECT plugin, service_id, key, sealed FROM plugin_documents ORDER BY 1, 2, 3"
            )
        ],
        "archives": [(item.service_id, item.state) for item in archives.list_all(tx)],
    }


def differences(found: Any, expected: Any, where: str = "") -> list[str]:
    """Where two pictures differ, a line each."""
    if found == expected:
        return []
    if isinstance(found, dict) and isinstance(expected, dict):
        names = sorted({*found, *expected}, key=str)
        return [
            line
            for name in names
            for line in differences(found.get(name), expected.get(name), f"{where}/{name}")
        ]
    if isinstance(found, list) and isinstance(expected, list):
        more = [f"{where}: more {item}" for item in found if item not in expected]
        return [*more, *(f"{where}: lacks {item}" for item in expected if item not in found)] or [
            f"{where}: {found}, not {expected}"
        ]
    return [f"{where}: {found}, not {expected}"]
