"""What is looked at in a plugin that provides a service type, before it is taken in."""

import re
from collections.abc import Iterator
from typing import Any

from purveyor.kernel.plugins.validation import Hooks, specifications
from purveyor_hooks import Parameter, ServiceType, specs

# what a plugin that has the first has to have as well; else the core would call what is not there
TOGETHER = {
    "service_type": {"container", "ready"},
    "bind": {"unbind", "purge", "environment"},
    "purge_extra": {"bind"},
    "rotate": {"bind"},
    "retire": {"rotate"},
    "outdated": {"rotate"},
    "backup": {"restore", "census"},
    "restore": {"backup"},
    "extract": {"backup"},
    "contents": {"backup"},
    "recognise": {"adopt"},
    "upgrade_check": {"upgrade_plan"},
    "download": {"browse"},
    "regain": {"retell"},
    "held": {"retell"},
    "archive_base": {"archive_helper", "archive_beat", "recovery", "recover"},
}
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,39}")
KINDS: dict[str, type] = {"string": str, "integer": int, "boolean": bool}
PORTS = range(1, 65536)


def together(implemented: Hooks) -> Iterator[str]:
    """What is wrong with the hooks of types that a plugin implements."""
    if "service_type" not in implemented:
        if useless := sorted(implemented.keys() & (specifications().keys() - specs.EVERYONES)):
            yield (
                f"it implements {', '.join(useless)}, and no service_type: nobody would call that"
            )
        return
    for name in sorted(implemented.keys() & TOGETHER.keys()):
        if missing := sorted(TOGETHER[name] - implemented.keys()):
            yield f"it implements {name} and not {', '.join(missing)}"


def service_type(kind: ServiceType) -> Iterator[str]:
    """What is wrong with a service type."""
    if not NAME.fullmatch(kind.name):
        yield f"the name {kind.name!r} has to be of lower-case letters, digits and hyphens"
    if not kind.default_image:
        yield "it has no default_image"
    names = [item.name for item in kind.parameters]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"the parameter {name} is there twice"
    for item in kind.parameters:
        for why in _parameter(item):
            yield f"the parameter {item.name} {why}"
    by_name = {item.name: item for item in kind.parameters}
    for port in kind.ports:
        if port.container not in PORTS:
            yield f"the port {port.container} is none"
        holder = by_name.get(port.parameter)
        if holder is None:
            yield f"the port {port.container} is published at a parameter {port.parameter} that is not there"
        elif holder.kind != "integer":
            yield f"the port {port.container} is published at the parameter {port.parameter}, which is no integer"
    if kind.naming.limit < kind.naming.minimum or kind.naming.minimum < 1:
        yield "naming allows no name"
    if kind.slots is not None and kind.slots[0] > kind.slots[1]:
        yield "slots is no range"


def _parameter(item: Parameter) -> Iterator[str]:
    if not PARAMETER.fullmatch(item.name):
        yield "has to be named by lower-case letters, digits and underscores"
    if item.kind not in KINDS:
        yield f"is of the kind {item.kind!r}, and not {', '.join(KINDS)}"
        return
    if item.generated not in (None, "port", "password", "key"):
        yield f"is generated as {item.generated!r}, and not as port, password or key"
    if item.generated == "port" and (item.kind != "integer" or item.base not in PORTS):
        yield "is a port, and so has to be an integer with a `base`"
    if item.generated in ("password", "key") and (item.kind != "string" or item.length < 1):
        yield f"is a {item.generated}, and so has to be a string with a `length`"
    try:
        pattern = re.compile(item.pattern or "")
    except re.error as error:
        yield f"has a pattern that is no regular expression: {error}"
        return
    for what, value in (("default", item.default), ("former", item.former)):
        if value is not None and (why := _refused(item, pattern, value)):
            yield f"has the {what} {value!r}, which {why}"


def _refused(item: Parameter, pattern: re.Pattern[str], value: Any) -> str:
    if type(value) is not KINDS[item.kind]:
        return f"is no {item.kind}"
    if isinstance(value, str) and value and item.pattern and not pattern.fullmatch(value):
        return f"is not of the form {item.pattern}"
    if item.choices and value not in item.choices:
        return f"is none of {', '.join(item.choices)}"
    if isinstance(value, int) and not isinstance(value, bool):
        if item.minimum is not None and value < item.minimum:
            return f"is below {item.minimum}"
        if item.maximum is not None and value > item.maximum:
            return f"is above {item.maximum}"
    return ""
