"""Killed on the way of backup, restore and upgrade: the data is there, and half of a backup is
none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from killing import EVERY_WHEN, at_every_point
from support import Stage, docker

pytestmark = pytest.mark.fortnightly


def ask_server(stage: Stage, *command: str) -> str:
    """What the server of the one environment answers, asked behind Purveyor's back."""
    return docker("exec", f"{stage.namespace}-cache", "redis-launcher", "ask", "7001", *command)


def gold(stage: Stage) -> str:
    return ask_server(stage, "GET", "precious")


def cache(stage: Stage) -> None:
    stage.call("POST", "/external-services", json={"name": "cache", "service_type": "redis"})
    stage.call("POST", "/projects", json={"name": "shop"})
    stage.call("POST", "/external-services/cache/projects", json={"project_id": "shop"})
    ask_server(stage, "SET", "precious", "gold")


def image(stage: Stage) -> str:
    return str(stage.call("GET", "/external-services/main")["service"]["docker_image"])


def assert_backups(stage: Stage) -> None:
    """What is called a backup has its manifest, and what failed has left nothing."""
    for item in stage.call("GET", "/backups"):
        files = sorted(path.name for path in Path(item["location"]).glob("*"))
        assert item["state"] in ("ok", "failed"), item
        assert files == (
            ["data.sums", "data.zst", "manifest.json"] if item["state"] == "ok" else []
        ), item


@pytest.mark.parametrize("when", EVERY_WHEN)
def test_backup(when: str, make_stage: Callable[..., Stage]) -> None:
    def change(stage: Stage, count: int) -> dict[str, Any]:
        if count == 1:
            cache(stage)
        return {"service": "cache"}

    def check(stage: Stage, count: int) -> None:
        assert_backups(stage)
        assert gold(stage) == "gold"

    at_every_point(make_stage(), when, "backup", change, check)


@pytest.mark.parametrize("when", EVERY_WHEN)
def test_restore_in_place(when: str, make_stage: Callable[..., Stage]) -> None:
    def change(stage: Stage, count: int) -> dict[str, Any]:
        if count == 1:
            cache(stage)
            stage.call("POST", "/backups/external-services/cache/run")
        ask_server(stage, "SET", "precious", "silver")
        return {"backup": "1", "service_id": "cache"}

    def check(stage: Stage, count: int) -> None:
        assert_backups(stage)
        (last,) = stage.rows(
            "SELECT state FROM operations WHERE verb = 'restore' ORDER BY id DESC LIMIT 1"
        ) or [("",)]
        assert gold(stage) == ("gold" if last[0] == "succeeded" else "silver")

    at_every_point(
        make_stage(), when, "restore", change, check, step=5 if when in ("act", "some") else 1
    )


@pytest.mark.parametrize("when", EVERY_WHEN)
def test_upgrade(when: str, make_stage: Callable[..., Stage]) -> None:
    """The old version serves, or the new one, each with every row; never none, and never an empty
    one."""
    old, new = "purveyor-test/postgres:16", "purveyor-test/postgres:18"

    def change(stage: Stage, count: int) -> dict[str, Any]:
        if count == 1:
            given = {
                "name": "main",
                "service_type": "postgres",
                "parameters": {"docker_image": old},
            }
            stage.call("POST", "/external-services", json=given)
            stage.sql("main", "CREATE TABLE precious AS SELECT generate_series(1, 100) AS id")
        elif image(stage) == new:
            stage.call("POST", "/external-services/main/undo-upgrade")
            for volume in stage.call("GET", "/volumes"):  # else they are too many
                if volume["state"] == "kept":
                    stage.call("POST", f"/volumes/{volume['id']}/purge", json={"confirm": "main"})
        return {"service": "main", "docker_image": new}

    def check(stage: Stage, count: int) -> None:
        assert stage.sql("main", "SELECT count(*) FROM precious") == ["100"]
        assert (
            stage.sql("main", "SHOW server_version")[0].partition(".")[0]
            == image(stage).rpartition(":")[2]
        )
        assert stage.call("GET", "/external-services/main/health")["healthy"]

    at_every_point(
        make_stage(), when, "upgrade", change, check, step=24 if when in ("act", "some") else 1
    )
