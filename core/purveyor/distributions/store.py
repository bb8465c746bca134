"""What was installed beside Purveyor, and from which wheel."""

from typing import Any

from purveyor.distributions.models import InstalledRecord
from purveyor.kernel.db.database import Tx, convert


def note(tx: Tx, distribution: str, **values: Any) -> InstalledRecord:
    """Note that a distribution was installed, in place of what was noted of it before."""
    forget(tx, distribution)
    tx.insert("installed_plugins", distribution=distribution, **values, installed_at=tx.now)
    found = find(tx, distribution)
    assert found is not None
    return found


def find(tx: Tx, distribution: str) -> InstalledRecord | None:
    row = tx.row("SELECT * FROM installed_plugins WHERE distribution = ?", [distribution])
    return convert(row, InstalledRecord, tx.secrets) if row else None


def list_all(tx: Tx) -> list[InstalledRecord]:
    rows = tx.rows("SELECT * FROM installed_plugins ORDER BY distribution")
    return [convert(row, InstalledRecord, tx.secrets) for row in rows]


def forget(tx: Tx, distribution: str) -> None:
    tx.db.execute("DELETE FROM installed_plugins WHERE distribution = ?", [distribution])
