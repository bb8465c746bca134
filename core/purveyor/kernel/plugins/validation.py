"""What is looked at in a plugin before it is taken in: all that can be told without calling it."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from purveyor_hooks import CONTRACT_VERSION, PROJECT_NAME, specs
from purveyor_hooks.elsewhere import ELSEWHERE
from purveyor_hooks.markers import DEPRECATED

Hooks = Mapping[str, Callable[..., Any]]


def specifications() -> Hooks:
    """All hooks of the contract."""
    return {
        name: member
        for name, member in inspect.getmembers(specs, inspect.isfunction)
        if hasattr(member, f"{PROJECT_NAME}_spec")
    }


def contract(wanted: Any) -> str:
    """What is wrong with the version of the contract that a plugin declares: a number, or the
    lowest and the highest that it does with. "" is nothing."""
    bounds = wanted if isinstance(wanted, tuple) else (wanted, wanted)
    if len(bounds) != 2 or not all(type(number) is int for number in bounds):
        return "PURVEYOR_CONTRACT has to be a number, or the lowest and the highest one"
    lowest, highest = bounds
    if lowest <= CONTRACT_VERSION <= highest:
        return ""
    told = f"version {lowest}" if lowest == highest else f"versions {lowest} to {highest}"
    return f"it is for {told} of the contract, this is version {CONTRACT_VERSION}"


def hooks(implemented: Hooks) -> Iterator[str]:
    """What is wrong with the hooks that a plugin implements."""
    known = specifications()
    if unknown := sorted(implemented.keys() - known.keys()):
        yield f"it implements hooks that the contract does not have: {', '.join(unknown)}"
    for name in sorted(implemented.keys() & known.keys()):
        if inspect.iscoroutinefunction(known[name]) != inspect.iscoroutinefunction(
            implemented[name]
        ):
            wanted = "async def" if inspect.iscoroutinefunction(known[name]) else "def"
            yield f"{name} has to be `{wanted}`"


def deprecations(implemented: Hooks) -> Iterator[str]:
    """What the next version of the contract will not have."""
    for name, function in sorted(implemented.items()):
        told = getattr(specifications().get(name), DEPRECATED, {})
        takes = set() if hasattr(function, ELSEWHERE) else inspect.signature(function).parameters
        for argument, why in told.items():
            if not argument:
                yield f"The hook {name} is deprecated: {why}"
            elif argument in takes:
                yield f"The argument {argument} of the hook {name} is deprecated: {why}"
