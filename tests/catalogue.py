"""Whether what an installation published is what the catalogue of events says."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from fake.server import Tidy
from purveyor.app import EVENTS, OPERATION_TYPES
from purveyor.extensions.operations.of_plugin import type_of
from purveyor.kernel.events import catalog
from purveyor_hooks import events

OF_PLUGINS = [type_of("fake", Tidy())]
CATALOGUE = {
    entry.type: entry
    for entry in catalog.build([*OPERATION_TYPES, *OF_PLUGINS], EVENTS)  # type: ignore[list-item]
}


def uncatalogued(state: Path) -> list[str]:
    """Whatever the installation published that is not as the catalogue says."""
    if not (state / "purveyor.db").exists():
        return []
    wrong = []
    with closing(sqlite3.connect(state / "purveyor.db")) as db:
        for kind, data in db.execute("SELECT type, data FROM events").fetchall():
            entry = CATALOGUE.get(kind)
            try:
                assert entry is not None, "it is not in the catalogue"
                msgspec.convert(json.loads(data), getattr(events, entry.payload))
            except (AssertionError, msgspec.ValidationError) as error:
                wrong.append(f"{kind} {data}: {error}")
    return wrong
