"""By which version of its library a database sorts. What a restore builds is sorted anew, and so it
is whole; but another version may sort otherwise, and whoever relies on the order is told."""

from collections.abc import Mapping
from typing import Any

from purveyor_hooks import Finding

# the version that is kept is that of the library by which it was made or refreshed; C has none
VERSIONS = """
SELECT 'the database' AS what, to_jsonb(d)->>'datcollversion' AS version FROM pg_database d
    WHERE d.datname = current_database()
UNION ALL SELECT format('collation %I.%I', n.nspname, c.collname), c.collversion FROM pg_collation c
    JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid >= 16384
ORDER BY 1
"""


async def versions(opened: Any) -> dict[str, str]:
    """Of the database and of the collations that were made in it."""
    return {row["what"]: row["version"] for row in await opened.fetch(VERSIONS) if row["version"]}


async def compare(opened: Any, database: str, before: Mapping[str, str]) -> list[Finding]:
    """What sorts by another version than it did."""
    now = await versions(opened)
    return [
        Finding(
            where=database,
            what=what,
            why=f"it sorted by version {version} of its library and sorts by {now[what]} here: "
            "every index is built anew; bounds of partitions and checks may mean something else",
            notice=True,
        )
        for what, version in before.items()
        if now.get(what, version) != version
    ]
