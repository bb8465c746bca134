"""Operations of plugins as the API tells them."""

from typing import Any

import msgspec


class OperationOffer(msgspec.Struct, frozen=True, kw_only=True):
    """An operation that a service's plugin brings. `type` is what its operations are called;
    `arguments` is a JSON Schema, in which ``x-secret`` marks what is kept from sight. `scope` is
    "admin", or "project" where the token of a project that is linked may run it; `lock` says what
    it takes turns with: all that changes the service, or its backups."""

    name: str
    type: str
    summary: str
    scope: str
    lock: str
    steps: list[str]
    arguments: dict[str, Any]
