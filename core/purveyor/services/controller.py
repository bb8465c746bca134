"""Looks at services: brings back those that should run and do not, checks the health and the data of
those that run."""

from contextlib import suppress
from datetime import datetime

import anyio

from purveyor.context import Context
from purveyor.docker.models import Found
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Runner
from purveyor.services import store as services
from purveyor.services.above import Archiving
from purveyor.services.health import Checked, Observer
from purveyor.services.incidents import Incidents, Subject, trouble
from purveyor.services.models import ServiceRecord, VolumeRecord
from purveyor.services.networks import Networks, find_missing
from purveyor.services.operations.lifecycle import Repair, ServiceArguments
from purveyor.services.provisioning import Provisioner
from purveyor.services.repairs import Repairs
from purveyor_hooks import DataRefused, NotFound

# at a time; one that hangs takes a place for as long as the type's hook may take
CHECKS = 32


class ServiceController:
    def __init__(
        self,
        context: Context,
        provision: Provisioner,
        runner: Runner,
        observer: Observer,
        incidents: Incidents,
        repairs: Repairs,
    ) -> None:
        self._context = context
        self._provision = provision
        self._runner = runner
        self._observer = observer
        self._incidents = incidents
        self._repairs = repairs
        self._networks = context.part(Networks)
        # that run on data which could not be compared yet
        self._unverified: set[int] = set()
        # service -> start of the container whose data was compared
        self._verified: dict[int, datetime | None] = {}
        # service -> the check that was told last
        self._outcomes: dict[int, Checked] = {}
        # service -> another container that runs on its data
        self.shared: dict[int, str] = {}
        self._checks = anyio.CapacityLimiter(CHECKS)

    def take_unverified(self) -> set[int]:
        """The services whose data could not be compared since this was last asked."""
        due, self._unverified = self._unverified, set()
        return due

    async def look(self, number: int) -> None:
        """One service: bring it back if it should run and does not, else check its health.
        Operations go first."""
        record = await self._context.store.read(lambda tx: services.find(tx, number))
        if record is not None:
            await self._look(Subject("service", number), record)

    async def _look(self, subject: Subject, record: ServiceRecord) -> None:
        if (
            record.state != "active"
            or self._runner.busy(record.id)
            or not self._context.registry.find(record.service_type)
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
        elif reason := await self._trouble(subject, record, found):
            self._observer.forget(record.id)
            if record.refusal:  # told by an event of its own
                return
            await self._incidents.tell(subject, reason)
            if not self._repairs.due(subject, found):
                return
            if why := await self._repairs.attempt(subject, *_repair(record)):
                await self._incidents.tell(subject, why)
            record = await self._context.store.read(lambda tx: services.get(tx, record.id))
            found = await self._provision.found(record)
            if record.refusal or await self._trouble(subject, record, found):
                return
        if others := self.shared.get(record.id):
            remedy = (
                f"Two servers on one data set destroy it: docker stop {others.replace(',', '')}"
            )
            await self._incidents.tell(
                subject, f"Its data is in use by the container {others} as well. {remedy}"
            )
            return
        moved = found is not None and found.state == "running" and await self._moved(record, found)
        if moved and record.desired == "running":  # an imported one
            await self._repairs.run(*_repair(record))
            found = await self._provision.found(record)
        if found is not None and found.state == "running":
            if await self._check(record, found) and self._repairs.steady(subject, found):
                await self._incidents.over(subject)
        else:
            self._observer.forget(record.id)

    async def _trouble(self, subject: Subject, record: ServiceRecord, found: Found | None) -> str:
        """Why a service does not run as it should, "" when it does."""
        expected = await self._networks.expected(service=record.id)
        reason = trouble(found, expected, record.container_name)
        if found is None:
            return reason
        told = self._repairs.started_again(subject, found)
        # what was being told to a container when the power went may be there in part
        if told or self._networks.strays(found, expected):
            await self._networks.join(record.id)
        if told and not reason:
            await self._incidents.tell(subject, told)
        return reason

    async def _moved(self, record: ServiceRecord, found: Found) -> bool:
        """Whether an imported container was started anew, or taken from a network, since it was
        last seen."""
        if record.imported is None:
            return False
        return (
            self._provision.moved(record, found)
            or find_missing(found, await self._networks.expected(service=record.id)) != ""
        )

    async def _check(self, record: ServiceRecord, found: Found) -> bool:
        """Whether a running server is healthy, and has the data that it should have; what is new is
        told."""
        # what a person's look has seen meanwhile is told all the same
        seen = self._observer.last_health(record.id) is not None
        before = self._outcomes.get(record.id) if seen else None
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
                await self._context.part(Archiving).let_go(record)
        worth = (
            checked.healthy
            and before is not None
            and (before.detail or "") != (checked.detail or "")
        )
        self._outcomes[record.id] = checked
        if before is None or before.healthy != checked.healthy or worth:
            await self._publish(
                record, "healthy" if checked.healthy else "unhealthy", checked.detail or ""
            )
        return checked.healthy

    async def _verify(self, record: ServiceRecord) -> bool:
        """Compare the data set of a container that somebody else started, Docker after a reboot for
        one.

        A foreign one is stopped by the comparison and refused from then on.
        """
        try:
            await self._provision.identity(record.id, watching=True)
        except DataRefused as error:
            refusal, data = f"{error.detail} {error.remedy}", {"reason": error.detail}
            self._context.logger.warning("service.refused", service=record.name, error=error.detail)

            def work(tx: Tx) -> None:
                services.update(tx, record.id, refusal=refusal)
                tx.emit("service.refused", service=record.id, data=data)

            await self._context.store.write(work)
            return False
        return True

    async def watch_data(self, every: list[ServiceRecord]) -> set[int]:
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

        volumes = await self._context.store.read(look)
        users = await self._context.engine.containers.users(
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
        told = {*found, *self.shared}
        self.shared = found
        return told

    async def _publish(self, record: ServiceRecord, word: str, reason: str) -> None:
        data = {"reason": reason} if reason else {}
        await self._context.store.write(
            lambda tx: tx.emit(f"service.{word}", service=record.id, data=data)
        )


def _repair(record: ServiceRecord) -> tuple[str, ServiceArguments]:
    return Repair.name, ServiceArguments(service=str(record.id))
