"""Operations and their steps as the database has them."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from purveyor.kernel.db.models import Record
from purveyor_hooks import Finding


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an operation that moved data found: `differences` between what was there and what came,
    `findings` about single things, `left_out` what exists and is not carried."""

    differences: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    left_out: tuple[Finding, ...] = ()

    @property
    def losses(self) -> list[str]:
        """All that is not as it was, in words; notices are none."""
        told = [str(item) for item in (*self.findings, *self.left_out) if not item.notice]
        return [*self.differences, *told]


class OperationRecord(Record, frozen=True):
    id: int
    verb: str
    service_id: int | None
    project_id: int | None
    actor: str
    arguments: dict[str, Any]
    private: dict[str, Any] | None
    state: Literal["running", "undoing", "succeeded", "failed", "abandoned"]
    error: dict[str, Any] | None
    created_at: datetime
    ended_at: datetime | None
    locks: list[tuple[str, int]] | None = None
    outcome: Outcome | None = None
    token_id: int | None = None
    step_names: list[str] | None = None
    internal: list[str] | None = None

    @property
    def service(self) -> int:
        """The service that it is about, of an operation that is about one."""
        assert self.service_id is not None, f"operation {self.id} ({self.verb}) is about no service"
        return self.service_id


class StepRecord(Record, frozen=True):
    operation_id: int
    name: str
    state: Literal["started", "done", "failed", "undone"]
    started_at: datetime
    ended_at: datetime | None
