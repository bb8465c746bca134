"""What is seen of services: the engine's word and the last health check, with time and reason."""

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic, perf_counter

import anyio
import msgspec

from purveyor.context import Context
from purveyor.docker.labels import SERVICE, id_in
from purveyor.docker.models import Found
from purveyor.services import samples
from purveyor.services import store as services
from purveyor.services.handle import handle_of
from purveyor.services.incidents import Incidents, Subject
from purveyor.services.models import ServiceRecord
from purveyor.services.provisioning import Provisioner
from purveyor_hooks import EngineUnavailable, Health

WAITING = 2_000  # looks that are not stored yet
# services whose containers are asked for one by one; with more of them the engine lists all
FEW = 6
FRESH = 5.0  # seconds for which a listing is good, while nothing is heard to change
SHORTEST = 0.2  # seconds between two samples
CLOSED = ("exited", "dead", "created")


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """An observation.

    `status`: creating, deleting, running, unhealthy, starting, restarting, paused, stopped (by its
    owner), down (by anything else), missing, refused, unknown. `reason` says why when it is not
    plain.
    """

    status: str
    reason: str = ""
    checked_at: datetime


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one health check. `latency_ms` is the whole round trip, login included."""

    healthy: bool
    status: str
    stage: str
    version: str
    latency_ms: float
    checked_at: datetime
    detail: str | None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What a service's container used: memory in bytes, CPU in per cent of one core since the
    sample before."""

    at: datetime
    memory_bytes: int
    cpu_percent: float


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The last looks at a service, oldest first."""

    health: list[Checked]
    usage: list[Sample]


class _Round:
    """A health check under way, and its outcome once it has one."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.outcome: Checked | None = None


