"""What can be told of the operations that a plugin brings without running one."""

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from purveyor_hooks.operations import Arguments, ServiceOperation
from purveyor_hooks.types import Step

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
ARGUMENT = re.compile(r"[a-z][a-z0-9_]{0,39}")
LONGEST_STEP = 86_400  # seconds without a sign of progress


def faults(declared: Sequence[Any]) -> Iterator[str]:
    """What is wrong with the operations that a plugin brings."""
    seen: set[str] = set()
    for item in declared:
        if not isinstance(item, ServiceOperation):
            yield f"operations answers {type(item).__name__}, not ServiceOperation"
            continue
        name = getattr(item, "name", None)
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            yield (
                f"the operation name {name!r} has to be of lower-case letters, digits and hyphens"
            )
            continue
        if name in seen:
            yield f"the operation {name} is there twice"
        seen.add(name)
        for why in _operation(item):
            yield f"the operation {name} {why}"


def _operation(item: ServiceOperation[Any]) -> Iterator[str]:
    summary = getattr(item, "summary", None)
    if not isinstance(summary, str) or not summary.strip() or not summary.isprintable():
        yield "has no summary, one sentence"
    if item.lock not in ("service", "backup"):
        yield f"takes the lock {item.lock!r}, and not service or backup"
    if item.scope not in ("admin", "project"):
        yield f"has the scope {item.scope!r}, and not admin or project"
    for method in ("draft", "do", "undo"):
        if not inspect.iscoroutinefunction(getattr(item, method)):
            yield f"has a {method} that has to be `async def`"
    steps = getattr(item, "steps", ())
    if not steps or not all(isinstance(step, Step) for step in steps):
        yield "has no steps"
        return
    names = [step.name for step in steps]
    for step in steps:
        if not (isinstance(step.name, str) and NAME.fullmatch(step.name)):
            yield f"has the step {step.name!r}, which is not of lower-case letters, digits and hyphens"
        elif names.count(step.name) > 1:
            yield f"has the step {step.name} twice"
        if not 0 < step.deadline <= LONGEST_STEP:
            yield f"has a step {step.name!r} without a deadline of 1 to {LONGEST_STEP} seconds"
    if any(step.undo for step in steps) and type(item).undo is ServiceOperation.undo:
        yield "has steps with an undo, and no undo"
    if not (isinstance(item.arguments, type) and issubclass(item.arguments, Arguments)):
        yield "has arguments that are no subclass of Arguments"
        return
    try:
        shape = msgspec.inspect.type_info(item.arguments)
    except Exception as error:  # it may hold anything that is annotated
        yield f"has arguments of which no schema can be made: {type(error).__name__}: {error}"
        return
    assert isinstance(shape, msgspec.inspect.StructType)
    for field in shape.fields:
        if not ARGUMENT.fullmatch(field.encode_name):
            yield (
                f"has the argument {field.encode_name!r}, which is not of lower-case letters, digits "
                "and underscores"
            )
        if not _plain(field.type):
            yield (
                f"has the argument {field.encode_name}, which is no text, number, boolean, choice of "
                "texts, or tuple of texts or numbers"
            )


def _plain(kind: Any, *, inside: bool = False) -> bool:
    """Whether an argument can be given on the command line; a mark is told of a whole one alone."""
    of = msgspec.inspect
    if isinstance(kind, of.Metadata):
        return not (inside and (kind.extra or {}).get("secret")) and _plain(
            kind.type, inside=inside
        )
    if isinstance(kind, of.UnionType):
        rest = [item for item in kind.types if not isinstance(item, of.NoneType)]
        return not inside and len(rest) == 1 and _plain(rest[0], inside=True)
    if isinstance(kind, of.VarTupleType):
        return isinstance(_bare(kind.item_type), of.StrType | of.IntType | of.FloatType)
    if isinstance(kind, of.LiteralType):
        return all(isinstance(value, str) for value in kind.values)
    return isinstance(kind, of.StrType | of.IntType | of.FloatType | of.BoolType)


def _bare(kind: Any) -> Any:
    """What is inside marks that are no secret's."""
    if isinstance(kind, msgspec.inspect.Metadata) and not (kind.extra or {}).get("secret"):
        return kind.type
    return kind


def secret_names(arguments: type[msgspec.Struct]) -> Iterator[str]:
    """The arguments that are marked `SECRET`."""
    shape = msgspec.inspect.type_info(arguments)
    assert isinstance(shape, msgspec.inspect.StructType)
    for field in shape.fields:
        kind = field.type
        if isinstance(kind, msgspec.inspect.Metadata) and (kind.extra or {}).get("secret"):
            yield field.encode_name
