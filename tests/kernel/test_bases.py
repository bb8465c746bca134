"""The hooks as methods of typed classes: the same ones as in the specs, checked by mypy, taken as
functions are."""

import ast
import importlib
import inspect
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import purveyor_hooks as ph
from purveyor.kernel.logs import make_logger
from purveyor.kernel.plugins.registry import Plugin
from purveyor.kernel.plugins.validation import specifications
from purveyor.providers.registry import ProviderRegistry
from purveyor.providers.validation import TOGETHER
from purveyor_hooks import bases
from purveyor_hooks.elsewhere import ELSEWHERE
from purveyor_hooks.markers import DEPRECATED

ROOT = Path(__file__).resolve().parents[2]
PORT = ph.Parameter(name="port", help="", kind="integer", generated="port", base=7000)
KIND = ph.ServiceType(
    name="thing",
    label="Thing",
    description="",
    default_image="thing:1",
    parameters=(PORT,),
    ports=(ph.Port(container=7000),),
)
SHOWN = '''
"""A plugin whose class is checked."""

import purveyor_hooks as ph
from purveyor_hooks import bases


class Acme(bases.Type, bases.Links):
    def service_type(self) -> ph.ServiceType: ...

    def container(self, service: ph.Service) -> ph.ContainerSpec: ...

    async def ready(self, service: ph.Service, access: ph.Access) -> ph.Health: ...

    async def bind(self, service: ph.Service, access: ph.Access, binding: ph.Binding) -> None: ...

    async def unbind(self, service: ph.Service, access: ph.Access, binding: ph.Binding) -> None: ...

    async def purge(self, service: ph.Service, access: ph.Access, binding: ph.Binding) -> None: ...

    def environment(self, service: ph.Service, binding: ph.Binding) -> list[ph.Variable]: ...

    async def retire(self, service: ph.Service, access: ph.Access, binding: ph.Binding) -> None: ...


plugin = Acme()
'''.replace(": ...", ":\n        raise NotImplementedError")


class Thing(bases.Type):
    """The smallest one that there is."""

    def service_type(self) -> ph.ServiceType:
        return KIND

    def container(self, service: ph.Service) -> ph.ContainerSpec:
        return ph.ContainerSpec(image=service.image.reference)

    async def ready(self, service: ph.Service, access: ph.Access) -> ph.Health:
        return ph.Health(healthy=True)


def taken(plugin: Any) -> Plugin:
    registry = ProviderRegistry(make_logger(logging.CRITICAL))
    found = Plugin(name="thing")
    registry.register(plugin, found)
    return found


def visible() -> dict[str, tuple[type, Any]]:
    """Every hook of every class as a type checker sees it: those of ``if TYPE_CHECKING``, too."""
    source = Path(bases.__file__).read_text().replace("if TYPE_CHECKING:", "if True:")
    scope: dict[str, Any] = {"__name__": bases.__name__}
    exec(compile(source, bases.__file__, "exec"), scope)
    found: dict[str, tuple[type, Any]] = {}
    for member in scope.values():
        if inspect.isclass(member) and issubclass(member, scope["Plugin"]):
            for name, function in vars(member).items():
                if name in specifications():
                    assert name not in found, f"{name} is in two classes"
                    found[name] = (member, function)
    return found


def test_every_hook_is_a_method_of_one_class_with_the_types_of_its_spec() -> None:
    found, known = visible(), specifications()
    assert found.keys() == known.keys()
    for name, (_, function) in found.items():
        mine, spec = inspect.signature(function), inspect.signature(known[name])
        left_out = getattr(known[name], DEPRECATED, {})
        wanted = [item for key, item in spec.parameters.items() if key not in left_out]
        given = list(mine.parameters.values())[1:]
        assert all(item.kind is inspect.Parameter.KEYWORD_ONLY for item in given), name
        assert [(item.name, item.annotation) for item in given] == [
            (item.name, item.annotation) for item in wanted
        ], name
        assert str(mine.return_annotation).strip("\"'") == str(spec.return_annotation).strip("\"'")
        assert inspect.iscoroutinefunction(function) == inspect.iscoroutinefunction(known[name])


def test_what_a_capability_cannot_do_without_is_abstract() -> None:
    """`TOGETHER` is of hooks, whoever writes them: an object of a class passes what is its own."""
    found = visible()
    for name, others in TOGETHER.items():
        group = found[name][0].__abstractmethods__  # type: ignore[attr-defined]
        own = {other for other in others if found[other][0] is found[name][0]}
        if name in group:
            assert own <= group, name


def test_an_object_of_a_class_is_taken_as_a_module_is_and_has_what_it_implements() -> None:
    found = taken(Thing())
    assert found.error == ""
    assert found.hooks == ["container", "ready", "service_type"]
    assert not hasattr(Thing(), "identity")


