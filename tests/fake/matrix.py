"""Every verb in all its forms, killed at every point of its way, and with every call that it makes
going wrong.

A point is a moment at which something durable is another than before: a transaction, a container or
volume, a server's data, a file. The state directory is copied at each, and what the next start
makes of the copy is what it makes of a kill at that point: `kernel/test_killed.py` shows with real
SIGKILLs that the two are the same.
"""

import shutil
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fake.scene import NAMESPACE, Scene, differences, do, look_after, picture
from purveyor.app import App
from purveyor.backups import store as backups
from purveyor.kernel.db import Store, Tx
from purveyor.kernel.operations import store as operations
from purveyor.recovery.layout import lose
from purveyor.recovery.models import Choice, Recovering, keep
from purveyor.services import store as services
from purveyor_hooks import Failed, PurveyorError

Prepare = Callable[[Scene, App], Awaitable[None]]
INJECTED = "injected by the test"
AWAY = "The engine is away."


class Form(NamedTuple):
    """A verb and one way to call it.

    `prepare` makes what it needs and the furnished scene does not have. What differs below the
    places `gives_up` when it has failed is what the verb says it gives up then.
    """

    verb: str
    given: Mapping[str, Any]
    prepare: Prepare | None = None
    gives_up: tuple[str, ...] = ()


async def _kept(scene: Scene, app: App) -> None:
    await do(app, "delete", service="idle")


async def _lost(scene: Scene, app: App) -> None:
    """Removed by hand, behind our back."""
    scene.engine.world.containers.remove(scene.engine.require(f"{NAMESPACE}-idle"))
    scene.engine.save()


async def _app_lost(scene: Scene, app: App) -> None:
    scene.engine.world.containers.remove(scene.engine.require(f"{NAMESPACE}.shop.production.1"))
    scene.engine.save()


async def _unlinked(scene: Scene, app: App) -> None:
    await do(app, "unlink", service="main", project="shop", now=True)


async def _unlinked_later(scene: Scene, app: App) -> None:
    """Its apps run on with their accounts."""
    await do(app, "unlink", service="main", project="shop")


async def _left_behind(scene: Scene, app: App) -> None:
    """An account that nobody uses, on a service that did not serve when it was unlinked."""
    await do(app, "unlink", service="tracked", project="blog", force=True)


async def _outlived(scene: Scene, app: App) -> None:
    """Former credentials whose time is over."""
    await do(app, "rotate", project="shop", grace=600)
    await app.context.store.write(
        lambda tx: tx.update(
            "bindings", "former_until IS NOT NULL", [], former_until=tx.now - timedelta(seconds=1)
        )
    )


async def _tenant(scene: Scene, app: App) -> None:
    await do(app, "link", service="idle", project="bare")


async def _furthered(scene: Scene, app: App) -> None:
    await do(app, "link", service="main", project="shop", extra_databases=["test"])


async def _put_away(scene: Scene, app: App) -> None:
    """Data of before an in-place restore, and other credentials since."""
    await do(app, "restore", backup="1", service_id="main")
    await do(app, "rotate-administrator", service="main")


async def _changed(scene: Scene, app: App) -> None:
    """What was written after the backup, and an in-place restore takes away."""
    scene.put("main", "shop_production", precious="silver", more="copper")


async def _burnt(scene: Scene, app: App) -> None:
    """The host of a service was lost, and its backup was not."""
    await app.provision.remove_container(1)

    def work(tx: Tx) -> None:
        record = services.get(tx, "main")
        backup = backups.list_backups(tx, service_id=record.id)[0]
        choice = Choice(backups=(backup.id,))
        state = Recovering(
            since=tx.now,
            place="there",
            state_of=tx.now,
            host="burnt",
            revision=1,
            highest=99,
            choices={record.id: choice},
        )
        lose(tx, app.context, app.context.state, record)
        keep(tx, state)

    await app.context.store.write(work)


