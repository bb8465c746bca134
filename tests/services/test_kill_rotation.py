"""Killed on the way of a rotation of the administrator: the service serves, and the recorded
password is its own."""

from typing import Any

import pytest

from killing import EVERY_WHEN, assert_accounts, at_every_point
from support import Stage


@pytest.mark.parametrize("when", EVERY_WHEN)
@pytest.mark.parametrize("service", ["main", "cache"])
def test_rotate_administrator(service: str, when: str, linked: Stage) -> None:
    def fresh(stage: Stage, count: int) -> dict[str, Any]:
        return {"service": service}

    def check(stage: Stage, count: int) -> None:
        assert stage.call("GET", f"/external-services/{service}/health")["healthy"]
        assert_accounts(stage)

    at_every_point(linked, when, "rotate-administrator", fresh, check)