def test_a_hook_that_stands_elsewhere_is_a_method_too() -> None:
    class Far(Thing):
        notes = ph.implemented_by("fake.server:notes")
        census = ph.implemented_by("fake.server:census")

    found = taken(Far())
    assert found.hooks == ["census", "container", "notes", "ready", "service_type"]
    assert ["fake.server:notes" in text for text in ph.misplaced(Far())] == [True]


def test_a_class_that_lacks_what_its_capability_needs_makes_no_object() -> None:
    class Half(Thing, bases.Backups):
        async def backup(self, service: Any, access: Any, sink: Any, tools: Any) -> Any: ...

    with pytest.raises(TypeError, match=r"census.*restore"):
        Half()  # type: ignore[abstract]


def test_the_third_party_plugin_is_such_a_class_and_mypy_finds_nothing_in_it() -> None:
    """Its driver need not be here for that."""
    pytest.importorskip("mypy", reason="other Pythons are without the tools")
    source = ROOT / "contrib/purveyor-mariadb"
    options = ("--strict", "--follow-imports=silent", "--ignore-missing-imports", "--config-file=")
    cache = ("--cache-dir", str(ROOT / ".mypy_cache"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *cache, "purveyor_mariadb"],
        capture_output=True, text=True, cwd=source,
        env={**os.environ, "MYPYPATH": str(ROOT / "hooks")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bases.Links" in (source / "purveyor_mariadb/__init__.py").read_text()


def test_a_class_in_place_of_its_object_is_told() -> None:
    assert "the class Thing: name an object" in taken(Thing).error


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("", "", "Success"),
        ("-> ph.Health", "-> bool", '"ready"'),
        ("async def unbind", "def unbind", '"unbind"'),
        ("binding: ph.Binding) -> list", "link: ph.Binding) -> list", '"environment"'),
        ("async def retire(self, service: ph.Service, access: ph.Access, binding: ph.Binding)",
         "async def retire(self, service: ph.Service)", '"retire"'),
        ("async def purge", "async def purged", "abstract"),
    ],
)  # fmt: skip
def test_mypy_finds_a_method_that_does_not_fit(
    old: str, new: str, told: str, tmp_path: Path
) -> None:
    pytest.importorskip("mypy", reason="other Pythons are without the tools")
    (tmp_path / "acme.py").write_text(SHOWN.replace(old, new) if old else SHOWN)
    options = ("--strict", "--follow-imports=silent", "--cache-dir", str(ROOT / ".mypy_cache"))
    environment = {**os.environ, "MYPYPATH": str(ROOT / "hooks")}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--config-file=", "acme.py"],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert told in done.stdout, done.stdout + done.stderr


def called_with_types() -> str:
    """A module that calls each hook of a bundled plugin that stands elsewhere, with what the method
    of its name is given, and answers what that answers."""
    source = Path(bases.__file__).read_text()
    methods = {
        node.name: node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    lines, rooms = [source[source.index("\nimport ") : source.index("class Plugin")]], set()
    registry = ProviderRegistry(make_logger(logging.CRITICAL))
    registry.load()
    for plugin in registry.plugins:
        if plugin.distribution != "purveyor":
            continue
        held = registry.module(plugin.name)
        assert isinstance(held, bases.Plugin), f"{plugin.name} is none of the typed classes"
        for hook in plugin.hooks:
            room = getattr(getattr(held, hook), ELSEWHERE, "").partition(":")[0]
            if not room:
                continue
            rooms.add(room)
            method = methods[hook]
            function = getattr(importlib.import_module(room), hook)
            takes = inspect.signature(function).parameters
            given = [item for item in method.args.kwonlyargs if item.arg in takes]
            waits = isinstance(method, ast.AsyncFunctionDef)
            assert method.returns is not None
            lines += [
                f"{'async ' * waits}def {plugin.name}_{hook}("
                f"{', '.join(ast.unparse(item) for item in given)}"
                f") -> {ast.unparse(method.returns).strip(chr(39))}:",
                f"    return {'await ' * waits}{room}.{hook}("
                f"{', '.join(f'{item.arg}={item.arg}' for item in given)})",
            ]
    assert len(rooms) > 20
    return "\n".join([*(f"import {room}" for room in sorted(rooms)), *lines])


def test_mypy_finds_nothing_in_bundled_hooks_that_stand_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="other Pythons are without the tools")
    text = called_with_types()
    (tmp_path / "called.py").write_text(text)
    (tmp_path / "wrong.py").write_text(text.replace("-> Health", "-> bool"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent",
         tmp_path / "called.py", tmp_path / "wrong.py"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "MYPYPATH": str(tmp_path)},
    )  # fmt: skip
    assert "called.py:" not in done.stdout, done.stdout
    assert 'Incompatible return value type (got "Health"' in done.stdout, done.stdout + done.stderr
