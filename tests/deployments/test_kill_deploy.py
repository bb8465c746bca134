"""Killed on the way of deploy: one app answers, under the name of its environment."""

from typing import Any

import httpx
import pytest

from killing import EVERY_WHEN, assert_accounts, at_every_point
from support import DEMO, Stage, docker


@pytest.mark.parametrize("when", EVERY_WHEN)
def test_deploy(when: str, linked: Stage) -> None:
    project = f"app-{when}"
    app = {"project": project, "image": DEMO, "port": 8000, "health_path": "/healthz"}

    def environment(stage: Stage, count: int) -> dict[str, Any]:
        """Every other time a first deploy, every other time one over another."""
        if count == 1:
            stage.call("POST", "/projects", json={"name": project})
            for service in ("main", "cache"):
                stage.call(
                    "POST", f"/external-services/{service}/projects", json={"project_id": project}
                )
        return {**app, "environment": f"e{(count + 1) // 2}", "create": True}

    def check(stage: Stage, count: int) -> None:
        assert_accounts(stage)
        name = f"e{(count + 1) // 2}"
        found = [
            item
            for item in stage.call("GET", f"/projects/{project}/deployments")
            if item["environment"] == name
        ]
        active = [item for item in found if item["state"] == "active"]
        assert len(active) <= 1
        for item in active:
            networks = docker(
                "inspect", "--format", "{{json .NetworkSettings.Networks}}", item["container"]
            )
            assert f"{project}-{name}" in networks
            assert httpx.get(item["url"]).json()["hits"] > 0
        if count % 2 == 0 and active:
            stage.call(
                "DELETE", f"/projects/{project}/environments/{name}", params={"purge": "true"}
            )
            assert_accounts(stage)

    at_every_point(linked, when, "deploy", environment, check)
