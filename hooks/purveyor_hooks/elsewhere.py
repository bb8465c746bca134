"""Implementations of hooks that stand in another module of the plugin, imported when one is first
called: drivers take long to import, and most installations use few of them."""

import inspect
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from purveyor_hooks import specs
from purveyor_hooks.markers import hookimpl

ELSEWHERE = "purveyor_elsewhere"


def implemented_by(place: str) -> Callable[..., Any]:
    """The implementation of a hook by the function of its name in another module.

    - place: module and hook, ``ready = implemented_by("acme_store.server:ready")``. The function
      takes by name what it needs of the hook's arguments.

    A module that cannot be imported is a fault of the plugin, told when the hook is called. The
    conformance kit looks at all of them (`misplaced`).
    """
    module, _, hook = place.partition(":")
    spec = getattr(specs, hook)
    names = tuple(inspect.signature(spec).parameters)

    @cache
    def found() -> tuple[Callable[..., Any], frozenset[str]]:
        function = getattr(import_module(module), hook)
        return function, frozenset(inspect.signature(function).parameters)

    def call(*given: Any, **named: Any) -> Any:
        function, takes = found()
        arguments = dict(zip(names, given, strict=False)) | named
        return function(**{name: arguments[name] for name in takes if name in arguments})

    async def call_async(*given: Any, **named: Any) -> Any:
        return await call(*given, **named)

    chosen = call_async if inspect.iscoroutinefunction(spec) else call
    chosen.__module__, chosen.__name__, chosen.__qualname__ = module, hook, hook
    # pluggy reads the arguments from what is wrapped
    setattr(chosen, "__wrapped__", spec)  # noqa: B010 mypy knows no such attribute of a function
    setattr(chosen, ELSEWHERE, place)
    return hookimpl(chosen)


def misplaced(plugin: Any) -> list[str]:
    """What is wrong with the implementations of a plugin that are elsewhere, a sentence each."""
    wrong = []
    for name in dir(plugin):
        place = getattr(getattr(plugin, name), ELSEWHERE, "")
        if not place:
            continue
        module, _, hook = place.partition(":")
        if hook != name:
            wrong.append(f"{name} is implemented by {place}, which is named like another hook.")
            continue
        spec = getattr(specs, hook)
        try:
            function = getattr(import_module(module), hook)
        except (ImportError, AttributeError) as error:
            wrong.append(f"{name} is implemented by {place}, which is not there: {error}.")
            continue
        takes = inspect.signature(function).parameters.values()
        needs = {item.name for item in takes if item.default is item.empty}
        if unknown := sorted(needs - inspect.signature(spec).parameters.keys()):
            wrong.append(f"{place} takes {', '.join(unknown)}, which the hook {hook} has not.")
        if inspect.iscoroutinefunction(function) != inspect.iscoroutinefunction(spec):
            kind = "async def" if inspect.iscoroutinefunction(spec) else "def"
            wrong.append(f"{place} has to be `{kind}`.")
    return wrong
