"""Operations and their steps: what is being done, how far it is, and how it ended."""

from collections.abc import Sequence
from typing import Any

import msgspec

from purveyor.kernel.db.database import Page, Row, Tx, convert, matching
from purveyor.kernel.operations.models import OperationRecord, Outcome, StepRecord
from purveyor_hooks import NotFound


def _record(tx: Tx, row: Row) -> OperationRecord:
    return convert(
        row,
        OperationRecord,
        tx.secrets,
        plain=["arguments", "error", "locks", "outcome", "step_names", "internal"],
        sealed=["private"],
    )


def insert(
    tx: Tx,
    verb: str,
    *,
    service_id: int | None = None,
    project_id: int | None = None,
    actor: str,
    arguments: dict[str, Any],
    private: dict[str, Any] | None = None,
) -> int:
    return tx.insert(
        "operations",
        verb=verb,
        service_id=service_id,
        project_id=project_id,
        actor=actor,
        arguments=msgspec.json.encode(arguments).decode(),
        private=None if private is None else tx.secrets.seal(private),
        state="running",
        created_at=tx.now,
    )


def keep_intent(
    tx: Tx,
    operation_id: int,
    token_id: int | None,
    keys: Sequence[tuple[str, int]],
    internal: Sequence[str] = (),
) -> None:
    """Note the token that an operation was asked for with, the locks that it holds until it has
    ended (after a crash they are taken again), and which of its arguments nobody is shown: its type
    may be gone by then."""
    tx.update(
        "operations",
        "id = ?",
        [operation_id],
        token_id=token_id,
        locks=msgspec.json.encode(keys).decode(),
        internal=msgspec.json.encode(internal).decode(),
    )


def keep_steps(tx: Tx, operation_id: int, names: Sequence[str]) -> None:
    """Note what an operation will do, step by step: whoever goes on with it does these and no
    others, also a later version."""
    tx.update(
        "operations", "id = ?", [operation_id], step_names=msgspec.json.encode(names).decode()
    )


def keep_private(tx: Tx, operation_id: int, private: dict[str, Any]) -> None:
    """Note what only an operation knows, in place of what was noted before."""
    tx.update("operations", "id = ?", [operation_id], private=tx.secrets.seal(private))


def note_outcome(tx: Tx, operation_id: int, outcome: Outcome) -> None:
    """Note what an operation found, in place of what an earlier try of it did."""
    tx.update("operations", "id = ?", [operation_id], outcome=msgspec.json.encode(outcome).decode())


def outcome(tx: Tx, operation_id: int) -> Outcome:
    return get(tx, operation_id).outcome or Outcome()


def get(tx: Tx, operation_id: int) -> OperationRecord:
    row = tx.row("SELECT * FROM operations WHERE id = ?", [operation_id])
    if row is None:
        raise NotFound(f"There is no operation {operation_id}.")
    return _record(tx, row)


def list_page(
    tx: Tx,
    *,
    service_id: int | None = None,
    project_id: int | None = None,
    state: str | None = None,
    limit: int = 50,
    offset: int = 0,
) -> Page[OperationRecord]:
    """Operations, newest first."""
    where, given = matching(service_id=service_id, project_id=project_id, state=state)
    found = tx.page(
        "*", f"operations WHERE {where}", given, order="id DESC", limit=limit, offset=offset
    )
    return Page([_record(tx, row) for row in found.items], found.total)


def list_unfinished(tx: Tx) -> list[OperationRecord]:
    """Operations that are neither done nor undone, oldest first."""
    rows = tx.rows("SELECT * FROM operations WHERE state IN ('running', 'undoing') ORDER BY id")
    return [_record(tx, row) for row in rows]


def of_service(tx: Tx, service_id: int) -> OperationRecord | None:
    """An operation on a service that has not ended."""
    return next((item for item in list_unfinished(tx) if item.service_id == service_id), None)


def set_state(tx: Tx, operation_id: int, state: str, error: dict[str, Any] | None = None) -> None:
    """Note how an operation stands. What only it knows is forgotten once it is done or undone; one
    that was abandoned may have left a password that is nowhere else."""
    ended = tx.now if state in ("succeeded", "failed", "abandoned") else None
    values: dict[str, Any] = {"state": state, "ended_at": ended}
    if error is not None:
        values["error"] = msgspec.json.encode(error).decode()
    if ended and state != "abandoned":
        values["private"] = None
    tx.update("operations", "id = ?", [operation_id], **values)


def end_at_once(tx: Tx, operation_id: int, project_id: int | None) -> None:
    """Note that an operation without steps is done, and whose history it is in."""
    set_state(tx, operation_id, "succeeded")
    tx.update("operations", "id = ?", [operation_id], project_id=project_id)


def steps(tx: Tx, operation_id: int) -> list[StepRecord]:
    """The steps that were begun, in that order."""
    rows = tx.rows(
        "SELECT * FROM steps WHERE operation_id = ? ORDER BY number, started_at", [operation_id]
    )
    return [convert(row, StepRecord, tx.secrets) for row in rows]


def start_step(tx: Tx, operation_id: int, name: str) -> None:
    """Note that a step begins, for the first time or again."""
    tx.db.execute("DELETE FROM steps WHERE operation_id = ? AND name = ?", [operation_id, name])
    number = tx.value(
        "SELECT coalesce(max(number), 0) + 1 FROM steps WHERE operation_id = ?", [operation_id]
    )
    tx.insert(
        "steps",
        operation_id=operation_id,
        name=name,
        state="started",
        started_at=tx.now,
        number=number,
    )


def end_step(tx: Tx, operation_id: int, name: str, state: str) -> None:
    tx.update(
        "steps", "operation_id = ? AND name = ?", [operation_id, name], state=state, ended_at=tx.now
    )
