"""Killed on the way of update: the old container or the new one serves, on the same data."""

from collections.abc import Callable
from typing import Any

import pytest

from killing import EVERY_WHEN, at_every_point
from support import Stage


@pytest.mark.parametrize("when", EVERY_WHEN)
def test_update(when: str, make_stage: Callable[..., Stage]) -> None:
    def change(stage: Stage, count: int) -> dict[str, Any]:
        if count == 1:
            stage.call(
                "POST", "/external-services", json={"name": "main", "service_type": "postgres"}
            )
            stage.sql("main", "CREATE TABLE precious AS SELECT generate_series(1, 100) AS id")
        return {"service": "main", "parameters": {"max_connections": 50 + count}}

    def check(stage: Stage, count: int) -> None:
        assert stage.sql("main", "SELECT count(*) FROM precious") == ["100"]
        wanted = stage.call("GET", "/external-services/main")["current_parameters"][
            "max_connections"
        ]
        assert stage.sql("main", "SHOW max_connections") == [wanted]

    at_every_point(make_stage(), when, "update", change, check)
