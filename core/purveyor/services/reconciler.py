"""When to look: the world is compared with intent at start-up, whenever the engine says something,
and now and then. What is done about it is `controller.py`'s, and that of deployments."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress

import anyio
import anyio.abc

from purveyor.context import Context
from purveyor.docker import subnet_registry
from purveyor.docker.labels import DEPLOYMENT, SERVICE, id_in
from purveyor.kernel.db import Tx
from purveyor.services import store as services
from purveyor.services.above import Apps
from purveyor.services.controller import ServiceController
from purveyor.services.health import Observer
from purveyor.services.incidents import Incidents, Subject
from purveyor.services.models import ServiceRecord
from purveyor.services.networks import Networks
from purveyor.services.repairs import Repairs
from purveyor_hooks import EngineUnavailable, PurveyorError

TELLING = frozenset(
    ["die", "destroy", "start", "oom", "pause", "unpause", "rename", "health_status"]
)
SETTLE = 0.3
RECONNECT = 2.0
PACE = 0.05  # at most, between two looks of one round


class Reconciler:
    """Follows the engine's events, and has each service and each app looked at when it is time."""

    def __init__(
        self,
        context: Context,
        observer: Observer,
        incidents: Incidents,
        repairs: Repairs,
        service_controller: ServiceController,
        connected: Callable[[], None],
    ) -> None:
        self._context = context
        self._observer = observer
        self._incidents = incidents
        self._repairs = repairs
        self._services = service_controller
        self._connected = connected  # the engine is there: for the first time, or again
        self._apps = context.part(Apps)
        self._networks = context.part(Networks)
        self._told = anyio.Event()
        # "service-3", "app-7", names and ids of containers that are not ours
        self._changed: set[str] = set()
        self._turns: defaultdict[Subject, anyio.Lock] = defaultdict(anyio.Lock)
        self._queued: set[Subject] = set()

    async def run(self) -> None:
        """Run until cancelled."""
        await self._context.supervisor.keep("what was observed", self._observer.recall)
        try:
            async with anyio.create_task_group() as group:
                keep = self._context.supervisor.keep
                group.start_soon(keep, "the engine's events", lambda: self._follow(group))
                group.start_soon(keep, "what changed", lambda: self._settle(group))
                every = self._context.settings.health_interval
                group.start_soon(keep, "health checks", lambda: self._check_regularly(group), every)
                group.start_soon(keep, "new data sets", lambda: self._retry_unverified(group))
        finally:
            # what was observed may be lost, the end may not
            with anyio.CancelScope(shield=True), suppress(PurveyorError):
                await self._observer.keep()

    # ---------------------------------------------------------------- when to look

    async def _follow(self, group: anyio.abc.TaskGroup) -> None:
        """Follow the engine; each time the connection is made anew, look at everything, and listen
        meanwhile."""
        silent = False
        while True:
            try:
                await self._context.engine.version()
                async with self._context.engine.events() as events:
                    silent = False
                    self._observer.stale()
                    self._observer.following = True
                    self._incidents.hurry()
                    self._connected()
                    group.start_soon(self._steady_sweep)
                    async for event in events:
                        self._note(event)
            except* (PurveyorError, OSError) as failures:
                if not silent:
                    self._context.logger.warning("engine.away", error=str(failures.exceptions[0]))
                silent = True
            finally:
                self._observer.following = False
            await anyio.sleep(RECONNECT)

    async def _steady_sweep(self) -> None:
        try:
            await self.sweep()
        except EngineUnavailable as error:
            self._context.logger.warning("reconcile", part="sweep", error=error.detail)
        except Exception as error:
            self._context.logger.warning("reconcile.fault", part="sweep", exc_info=error)

    def _note(self, event: Mapping[str, object]) -> None:
        self._observer.stale()
        action = str(event.get("Action", "")).partition(":")[0]
        actor = event.get("Actor")
        if not isinstance(actor, dict):
            return
        attributes = actor.get("Attributes") or {}
        if event.get("Type") == "network":
            name = str(attributes.get("name"))
            ours = name == self._context.engine.namespace or self._networks.ours(name)
            if not ours or action not in ("disconnect", "destroy"):
                return
            self._changed.add(str(attributes.get("container") or "network"))
        elif action in TELLING:
            if action == "die" and _key(attributes):
                self._repairs.note_end(str(actor.get("ID")), str(attributes.get("exitCode", "")))
            elif action == "destroy":
                self._repairs.note_removal(str(actor.get("ID")))
            self._changed.add(_key(attributes) or str(attributes.get("name", "")))
            if action == "start" or self._services.shared:
                self._changed.add("data")
        else:
            return
        self._told.set()

    async def _settle(self, group: anyio.abc.TaskGroup) -> None:
        """Look at what changed once it has come to rest."""
        while True:
            await self._told.wait()
            await anyio.sleep(SETTLE)
            self._told = anyio.Event()
            changed, self._changed = self._changed, set()
            every, apps = await self._context.store.read(self._intended)
            if "data" in changed:
                watched = await self._services.watch_data(every)
                changed |= {Subject("service", number).key for number in watched}
            if "network" in changed:
                group.start_soon(self._steady_sweep)
                continue
            # ids of containers that were taken from the network
            if any(len(item) == 64 for item in changed):
                listed = await self._context.engine.containers.listed()
                changed |= {_key(item.labels) for item in listed if item.id in changed}
            for record in every:
                subject = Subject("service", record.id)
                if subject.key in changed or (record.imported and record.container_name in changed):
                    group.start_soon(self._see, subject)
            for number in apps:
                if (subject := Subject("app", number)).key in changed:
                    group.start_soon(self._see, subject)

    async def _check_regularly(self, group: anyio.abc.TaskGroup) -> None:
        every = self._context.settings.health_interval
        begun = anyio.current_time()
        while True:
            await anyio.sleep_until(begun + every)
            begun = anyio.current_time()
            await self._settle_network()
            records, apps = await self._context.store.read(self._intended)
            await self._close_forgotten(records, apps)
            await self._services.watch_data(records)
            subjects = [
                *(Subject("service", record.id) for record in records),
                *(Subject("app", number) for number in apps),
            ]
            # one after the other: looks at hundreds at once hold up every answer meanwhile
            pause = min(PACE, every / 2 / (len(subjects) or 1))
            for subject in subjects:
                group.start_soon(self._see, subject)
                await anyio.sleep(pause)
            await self._observer.keep()

    async def _retry_unverified(self, group: anyio.abc.TaskGroup) -> None:
        """Look soon, not at the next regular check, at a server whose data could not be compared at
        the first look, and at what is in trouble and due to be tried again."""
        while True:
            await anyio.sleep(RECONNECT)
            for subject in {
                *(Subject("service", number) for number in self._services.take_unverified()),
                *self._incidents.waiting(),
            }:
                group.start_soon(self._see, subject)

    async def sweep(self) -> None:
        """Look at every service, then at the apps that are linked to them, and remove apps that are
        over. What is unfinished has its locks, and is gone on with by somebody else."""
        await self._settle_network()
        every, apps = await self._context.store.read(self._intended)
        await self._apps.take_in()
        await self._close_forgotten(every, apps)
        await self._services.watch_data(every)
        seen = {record.id: anyio.Event() for record in every}

        async def service(number: int) -> None:
            try:
                await self._see(Subject("service", number))
            finally:
                seen[number].set()

        async def app(number: int) -> None:
            await self._see(Subject("app", number))

        async with anyio.create_task_group() as group:
            for record in every:
                group.start_soon(service, record.id)
            group.start_soon(self._apps.sweep, app, seen)
        await self._apps.remove_others()

    async def _settle_network(self) -> None:
        """Have the network, with the addresses that it had: apps know the host by one of them."""
        engine = self._context.engine
        await engine.ensure_network()
        if await engine.network_id() and engine.subnets != await self._context.store.read(
            subnet_registry.subnets
        ):
            await self._context.store.write(
                lambda tx: subnet_registry.note_subnets(tx, engine.subnets)
            )
        await self._networks.settle()

    async def _close_forgotten(self, every: list[ServiceRecord], apps: list[int]) -> None:
        """Incidents of what is not there any more are over."""
        there = {
            *(Subject("service", item.id) for item in every),
            *(Subject("app", number) for number in apps),
        }
        for subject in self._incidents.open:
            if subject not in there:
                await self._incidents.over(subject, "It is not wanted any more.")

    # ---------------------------------------------------------------- looking

    async def _see(self, subject: Subject) -> None:
        """Look at one: not two at a time, and not again when a look is about to begin."""
        if subject in self._queued:
            return
        self._queued.add(subject)
        try:
            async with self._turns[subject]:
                self._queued.discard(subject)
                await self._guarded(subject)
        finally:
            self._queued.discard(subject)

    async def _guarded(self, subject: Subject) -> None:
        try:
            controller = self._services if subject.kind == "service" else self._apps
            await controller.look(subject.id)
        except PurveyorError as error:
            self._context.logger.warning("reconcile", subject=subject.key, error=error.detail)
        except Exception as error:  # one service's trouble must not end the watch over the others
            self._context.logger.warning("reconcile.fault", subject=subject.key, exc_info=error)

    def _intended(self, tx: Tx) -> tuple[list[ServiceRecord], list[int]]:
        """Every service, and the deployment of every app that should run."""
        return services.list_all(tx), self._apps.wanted(tx)


def _key(labels: Mapping[str, str]) -> str:
    """How a container of ours is noted, "" for others."""
    if service := id_in(labels, SERVICE):
        return Subject("service", service).key
    return Subject("app", app).key if (app := id_in(labels, DEPLOYMENT)) else ""
