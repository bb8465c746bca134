"""Killed at every write of create: a service is whole or not there."""

from collections.abc import Callable

import pytest

from killing import at_every_write
from support import Stage


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_create(kind: str, when: str, make_stage: Callable[..., Stage]) -> None:
    def check(stage: Stage, count: int) -> None:
        for item in stage.call("GET", "/external-services"):
            assert item["status"] == "running"
            assert stage.call("GET", f"/external-services/{item['id']}/health")["healthy"]
            stage.call("DELETE", f"/external-services/{item['id']}", params={"purge": "true"})

    at_every_write(make_stage(), when, "create", lambda _, n: {"name": f"s{n}", "service_type": kind}, check)
