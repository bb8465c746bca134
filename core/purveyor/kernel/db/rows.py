"""Which rows a transaction changes: triggers of the writer's own connection tell it. They see every
statement and every cascade, whoever made them, need no migration, and leave nothing behind in the
file."""

import sqlite3
from collections.abc import Callable, Collection, Mapping

Row = tuple[str, int]  # a table, and an id
WHOLE = 0  # in place of an id: any row of the table, also one that comes
TELL = "purveyor_changed"


def watch(
    writer: sqlite3.Connection,
    tables: Mapping[str, Collection[str]],
    tell: Callable[[Row], None],
) -> None:
    """Have `tell` called with each row of these tables that is inserted, deleted, or given another
    value; those of the columns that are named with a table say what was seen, and do not count."""

    def called(table: str, number: int) -> None:
        tell((table, number))

    writer.create_function(TELL, 2, called)
    for table, seen in tables.items():
        columns = [row[1] for row in writer.execute(f'PRAGMA main.table_info("{table}")')]
        differs = " OR ".join(
            f'OLD."{name}" IS NOT NEW."{name}"' for name in columns if name not in seen
        )
        for word, row, when in (
            ("INSERT", "NEW.id", "TRUE"),
            ("DELETE", "OLD.id", "TRUE"),
            ("UPDATE", f"OLD.id), {TELL}('{table}', NEW.id", differs),  # it may be another's now
        ):
            writer.execute(
                f'CREATE TEMP TRIGGER "changed {table} {word}" AFTER {word} ON main."{table}" '
                f"WHEN {when} BEGIN SELECT {TELL}('{table}', {row}); END"
            )
