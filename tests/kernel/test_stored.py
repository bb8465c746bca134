"""What is stored is a contract with every later version, and with every earlier database, backup
and copy of the state: `data/stored.json` lists it.

An operation that was left unfinished is gone on with by the names of its steps, its arguments, the
keys of what only it knows, and its locks; a backup is read by its manifest, a recovery begins with
a copy's header. Nothing in that file is renamed or removed: what is new is added to it.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import anyio
import msgspec
import pytest

from fake.matrix import FORMS, Trial
from fake.scene import Scene
from purveyor.app import build_immediate
from purveyor.backups.manifest import Manifest
from purveyor.context import Context
from purveyor.kernel.db import Store, Tx
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import Outcome
from purveyor.recovery.models import Choice, Recovering, Result
from purveyor.recovery.sealing import Header, Mark

FILE = Path(__file__).parent.parent / "data/stored.json"
KNOWN: dict[str, Any] = json.loads(FILE.read_text())
STRUCTS: dict[str, type[msgspec.Struct]] = {
    "manifest": Manifest,
    "outcome": Outcome,
    "recovering": Recovering,
    "choice": Choice,
    "result": Result,
    "copy-header": Header,
    "copy-mark": Mark,
}
TOLD = f"what is stored is listed in tests/data/{FILE.name}: add what is new, rename and remove nothing"

Found = dict[str, dict[str, set[str]]]


def _look(tx: Tx, found: Found) -> None:
    for item in operations.list_unfinished(
        tx
    ):  # a step or a key may have the number of what it is about
        of = found.setdefault(item.verb, {"private": set(), "locks": set(), "steps": set()})
        of["private"] |= {re.sub(r"\d+", "…", key) for key in item.private or ()}
        of["locks"] |= {kind for kind, _ in item.locks or ()}
        of["steps"] |= {re.sub(r"\d+|'[^']*'", "…", name) for name in item.step_names or ()}


def watching(found: Found) -> type[Store]:
    """A store that looks at the unfinished operations after each write."""

    class WatchedStore(Store):
        async def write(self, work: Callable[[Tx], Any]) -> Any:
            answer = await super().write(work)
            await self.read(lambda tx: _look(tx, found))
            return answer

    return WatchedStore


@pytest.fixture(scope="module")
def stored(furnished: tuple[Scene, Path], room: Path) -> tuple[Found, dict[str, list[str]]]:
    """What each verb stores in one of its forms, and its arguments."""
    scene, base = furnished
    found: Found = {}
    arguments: dict[str, list[str]] = {}

    async def run(name: str) -> None:
        trial = Trial(scene, base, room / "stored", FORMS[name])
        await trial.prepare()
        scene.bring_back(trial.kept)
        async with scene.open(make_store=watching(found)) as app:
            await app.run(trial.form.verb, await trial.given(app), "test")
            for verb in app.operation_types.values():
                arguments[verb.name] = sorted(verb.arguments.__struct_fields__)

    for name in FORMS:
        anyio.run(run, name)
    shutil.rmtree(room / "stored", ignore_errors=True)
    return found, arguments


def test_operations_are_stored_as_the_file_says(
    stored: tuple[Found, dict[str, list[str]]],
) -> None:
    found, arguments = stored
    assert found.keys() == arguments.keys(), "a verb without a form in fake/matrix.py"
    told = {
        verb: {"arguments": arguments[verb], **{key: sorted(of[key]) for key in sorted(of)}}
        for verb, of in sorted(found.items())
    }
    assert told == KNOWN["operations"], TOLD


def test_operations_without_steps_are_stored_as_the_file_says() -> None:
    made = build_immediate(cast(Context, None)).values()
    arguments = {verb.name: sorted(verb.arguments.__struct_fields__) for verb in made}
    assert arguments == KNOWN["at-once"], TOLD


@pytest.mark.parametrize("name", STRUCTS)
def test_files_have_the_fields_that_the_file_says(name: str) -> None:
    assert sorted(STRUCTS[name].__struct_fields__) == KNOWN["files"][name], TOLD


def test_the_file_names_nothing_else() -> None:
    assert KNOWN.keys() == {"operations", "at-once", "files"}
    assert KNOWN["files"].keys() == STRUCTS.keys()
