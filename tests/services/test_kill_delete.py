"""Killed on the way of delete: the data is kept or purged as asked."""

from collections.abc import Callable
from typing import Any

import pytest

from killing import EVERY_WHEN, at_every_point
from support import Stage


@pytest.mark.parametrize("when", EVERY_WHEN)
@pytest.mark.parametrize("purge", [False, True])
def test_delete(purge: bool, when: str, make_stage: Callable[..., Stage]) -> None:
    def fresh(stage: Stage, count: int) -> dict[str, Any]:
        stage.call(
            "POST", "/external-services", json={"name": f"s{count}", "service_type": "redis"}
        )
        return {"service": f"s{count}", "purge": purge}

    def check(stage: Stage, count: int) -> None:
        kept = [
            item
            for item in stage.call("GET", "/volumes")
            if (item["origin"], item["state"]) == (f"s{count}", "kept")
        ]
        alive = [
            item for item in stage.call("GET", "/external-services") if item["slug"] == f"s{count}"
        ]
        assert len(kept) + len(alive) == (0 if purge and not alive else 1)

    at_every_point(make_stage(), when, "delete", fresh, check)
