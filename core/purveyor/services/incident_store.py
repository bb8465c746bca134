"""Incidents that are not over: a fact of the installation each, so that the next start knows what
was told."""

from typing import Any

import msgspec

from purveyor.kernel.db.database import Tx, note

PREFIX = "incident-"


class Told(msgspec.Struct, frozen=True):
    """What was told of one: the reasons, the last one last, and what its events carry beside them
    (the project, …)."""

    reasons: list[str]
    where: dict[str, Any] = {}


def list_all(tx: Tx) -> dict[str, Told]:
    """What was told of each, by the name of what it is about."""
    rows = tx.rows("SELECT key, value FROM meta WHERE key LIKE ?", [f"{PREFIX}%"])
    return {
        str(row["key"]).removeprefix(PREFIX): msgspec.json.decode(str(row["value"]), type=Told)
        for row in rows
    }


def keep(tx: Tx, about: str, told: Told) -> None:
    note(tx, f"{PREFIX}{about}", msgspec.json.encode(told).decode())


def forget(tx: Tx, about: str) -> None:
    tx.db.execute("DELETE FROM meta WHERE key = ?", [f"{PREFIX}{about}"])
