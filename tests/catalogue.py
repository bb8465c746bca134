"""Whether what an installation published is what the catalogue of events says."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from purveyor.app import EVENTS, OPERATION_TYPES
from purveyor.kernel.events import catalog
from purveyor_hooks import events

CATALOGUE = {entry.type: entry for entry in catalog.build(OPERATION_TYPES, EVENTS)}
# of operations that plugins bring: service.TYPE.NAME.moment
OF_PLUGINS = {moment: type(example).__name__ for moment, _, example in catalog.MOMENTS}


def uncatalogued(state: Path) -> list[str]:
    """Whatever the installation published that is not as the catalogue says."""
    if not (state / "purveyor.db").exists():
        return []
    wrong = []
    with closing(sqlite3.connect(state / "purveyor.db")) as db:
        for kind, data in db.execute("SELECT type, data FROM events").fetchall():
            entry = CATALOGUE.get(kind)
            subject, *of, moment = kind.split(".")
            try:
                if entry is None:
                    assert (subject, len(of)) == ("service", 2), "it is not in the catalogue"
                payload = entry.payload if entry else OF_PLUGINS[moment]
                msgspec.convert(json.loads(data), getattr(events, payload))
            except (AssertionError, KeyError, msgspec.ValidationError) as error:
                wrong.append(f"{kind} {data}: {error}")
    return wrong
