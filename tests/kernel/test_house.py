"""The rules that hold the house up, read from the code itself."""

import ast
import inspect
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from purveyor.settings import Settings
from purveyor_hooks import errors, protocols, specs, types

pytestmark = pytest.mark.daily

ROOT = Path(__file__).resolve().parents[2]
OURS = {"purveyor", "purveyor_hooks"} | {
    path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()
}
PLUGINS = OURS - {"purveyor", "purveyor_hooks"}
HOOKS = {
    name: member
    for name, member in inspect.getmembers(specs, inspect.isfunction)
    if hasattr(member, "purveyor_spec")
}


@cache
def imports(folder: Path) -> set[tuple[str, str]]:
    """(file, top-level package) of everything that is imported below a folder."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            found |= {(str(path.relative_to(ROOT)), name.partition(".")[0]) for name in names}
    return found


def test_the_core_never_names_a_plugin() -> None:
    assert {(file, name) for file, name in imports(ROOT / "core") if name in PLUGINS} == set()
    kinds = re.compile(r"""["'](?:postgres|redis|mongodb|s3|kv|blob)["']""")
    for path in (ROOT / "core").rglob("*.py"):
        if path.name != "s3.py":  # it names a protocol, which the driver calls so
            assert not kinds.search(path.read_text()), f"{path} names a service type"


@pytest.mark.parametrize(("files", "forbidden"), [
    ("kernel/db/*.py **/store.py **/models.py", {"aiodocker", "litestar", "click"}),
    ("kernel/**/*.py", {"aiodocker", "click"}),
    ("docker/*.py", {"sqlite_utils", "litestar", "click"}),
    ("kernel/operations/*.py", {"sqlite_utils", "aiodocker", "litestar", "click"}),
    ("[!k]*/operations/*.py", {"sqlite_utils", "aiodocker", "litestar", "click", "httpx"}),
    ("**/exposed.py exposed/__init__.py", {"sqlite_utils", "aiodocker", "litestar", "click", "msgspec"}),
    ("kernel/api/*.py **/routes.py **/schemas.py audit/answers.py asgi.py",
    {"sqlite_utils", "aiodocker", "click"}),
    ("cli/*.py **/commands.py clients/*.py services/connect.py",
    {"sqlite_utils", "aiodocker", "litestar"}),
])  # fmt: skip
def test_each_room_knows_its_own_trade_only(files: str, forbidden: set[str]) -> None:
    for pattern in files.split():
        paths = {str(path.relative_to(ROOT)) for path in (ROOT / "core/purveyor").glob(pattern)}
        assert paths, pattern
        if pattern.endswith("*.py"):  # routes and commands have lines of their own
            paths = {path for path in paths if not path.endswith(("/routes.py", "/commands.py"))}
        assert {
            (file, name)
            for file, name in imports(ROOT / "core/purveyor")
            if file in paths and name in forbidden
        } == set()


def test_the_kernel_is_read_in_an_afternoon() -> None:
    lines = {
        path: len(path.read_text().splitlines())
        for path in (ROOT / "core/purveyor/kernel").rglob("*.py")
    }
    assert sum(lines.values()) < 6000, sorted(lines.items(), key=lambda item: -item[1])[:5]
    assert max(lines.values()) < 500, max(lines.items(), key=lambda item: item[1])


def test_no_task_is_without_a_parent() -> None:
    for path in [*(ROOT / "core").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        assert "create_task(" not in path.read_text().replace("create_task_group(", ""), path


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_every_hook_and_each_of_its_arguments_is_documented(hook: str) -> None:
    text = inspect.getdoc(HOOKS[hook]) or ""
    assert text.partition("\n")[0].strip(), f"{hook} has no sentence"
    for argument in inspect.signature(HOOKS[hook]).parameters:
        assert f"- {argument}: " in text, f"{hook} does not say what {argument} is"


@pytest.mark.parametrize("module", [types, protocols, errors])
def test_every_public_value_protocol_and_error_is_documented(module: object) -> None:
    own = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__
    ]  # type: ignore[attr-defined]
    assert own
    for member in own:
        assert "__doc__" in vars(member), member
        assert inspect.getdoc(member), member


def test_every_setting_is_documented() -> None:
    text = inspect.getdoc(Settings) or ""
    for field in Settings.__struct_fields__:
        assert f"- {field.replace('_', '-')}:" in text, field


def test_every_module_says_what_it_is() -> None:
    for folder in ("core", "hooks", "plugins", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_two_test_modules_have_one_name() -> None:
    """pytest takes the second for the first, and runs none of it."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, number in names.items() if number > 1] == []


def test_nothing_names_a_package_registry() -> None:
    hosts = re.compile(
        "|".join(
            [
                "pypi" + r"\.org",
                "python" + "hosted",
                r"registry\.npm",
                r"deb\." + "debian",
                "proxy" + r"\.golang",
            ]
        )
    )
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert listed
    for name in listed:
        assert not hosts.search((ROOT / name).read_text(errors="ignore")), name
