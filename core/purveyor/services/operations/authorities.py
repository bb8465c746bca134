"""Replace the authority that vouches for services' servers by another."""

from typing import ClassVar

import msgspec

from purveyor.context import Context
from purveyor.kernel.actors import Who, actor_fields
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import ImmediateOperation, Result, Target
from purveyor.services import certificates
from purveyor.services.unaware import objection, unaware
from purveyor_hooks import Conflict

LOCK = (("authority", 0),)


class RotateAuthorityArguments(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """It needs none."""


class FinishAuthorityArguments(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """`anyway`: also while an app does not know the new authority."""

    anyway: bool = False


class RotateAuthority(ImmediateOperation):
    """Have another one beside the one that signs, for apps to know before it does."""

    name: ClassVar[str] = "rotate-authority"
    arguments = RotateAuthorityArguments

    def target(self, tx: Tx, given: RotateAuthorityArguments) -> Target:
        return Target(also=LOCK)

    def change(self, tx: Tx, given: RotateAuthorityArguments, actor: Who) -> Result:
        record = certificates.rotate(tx)
        tx.emit("authority.added", data={"id": record.id, **actor_fields(actor)})
        return Result(answer=record.id, subject=f"authority {record.id}")


class FinishAuthority(ImmediateOperation):
    """Have the other one sign from now on, and servers show certificates of it, while they run.

    Refused while an app does not know it, or while variables that were given out before may be in
    use elsewhere, but for `anyway`.
    """

    name: ClassVar[str] = "finish-authority"
    arguments = FinishAuthorityArguments

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._context = context

    def target(self, tx: Tx, given: FinishAuthorityArguments) -> Target:
        return Target(also=LOCK)

    async def prepare(self, given: FinishAuthorityArguments) -> FinishAuthorityArguments:
        known = await self._context.store.read(certificates.authorities)
        waiting = next((item for item in known if item.state == "next"), None)
        if waiting is None or given.anyway:
            return given
        lacking = (await unaware(self._context, known))[waiting.id]
        if why := objection(lacking.apps, lacking.elsewhere):
            raise Conflict(
                why,
                remedy="Deploy them again and give the file anew; or go on all the same: purveyor "
                "ca finish --yes",
            )
        return given

    def change(self, tx: Tx, given: FinishAuthorityArguments, actor: Who) -> Result:
        record = certificates.finish(tx)
        tx.emit("authority.signs", data={"id": record.id, **actor_fields(actor)})
        return Result(answer=record.id, subject=f"authority {record.id}")
