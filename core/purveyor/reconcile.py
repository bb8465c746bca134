"""Reconciliation: the world is compared with intent, at start-up and whenever the engine says something."""

from collections.abc import Mapping
from datetime import datetime

import anyio
import anyio.abc

from purveyor.archive.helpers import Helpers
from purveyor.engine.labels import DEPLOYMENT, SERVICE
from purveyor.engine.models import Found
from purveyor.house import House
from purveyor.observe import Observer
from purveyor.operations import Runner, Verb
from purveyor.provision import Provisioner
from purveyor.store import Tx, projects, services
from purveyor.store.records import ServiceRecord
from purveyor.verbs.lifecycle import ServiceArguments
from purveyor.workshop import remove_containers
from purveyor_hooks import DataRefused, EngineUnavailable, PurveyorError

TELLING = frozenset(["die", "destroy", "start", "oom", "pause", "unpause", "rename", "health_status"])
SETTLE = 0.3
RECONNECT = 2.0


class Reconciler:
    """Follows the engine's events, checks health from time to time, and repairs what was removed by hand."""

    def __init__(
        self, house: House, provision: Provisioner, runner: Runner, observer: Observer, verbs: Mapping[str, Verb]
    ) -> None:
        self._house = house
        self._provision = provision
        self._runner = runner
        self._observer = observer
        self._verbs = verbs
        self._helpers = Helpers(house)
        self._told = anyio.Event()
        self._changed: set[str] = set()  # ids of services, names of containers that are not ours
        self._unverified: set[int] = set()  # services that run on data which could not be compared yet
        self._verified: dict[int, datetime | None] = {}  # service -> start of the container whose data was compared

    async def run(self) -> None:
        """Run until cancelled."""
        await self._observer.recall()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._follow)
                group.start_soon(self._settle)
                group.start_soon(self._check_regularly)
                group.start_soon(self._insist)
        finally:
            with anyio.CancelScope(shield=True):
                await self._observer.keep()

    async def _follow(self) -> None:
        """Follow the engine; each time the connection is made anew, look at everything."""
        silent = False
        while True:
            try:
                await self._house.engine.version()
                async with self._house.engine.events() as events:
                    silent = False
                    await self.sweep()
                    async for event in events:
                        self._note(event)
            except* (PurveyorError, OSError) as group:
                if not silent:
                    self._house.logger.warning("engine.away", error=str(group.exceptions[0]))
                silent = True
            await anyio.sleep(RECONNECT)

    def _note(self, event: Mapping[str, object]) -> None:
        action = str(event.get("Action", "")).partition(":")[0]
        actor = event.get("Actor")
        attributes = actor.get("Attributes", {}) if isinstance(actor, dict) else {}
        if action in TELLING and actor:
            self._changed.add(attributes.get(SERVICE) or attributes.get("name", ""))
            self._told.set()

    async def sweep(self) -> None:
        """Go on with what was left unfinished, look at every service, and remove apps that are over."""
        await self._runner.recover(wait=False)
        for record in await self._house.store.read(services.every):
            await self._guarded(record)
        await self._sweep_apps()

    async def _sweep_apps(self) -> None:
        def current(tx: Tx) -> set[int]:
            states = ("active", "deploying")
            return {item.id for state in states for item in projects.deployments(tx, state=state)}

        wanted = await self._house.store.read(current)
        found = await self._house.engine.containers.listed()
        if any(DEPLOYMENT in item.labels and int(item.labels[DEPLOYMENT]) not in wanted for item in found):
            await remove_containers(self._house.engine, lambda number: number in wanted)

    async def _settle(self) -> None:
        """Look at what changed once it has come to rest."""
        while True:
            await self._told.wait()
            await anyio.sleep(SETTLE)
            self._told = anyio.Event()
            changed, self._changed = self._changed, set()
            every = await self._house.store.read(services.every)
            for record in every:
                if str(record.id) in changed or (record.imported and record.container_name in changed):
                    await self._guarded(record)

    async def _check_regularly(self) -> None:
        while True:
            await anyio.sleep(self._house.settings.health_interval)
            for record in await self._house.store.read(services.every):
                await self._guarded(record)
            await self._observer.keep()

    async def _insist(self) -> None:
        """Compare the data of a server that was not up at the first look soon, not at the next regular check."""
        while True:
            await anyio.sleep(RECONNECT)
            due, self._unverified = self._unverified, set()
            if due:
                for record in await self._house.store.read(services.every):
                    if record.id in due:
                        await self._guarded(record)

    async def _guarded(self, record: ServiceRecord) -> None:
        try:
            await self._look(record)
        except PurveyorError as error:
            self._house.logger.warning("reconcile", service=record.name, error=error.detail)
        except Exception as error:  # one service's trouble must not end the watch over the others
            self._house.logger.warning("reconcile.fault", service=record.name, exc_info=error)

    async def _look(self, record: ServiceRecord) -> None:
        """One service: repair it if its container was removed, else check its health. Operations go first."""
        if record.state != "active" or self._runner.busy(record.id) or not self._house.registry.find(record.service_type):
            return
        found = await self._provision.found(record)
        if self._needs_repair(record, found):
            await self._repair(record)
        elif found is not None and found.state == "running":
            before = self._observer.last_health(record.id)
            checked = await self._observer.check(record)
            await self._observer.sample(record)
            if self._verified.get(record.id) != found.started_at and not (record.imported and record.refusal):
                self._unverified.add(record.id)
                if checked.healthy:
                    known = await self._verify(record)
                    self._unverified.discard(record.id)
                    if not known:
                        return
                    self._verified[record.id] = found.started_at
                    await self._helpers.let_go(record)
            if before is None or before.healthy != checked.healthy:
                await self._publish(record, "healthy" if checked.healthy else "unhealthy", checked.detail or "")
        else:
            self._observer.forget(record.id)

    def _needs_repair(self, record: ServiceRecord, found: Found | None) -> bool:
        if found is None:
            return record.desired == "running" and not record.refusal and not record.imported
        if not record.imported and found.name != record.container_name:
            return found.state == "running" and record.desired == "running"
        return found.state == "running" and self._provision.moved(record, found)

    async def _verify(self, record: ServiceRecord) -> bool:
        """Compare the data set of a container that somebody else started, Docker after a reboot for one.

        A foreign one is stopped by the comparison and refused from then on.
        """
        try:
            await self._provision.identity(record.id, watching=True)
        except DataRefused as error:
            refusal, data = f"{error.detail} {error.remedy}", {"reason": error.detail}
            self._house.logger.warning("service.refused", service=record.name, error=error.detail)

            def work(tx: Tx) -> None:
                services.update(tx, record.id, refusal=refusal)
                tx.emit("service.refused", service=record.id, data=data)

            await self._house.store.write(work)
            return False
        return True

    async def _repair(self, record: ServiceRecord) -> None:
        self._house.logger.info("service.missing", service=record.name)
        try:
            given = ServiceArguments(service=str(record.id))
            await (await self._runner.submit(self._verbs["repair"], given, "reconciler")).wait()
        except EngineUnavailable:
            raise
        except PurveyorError as error:
            self._house.logger.warning("service.repair", service=record.name, error=error.detail)

    async def _publish(self, record: ServiceRecord, word: str, reason: str) -> None:
        data = {"reason": reason} if reason else {}
        await self._house.store.write(lambda tx: tx.emit(f"service.{word}", service=record.id, data=data))
