"""A recovery as the database has it: what it came from, and how far it is."""

from datetime import datetime

import msgspec

from purveyor.kernel.db import Tx
from purveyor.kernel.db.database import note, read_note

RECOVERING = "recovering"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What a service is brought back from: backups, by their numbers, the best one first; why there
    is none. `image` is one that the data asks for, where it is another than the recorded one;
    `empty` is a person's word for a service without data."""

    backups: tuple[int, ...] = ()
    reason: str = ""
    image: str = ""
    empty: bool = False
    accept_unsigned: bool = False


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a service: `operation` says more."""

    operation: int | None = None
    error: str = ""


class Recovering(msgspec.Struct, kw_only=True):
    """A recovery that no person has called finished. `at` is the moment that was asked for,
    `highest` the last number that a binding had in the state; `pending` are the services that
    nothing was tried with yet, in their turn."""

    since: datetime
    place: str
    state_of: datetime
    host: str
    revision: int
    highest: int
    at: datetime | None = None
    keep_purged: bool = False
    choices: dict[int, Choice] = {}
    pending: list[int] = []
    results: dict[int, Result] = {}
    notes: list[str] = []
    reported: bool = False


def recovering(tx: Tx) -> Recovering | None:
    """The recovery that is under way, or waits for a person to call it finished."""
    found = read_note(tx, RECOVERING)
    return msgspec.json.decode(found, type=Recovering) if found else None


def keep(tx: Tx, record: Recovering) -> None:
    note(tx, RECOVERING, msgspec.json.encode(record).decode())
