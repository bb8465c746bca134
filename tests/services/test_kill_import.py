"""Killed on the way of import: the container is a service, or it is as it was and nothing is
registered."""

from typing import Any

import pytest

from killing import EVERY_WHEN, assert_accounts, at_every_point
from support import REDIS, Stage, docker


@pytest.mark.parametrize("when", EVERY_WHEN)
def test_import(when: str, linked: Stage) -> None:
    name = f"{linked.namespace}-theirs-{when}"
    docker("run", "-d", "--name", name, REDIS, "redis-server", "--requirepass", "hunter22")

    def fresh(stage: Stage, count: int) -> dict[str, Any]:
        return {
            "container_id": name,
            "name": f"{when}-{count}",
            "service_type": "redis",
            "use_found": True,
        }

    def check(stage: Stage, count: int) -> None:
        registered = stage.rows(
            "SELECT slug FROM services WHERE state != 'deleted' AND imported IS NOT NULL"
        )
        if registered:
            assert stage.call("GET", f"/external-services/{when}-{count}/health")["healthy"]
            stage.call("DELETE", f"/external-services/{when}-{count}")
        assert docker("inspect", "-f", "{{.State.Status}}", name) == "running"
        assert (
            docker(
                "inspect", "-f", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}", name
            )
            == "bridge"
        )
        assert_accounts(stage)

    at_every_point(linked, when, "import", fresh, check)
