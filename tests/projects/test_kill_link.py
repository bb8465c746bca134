"""Killed on the way of link: an account is there and works, or not there."""

from typing import Any

import anyio
import pytest

from killing import EVERY_WHEN, assert_accounts, at_every_point, reaches, variables
from support import Stage


@pytest.mark.parametrize("when", EVERY_WHEN)
@pytest.mark.parametrize("service", ["main", "cache"])
def test_link(service: str, when: str, linked: Stage) -> None:
    def fresh(stage: Stage, count: int) -> dict[str, Any]:
        project = f"{service}-{when}-{count}"
        stage.call("POST", "/projects", json={"name": project})
        return {"service": service, "project": project}

    def check(stage: Stage, count: int) -> None:
        assert_accounts(stage)
        project = f"{service}-{when}-{count}"
        if stage.call("GET", f"/external-services/projects/{project}"):
            anyio.run(reaches, variables(stage, project))
            stage.call(
                "DELETE",
                f"/external-services/{service}/projects/{project}",
                params={"purge": "true"},
            )
            assert_accounts(stage)

    at_every_point(linked, when, "link", fresh, check)
