"""The engine is killed, six times, with operations under way: services and apps are up again, with
what they had, that is said, and each operation has ended, whose daemon was never started again.

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
UNFINISHED = "SELECT id, verb FROM operations WHERE state IN ('running', 'undoing')"


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

        def wrong() -> list[str]:
            listed = {item["name"]: item for item in stage.call("GET", "/external-services/")}
            known = {"main": "running", "cache": "running", "asleep": "stopped"}
            found = [name for name in known if name not in listed]
            for name, item in listed.items():  # those that were made on the way, too
                if item["status"] != known.get(name, "running"):
                    found.append(f"{name}: {item['status']}, {item['status_reason']}")
            try:
                answer = httpx.get(f"{url}/healthz", timeout=5)
                return found if answer.is_success else [*found, f"the app: {answer.status_code}"]
            except httpx.HTTPError as error:
                return [*found, f"the app: {error}"]

        seen: set[str] = set()
        for number in range(KILLS):
            data.ask(variables, f"INSERT INTO written VALUES ({number})")
            begun = _begin(stage, number)
            time.sleep(number * 0.6)  # each is somewhere else by then
            engine.kill()
            time.sleep(number % 3)  # also so short that nobody notices that it was away
            engine.start()
            eventually(lambda: stage.rows(UNFINISHED) == [], PATIENCE)
            try:
                eventually(lambda: wrong() == [], PATIENCE)
            finally:
                assert wrong() == [], f"after kill {number}"
            assert data.ask(variables, "SELECT count(*) FROM written") == number + 1
            assert stage.rows(UNFINISHED) == []
            ends = {item: stage.call("GET", f"/operations/{item}")["state"] for item in begun}
            assert {*ends.values()} <= {"succeeded", "failed"}
            seen |= {*ends.values()}
            made = [item["name"] for item in stage.call("GET", "/external-services/")]
            assert (f"made-{number}" in made) == (ends[begun[-1]] == "succeeded")
        assert "failed" in seen, "it was killed under none of them"
        told = [row[0] for row in stage.rows("SELECT type FROM events ORDER BY id")]
        assert "service.incident" in told
        assert "service.recovered" in told


def _begin(stage: Stage, number: int) -> list[int]:
    """Operations that are under way when this returns."""
    later = {"Prefer": "respond-async"}
    made = {"name": f"made-{number}", "service_type": "redis"}
    answers = [
        stage.call("POST", "/backups/external-services/main/run", json={}, headers=later),
        stage.call("POST", "/external-services/cache/restart", headers=later),
        stage.call("POST", "/external-services/", json=made, headers=later),
    ]
    return [int(answer["operation_id"]) for answer in answers]
