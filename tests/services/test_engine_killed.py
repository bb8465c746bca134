"""The engine is killed, six times: services and apps are up again, with what they had, and that is
said.

It runs on an engine of its own alone: ``contrib/newer-engine .venv/bin/pytest -n 0
tests/services/test_engine_killed.py``
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

import data
from support import Stage, docker, eventually

pytestmark = pytest.mark.own_engine
KILLS = 6
PATIENCE = 120.0


class Engine:
    """The dockerd of ``contrib/newer-engine``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._command = Path(f"/proc/{self.pid}/cmdline").read_bytes().decode().split("\0")[:-1]

    @property
    def pid(self) -> int:
        return int((self._folder / "pid").read_text())

    def kill(self) -> None:
        number = self.pid
        os.kill(number, signal.SIGKILL)
        eventually(lambda: not _runs(number), PATIENCE)
        (self._folder / "pid").unlink(missing_ok=True)

    def start(self) -> None:
        with open(self._folder / "log", "ab") as log:
            subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        eventually(
            lambda: docker("version", "--format", "{{.Server.Version}}", check=False), PATIENCE
        )


def _runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_after_each_kill_everything_is_up_again(make_stage: Callable[..., Stage]) -> None:
    engine = Engine(Path(os.environ["PURVEYOR_OWN_ENGINE"]))
    with make_stage("health-interval = 1").serving() as stage:
        stage.furnish({"main": "postgres", "cache": "redis"}, ["shop"])
        stage.cli("create", "redis", "asleep")
        stage.cli("stop", "asleep")
        stage.cli(
            "deploy", "shop", "purveyor-test/demo:1", "--port", "8000", "--health-path", "/healthz"
        )
        (url,) = (
            row[0] for row in stage.rows("SELECT url FROM deployments WHERE state = 'active'")
        )
        variables = stage.variables("shop")
        data.ask(variables, "CREATE TABLE written (number int)")

        def up() -> bool:
            listed = {
                item["name"]: item["status"] for item in stage.call("GET", "/external-services/")
            }
            if listed != {"main": "running", "cache": "running", "asleep": "stopped"}:
                return False
            try:
                return httpx.get(f"{url}/healthz", timeout=5).is_success
            except httpx.HTTPError:
                return False

        for number in range(KILLS):
            data.ask(variables, f"INSERT INTO written VALUES ({number})")
            engine.kill()
            time.sleep(number % 3)  # also so short that nobody notices that it was away
            engine.start()
            eventually(up, PATIENCE)
            assert data.ask(variables, "SELECT count(*) FROM written") == number + 1
            assert (
                stage.rows("SELECT id FROM operations WHERE state IN ('running', 'undoing')") == []
            )
        told = [row[0] for row in stage.rows("SELECT type FROM events ORDER BY id")]
        assert "service.incident" in told
        assert "service.recovered" in told
