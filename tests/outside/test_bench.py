"""`contrib/bench` measures what it says, and leaves nothing behind. No figure is judged here: the
machine is shared."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_scale import LISTS, PAGES

from support import docker, eventually

pytestmark = pytest.mark.fortnightly

ROOT = Path(__file__).resolve().parent.parent.parent
BENCH = [sys.executable, str(ROOT / "contrib/bench")]
NAMES = [
    "create-redis",
    "create-postgres",
    "fleet",
    "memory",
    "cli",
    "kv",
    "blob",
    "data",
    "dashboard",
    "scale",
    "environments",
    "objects",
]
PEERS = {
    "create-redis": ["by hand"],
    "create-postgres": ["by hand"],
    "fleet": ["by hand"],
    "memory": ["", ""],
    "cli": ["import click"],
    "kv": ["an empty handler", "an empty handler", "redis-py"],
    "blob": ["aioboto3", "aioboto3"],
    "data": ["pg_dump | zstd", "zstd -d | psql", "", "pg_dump | psql"],
    "dashboard": ["the API's answer"],
    "scale": ["", "", *["its processor time"] * (len(LISTS) + len(PAGES) + 1)],
    "environments": ["the first 2", "", "the first 2", "docker restart", "", "with none", "", ""],
    "objects": [*["with 50"] * 8, ""],
}


def left(namespace: str) -> str:
    """What the engine holds of a bench's run."""
    listed = [
        docker("ps", "-a", "--format", "{{.Names}}", "--filter", f"name={namespace}"),
        docker("volume", "ls", "-q", "--filter", f"name={namespace}"),
        docker("network", "ls", "--format", "{{.Name}}", "--filter", f"name={namespace}"),
    ]
    return "\n".join(listed).strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where state directories are made."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def told(engine: None, folder: Path) -> Any:
    done = subprocess.run(
        [*BENCH, "--quick", "--json"],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_each_measurement_gives_its_rows(told: Any, name: str) -> None:
    found = told["measurements"][name]
    assert found["seconds"] > 0
    assert found["load"] >= 0
    assert [row["beside"] for row in found["rows"]] == PEERS[name]
    for row in found["rows"]:
        assert row["what"]
        assert row["goal"]
        assert float(row["ours"].partition(" ")[0].removesuffix("/s")) == pytest.approx(0, abs=1e9)
        if row["beside"]:
            assert row["peer"]
            assert row["ratio"] > 0
        else:
            assert (row["peer"], row["ratio"]) == ("", None)


def test_nothing_else_is_measured(told: Any) -> None:
    assert list(told["measurements"]) == NAMES


def test_the_machine_is_told(told: Any) -> None:
    machine = told["machine"]
    assert machine["cores"] == os.cpu_count()
    assert len(machine["load_before"]) == len(machine["load_after"]) == 3
    assert 0 <= machine["busy_before"] <= 1
    assert 0 <= machine["stolen"] <= 1
    assert machine["docker"]
    assert machine["python"]
    assert machine["seconds"] > 0


def test_nothing_is_left(told: Any, folder: Path) -> None:
    assert left(told["machine"]["names"]) == ""
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("name", "number"), [("fleet", signal.SIGTERM), ("fleet", signal.SIGINT)])
def test_nothing_is_left_of_one_that_is_stopped(
    engine: None, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [*BENCH, "--quick", name],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: docker("ps", "-aq", "--filter", f"name=pvb-{process.pid}-"), 180)
        process.send_signal(number)
        assert process.wait(120) != 0
        assert left(f"pvb-{process.pid}") == ""
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