APPS = ("/containers", "/names of apps", "/deployments", "/ports")
PURGED = ("/bindings", "/servers/fk-main/accounts", "/servers/fk-main/resources")
SERVED = ("/volumes: ",)  # the volume that the service had for a moment is kept
FORMS = {
    "create": Form("create", {"name": "fresh", "service_type": "fake"}),
    "recover": Form("recover", {"service": "main"}, _burnt),
    "update": Form("update", {"service": "main", "parameters": {"size": 2}}),
    "update-port": Form("update", {"service": "main", "parameters": {"port": 29999}}),
    "update-stopped": Form("update", {"service": "asleep", "parameters": {"size": 2}}),
    "update-image": Form("update", {"service": "main", "docker_image": "fake:1-b"}),
    "start": Form("start", {"service": "asleep"}),
    "start-running": Form("start", {"service": "main"}),
    "stop": Form("stop", {"service": "main"}),
    "restart": Form("restart", {"service": "main"}),
    "restart-imported": Form("restart", {"service": "lent"}),
    # brought back by the next look
    "repair": Form("repair", {"service": "idle"}, _lost, ("/containers", "/servers")),
    # brought back by the next look
    "repair-app": Form("repair-app", {"deployment": 1}, _app_lost, APPS),
    "delete": Form("delete", {"service": "idle"}),
    "delete-purge": Form(
        "delete",
        {"service": "idle", "purge": True},
        None,
        ("/containers", "/servers", "/folders", "/services"),
    ),
    "delete-stopped": Form("delete", {"service": "asleep"}),
    "delete-imported": Form("delete", {"service": "lent"}),
    "undelete": Form("undelete", {"service": "gone"}),
    "purge-volume": Form(
        "purge-volume", {"volume": "idle", "confirm": "idle"}, _kept, ("/folders",)
    ),
    "import": Form(
        "import",
        {"container_id": "theirs", "name": "theirs", "service_type": "fake", "use_found": True},
    ),
    "create-project": Form("create-project", {"name": "fresh"}),
    "delete-environment-unlinked": Form(
        "delete-environment",
        {"project": "shop", "environment": "preview"},
        _unlinked_later,
        (*APPS, "/bindings", "/servers/fk-main/accounts"),
    ),
    "delete-project": Form("delete-project", {"project": "shop"}, _unlinked, APPS),
    "delete-environment": Form(
        "delete-environment", {"project": "shop", "environment": "preview"}, None, APPS
    ),
    "delete-environment-purge": Form(
        "delete-environment",
        {"project": "shop", "environment": "preview", "purge": True},
        None,
        (*APPS, *PURGED),
    ),
    "link": Form("link", {"service": "idle", "project": "bare"}),
    "link-before-the-end": Form("link", {"service": "main", "project": "shop"}, _unlinked_later),
    "end-access": Form(
        "end-access",
        {"service": "tracked"},
        _left_behind,
        ("/bindings", "/servers/fk-tracked/accounts"),
    ),
    "end-access-former": Form(
        "end-access", {"service": "main"}, _outlived, ("/servers/fk-main/former",)
    ),
    "link-again": Form("link", {"service": "main", "project": "shop"}, _unlinked),
    "bind": Form("bind", {"project": "bare", "environment": "production"}, _tenant),
    "unlink": Form("unlink", {"service": "main", "project": "shop"}),
    "unlink-now": Form("unlink", {"service": "main", "project": "shop", "now": True}),
    "unlink-ended-before-its-time": Form(
        "unlink", {"service": "main", "project": "shop", "now": True}, _unlinked_later
    ),
    "unlink-purge": Form(  # a server whose account is gone is not on that network any more
        "unlink",
        {"service": "main", "project": "shop", "purge": True},
        None,
        (*PURGED, "/containers"),
    ),
    "remove-database": Form(
        "remove-database",
        {"service": "main", "project": "shop", "database": "test", "purge": True},
        _furthered,
        ("/bindings", "/servers/fk-main/resources"),
    ),
    "link-further": Form(
        "link",
        {"service": "main", "project": "shop", "extra_databases": ["test"]},
        None,
        ("/servers/fk-main/resources",),  # an empty one, which is found again by its name
    ),
    "rotate": Form("rotate", {"project": "shop"}),
    "rotate-grace": Form("rotate", {"project": "shop", "grace": 600}),
    "renew-certificate": Form("renew-certificate", {"service": "main"}),
    "tidy": Form(  # of the fake type's plugin
        "fake.tidy",
        {"service": "main", "arguments": {"label": "neat", "key": "s3cr3t-of-all"}},
        _furthered,
    ),
    "rotate-administrator": Form("rotate-administrator", {"service": "main"}),
    "deploy": Form("deploy", {"project": "blog", "image": "app:1", "port": 8000}),
    "deploy-over": Form("deploy", {"project": "shop", "image": "app:2"}),
    "deploy-ends-an-account": Form(
        "deploy", {"project": "shop", "image": "app:2"}, _unlinked_later
    ),
    "deploy-environment": Form(
        "deploy",
        {"project": "shop", "environment": "review", "create": True, "image": "app:1"},
        None,
        ("/projects",),
    ),
    "deploy-hooks-only": Form("deploy", {"project": "blog"}),
    "backup": Form("backup", {"service": "main"}),
    "backup-base": Form("backup", {"service": "tracked", "backup_type": "base"}),
    # one that cannot be restored is suspect
    "verify-backup": Form("verify-backup", {"backup": "1"}, None, ("/backups",)),
    "delete-backup": Form("delete-backup", {"backup": "1"}),
    "restore": Form("restore", {"backup": "1", "new_name": "restored"}),
    "restore-in-place": Form("restore", {"backup": "1", "service_id": "main"}, _changed, SERVED),
    "restore-archive": Form("restore", {"archive": "tracked", "new_name": "restored"}),
    "restore-archive-in-place": Form(
        "restore", {"archive": "tracked", "service_id": "tracked"}, None, SERVED
    ),
    "restore-database": Form(
        "restore", {"backup": "1", "new_name": "restored", "databases": ["shop_production"]}
    ),
    "attach-volume": Form(
        "attach-volume", {"service": "main", "volume": "main"}, _put_away, SERVED
    ),
    "clone-volume": Form("clone-volume", {"name": "copied", "volume": "main"}, _put_away),
    "clone": Form("clone", {"service": "main", "name": "copied"}),
    "upgrade": Form("upgrade", {"service": "main", "docker_image": "fake:2"}, None, SERVED),
    "upgrade-same-data": Form(
        "upgrade", {"service": "main", "docker_image": "fake:1-b"}, None, SERVED
    ),
    "upgrade-rehearse": Form(
        "upgrade", {"service": "main", "docker_image": "fake:2", "rehearse": True}
    ),
    "upgrade-rehearse-same-data": Form(
        "upgrade", {"service": "main", "docker_image": "fake:1-b", "rehearse": True}
    ),
    "undo-upgrade": Form("undo-upgrade", {"service": "risen"}),
    "archive": Form("archive", {"service": "main"}),
    "archive-again": Form(
        "archive",
        {"service": "tracked", "again": True},
        None,
        # broken, then begun anew
        (
            "/archives",
            "/backups",
            "/containers",
            "/servers/fk-tracked/slot",
            "/volumes on the engine",
        ),
    ),
    "end-archive": Form("end-archive", {"service": "tracked"}),
}


