"""What backups ask of the feature that follows a base copy with what was written since. It is
answered by one part, which the program adds."""

from abc import ABC, abstractmethod
from datetime import datetime

import msgspec

from purveyor.backups.manifest import Verified
from purveyor.backups.models import BackupRecord
from purveyor.kernel.db import Tx
from purveyor.kernel.operations.models import Outcome
from purveyor.services.models import ServiceRecord, VolumeRecord
from purveyor.services.transfer import Tell
from purveyor_hooks import Sink


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """The archive of a service: where its changes are, and the last moment that can be restored."""

    folder: str
    encrypted: bool
    until: datetime | None


class Archives(ABC):
    """Base copies, and the changes that follow them."""

    @abstractmethod
    def find(self, tx: Tx, service_id: int) -> Archive | None:
        """The archive of a service."""

    @abstractmethod
    async def copy(self, service: ServiceRecord, sink: Sink) -> str:
        """Write a base copy of an archived service; the answer is the first change that follows
        it."""

    @abstractmethod
    async def require_whole(self, backup: BackupRecord, verified: Verified) -> None:
        """Raise `BadInput` that names the first file which the changes after a base copy lack."""

    @abstractmethod
    async def unpack(
        self,
        backup: BackupRecord,
        verified: Verified,
        record: ServiceRecord,
        volume: VolumeRecord,
        at: datetime | None,
        tell: Tell,
    ) -> None:
        """Fill the volume of a service that was never started with a base copy and its changes."""

    @abstractmethod
    async def arrive(self, record: ServiceRecord, tell: Tell) -> Outcome:
        """Wait until the server has come to the moment; what is off in it. Raises `Failed` when it
        gives up."""
