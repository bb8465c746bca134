"""Operations as the API tells them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from purveyor.kernel.operations.models import OperationRecord, Outcome, StepRecord


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    state: str
    started_at: datetime
    ended_at: datetime | None


class OperationView(msgspec.Struct, frozen=True, kw_only=True):
    """An operation: `state` is running, undoing, succeeded, failed or abandoned. `outcome` is of
    one that moved data: what is not as it was, and what exists and was not carried. `token_id` is
    the token that its `actor` showed. `waits` says why one that has not ended cannot be ended now;
    it is tried again."""

    id: int
    verb: str
    service_id: int | None
    project_id: int | None
    actor: str
    token_id: int | None
    arguments: dict[str, Any]
    state: str
    error: dict[str, Any] | None
    created_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None = None
    waits: str = ""
    steps: list[StepView] = []


def operation_view(
    record: OperationRecord, steps: Sequence[StepRecord] = (), waits: str = ""
) -> OperationView:
    return OperationView(
        id=record.id,
        verb=record.verb,
        service_id=record.service_id,
        project_id=record.project_id,
        actor=record.actor,
        token_id=record.token_id,
        arguments={
            name: value
            for name, value in record.arguments.items()
            if name not in (record.internal or ())
        },
        state=record.state,
        error=record.error,
        created_at=record.created_at,
        ended_at=record.ended_at,
        outcome=record.outcome,
        waits=waits,
        steps=[
            StepView(name=s.name, state=s.state, started_at=s.started_at, ended_at=s.ended_at)
            for s in steps
        ],
    )
