"""End a recovery: a person has looked."""

from typing import ClassVar

import msgspec

from purveyor.kernel.actors import Who
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import ImmediateOperation, Result, Target
from purveyor.recovery import controller


class FinishRecoveryArguments(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """It needs none."""


class FinishRecovery(ImmediateOperation):
    """Apps, webhooks, schedules and expiry go on."""

    name: ClassVar[str] = "finish-recovery"
    arguments = FinishRecoveryArguments

    def target(self, tx: Tx, given: FinishRecoveryArguments) -> Target:
        return Target(also=(("recovery", 0),))

    def change(self, tx: Tx, given: FinishRecoveryArguments, actor: Who) -> Result:
        ended = controller.finish(tx)
        return Result(answer=None, subject=f"the recovery from {ended.place}")
