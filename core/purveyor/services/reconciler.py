"""Reconciliation: the world is compared with intent, at start-up and whenever the engine says
something."""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.abc

from purveyor.docker import subnet_registry
from purveyor.docker.labels import DEPLOYMENT, SERVICE, id_in
from purveyor.docker.models import Found
from purveyor.house import House
from purveyor.kernel.api import address
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Runner, Verb
from purveyor.services import networks
from purveyor.services import store as services
from purveyor.services.above import App, Apps, Archiving, Links
from purveyor.services.health import Observer
from purveyor.services.incidents import Incidents, Subject, trouble
from purveyor.services.models import ServiceRecord, VolumeRecord
from purveyor.services.networks import Networks, lost
from purveyor.services.operations.lifecycle import Repair, ServiceArguments
from purveyor.services.provisioning import Provisioner
from purveyor_hooks import DataRefused, EngineUnavailable, NotFound, PurveyorError

TELLING = frozenset(
    ["die", "destroy", "start", "oom", "pause", "unpause", "rename", "health_status"]
)
SETTLE = 0.3
RECONNECT = 2.0
PACE = 0.05  # at most, between two looks of one round
# a server that the engine had to start again is well when it has run for so long
STEADY = timedelta(seconds=60)
# at a time; a check that hangs takes a place for as long as the type's hook may take
CHECKS, REPAIRS = 32, 8