class Points:
    """Copies of a state directory, one for each moment at which it was another than before."""

    def __init__(self, state: Path, folder: Path) -> None:
        self._state = state
        self._folder = folder
        self._last: Any = None
        self.taken: list[Path] = []
        self.armed = False

    def take(self) -> None:
        """Copy what is there, unless that was copied already."""
        if self.armed and (seen := self.seen()) != self._last:
            self._last = seen
            self.taken.append(self._folder / str(len(self.taken)))
            shutil.copytree(self._state, self.taken[-1])

    def seen(self) -> Any:
        """What tells one moment from another: each file with its time and size."""
        files = [
            path
            for path in sorted(self._state.rglob("*"))
            if path.suffix not in (".db-shm", ".part")
        ]
        return [
            (str(path), path.is_dir() or (path.stat().st_mtime_ns, path.stat().st_size))
            for path in files
        ]

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self.taken, self._last = [], None


def watched(points: Points) -> type[Store]:
    """A store that has the state copied before and after each of its writes."""

    class WatchedStore(Store):
        async def write(self, work: Callable[[Tx], Any]) -> Any:
            points.take()
            try:
                return await super().write(work)
            finally:
                points.take()

    return WatchedStore


class Attempt(NamedTuple):
    """One run of a form: what the installation looked like before and after, how the operation
    ended, and which of the calls that it made found the world changed since the call before."""

    before: Any
    after: Any
    state: str
    telling: list[int]
    calls: int


