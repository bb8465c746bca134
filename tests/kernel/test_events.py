"""The catalogue of events is complete, and true."""

import ast
from pathlib import Path

import msgspec
import pytest

from purveyor.app import EVENTS, OPERATION_TYPES
from purveyor.cli.event_pages import markdown
from purveyor.kernel.events import catalog
from purveyor_hooks import events

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = {entry.type: entry for entry in catalog.build(OPERATION_TYPES, EVENTS)}


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
    assert text == markdown(list(ENTRIES.values())), (
        "purveyor events --catalogue > hooks/purveyor_hooks/EVENTS.md"
    )
