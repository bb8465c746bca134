"""Killed on the way of create: a service is whole or not there."""

from collections.abc import Callable

import pytest

from killing import EVERY_WHEN, at_every_point
from support import Stage


@pytest.mark.parametrize("when", EVERY_WHEN)
@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_create(kind: str, when: str, make_stage: Callable[..., Stage]) -> None:
    def check(stage: Stage, count: int) -> None:
        for item in stage.call("GET", "/external-services"):
            assert item["status"] == "running"
            assert stage.call("GET", f"/external-services/{item['id']}/health")["healthy"]
            stage.call("DELETE", f"/external-services/{item['id']}", params={"purge": "true"})

    at_every_point(
        make_stage(), when, "create", lambda _, n: {"name": f"s{n}", "service_type": kind}, check
    )
