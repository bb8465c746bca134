"""The measurements of `contrib/bench` on the life of data: backup, restore and upgrade of a 1 GB PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import zstandard

Row = dict[str, Any]
ROWS = 8_000_000  # about 1 GB as text
OLD, NEW = "purveyor-test/postgres:17", "purveyor-test/postgres:18"
FILL = f"CREATE TABLE t AS SELECT g, md5(g::text) a, md5((g + 1)::text) b, md5((g * 7)::text) c FROM generate_series(1, {ROWS}) g"
CHUNK = 1024 * 1024


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def resident(pid: int, field: str) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{field}:")[2].split()[0]) // 1024


def dump(container: str, file: Path) -> None:
    """pg_dump | zstd, by hand."""
    command = ["docker", "exec", container, "pg_dump", "-U", "postgres", "postgres"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process, file.open("wb") as out:
        assert process.stdout
        packer = zstandard.ZstdCompressor(level=3, threads=2).compressobj()
        while chunk := process.stdout.read(CHUNK):
            out.write(packer.compress(chunk))
        out.write(packer.flush())
        os.fsync(out.fileno())


def load(container: str, file: Path) -> None:
    """zstd -d | psql, by hand; and what a restore that is used at once needs, statistics."""
    command = ["docker", "exec", "-i", container, "psql", "-qX", "-o", "/dev/null", "-U", "postgres", "postgres"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process, file.open("rb") as stored:
        assert process.stdin
        for chunk in zstandard.ZstdDecompressor().read_to_iter(stored, read_size=CHUNK):
            process.stdin.write(chunk)
        process.stdin.write(b"\nANALYZE;\n")
        process.stdin.close()


def pipe(old: str, new: str) -> None:
    """pg_dump | psql between two containers, by hand."""
    script = f"docker exec {old} pg_dump -U postgres postgres | docker exec -i {new} psql -qX -o /dev/null -U postgres postgres"
    subprocess.run(["sh", "-c", script], check=True)
    docker("exec", new, "psql", "-qX", "-U", "postgres", "-c", "ANALYZE")


def raw(name: str, image: str, network: str) -> str:
    docker("run", "-d", "--name", name, "--network", network, "--shm-size", "256m", "-e", "POSTGRES_PASSWORD=bench", image)
    while subprocess.run(["docker", "exec", name, "psql", "-h", "127.0.0.1", "-U", "postgres", "-c", "SELECT 1"],
                         capture_output=True, env={**os.environ, "PGPASSWORD": "bench"}).returncode:  # fmt: skip
        time.sleep(0.2)
    return name


def data(state: Path) -> list[Row]:
    namespace = json.loads((state / "namespace.json").read_text())
    command = [sys.executable, "-m", "purveyor.cli.main"]
    environment = {**os.environ, "PURVEYOR_STATE": str(state)}
    with open(state / "daemon.log", "wb") as log:
        daemon = subprocess.Popen([*command, "serve"], env=environment, stdout=log, stderr=log)
    try:
        while not (state / "purveyor.sock").exists():
            time.sleep(0.1)
        transport = httpx.HTTPTransport(uds=str(state / "purveyor.sock"))
        with httpx.Client(transport=transport, base_url="http://purveyor/api", timeout=1800) as api:
            return _measure(api, daemon.pid, state, namespace)
    finally:
        daemon.terminate()
        daemon.wait(30)


def _call(api: httpx.Client, method: str, path: str, **body: Any) -> Any:
    answer = api.request(method, path, json=body) if body else api.request(method, path)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def _measure(api: httpx.Client, pid: int, state: Path, namespace: str) -> list[Row]:
    _call(api, "POST", "/external-services", name="big", service_type="postgres", parameters={"docker_image": OLD})
    big = f"{namespace}-big"
    docker("exec", big, "psql", "-qU", "postgres", "-c", FILL)
    file = state / "by-hand.zst"
    made: dict[str, Any] = {}
    before = resident(pid, "VmRSS")
    theirs = seconds(lambda: dump(big, file))
    ours = seconds(lambda: made.update(_call(api, "POST", "/backups/external-services/big/run", keep_days=1)))
    rows = [_row("backup of 1 GB PostgreSQL", ours, theirs, "≥ 0.9 of pg_dump | zstd", speed=True)]

    second = raw(f"{namespace}-raw-restore", OLD, namespace)
    theirs = seconds(lambda: load(second, file))
    docker("rm", "-fv", second)
    ours = seconds(lambda: _call(api, "POST", f"/backups/{made['id']}/restore", new_name="again"))
    rows.append(_row("restore of it into a new service", ours, theirs, "≥ 0.9 of zstd -d | psql", speed=True))
    grown = resident(pid, "VmHWM") - before
    rows.append({"what": "daemon's growth during both", "ours": f"{grown} MB", "peer": "", "ratio": None, "goal": "< 64 MB"})
    _call(api, "DELETE", "/external-services/again?purge=true")

    third = raw(f"{namespace}-raw-new", NEW, namespace)
    theirs = seconds(lambda: pipe(big, third))
    docker("rm", "-fv", third)
    _call(api, "POST", "/external-services/big/upgrade", docker_image=NEW)
    steps = _call(api, "GET", f"/operations/{_call(api, 'GET', '/operations?limit=1')[0]['id']}")["steps"]
    at = {step["name"]: step for step in steps}
    down = _between(at["quiet"]["started_at"], at["switch"]["ended_at"])
    rows.append(_row("downtime of 17 → 18 at 1 GB", down, theirs, "≤ 1.2 of pg_dump | psql", speed=False))
    _call(api, "DELETE", "/external-services/big?purge=true")
    for volume in _call(api, "GET", "/volumes"):
        if volume["state"] == "kept":
            _call(api, "POST", f"/volumes/{volume['id']}/purge", confirm=volume["origin"])
    return rows


def _between(one: str, other: str) -> float:
    from datetime import datetime

    return (datetime.fromisoformat(other) - datetime.fromisoformat(one)).total_seconds()


def _row(what: str, ours: float, theirs: float, goal: str, *, speed: bool) -> Row:
    ratio = theirs / ours if speed else ours / theirs
    return {"what": what, "ours": f"{ours:.1f} s", "peer": f"{theirs:.1f} s", "ratio": ratio, "goal": goal}
