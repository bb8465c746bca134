"""What sorts by ICU is sorted alike after a restore; where it cannot be, or another version of the
library sorts, that is named. The wheels' PostgreSQL is built without ICU: Debian's has it."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_postgres_backups import Make, count, fill, make, one, save

from purveyor_postgres.record import read_server
from purveyor_postgres.server import connection
from servers import Server, Stream, awaited

__all__ = ["make"]  # a fixture

ROOT = Path(__file__).parents[3]
# each major has another column for it
KEPT_IN = {15: "daticulocale", 16: "daticulocale", 17: "datlocale", 18: "datlocale"}
FILLED = """
SET SESSION AUTHORIZATION shop;
CREATE COLLATION phonebook (provider = icu, locale = 'de-u-co-phonebk');
CREATE COLLATION loose (provider = icu, locale = 'und-u-kn-true-ks-level2', deterministic = false);
CREATE TABLE names (name text PRIMARY KEY, de text COLLATE phonebook);
INSERT INTO names SELECT n, n FROM unnest(ARRAY['Zug', 'Öl', 'Ofen', 'gut', 'bar', 'arm']) n;
CREATE INDEX ON names (de, name COLLATE "de-AT-x-icu");
CREATE TABLE files (file text COLLATE loose UNIQUE); INSERT INTO files VALUES ('File10'), ('file9');
CREATE TABLE parts (de text COLLATE phonebook) PARTITION BY RANGE (de);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM (MINVALUE) TO ('Ofen');
CREATE TABLE parts_z PARTITION OF parts FOR VALUES FROM ('Ofen') TO (MAXVALUE);
INSERT INTO parts SELECT de FROM names;
"""
IN_ORDER = """
SELECT string_agg(name, ' ' ORDER BY de) FROM names
UNION ALL SELECT string_agg(name, ' ' ORDER BY name) FROM names
UNION ALL SELECT string_agg(file, ' ' ORDER BY file) FROM files
UNION ALL SELECT string_agg(de, ' ' ORDER BY de) FROM parts_a
"""


@pytest.fixture(scope="module")
def with_icu(engine: None) -> Callable[[int], dict[str, Any]]:
    images = [f"postgres:{major}-icu" for major in (15, 17)]
    subprocess.run([ROOT / "contrib/images/build", *images], check=True, stdout=subprocess.DEVNULL)
    return lambda major: {"image": f"purveyor-test/postgres:{major}-icu"}


def swedish(server: Server, rules: str = "") -> None:
    """A database that sorts as Swedes do."""
    one(server, "plain")
    server.psql(
        "CREATE DATABASE sorted OWNER shop TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' "
        f"LOCALE_PROVIDER icu ICU_LOCALE 'sv-SE'{rules}"
    )
    server.psql(FILLED, "sorted")


SORTED = ["arm bar gut Öl Ofen Zug", "arm bar gut Ofen Zug Öl", "file9 File10", "arm bar gut Öl"]


@pytest.mark.fortnightly
@awaited
async def test_from_one_major_to_another_it_sorts_alike_and_both_versions_of_icu_are_named(
    make: Make, with_icu: Callable[[int], dict[str, Any]]
) -> None:
    source, target, stream = make(15, **with_icu(15)), make(17, **with_icu(17)), Stream()
    swedish(source)
    assert source.psql(IN_ORDER, "sorted").splitlines() == SORTED
    census = await save(source, stream, target)
    assert not census.failed
    said = await fill(target, stream, takes_over=True)
    what = ("collation public.loose", "collation public.phonebook", "the database")
    for item, name in zip(said, what, strict=True):
        assert item.startswith(f"sorted: {name}: it sorted by version 153.120"), item
        assert "sorts by 153.128" in item, item
    assert census.differences(await count(target)) == []
    assert target.psql(IN_ORDER, "sorted").splitlines() == SORTED
    kept = "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'sorted'"
    assert target.psql(kept) == "i|sv-SE"
    with pytest.raises(AssertionError, match="duplicate key"):
        target.psql("INSERT INTO files VALUES ('FILE9')", "sorted")


@pytest.mark.fortnightly
@awaited
async def test_rules_of_its_own_come_along_and_a_server_without_icu_is_told_of(
    make: Make, with_icu: Callable[[int], dict[str, Any]]
) -> None:
    source, target, without = make(17, **with_icu(17)), make(17, **with_icu(17)), make(17)
    swedish(source, " ICU_RULES '&a < g'")
    sorted_by = [SORTED[0], "arm gut bar Ofen Zug Öl", *SORTED[2:]]
    assert source.psql(IN_ORDER, "sorted").splitlines() == sorted_by
    stream = Stream()
    census = await save(source, stream)
    assert await fill(target, stream) == []
    assert census.differences(await count(target)) == []
    assert target.psql(IN_ORDER, "sorted").splitlines() == sorted_by
    said = await fill(without, stream)
    assert any(
        item.startswith("sorted: locale sv-SE: the image does not have it: ICU is not supported")
        for item in said
    )
    assert any(item.startswith("sorted: COLLATION public loose: ") for item in said)
    assert without.psql("SELECT 1", "plain") == "1"


@pytest.mark.fortnightly
@pytest.mark.parametrize("major", KEPT_IN)
@awaited
async def test_where_each_major_keeps_it_is_known(major: int, make: Make) -> None:
    server = make(major)
    one(server, "sorted")
    rules = ", daticurules = '&V << w'" if major > 15 else ""
    server.psql(
        f"UPDATE pg_database SET datlocprovider = 'i', {KEPT_IN[major]} = 'de-AT'{rules} WHERE "
        "datname = 'sorted'"
    )
    async with connection(server.service, server) as opened:
        found, _ = await read_server(opened)
    (database,) = [item for item in found.databases if item.name == "sorted"]
    assert (database.provider, database.locale) == ("i", "de-AT")
    assert database.rules == ("&V << w" if major > 15 else None)
