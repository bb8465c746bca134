"""Killed on the way of the beginning of an archive: it follows, or the server is asked for
nothing."""

from typing import Any

import pytest

from killing import EVERY_WHEN, at_every_point
from support import Stage, eventually


@pytest.mark.parametrize("when", EVERY_WHEN)
def test_archive(when: str, linked: Stage) -> None:
    def fresh(stage: Stage, count: int) -> dict[str, Any]:
        return {"service": "main"}

    def check(stage: Stage, count: int) -> None:
        helper = f"{stage.namespace}-main.archive"
        found = stage.call("GET", "/backups/archives")
        if found:
            eventually(lambda: stage.call("GET", "/backups/archives")[0]["state"] == "following")
            bases = [
                item
                for item in stage.call("GET", "/backups")
                if item["backup_type"] == "base" and item["state"] == "ok"
            ]
            assert bases
            stage.call("DELETE", "/backups/archives/main")
        assert helper not in stage.containers()
        assert stage.sql("main", "SELECT count(*) FROM pg_replication_slots") == ["0"]
        assert not [name for name in stage.volumes() if name.endswith("-archive")]

    at_every_point(linked, when, "archive", fresh, check)