class Observer:
    """Looks at services, and remembers the last look at each; those before it are in the store."""

    def __init__(self, context: Context, provision: Provisioner, incidents: Incidents) -> None:
        self._context = context
        self._provision = provision
        self._incidents = incidents
        self._checking: dict[int, _Round] = {}
        # with the last change of the service that was checked
        self._health: dict[int, tuple[Checked, datetime]] = {}
        self._samples: dict[int, Sample] = {}
        self._unkept: deque[samples.Sample] = deque(maxlen=WAITING)
        # service -> when, and the CPU time that was used until then
        self._cpu: dict[int, tuple[float, int]] = {}
        self._listing: tuple[float, list[Found]] | None = None  # when, and all containers of ours
        self._changes = 0
        self.following = False  # whether every change on the engine is heard of, and `stale` called

    def last_health(self, service_id: int) -> Checked | None:
        seen = self._health.get(service_id)
        return seen[0] if seen else None

    def last_sample(self, service_id: int) -> Sample | None:
        return self._samples.get(service_id)

    async def history(self, service_id: int) -> History:
        """The last looks at a service: those that are stored, and those that wait to be."""
        most = self._context.settings.health_samples
        waiting = [look for look in self._unkept if look.service_id == service_id]
        stored = await self._context.store.read(lambda tx: samples.recent(tx, service_id, most))
        waiting = [look for look in waiting if look not in stored]  # it was stored meanwhile
        health, usage = [], []
        for look in [*stored, *waiting]:
            with suppress(msgspec.MsgspecError):  # another version wrote it otherwise
                if look.kind == "health":
                    health.append(msgspec.json.decode(look.seen, type=Checked))
                else:
                    usage.append(msgspec.json.decode(look.seen, type=Sample))
        return History(health=health[-most:], usage=usage[-most:])

    async def recall(self) -> None:
        """Take up what an earlier process saw last of each service's container."""
        for look in await self._context.store.read(lambda tx: samples.last_of_each(tx, "usage")):
            with suppress(msgspec.MsgspecError):
                self._samples[look.service_id] = msgspec.json.decode(look.seen, type=Sample)

    async def keep(self) -> None:
        """Store what was seen since the last time. Charts may lack what a crash took; nothing else
        reads it."""
        seen = list(self._unkept)
        if not seen:
            return
        most = self._context.settings.health_samples
        try:
            await self._context.store.write(lambda tx: samples.add(tx, seen, most))
        except Exception as error:  # a full disk, for one, must not end the watch over the services
            self._context.logger.warning("history.lost", error=str(error))
        # they are seen there, or here, at every moment
        for _ in range(min(len(seen), len(self._unkept))):
            self._unkept.popleft()

    def _note(self, service_id: int, seen: Checked | Sample) -> None:
        if isinstance(seen, Checked):
            kind = "health"
        else:
            kind = "usage"
            self._samples[service_id] = seen
        self._unkept.append(samples.Sample(service_id, kind, msgspec.json.encode(seen).decode()))

    async def sample(self, record: ServiceRecord) -> None:
        """Note what a running service uses. Raises `EngineUnavailable`."""
        used = await self._context.engine.containers.usage(record.container_name)
        if used is None:
            return
        now = monotonic()
        before = self._cpu.get(record.id)
        self._cpu[record.id] = (now, used.cpu)
        if before is None or used.cpu < before[1] or now - before[0] < SHORTEST:
            return
        cpu = (used.cpu - before[1]) / ((now - before[0]) * 1e9) * 100
        self._note(
            record.id,
            Sample(at=datetime.now(UTC), memory_bytes=used.memory, cpu_percent=round(cpu, 1)),
        )

    def trouble(self, subject: Subject) -> str:
        """Why a subject is in trouble, "" when it is not known to be."""
        return self._incidents.reason(subject)

    def forget(self, service_id: int) -> None:
        """Drop what was seen: the container has changed since."""
        self._health.pop(service_id, None)
        self._samples.pop(service_id, None)
        self._cpu.pop(service_id, None)

    async def statuses(self, records: Sequence[ServiceRecord]) -> dict[int, Status]:
        """The status of each service by one look at the engine; unknown is said when there is
        none."""
        now = datetime.now(UTC)
        try:
            found = await self._containers(records)
        except EngineUnavailable as error:
            return {
                record.id: Status(status="unknown", reason=error.detail, checked_at=now)
                for record in records
            }
        return {record.id: self._status(record, found.get(record.id), now) for record in records}

    def stale(self) -> None:
        """Something has changed, or may have: what the engine listed before is not told any
        more."""
        self._changes += 1
        self._listing = None

    async def _containers(self, records: Sequence[ServiceRecord]) -> Mapping[int, Found]:
        """The containers of services. A listing takes the engine a millisecond for each of all
        containers: of a few services it is asked for theirs alone, and what it has listed is told
        again until something changes."""
        containers = self._context.engine.containers
        own = [record for record in records if record.imported is None]
        imported = [record.container_name for record in records if record.imported]
        found = _by_service(await self.listed("service", [record.id for record in own]), own)
        theirs = {item.name: item for item in await containers.named(imported)} if imported else {}
        return found | {
            record.id: theirs[record.container_name]
            for record in records
            if record.container_name in theirs
        }

    async def listed(self, kind: str, numbers: Sequence[int]) -> list[Found]:
        """Containers of ours, those of these services or deployments among them."""
        containers = self._context.engine.containers
        if self._listing is not None and self.following and monotonic() - self._listing[0] < FRESH:
            return self._listing[1]
        if len(numbers) <= FEW:
            return [
                item for number in numbers for item in await containers.listed(**{kind: number})
            ]
        changes, began = self._changes, monotonic()
        listed = await containers.listed()
        if changes == self._changes:
            self._listing = began, listed
        return listed

    def _status(self, record: ServiceRecord, found: Found | None, now: datetime) -> Status:
        state = found.state if found else "missing"
        if record.state in ("creating", "deleting"):
            return Status(status=record.state, checked_at=now)
        if record.refusal and (state != "running" or record.imported):
            return Status(status="refused", reason=record.refusal, checked_at=now)
        if self._context.registry.find(record.service_type) is None:
            reason = (
                f"The plugin for {record.service_type} is not installed; the data is kept. "
                "Install it again."
            )
            return Status(
                status="unknown" if state == "running" else "stopped", reason=reason, checked_at=now
            )
        if record.desired == "stopped":
            if state == "running":
                return Status(
                    status="running", reason="It was started outside Purveyor.", checked_at=now
                )
            return Status(status="stopped", checked_at=now)
        if state == "missing":
            owner = (
                "it is managed externally: restart it there"
                if record.imported
                else "it comes back on its volume"
            )
            return Status(
                status="missing", reason=f"Its container is gone; {owner}.", checked_at=now
            )
        reason = self._incidents.reason(Subject("service", record.id))
        if state in CLOSED:
            return Status(
                status="down",
                reason=reason or f"Its container is {state}, and not by Purveyor.",
                checked_at=now,
            )
        if state != "running":
            return Status(status=state, reason=reason, checked_at=now)
        if reason:
            return Status(status="unhealthy", reason=reason, checked_at=now)
        health, checked = self._health.get(record.id, (None, None))
        # else it was before the last change
        if health and not health.healthy and checked == record.updated_at:
            return Status(
                status="unhealthy", reason=health.detail or "", checked_at=health.checked_at
            )
        return Status(status="running", checked_at=health.checked_at if health else now)

    async def check(self, record: ServiceRecord) -> Checked:
        """A real round trip that begins now, or soon: what is under way began before it was asked
        for, and may not know what has happened since. Whoever asks meanwhile shares the next one.
        Raises `EngineUnavailable`."""
        if (earlier := self._checking.get(record.id)) is not None:
            await earlier.ended.wait()
        while (under_way := self._checking.get(record.id)) is not None:
            await under_way.ended.wait()
            # else whoever made it was called away, or saw no engine
            if under_way.outcome is not None:
                return under_way.outcome
        mine = self._checking[record.id] = _Round()
        try:
            mine.outcome = await self._check(record)
            return mine.outcome
        finally:
            del self._checking[record.id]
            mine.ended.set()

    async def _check(self, record: ServiceRecord) -> Checked:
        # as it is now: who began this look may have read it before an operation changed it
        now_recorded = await self._context.store.read(lambda tx: services.find(tx, record.id))
        record = now_recorded or record
        service = handle_of(self._context, record)
        started = perf_counter()
        health: Health = await self._provision.health(service)
        took = (perf_counter() - started) * 1000
        now = datetime.now(UTC)
        checked = Checked(
            healthy=health.healthy,
            status="running"
            if health.healthy
            else ("stopped" if health.stage == "container" else "unhealthy"),
            stage=health.stage,
            version=health.version,
            latency_ms=round(took, 2),
            checked_at=now,
            detail=health.detail or None,
        )
        self._health[record.id] = checked, record.updated_at
        self._note(record.id, checked)
        return checked


def _by_service(listed: Sequence[Found], records: Sequence[ServiceRecord]) -> dict[int, Found]:
    """The container of each service: a copy of one has its labels, and is not taken for it."""
    known = {record.id: record for record in records}
    own: dict[int, Found] = {}
    for item in listed:
        record = known.get(id_in(item.labels, SERVICE))
        if record is not None and (
            record.id not in own or _rank(item, record) > _rank(own[record.id], record)
        ):
            own[record.id] = item
    return own


def _rank(item: Found, record: ServiceRecord) -> tuple[bool, bool]:
    return item.holds_on and item.image_id == record.image_id, item.name == record.container_name
