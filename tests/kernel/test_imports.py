"""Who may import whom: the contract, the plugins, the kernel, the bases, the features; read from the
code itself."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core"
PLUGINS = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()}
STANDS_ON = {
    "purveyor_kv_service": {"purveyor_kv", "purveyor_redis"},
    "purveyor_blob_service": {"purveyor_s3"},
}
SDKS = ("purveyor_blob", "purveyor_kv")

# what puts all the rest together: it may import anything, and nothing imports it
ABOVE = {
    "__main__", "app", "asgi", "certified", "checks", "doctor", "doctor_routes", "examined",
    "internal_client", "program",
}  # fmt: skip
# how features expose their operations: every command and client may know that
EXPOSED = re.compile(r"\w+\.exposed$")
# what features are built on: the kernel knows nothing of ours; Docker, service types and the command
# line know it, and the daemon's door stands on Docker's network; the context puts all together
BASES = {
    "kernel": set(),
    "docker": {"kernel"},
    "exposed": {"kernel"},
    "settings": {"kernel", "docker"},
    "providers": {"kernel"},
    "context": {"kernel", "docker", "settings", "providers"},
    "cli": {"kernel", "docker", "context", "exposed", "providers"},
    "migrations": set(),
}
# features, and those that each stands on
STANDING = {
    "audit": set(),
    "access": {"audit"},
    "distributions": set(),
    "services": set(),
    "projects": {"services"},
    "backups": {"services", "projects"},
    "deployments": {"services", "projects"},
    "upgrades": {"services", "projects"},
    "archiving": {"services", "projects", "backups", "deployments", "upgrades"},
    "extensions": {"services", "projects"},
    "recovery": {
        "migrations",
        "audit",
        "services",
        "projects",
        "backups",
        "deployments",
        "upgrades",
        "archiving",
    },
}
# those that are about no service: nothing of Docker is theirs
APART = {"audit", "access", "distributions"}
FEATURES = {
    name: below
    | {"kernel", "exposed", "settings"}
    | (set() if name in APART else {"docker", "context", "providers"})
    for name, below in STANDING.items()
}
BELOW = BASES | FEATURES | {"clients": {"exposed"}}
# what stands at the command line, of whichever feature: it alone knows `cli`
COMMANDS = re.compile(r"(.*\.(\w+_)?commands|services\.connect|clients\..*)$")


def modules() -> dict[str, Path]:
    """Every module of the core, without `purveyor.`."""
    found = {}
    for path in (CORE / "purveyor").rglob("*.py"):
        parts = path.relative_to(CORE / "purveyor").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever that stands; of `from a import b` it is `a.b`
    where that is a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("purveyor.") in MODULES else str(node.module)


def allowed(module: str, other: str) -> bool:
    """Whether a module of the core may import another one."""
    room, target = module.partition(".")[0], other.partition(".")[0]
    if not other or room in ABOVE or room == "" or room == target:
        return True
    assert room in BELOW, f"{module} is in no room that is known"
    known = target == "cli" or EXPOSED.match(other)
    return target in BELOW[room] or bool(known and COMMANDS.match(module))


def arrows() -> set[tuple[str, str]]:
    """(module, module) of the core, where the first may not import the second."""
    found = set()
    for module, path in MODULES.items():
        for name in imported(path):
            if name == "purveyor" or name.startswith("purveyor."):
                other = name.removeprefix("purveyor").removeprefix(".")
                if not allowed(module, other):
                    found.add((module, other))
    return found


def test_nothing_runs_upward() -> None:
    assert arrows() == set()


def test_the_contract_imports_nothing_of_ours() -> None:
    ours = {"purveyor"} | PLUGINS
    for path in (ROOT / "hooks").rglob("*.py"):
        assert {name for name in imported(path) if name.partition(".")[0] in ours} == set(), path


@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_a_plugin_imports_the_contract_and_never_the_core(plugin: str) -> None:
    others = {"purveyor"} | PLUGINS - {plugin} - STANDS_ON.get(plugin, set())
    for path in (ROOT / "plugins" / plugin).rglob("*.py"):
        assert {name for name in imported(path) if name.partition(".")[0] in others} == set(), path


@pytest.mark.parametrize("sdk", SDKS)
def test_an_sdk_imports_nothing_else_of_ours(sdk: str) -> None:
    for path in (ROOT / "plugins" / sdk).rglob("*.py"):
        assert {
            name
            for name in imported(path)
            if name.startswith("purveyor") and name.partition(".")[0] != sdk
        } == set(), path


def test_the_core_never_imports_a_plugin() -> None:
    for path in MODULES.values():
        assert {name for name in imported(path) if name.partition(".")[0] in PLUGINS} == set(), path