class Reconciler:
    """Follows the engine's events, checks health from time to time, and brings back what should run
    and does not."""

    def __init__(
        self,
        house: House,
        provision: Provisioner,
        runner: Runner,
        observer: Observer,
        verbs: Mapping[str, Verb],
        incidents: Incidents,
    ) -> None:
        self._house = house
        self._provision = provision
        self._runner = runner
        self._observer = observer
        self._verbs = verbs
        self._incidents = incidents
        self._apps = house.part(Apps)
        self._networks = house.part(Networks)
        self._told = anyio.Event()
        # "service-3", "app-7", names and ids of containers that are not ours
        self._changed: set[str] = set()
        # services that run on data which could not be compared yet
        self._unverified: set[int] = set()
        # service -> start of the container whose data was compared
        self._verified: dict[int, datetime | None] = {}
        # container and how often the engine had started it again
        self._restarts: dict[Subject, tuple[str, int]] = {}
        self._ended: dict[str, str] = {}  # container -> what it last ended with
        self._shared: dict[int, str] = {}  # service -> another container that runs on its data
        self._turns: defaultdict[Subject, anyio.Lock] = defaultdict(anyio.Lock)
        self._projects: defaultdict[int, anyio.Lock] = defaultdict(anyio.Lock)
        self._queued: set[Subject] = set()
        self._checks = anyio.CapacityLimiter(CHECKS)
        self._repairs = anyio.CapacityLimiter(REPAIRS)

    async def run(self) -> None:
        """Run until cancelled."""
        await self._house.supervisor.keep("what was observed", self._observer.recall)
        try:
            async with anyio.create_task_group() as group:
                keep = self._house.supervisor.keep
                group.start_soon(keep, "the engine's events", lambda: self._follow(group))
                group.start_soon(keep, "what changed", lambda: self._settle(group))
                every = self._house.settings.health_interval
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
                await self._house.engine.version()
                async with self._house.engine.events() as events:
                    silent = False
                    self._observer.stale()
                    self._observer.following = True
                    self._incidents.hurry()
                    group.start_soon(self._steady_sweep)
                    async for event in events:
                        self._note(event)
            except* (PurveyorError, OSError) as failures:
                if not silent:
                    self._house.logger.warning("engine.away", error=str(failures.exceptions[0]))
                silent = True
            finally:
                self._observer.following = False
            await anyio.sleep(RECONNECT)

    async def _steady_sweep(self) -> None:
        try:
            await self.sweep()
        except EngineUnavailable as error:
            self._house.logger.warning("reconcile", part="sweep", error=error.detail)
        except Exception as error:
            self._house.logger.warning("reconcile.fault", part="sweep", exc_info=error)

    def _note(self, event: Mapping[str, object]) -> None:
        self._observer.stale()
        action = str(event.get("Action", "")).partition(":")[0]
        actor = event.get("Actor")
        if not isinstance(actor, dict):
            return
        attributes = actor.get("Attributes") or {}
        if event.get("Type") == "network":
            name = str(attributes.get("name"))
            ours = name == self._house.engine.namespace or self._networks.ours(name)
            if not ours or action not in ("disconnect", "destroy"):
                return
            self._changed.add(str(attributes.get("container") or "network"))
        elif action in TELLING:
            if action == "die" and _key(attributes):
                self._ended[str(actor.get("ID"))] = str(attributes.get("exitCode", ""))
            elif action == "destroy":
                self._ended.pop(str(actor.get("ID")), None)
            self._changed.add(_key(attributes) or str(attributes.get("name", "")))
            if action == "start" or self._shared:
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
            every, apps = await self._house.store.read(self._intended)
            if "data" in changed:
                changed |= {
                    Subject("service", number).key for number in await self._watch_data(every)
                }
            if "network" in changed:
                group.start_soon(self._steady_sweep)
                continue
            # ids of containers that were taken from the network
            if any(len(item) == 64 for item in changed):
                listed = await self._house.engine.containers.listed()
                changed |= {_key(item.labels) for item in listed if item.id in changed}
            for record in every:
                subject = Subject("service", record.id)
                if subject.key in changed or (record.imported and record.container_name in changed):
                    group.start_soon(self._see, subject)
            for app in apps:
                if (subject := Subject("app", app.id)).key in changed:
                    group.start_soon(self._see, subject)

    async def _check_regularly(self, group: anyio.abc.TaskGroup) -> None:
        every = self._house.settings.health_interval
        begun = anyio.current_time()
        while True:
            await anyio.sleep_until(begun + every)
            begun = anyio.current_time()
            await self._settle_network()
            records, apps = await self._house.store.read(self._intended)
            await self._close_forgotten(records, apps)
            await self._watch_data(records)
            subjects = [
                *(Subject("service", record.id) for record in records),
                *(Subject("app", app.id) for app in apps),
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
            due, self._unverified = self._unverified, set()
            for subject in {
                *(Subject("service", number) for number in due),
                *self._incidents.waiting(),
            }:
                group.start_soon(self._see, subject)

    async def sweep(self) -> None:
        """Go on with what was left unfinished, look at every service, then at the apps that are
        linked to them, and remove apps that are over."""
        await self._runner.recover(wait=False)
        await self._settle_network()
        every, apps = await self._house.store.read(self._intended)
        await self._take_in(apps)
        linked = await self._house.store.read(self._house.part(Links).services)
        await self._close_forgotten(every, apps)
        await self._watch_data(every)
        seen = {record.id: anyio.Event() for record in every}

        async def service(number: int) -> None:
            try:
                await self._see(Subject("service", number))
            finally:
                seen[number].set()

        async def app(record: App) -> None:
            for number in linked.get(record.project_id, []):
                if number in seen:
                    await seen[number].wait()
            # while one is brought back, no other is looked at
            async with self._projects[record.project_id]:
                await self._see(Subject("app", record.id))

        async with anyio.create_task_group() as group:
            for record in every:
                group.start_soon(service, record.id)
            for deployment in apps:
                group.start_soon(app, deployment)
        await self._sweep_apps()

    async def _sweep_apps(self) -> None:
        # first: of a deploy that begins meanwhile there is nothing in it
        found = await self._house.engine.containers.listed()
        wanted = await self._house.store.read(self._apps.current)
        for item in found:
            if (deployment := id_in(item.labels, DEPLOYMENT)) and deployment not in wanted:
                await self._house.engine.containers.remove(item.name)

    async def _settle_network(self) -> None:
        """Have the network, with the addresses that it had: apps know the host by one of them."""
        engine = self._house.engine
        await engine.ensure_network()
        if await engine.network_id() and engine.subnets != await self._house.store.read(
            subnet_registry.subnets
        ):
            await self._house.store.write(
                lambda tx: subnet_registry.note_subnets(tx, engine.subnets)
            )
        await self._networks.settle()

    async def _take_in(self, apps: list[App]) -> None:
        """Give apps that were deployed before there were networks of environments theirs, without a
        break."""
        for record in apps:
            name = await self._house.store.read(lambda tx: self._network_of(tx, record))  # noqa: B023
            found = await self._app(record) if name else None
            if found is not None and found.state == "running":
                try:
                    await self._networks.take_in(record.environment_id, name, found)
                except EngineUnavailable:
                    raise
                except PurveyorError as error:
                    self._house.logger.warning("network", network=name, error=error.detail)

    def _network_of(self, tx: Tx, record: App) -> str:
        """The name of the network that an app's environment lacks, "" when it has one."""
        if networks.find(tx, record.environment_id) is not None:
            return ""
        return self._apps.network(tx, record)

    async def _watch_data(self, every: list[ServiceRecord]) -> set[int]:
        """Look for containers that somebody started on the data of a service that runs; the answer
        is whose that are now or were before."""

        def look(tx: Tx) -> dict[int, VolumeRecord]:
            known: dict[int, VolumeRecord] = {}
            for item in every:
                # it was taken back since it was listed, and its volume with it
                with suppress(NotFound):
                    known |= (
                        {item.id: services.volume(tx, item.volume_id)} if item.volume_id else {}
                    )
            return known

        volumes = await self._house.store.read(look)
        users = await self._house.engine.containers.users(
            {item.name: item.path for item in volumes.values()}
        )
        found: dict[int, str] = {}
        for record in every:
            running = (
                [item for item in users[volumes[record.id].name] if item.holds_on]
                if record.id in volumes
                else []
            )
            others = [item.name for item in running if item.name != record.container_name]
            if len(running) > len(others) > 0:
                found[record.id] = ", ".join(sorted(others))
        told = {*found, *self._shared}
        self._shared = found
        return told

    async def _close_forgotten(self, every: list[ServiceRecord], apps: list[App]) -> None:
        """Incidents of what is not there any more are over."""
        there = {
            *(Subject("service", item.id) for item in every),
            *(Subject("app", item.id) for item in apps),
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
            if subject.kind == "service":
                if (
                    record := await self._house.store.read(lambda tx: services.find(tx, subject.id))
                ) is not None:
                    await self._look(subject, record)
            elif app := await self._house.store.read(lambda tx: self._apps.find(tx, subject.id)):
                await self._look_at_app(subject, app)
        except PurveyorError as error:
            self._house.logger.warning("reconcile", subject=subject.key, error=error.detail)
        except Exception as error:  # one service's trouble must not end the watch over the others
            self._house.logger.warning("reconcile.fault", subject=subject.key, exc_info=error)

    async def _look(self, subject: Subject, record: ServiceRecord) -> None:
        """One service: bring it back if it should run and does not, else check its health.
        Operations go first."""
        if (
            record.state != "active"
            or self._runner.busy(record.id)
            or not self._house.registry.find(record.service_type)
        ):
            return
        found = await self._provision.found(record)
        if record.desired != "running":
            await self._incidents.over(subject, "It is stopped as its owner wants.")
        elif record.imported:
            if found is None or not found.holds_on:
                await self._incidents.tell(
                    subject, trouble(found, {}, "") + " It is managed externally: restart it there."
                )
        elif reason := await self._trouble(subject, found, record.container_name):
            self._observer.forget(record.id)
            if record.refusal:  # told by an event of its own
                return
            await self._incidents.tell(subject, reason)
            if self._at_it(found) or not self._may_try(subject):
                return
            await self._repair(subject, record)
            record = await self._house.store.read(lambda tx: services.get(tx, record.id))
            found = await self._provision.found(record)
            if record.refusal or await self._trouble(subject, found, record.container_name):
                return
        if others := self._shared.get(record.id):
            remedy = (
                f"Two servers on one data set destroy it: docker stop {others.replace(',', '')}"
            )
            await self._incidents.tell(
                subject, f"Its data is in use by the container {others} as well. {remedy}"
            )
            return
        moved = found is not None and found.state == "running" and await self._moved(record, found)
        if moved and record.desired == "running":  # an imported one
            await self._bring_back(record)
            found = await self._provision.found(record)
        if found is not None and found.state == "running":
            if await self._check(record, found) and self._steady(subject, found):
                await self._incidents.over(subject)
        else:
            self._observer.forget(record.id)

    async def _moved(self, record: ServiceRecord, found: Found) -> bool:
        """Whether an imported container was started anew, or taken from a network, since it was
        last seen."""
        if record.imported is None:
            return False
        return (
            self._provision.moved(record, found)
            or lost(found, await self._networks.expected(service=record.id)) != ""
        )

    async def _check(self, record: ServiceRecord, found: Found) -> bool:
        """Whether a running server is healthy, and has the data that it should have; what is new is
        told."""
        before = self._observer.last_health(record.id)
        async with self._checks:
            checked = await self._observer.check(record)
            await self._observer.sample(record)
        if self._verified.get(record.id) != found.started_at and not (
            record.imported and record.refusal
        ):
            self._unverified.add(record.id)
            if checked.healthy:
                known = await self._verify(record)
                self._unverified.discard(record.id)
                if not known:
                    return False
                self._verified[record.id] = found.started_at
                await self._house.part(Archiving).let_go(record)
        worth = (
            checked.healthy
            and before is not None
            and (before.detail or "") != (checked.detail or "")
        )
        if before is None or before.healthy != checked.healthy or worth:
            await self._publish(
                record, "healthy" if checked.healthy else "unhealthy", checked.detail or ""
            )
        return checked.healthy

    async def _look_at_app(self, subject: Subject, record: App) -> None:
        """One app: brought back, from its recorded deployment, if it does not run. Operations of
        its project go first."""
        if self._runner.busy(record.project_id, "project"):
            return
        found = await self._app(record)
        where = await self._place(subject)
        if reason := await self._trouble(subject, found, record.container, record.environment_id):
            await self._incidents.tell(subject, reason, **where)
            if self._at_it(found) or not self._may_try(subject):
                return
            await self._repair(subject, record)
            found = await self._app(record)
            if await self._trouble(subject, found, record.container, record.environment_id):
                return
        elif found is not None and found.health == "unhealthy":
            await self._incidents.tell(subject, "Its health check fails.", **where)
            return
        if found is not None and self._steady(subject, found):
            await self._incidents.over(subject)

    async def _app(self, record: App) -> Found | None:
        """The app's container, whatever it is called now."""
        found = await self._house.engine.containers.listed(deployment=record.id)
        named = sorted(found, key=lambda item: item.name != record.container)
        return await self._house.engine.containers.inspect(named[0].id) if named else None

    async def _trouble(
        self, subject: Subject, found: Found | None, name: str, environment: int = 0
    ) -> str:
        """Why something does not run as it should, "" when it does."""
        service = subject.id if subject.kind == "service" else 0
        expected = await self._networks.expected(service=service, environment=environment)
        hosts = await self._house.store.read(address.hosts) if environment else {}
        reason = trouble(found, expected, name, hosts)
        if service and found is not None and self._networks.strays(found, expected):
            await self._networks.join(service)
        if found is None:
            return reason
        known, before = self._restarts.get(subject, ("", 0))
        self._restarts[subject] = (found.id, found.restarts)
        if not reason and known == found.id and found.restarts > before:
            code = self._ended.get(found.id, "")
            told = (
                f"It ended{f' with exit code {code}' if code else ''} and was started again by "
                "the engine."
            )
            await self._incidents.tell(subject, told, **(await self._place(subject)))
        return reason

    async def _place(self, subject: Subject) -> dict[str, Any]:
        if subject.kind == "service":
            return {}
        return await self._house.store.read(lambda tx: self._apps.place(tx, subject.id))

    def _at_it(self, found: Found | None) -> bool:
        """Whether the engine brings it back itself."""
        return found is not None and (found.restarting or found.state == "restarting")

    def _may_try(self, subject: Subject) -> bool:
        return self._house.settings.self_repair == "on" and self._incidents.due(subject)

    def _steady(self, subject: Subject, found: Found) -> bool:
        """Whether what runs may be taken for well: one that the engine had to start again has to
        stay up for some time."""
        if found.restarts == 0 or found.started_at is None or not self._incidents.reason(subject):
            return True
        return datetime.now(UTC) - found.started_at > STEADY

    async def _verify(self, record: ServiceRecord) -> bool:
        """Compare the data set of a container that somebody else started, Docker after a reboot for
        one.

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

    # ---------------------------------------------------------------- bringing back

    async def _repair(self, subject: Subject, record: ServiceRecord | App) -> None:
        """Try to bring it back, as an operation; why that failed is told as the incident's
        reason."""
        self._incidents.tried(subject)
        try:
            async with self._repairs:
                await self._bring_back(record)
        except EngineUnavailable:
            raise
        except PurveyorError as error:
            self._house.logger.warning(f"{subject.kind}.repair", id=record.id, error=error.detail)
            await self._incidents.tell(subject, error.detail, **(await self._place(subject)))

    async def _bring_back(self, record: ServiceRecord | App) -> None:
        name, given = (
            (Repair.name, ServiceArguments(service=str(record.id)))
            if isinstance(record, ServiceRecord)
            else self._apps.repair(record.id)
        )
        await (await self._runner.submit(self._verbs[name], given, "reconciler")).wait()

    def _intended(self, tx: Tx) -> tuple[list[ServiceRecord], list[App]]:
        """Every service, and every app that should run."""
        return services.every(tx), self._apps.wanted(tx)

    async def _publish(self, record: ServiceRecord, word: str, reason: str) -> None:
        data = {"reason": reason} if reason else {}
        await self._house.store.write(
            lambda tx: tx.emit(f"service.{word}", service=record.id, data=data)
        )


def _key(labels: Mapping[str, str]) -> str:
    """How a container of ours is noted, "" for others."""
    if service := id_in(labels, SERVICE):
        return Subject("service", service).key
    return Subject("app", app).key if (app := id_in(labels, DEPLOYMENT)) else ""
