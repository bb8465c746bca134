"""A walk: operations one after the other on whatever the ones before them left, some of which fail
on their way or end with the process, and what holds after each of them.

What every volume holds is known by a model of its own, which learns nothing from the core but which
volume an operation has made: data that is lost, mixed up or comes from nowhere is seen at once.
"""

from collections.abc import Mapping
from random import Random
from typing import Any

import anyio
import msgspec

from fake.scene import Scene, differences, look_after, picture
from fake.server import FILE, Held
from purveyor.app import App
from purveyor.backups import store as backups
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import store as operations
from purveyor.projects import store as projects
from purveyor.services import store as services
from purveyor_hooks import Failed, PurveyorError

Data = dict[str, dict[str, str]]
INJECTED = "injected by the walk"
PROJECTS = ("shop", "blog", "news", "bare")
NAMES = ("main", "idle", "tracked", "risen", "gone", "asleep", "fresh", "copy", "restored")
IMAGES = ("fake:1", "fake:1-b", "fake:2")


class Killed(BaseException):
    """The process ends here."""


class Walk:
    """One way through; the same seed goes the same way."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.scene = scene
        self.random = Random(seed)
        self.gone: set[str] = set()
        self.told: list[str] = []
        self.data: dict[str, Data] = {}  # by volume
        self.saved: dict[int, Data] = {}  # by backup

    async def go(self, length: int) -> None:
        """Take so many steps. Raises `AssertionError` with all that was done."""
        done = 0
        while done < length:
            async with self.scene.open() as app:
                await look_after(app)
                if not done:
                    self.data = self._on_disk()
                    self.saved = {1: {"shop_production": {"precious": "gold"}}}
                await self._hold(app, "it was opened")
                while done < length:
                    done += 1
                    try:
                        if not await self._step(app):
                            break
                    except AssertionError as error:
                        raise AssertionError("\n".join([*self.told, str(error)])) from None

    # ---------------------------------------------------------------- one step

    async def _step(self, app: App) -> bool:
        """Do one thing, and look. False when the core has to be opened anew."""
        self._write(app)
        verb, given = await app.context.store.read(self._choose)
        kind = app.operation_type(verb)
        arguments = msgspec.convert(given, kind.arguments)
        before = await picture(self.scene, app)
        at = await app.context.store.read(_state)
        try:
            planned: str = (await app.plan(verb, arguments)).verb
        except PurveyorError as error:
            planned = f"({error.code})"
        assert not (wrong := differences(await picture(self.scene, app), before)), (
            f"a plan of {verb} {given} changed: {wrong}"
        )
        fails = self.random.randrange(1, 40) if self.random.random() < 0.3 else 0
        self.told.append(f"{verb} {given} planned {planned} failing at {fails}")
        calls = 0

        def acted(name: str) -> None:
            nonlocal calls
            calls += 1
            if fails == calls:
                raise Failed(f"{name}: {INJECTED}")

        ended = "succeeded"
        self.scene.engine.acted = acted
        number = None
        try:
            number = (await app.run(verb, arguments, "walk")).id
        except PurveyorError as error:
            if "unexpectedly" in error.detail:  # a fault of ours, not the one that was injected
                raise AssertionError(f"{verb} {given}: {error.detail}") from error
            ended = "failed" if calls or fails else "refused"
            self.told[-1] += f": {error.code}: {error.detail[:160]}"
        finally:
            self.scene.engine.acted = lambda name: None
        await look_after(app)
        assert not (left := await app.context.store.read(operations.list_unfinished)), left
        await self._learn(app, verb, given, ended, number, at)
        if ended == "refused":
            assert not (wrong := differences(await picture(self.scene, app), before)), (
                f"{verb} was refused and changed: {wrong}"
            )
        await self._hold(app, verb)
        return self.random.random() > 0.05

    def _write(self, app: App) -> None:
        """An app writes into what is its own."""
        for container in self.scene.engine.world.containers:
            volume = container.mounts.get("/data")
            if container.state != "running" or volume is None or self.random.random() < 0.7:
                continue
            path = self.scene.engine.folder(volume)
            held = msgspec.json.decode((path / FILE).read_bytes(), type=Held)
            for name, keys in held.resources.items():
                keys[f"k{self.random.randrange(5)}"] = str(self.random.randrange(10**6))
                self.data.setdefault(path.name, {}).setdefault(name, {}).update(keys)
            (path / FILE).write_bytes(msgspec.json.encode(held))

    def _choose(self, tx: Tx) -> tuple[str, dict[str, Any]]:
        pick, chance = self.random.choice, self.random.random
        service, project = pick(NAMES), pick(PROJECTS)
        environment = pick(("production", "production", "preview", "review"))
        made = [item.id for item in backups.list_backups(tx)] or [1]
        volumes = [item.id for item in services.volumes(tx, ["new", "used", "kept"])]
        choices: list[tuple[str, dict[str, Any]]] = [
            ("create", {"name": pick(NAMES), "service_type": "fake"}),
            ("update", {"service": service, "parameters": {"size": self.random.randrange(1, 4)}}),
            ("update", {"service": service, "docker_image": pick(IMAGES)}),
            ("start", {"service": service}),
            ("stop", {"service": service}),
            ("restart", {"service": service}),
            ("delete", {"service": service}),
            ("undelete", {"service": service}),
            ("delete", {"service": service, "purge": chance() < 0.3}),
            ("create-project", {"name": project}),
            ("delete-environment", {"project": project, "environment": environment,
                                    "purge": chance() < 0.4}),
            ("delete-project", {"project": project}),
            ("link", {"service": service, "project": project,
                      "extra_databases": ["test"] if chance() < 0.3 else []}),
            ("bind", {"project": project, "environment": environment}),
            ("unlink", {"service": service, "project": project, "purge": chance() < 0.2,
                        "now": chance() < 0.5, "force": chance() < 0.2}),
            ("remove-database", {"service": service, "project": project, "database": "test",
                                 "purge": chance() < 0.5}),
            ("rotate", {"project": project, "environment": environment,
                        "grace": pick((0, 0, 600))}),
            ("rotate-administrator", {"service": service}),
            ("deploy", {"project": project, "environment": environment, "create": True,
                        "image": pick(("app:1", "app:2"))}),
            ("backup", {"service": service}),
            ("verify-backup", {"backup": str(pick(made))}),
            ("delete-backup", {"backup": str(pick(made))}),
            ("restore", {"backup": str(pick(made)), "new_name": pick(NAMES)}),
            ("restore", {"backup": str(pick(made)), "service_id": service}),
            ("clone", {"service": service, "name": pick(NAMES)}),
            ("attach-volume", {"service": service, "volume": pick(volumes)}),
            ("clone-volume", {"volume": pick(volumes), "name": pick(NAMES)}),
            ("upgrade", {"service": service, "docker_image": pick(IMAGES),
                         "rehearse": chance() < 0.3}),
            ("undo-upgrade", {"service": service}),
            ("archive", {"service": service}),
            ("end-archive", {"service": service}),
        ]  # fmt: skip
        return pick(choices)

    # ---------------------------------------------------------------- what is known

    def _on_disk(self) -> dict[str, Data]:
        found = {}
        for path in (self.scene.state / "volumes").iterdir():
            if (path / FILE).exists():
                held = msgspec.json.decode((path / FILE).read_bytes(), type=Held)
                found[path.name] = held.resources
        return found

    async def _learn(
        self, app: App, verb: str, given: Mapping[str, Any], ended: str, number: int | None, at: Any
    ) -> None:
        """What the model says now: from what was asked for and how it ended alone."""
        now = await app.context.store.read(_state)
        for item in now["backups"].keys() - at["backups"].keys():
            volume = now["backups"][item][1]
            if volume in self.data:
                self.saved[item] = msgspec.json.decode(
                    msgspec.json.encode(self.data[volume]), type=Data
                )
        if ended != "succeeded":
            # the volume that a service had for a moment is kept: an app may have written to it
            if ended == "failed" and verb in ("restore", "upgrade"):
                self.data = {**self._on_disk(), **self.data}
            return
        service = given.get("service") or given.get("service_id") or ""
        was, volume = at["services"].get(service), now["services"].get(service)
        source: Data | None = None
        if verb == "restore":
            source = self.saved.get(int(given["backup"]))
            volume = now["services"][given.get("new_name") or service]
            if source is None:  # a base copy: it holds what its server held at its end
                source = self._on_disk()[volume]
        elif verb == "clone":
            source, volume = self.data[was], now["services"][given["name"]]
        elif verb == "clone-volume":
            source, volume = self.data[given["volume"]], now["services"][given["name"]]
        elif verb in ("upgrade", "update") and volume != was:
            source = self.data[was]
        if source is not None:
            self.data[volume] = {name: dict(keys) for name, keys in source.items()}
        if verb == "create":
            self.data.setdefault(now["services"][given["name"]], {})
        if verb == "delete" and given.get("purge"):
            self.gone.add(was)

    async def _hold(self, app: App, after: str) -> None:
        """What holds at any time."""
        found = await picture(self.scene, app)
        assert found["wrong"] == [], f"after {after}: {found['wrong']}"
        assert found["folders"] == "as recorded", f"after {after}: {found['folders']}"
        assert found["stray backups"] == [], f"after {after}: {found['stray backups']}"
        state = await app.context.store.read(_state)
        wrong = []
        on_disk = self._on_disk()
        for volume, expected in self.data.items():
            if volume not in on_disk:
                if volume not in self.gone:
                    wrong.append(f"the data of {volume} is gone: {expected}")
                continue
            for name, keys in expected.items():
                if (there := on_disk[volume].get(name)) is None:
                    if not self._purged(name):
                        wrong.append(f"{volume} has no {name} any more")
                elif there != keys:
                    wrong.append(f"{volume}/{name} holds {there}, not {keys}")
            for name, keys in on_disk[volume].items():
                if name not in expected and keys:
                    wrong.append(f"{volume}/{name} comes from nowhere: {keys}")
        for volume, resources in on_disk.items():
            if volume not in self.data and any(resources.values()):
                wrong.append(f"{volume} holds what nobody put there: {resources}")
            self.data[volume] = {name: dict(keys) for name, keys in resources.items()}
        for name, server in found["servers"].items():
            if isinstance(server, dict) and name in state["serving"]:
                if not server["administrator"]:
                    wrong.append(f"the administrator of {name} is another")
                accounts = {item for item, _ in state["serving"][name]}
                bound = {item for item, done in state["serving"][name] if done}
                if bad := [item for item in bound if not server["accounts"].get(item)]:
                    wrong.append(f"{name}: {bad} cannot log in")
                if more := server["accounts"].keys() - accounts:
                    wrong.append(f"{name}: {more} may log in")
        running = {item[0] for item in found["containers"] if item[2]}
        if lost := state["serving"].keys() - running:
            wrong.append(f"{lost} do not run")
        if stray := {item[0] for item in found["containers"]} - state["known"]:
            wrong.append(f"nobody knows {stray}")
        assert not wrong, f"after {after}: {wrong}"

    def _purged(self, name: str) -> bool:
        """Whether what was asked for last deletes databases."""
        return bool(self.told) and "'purge': True" in self.told[-1]


def _state(tx: Tx) -> dict[str, Any]:
    every = [
        services.get(tx, row["id"])
        for row in tx.rows("SELECT id FROM services WHERE state != 'deleted' ORDER BY id")
    ]
    return {
        "services": {item.slug: item.volume_id for item in every},
        "backups": {
            item.id: (
                item.service_id,
                tx.value("SELECT volume_id FROM services WHERE id = ?", [item.service_id]),
            )
            for item in backups.list_backups(tx)
            if item.state in ("ok", "suspect")
        },
        "serving": {
            item.container_name: {
                (bound.account, bound.state == "bound")
                for bound in projects.bindings(tx, service_id=item.id)
            }
            for item in every
            if item.state == "active" and item.desired == "running" and not item.refusal
        },
        "known": {
            *(item.container_name for item in every),
            *(f"{item.container_name}.archive" for item in every),
            *(row["container"] for row in tx.rows("SELECT container FROM deployments")),
            "theirs",
        },
    }


async def walk(scene: Scene, seed: int, length: int) -> None:
    with anyio.fail_after(300):
        await Walk(scene, seed).go(length)
