"""The audit log as the database has it."""

from datetime import datetime
from typing import Literal

import msgspec

from purveyor.kernel.db.models import Record

Outcome = Literal["ok", "begun", "refused", "failed"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written down; no field ever holds a secret.

    - actor: as the journal has it, "" for somebody who is not known; `token_id` is the token that
      was shown.
    - origin: the peer's address, "local socket" or "command line".
    - action: the method and the pattern of the address, or what Purveyor did by itself.
    - target: what the address names. `detail` are names or numbers, never values.
    - outcome: "begun" is an operation that goes on: `operation_id` tells how it ended.
    - reveals: the kind of secret or data that was shown, "" for none.
    - times: how often this was within a minute, where it was counted and not told each time.
    """

    at: datetime
    actor: str
    token_id: int | None = None
    origin: str
    action: str
    target: str = ""
    outcome: Outcome = "ok"
    status: int = 0
    reveals: str = ""
    operation_id: int | None = None
    times: int = 1
    detail: str = ""


class AuditRecord(Record, frozen=True):
    """One entry. `hash` covers it and the entry before it."""

    id: int
    at: datetime
    actor: str
    token_id: int | None
    origin: str
    action: str
    target: str
    outcome: Outcome
    status: int
    reveals: str
    operation_id: int | None
    times: int
    detail: str
    hash: str


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries: those of one actor, with one target, of a time."""

    actor: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the entries are as they were written: how many were looked at, the first and the
    last, and what is wrong."""

    entries: int
    first: int
    last: int
    problems: list[str]
