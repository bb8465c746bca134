"""Continuous archiving: the helper of each archived service is kept running, and what it writes
down is shipped.

The server keeps nothing for a helper that is behind for long: when the queue is full because the
place cannot be reached, archiving ends, the server is let go, and that is said. When the place is
there again it begins anew, with a base copy of its own.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

import anyio

from purveyor.archiving import store as archives
from purveyor.archiving import wal
from purveyor.archiving.models import ArchiveRecord
from purveyor.archiving.operations.archive import ArchiveArguments
from purveyor.archiving.wal_receiver import WalReceiver
from purveyor.backups import store as backups
from purveyor.backups.fence import Fence
from purveyor.backups.kinds import BASE
from purveyor.backups.models import BackupRecord
from purveyor.backups.operations.backup import BackupArguments
from purveyor.backups.repository import BackupRepository
from purveyor.backups.storage import Storage
from purveyor.context import Context
from purveyor.kernel.alarm import Alarm
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType
from purveyor.kernel.operations.runner import Runner
from purveyor.services import store as services
from purveyor.services.handle import handle_of
from purveyor.services.models import ServiceRecord
from purveyor_hooks import Conflict, PurveyorError

ACTOR = "archivist"
# what begins and ends archives, and what decides whether their services are to serve
WAKING = ("service.", "archive.")
ENDS = (".succeeded", ".failed", ".abandoned", ".verified")
MEGABYTE = 1024 * 1024
BASE_EVERY = 24 * 3600.0
PROBE = "purveyor-check"
LOOK = 60.0  # seconds for which one look at who writes at a place is enough


class ArchiveController:
    """Ships for as long as the daemon serves."""

    def __init__(
        self,
        context: Context,
        runner: Runner,
        operation_types: Mapping[str, OperationType],
        now: Callable[[], datetime],
    ) -> None:
        self._context = context
        self._runner = runner
        self._operation_types = operation_types
        self._keeper = context.part(BackupRepository)
        self._helpers = context.part(WalReceiver)
        self._clock = now
        self._alarm = Alarm(now)
        self._shipping: dict[int, Alarm] = {}  # by the services of archives that are seen to

    def wake(self) -> None:
        """Have all that waits look: whether there is a new archive, and whether its service is to
        serve."""
        for alarm in (self._alarm, *self._shipping.values()):
            alarm.wake()

    async def run(self) -> None:
        """Run until cancelled. A slow archive holds up itself alone."""
        async with anyio.create_task_group() as group:
            while True:
                for archive in await self._context.store.read(archives.list_all):
                    if archive.service_id not in self._shipping:
                        self._shipping[archive.service_id] = Alarm(self._clock)
                        group.start_soon(self._see_to, archive.service_id)
                await self._alarm.wait()

    async def _see_to(self, service_id: int) -> None:
        """See to one archive until it has ended: at the pace of the settings while its server is to
        serve, for nothing tells what that writes; else when something is heard of it."""
        try:
            while archive := await self._context.store.read(
                lambda tx: archives.find(tx, service_id)
            ):
                if await self._to_be_shipped(archive):
                    await self._guarded(archive)
                    await anyio.sleep(self._context.settings.archive_interval)
                else:
                    await self._shipping[service_id].wait()
        finally:
            del self._shipping[service_id]
            self._alarm.wake()  # it may have begun anew since it was looked for

    async def _to_be_shipped(self, archive: ArchiveRecord) -> ServiceRecord | None:
        """The service of an archive, if that is to serve and the archive has begun."""
        service = await self._context.store.read(lambda tx: services.find(tx, archive.service_id))
        serves = service is not None and service.state == "active" and service.desired == "running"
        return service if serves and archive.state != "starting" else None

    async def _guarded(self, archive: ArchiveRecord) -> None:
        try:
            await self.turn(archive)
        except PurveyorError as error:
            await self._say(
                archive, "waiting" if archive.state != "broken" else "broken", error.detail
            )
        except Exception as error:  # one archive's trouble must not end the others
            self._context.logger.warning(
                "archive.fault", service=archive.service_id, exc_info=error
            )

    async def turn(self, archive: ArchiveRecord) -> None:
        """One look at one service."""
        service = await self._to_be_shipped(archive)
        if service is None or self._runner.busy(service.id):
            return
        place = await self._place(archive)
        if archive.volume_id != service.volume_id or archive.state == "broken":
            await self._context.part(Fence).require(place.address, LOOK)
            await place.put(PROBE, b"purveyor")  # raises while it cannot be reached
            await self._begin(
                service,
                "it holds another data set now"
                if archive.state != "broken"
                else "it was broken off",
            )
            return
        await self._helpers.ensure(service)
        moment = await handle_of(self._context, service).archive_beat()
        waiting = await wal.waiting(self._helpers.access(service), self._helpers.folder(service))
        try:
            await self._ship(archive, service, place, waiting)
        except PurveyorError as error:
            if waiting.backlog > self._context.settings.archive_queue * MEGABYTE:
                await self._break(
                    archive, service, f"{waiting.backlog // MEGABYTE} MB wait, and {error.detail}"
                )
                return
            await self._say(archive, "waiting", error.detail, queue_bytes=waiting.backlog)
            return
        await self._say(archive, "following", "", until=moment, queue_bytes=0)
        await self._base_when_due(archive, service)
        await self._thin(archive, place)

    async def _place(self, archive: ArchiveRecord) -> Storage:
        number = archive.s3_source_id
        return self._keeper.place(
            await self._context.store.read(lambda tx: backups.source(tx, number))
            if number
            else None
        )

    async def _ship(
        self, archive: ArchiveRecord, service: ServiceRecord, place: Storage, waiting: wal.Waiting
    ) -> None:
        await self._context.part(Fence).require(place.address, LOOK)
        helper, source = self._helpers.access(service), self._helpers.folder(service)
        signing = await self._keeper.key(create=True)
        assert signing is not None
        key = signing if archive.encryption else None
        at_place = await wal.list_stored(place, archive.folder)
        # what a stranger put there under a name to come does not keep ours from being shipped
        there = {item.name for item in at_place if wal.is_ours(item, archive.folder, signing)}
        for name in waiting.full:
            if name not in there:
                await wal.ship(helper, source, name, place, archive.folder, key, signing)
        # the newest one tells the helper where to go on
        await wal.take_away(helper, source, waiting.full[:-1])
        for name in waiting.unfinished:
            made = await wal.ship(helper, source, name, place, archive.folder, key, signing)
            for item in at_place:
                if item.unfinished and item != made:
                    await place.delete(f"{archive.folder}/{item.path}")

    async def _say(self, archive: ArchiveRecord, state: str, reason: str, **facts: object) -> None:
        """Record how it stands; when that is another word than before, it is an event."""

        def work(tx: Tx) -> None:
            now = archives.find(tx, archive.service_id)
            if now is None or now.state == "starting":
                return
            archives.update(tx, archive.service_id, state=state, reason=reason, **facts)
            if now.state != state:
                tx.emit(
                    f"archive.{state}",
                    service=archive.service_id,
                    data={"reason": reason} if reason else {},
                )

        await self._context.store.write(work)

    async def _break(self, archive: ArchiveRecord, service: ServiceRecord, why: str) -> None:
        """The queue is full: let the server go on without us rather than fill its disk."""
        self._context.logger.warning("archive.broken", service=service.name, error=why)
        await self._say(
            archive, "broken", f"The queue is full and archiving has ended: {why}", queue_bytes=0
        )
        await self._helpers.end(service)

    async def _begin(self, service: ServiceRecord, why: str) -> None:
        self._context.logger.info("archive.anew", service=service.name, reason=why)
        try:
            given = ArchiveArguments(service=str(service.id), again=True)
            await (await self._runner.submit(self._operation_types["archive"], given, ACTOR)).wait()
        except Conflict:
            return  # something else is being done with it; the next turn comes

    # ---------------------------------------------------------------- bases

    async def _base_when_due(self, archive: ArchiveRecord, service: ServiceRecord) -> None:
        now = archive.base_at
        if now is None or (await self._now() - now.timestamp()) < BASE_EVERY:
            return
        source = archive.s3_source_id
        given = BackupArguments(
            service=str(service.id),
            s3_source_id=source,
            backup_type=BASE,
            keep_days=archive.keep_days,
        )
        await (await self._runner.submit(self._operation_types["backup"], given, ACTOR)).wait()

        def note(tx: Tx) -> None:
            archives.update(tx, service.id, base_at=tx.now)

        await self._context.store.write(note)

    async def _now(self) -> float:
        return (await self._context.store.read(lambda tx: tx.now)).timestamp()

    async def _thin(self, archive: ArchiveRecord, place: Storage) -> None:
        """Delete what is older than any base copy that is kept."""

        def work(tx: Tx) -> list[BackupRecord]:
            return [
                item
                for item in backups.list_backups(tx, service_id=archive.service_id)
                if item.backup_type == BASE
                and item.metadata.get("changes") == archive.folder
                and item.state != "failed"
            ]

        bases = await self._context.store.read(work)
        firsts = [item.metadata["first"] for item in bases if item.metadata.get("first")]
        if not firsts or len(firsts) < len(bases):
            return
        oldest = min(firsts)
        stored = await wal.list_stored(place, archive.folder)
        old = [item for item in stored if item.of < oldest and not item.of.endswith(".history")]
        if old:
            await self._context.part(Fence).require(place.address)
        for item in old:
            await place.delete(f"{archive.folder}/{item.path}")