class Trial:
    """A form in its scene, to be run again and again from the same beginning."""

    def __init__(self, scene: Scene, base: Path, folder: Path, form: Form) -> None:
        self.scene = scene
        self.form = form
        self._base = base
        self.kept = folder / "kept"
        self.points = Points(scene.state, folder / "points")
        self._known = 0  # the number of the last operation before the form's own

    async def prepare(self) -> None:
        """Have what the form needs, and keep that as the beginning."""
        self.scene.bring_back(self._base)
        async with self.scene.open() as app:
            if self.form.prepare is not None:
                await self.form.prepare(self.scene, app)
            self._known = await app.context.store.read(
                lambda tx: tx.value("SELECT max(id) FROM operations")
            )
        shutil.rmtree(self.kept, ignore_errors=True)
        self.scene.keep(self.kept)

    async def run(
        self, failing: int = 0, *, away: bool = False, points_too: bool = True
    ) -> Attempt:
        """Run the form once; points are taken on the way, unless nobody wants them.

        With `failing` the call of that number goes wrong, with `away` every later one too, and
        points are taken from then on.
        """
        scene, points = self.scene, self.points
        scene.bring_back(self.kept)
        points.clear()
        telling: list[int] = []
        calls, last = 0, None

        def acted(name: str) -> None:
            nonlocal calls, last
            calls += 1
            if not failing and (seen := points.seen()) != last:
                last = seen
                telling.append(calls)
            if failing == calls:
                points.armed = True
                if away:
                    scene.engine.away = AWAY
                    scene.engine.act(name)
                raise Failed(f"{name}: {INJECTED}")

        async with scene.open(make_store=watched(points)) as app:
            before = await picture(scene, app)
            given = await self.given(app)
            scene.engine.acted, scene.engine.changed = acted, points.take
            points.armed = points_too and not failing
            try:
                await app.run(self.form.verb, given, "test")
            except PurveyorError as error:
                # a fault of ours, not the one that was injected
                if not failing or "unexpectedly" in error.detail:
                    raise
            finally:
                points.take()
                points.armed, scene.engine.away = False, ""
                scene.engine.acted, scene.engine.changed = (lambda name: None), (lambda: None)
            if not away:
                await look_after(app)
            return Attempt(
                before, await picture(scene, app), await self._state(app), telling, calls
            )

    async def given(self, app: App) -> Any:
        given = dict(self.form.given)
        if "volume" in given:  # of which service it was
            sql, origin = (
                "SELECT id FROM volumes WHERE state = 'kept' AND origin = ?",
                given["volume"],
            )
            given["volume"] = await app.context.store.read(lambda tx: tx.value(sql, [origin]))
        return msgspec.convert(given, app.operation_type(self.form.verb).arguments)

    async def _state(self, app: App) -> str:
        """How the form's operation stands, "" when there is none."""
        sql = "SELECT state FROM operations WHERE verb = ? AND id > ? ORDER BY id LIMIT 1"
        return (
            await app.context.store.read(lambda tx: tx.value(sql, [self.form.verb, self._known]))
            or ""
        )

    async def start_again(
        self, point: Path | None = None, make_store: type[Store] = Store
    ) -> tuple[str, Any]:
        """Go on from a point, or from what there is, as the next start does: how the operation
        ended, and what the installation looks like."""
        if point is not None:
            self.scene.bring_back(point)
        async with self.scene.open(make_store=make_store) as app:
            await look_after(app)
            left = await app.context.store.read(operations.list_unfinished)
            assert not left, [(item.verb, item.state, item.error) for item in left]
            return await self._state(app), await picture(self.scene, app)

    def wrong(self, ended: str, found: Any, good: Attempt) -> list[str]:
        """What is neither as after the form nor as before it, by how its operation ended."""
        if ended == "succeeded":
            return differences(found, good.after)
        given_up = self.form.gives_up if ended else ()
        return [
            line
            for line in differences(found, good.before)
            if not line.startswith(given_up or ("-",))
        ]
