"""What services and backups ask of archiving, answered."""

from datetime import datetime

from purveyor.archiving import pitr
from purveyor.archiving import store as archives
from purveyor.archiving.wal_receiver import WalReceiver
from purveyor.backups.above import Archive, Archives
from purveyor.backups.manifest import Verified
from purveyor.backups.models import BackupRecord
from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.operations.models import Outcome
from purveyor.services.above import Archiving
from purveyor.services.handle import handle_of
from purveyor.services.models import ServiceRecord, VolumeRecord
from purveyor.services.transfer import Tell
from purveyor_hooks import Sink


class ServiceArchives(Archiving, Archives):
    def __init__(self, context: Context) -> None:
        self._context = context

    async def end(self, service: ServiceRecord) -> None:
        if await self._context.store.read(lambda tx: archives.find(tx, service.id)):
            await self._context.part(WalReceiver).end(service)

    def forget(self, tx: Tx, service_id: int) -> None:
        archives.delete(tx, service_id)

    async def let_go(self, service: ServiceRecord) -> None:
        server = handle_of(self._context, service)
        archived = await self._context.store.read(lambda tx: archives.find(tx, service.id))
        if archived is None and server.offers("archive_end"):
            await server.archive_end(watching=True)

    def find(self, tx: Tx, service_id: int) -> Archive | None:
        found = archives.find(tx, service_id)
        if found is None:
            return None
        return Archive(folder=found.folder, encrypted=bool(found.encryption), until=found.until)

    async def copy(self, service: ServiceRecord, sink: Sink) -> str:
        helper = self._context.part(WalReceiver).access(service)
        return await handle_of(self._context, service).archive_base(helper, sink)

    async def require_whole(self, backup: BackupRecord, verified: Verified) -> None:
        await pitr.require_whole(self._context, backup, verified)

    async def unpack(
        self,
        backup: BackupRecord,
        verified: Verified,
        record: ServiceRecord,
        volume: VolumeRecord,
        at: datetime | None,
        tell: Tell,
    ) -> None:
        await pitr.unpack(self._context, backup, verified, record, volume, at, tell)

    async def arrive(self, record: ServiceRecord, tell: Tell) -> Outcome:
        return await pitr.arrive(self._context, record, tell)
