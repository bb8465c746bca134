"""The contract's public shape is kept in `data/contract.json`: whoever changes a name, a field or a
type of `purveyor_hooks` does so knowingly.

A plugin that was written for this version has to load, and pass its type check, with the next one.
What is new may be added; what is renamed, removed or typed otherwise needs another number of the
contract, or a deprecation (`purveyor_hooks.markers.deprecated`). To take a change in:
``.venv/bin/python tests/kernel/test_contract.py``.
"""

import ast
import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import purveyor_hooks
from purveyor_hooks.markers import STANDS_ON

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "hooks/purveyor_hooks"
FILE = ROOT / "tests/data/contract.json"
# those whose public names plugins import; the rest of the package is a toolkit
MODULES = ("bases", "errors", "markers", "operations", "protocols", "specs", "types")


def shape_of(source: str) -> dict[str, Any]:
    """Public classes, functions and constants of a module, as their source types them; neither
    comments nor docstrings."""
    found: dict[str, Any] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found[node.name] = _class(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("_"):
                found[node.name] = _function(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and not target.id.startswith("_"):
                found[target.id] = _constant(node)
    return found


def _class(node: ast.ClassDef) -> dict[str, Any]:
    inner: dict[str, str] = {}
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            inner[item.name] = _function(item)
        elif isinstance(item, ast.AnnAssign):
            inner[ast.unparse(item.target)] = _constant(item)
        elif isinstance(item, ast.Assign):
            inner[ast.unparse(item.targets[0])] = _constant(item)
    shown = {name: text for name, text in inner.items() if not name.startswith("_")}
    if "__init__" in inner:
        shown["__init__"] = inner["__init__"]
    bases = [ast.unparse(item) for item in (*node.bases, *node.keywords)]
    return {"is": bases, "has": shown}


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    marks = "".join(f"@{ast.unparse(item)} " for item in node.decorator_list)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{marks}{word}({ast.unparse(node.args)}){returns}"


def _constant(node: ast.Assign | ast.AnnAssign) -> str:
    kind = f"{ast.unparse(node.annotation)}" if isinstance(node, ast.AnnAssign) else ""
    return f"{kind} = {ast.unparse(node.value)}".strip() if node.value else kind


def contract() -> dict[str, Any]:
    """The whole of it."""
    made: dict[str, Any] = {
        name: shape_of((CONTRACT / f"{name}.py").read_text()) for name in MODULES
    }
    return {"names": sorted(purveyor_hooks.__all__), **made}


def test_the_contract_has_the_shape_that_is_on_record() -> None:
    known = json.loads(FILE.read_text())
    now = contract()
    changed = [
        f"{module}.{name}: {known[module].get(name)} is {now[module].get(name)} now"
        for module in MODULES
        for name in sorted({*known[module], *now[module]})
        if known[module].get(name) != now[module].get(name)
    ]
    assert changed == [], "see the head of this file"
    assert now["names"] == known["names"]


def test_a_change_of_a_name_a_field_or_a_type_is_seen_and_one_of_words_is_not() -> None:
    source = 'class A(B, frozen=True):\n    """Old."""\n    x: int = 1\n    def f(self, a: str) -> int: ...\n'
    before = shape_of(source)
    assert shape_of(source.replace("Old", "New") + "# more\n") == before
    for old, new in (
        ("x: int", "y: int"),
        ("x: int", "x: str"),
        ("= 1", "= 2"),
        ("frozen=True", "frozen=False"),
        ("a: str", "b: str"),
        ("-> int", "-> str"),
        ("def f", "async def f"),
        ("class A", "class C"),
    ):
        assert shape_of(source.replace(old, new)) != before, new


def test_the_majors_that_the_contract_stands_on_are_those_that_are_installed_and_allowed() -> None:
    assert {name: int(version(name).partition(".")[0]) for name in STANDS_ON} == STANDS_ON
    server, hooks = (
        tomllib.loads((ROOT / path).read_text())["project"]
        for path in ("pyproject.toml", "hooks/pyproject.toml")
    )
    wanted = [*server["dependencies"], *hooks["dependencies"]]
    for name, major in STANDS_ON.items():
        said = [item for item in wanted if re.match(rf"{name}(\[|[<>=~ ])", item)]
        assert said, name
        for item in said:
            assert f"<{major + 1}" in item.replace(" ", ""), item
            assert re.search(rf">={major}\b", item), item


if __name__ == "__main__":
    FILE.write_text(json.dumps(contract(), indent=1, ensure_ascii=False, sort_keys=True) + "\n")
