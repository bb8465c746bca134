"""The catalogue of events is complete, and true."""

import ast
import json
import logging
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import msgspec
import pytest

from purveyor.app import EVENTS, OPERATION_TYPES
from purveyor.cli.event_pages import markdown
from purveyor.extensions.operations.of_plugin import types_of
from purveyor.kernel.events import catalog
from purveyor.kernel.logs import make_logger
from purveyor.kernel.plugins.registry import GROUP, OWN
from purveyor.providers.registry import ProviderRegistry
from purveyor_hooks import events

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = {entry.type: entry for entry in catalog.build(OPERATION_TYPES, EVENTS)}
BUNDLED = [entry for entry in entry_points(group=GROUP) if entry.dist and entry.dist.name == OWN]


def emitted() -> set[str]:
    """The types that the core publishes by a literal name."""
    found = set()
    for path in (ROOT / "core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "emit"
            ):
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant):
                    found.add(first.value)
    return found


def test_every_type_that_is_published_is_in_it() -> None:
    assert emitted() <= set(ENTRIES)
    assert len(emitted()) > 5
    assert {
        "service.create.started",
        "project.deploy.failed",
        "service.unhealthy",
        "archive.broken",
    } <= set(ENTRIES)


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_each_entry_says_when_and_its_example_is_of_its_type(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.when.endswith(".")
    msgspec.convert(entry.example, getattr(events, entry.payload))
    assert entry.data_schema["type"] == "object"


def test_the_document_is_the_one_that_is_generated() -> None:
    text = (ROOT / "hooks/purveyor_hooks/EVENTS.md").read_text()
    registry = ProviderRegistry(make_logger(logging.CRITICAL))
    registry.load(BUNDLED)
    assert len(registry.kinds) == 6
    assert types_of(registry) == [], "it says that the bundled plugins bring no operation"
    assert text == markdown(list(ENTRIES.values())), (
        "purveyor events --catalogue > hooks/purveyor_hooks/EVENTS.md"
    )


def test_the_command_lists_what_installed_plugins_publish(tmp_path: Path) -> None:
    """`tests/fake/server.py` as a plugin that somebody installed."""
    info = tmp_path / "fake_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[purveyor]\nfake = fake.server\n")
    before = os.environ.get("PYTHONPATH", "")  # where another Python has the code itself
    path = os.pathsep.join([str(tmp_path), str(ROOT / "tests"), *filter(None, [before])])
    done = subprocess.run(
        [sys.executable, "-m", "purveyor", "--json", "events", "--catalogue"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    found = {entry["type"] for entry in json.loads(done.stdout)}
    assert found > ENTRIES.keys(), done.stderr
    assert {f"service.fake.tidy.{moment}" for moment, _, _ in catalog.MOMENTS} <= found
