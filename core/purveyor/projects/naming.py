"""The names of projects' resources."""

import hashlib
import re
from typing import Annotated

import msgspec

from purveyor.kernel import naming
from purveyor_hooks import Naming, ServiceType

# What people call further resources of a link.
Extras = Annotated[
    tuple[Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,19}$")], ...],
    msgspec.Meta(max_length=5),
]


def resource(project: str, environment: str, naming: Naming, taken: set[str]) -> str:
    """The name of a project's resource on one service; two different scopes never share one.

    ``{project}_{environment}``, lower-cased, other characters to the separator, a leading digit
    prefixed, cut to the limit. Where cutting or folding made it another's name, a hash of the scope
    tells them apart.
    """
    plain = re.sub(
        r"[^a-z0-9]+", naming.separator, f"{project}{naming.separator}{environment}".lower()
    ).strip(naming.separator)
    if plain[:1].isdigit() and naming.separator == "_":
        plain = f"p_{plain}"
    if len(plain) <= naming.limit and plain not in taken:
        return plain
    for salt in ("", *map(str, range(1000))):
        digest = hashlib.sha256(f"{project}\0{environment}{salt}".encode()).hexdigest()[:8]
        name = f"{plain[: naming.limit - 9].rstrip(naming.separator)}{naming.separator}{digest}"
        if name not in taken:
            return name
    raise AssertionError("a thousand hashes are taken")


def further(project: str, environment: str, name: str, naming: Naming, taken: set[str]) -> str:
    """The name of a further resource of a scope."""
    return resource(project, f"{environment}{naming.separator}{name}", naming, taken)


def account(kind: ServiceType, resource: str, before: str, taken: set[str]) -> str:
    """The name of an account for a new credential; `before` is that of the last one, "" where there
    was none."""
    if before and not kind.numbered_accounts:
        return before
    if kind.account_length:
        return naming.key(kind.account_length)
    if not kind.numbered_accounts:
        return resource
    number = 0
    if before:  # of a resource that has its own account's name, this is the second
        end = before.rpartition(kind.naming.separator)[2]
        number = int(end) if before != resource and end.isdecimal() else 1
    while True:
        number += 1
        end = f"{kind.naming.separator}{number}"
        name = resource[: kind.naming.limit - len(end)] + end
        if name not in taken:
            return name
