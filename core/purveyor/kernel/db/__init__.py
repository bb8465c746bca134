"""The durable state: one SQLite database, its writer, and the rooms that know its tables."""

from purveyor.kernel.db.database import Page, Store, Tx

__all__ = ["Page", "Store", "Tx"]
