"""The names of projects' resources."""

import hashlib
import re

from purveyor_hooks import Naming


def resource(project: str, environment: str, naming: Naming, taken: set[str]) -> str:
    """The name of a project's resource on one service; two different scopes never share one.

    ``{project}_{environment}``, lower-cased, other characters to the separator, a leading digit prefixed, cut to
    the limit. Where cutting or folding made it another's name, a hash of the scope tells them apart.
    """
    plain = re.sub(r"[^a-z0-9]+", naming.separator, f"{project}{naming.separator}{environment}".lower()).strip(naming.separator)
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
