"""The measurements of `contrib/bench` on the life of data: backup, restore and upgrade of a 1 GB
PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import zstandard
from bench_stage import MIB, POSTGRES, Row, Sizes, Stage, docker, empty_ports, resident, stage

NEW = "purveyor-test/postgres:18"
FILL = (
    "CREATE TABLE t AS SELECT g, md5(g::text) a, md5((g + 1)::text) b, md5((g * 7)::text) c "
    "FROM generate_series(1, {}) g"
)


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def dump(container: str, file: Path) -> None:
    """pg_dump | zstd, by hand."""
    command = ["docker", "exec", container, "pg_dump", "-U", "postgres", "postgres"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process, file.open("wb") as out:
        assert process.stdout
        packer = zstandard.ZstdCompressor(level=3, threads=2).compressobj()
        while chunk := process.stdout.read(MIB):
            out.write(packer.compress(chunk))
        out.write(packer.flush())
        os.fsync(out.fileno())


def load(container: str, file: Path) -> None:
    """zstd -d | psql, by hand; and what a restore that is used at once needs, statistics."""
    command = [
        "docker",
        "exec",
        "-i",
        container,
        "psql",
        "-qX",
        "-o",
        "/dev/null",
        "-U",
        "postgres",
        "postgres",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process, file.open("rb") as stored:
        assert process.stdin
        for chunk in zstandard.ZstdDecompressor().read_to_iter(stored, read_size=MIB):
            process.stdin.write(chunk)
        process.stdin.write(b"\nANALYZE;\n")
        process.stdin.close()


def pipe(old: str, new: str) -> None:
    """pg_dump | psql between two containers, by hand."""
    script = (
        f"docker exec {old} pg_dump -U postgres postgres | docker exec -i {new} psql -qX -o "
        "/dev/null -U postgres postgres"
    )
    subprocess.run(["sh", "-c", script], check=True)
    docker("exec", new, "psql", "-qX", "-U", "postgres", "-c", "ANALYZE")


def raw(name: str, image: str, network: str) -> str:
    docker(
        "run",
        "-d",
        "--name",
        name,
        "--network",
        network,
        "--shm-size",
        "256m",
        "-e",
        "POSTGRES_PASSWORD=bench",
        image,
    )
    while subprocess.run(["docker", "exec", name, "psql", "-h", "127.0.0.1", "-U", "postgres", "-c",
        "SELECT 1"],
                         capture_output=True,
                         env={**os.environ, "PGPASSWORD": "bench"}).returncode:  # fmt: skip
        time.sleep(0.2)
    return name


def data(sizes: Sizes) -> list[Row]:
    with stage() as made, made.serving():
        parameters = {"docker_image": POSTGRES, "port": next(empty_ports())}
        made.call(
            "POST", "/external-services", name="big", service_type="postgres", parameters=parameters
        )
        docker(
            "exec",
            f"{made.namespace}-big",
            "psql",
            "-qU",
            "postgres",
            "-c",
            FILL.format(sizes.database),
        )
        return [
            *_copies(made, f"{sizes.database / 8e6:.3g} GB"),
            _upgrade(made, f"{sizes.database / 8e6:.3g} GB"),
        ]


def _copies(made: Stage, size: str) -> list[Row]:
    """Backup and restore, and what the daemon's memory grew by."""
    big, file, pid = f"{made.namespace}-big", made.state / "by-hand.zst", made.pid
    answers: dict[str, Any] = {}
    before = resident(pid)
    theirs = seconds(lambda: dump(big, file))
    ours = seconds(
        lambda: answers.update(made.call("POST", "/backups/external-services/big/run", keep_days=1))
    )
    rows = [
        _row(f"backup of {size} PostgreSQL", ours, theirs, "pg_dump | zstd", "≥ 0.9", speed=True)
    ]
    second = raw(f"{made.namespace}-raw-restore", POSTGRES, made.namespace)
    theirs = seconds(lambda: load(second, file))
    docker("rm", "-fv", second)
    restore = f"/backups/{answers['id']}/restore"
    ours = seconds(lambda: made.call("POST", restore, new_name="again"))
    rows.append(
        _row(
            "restore of it into a new service", ours, theirs, "zstd -d | psql", "≥ 0.9", speed=True
        )
    )
    grown = resident(pid, "VmHWM") - before
    rows.append(Row(what="daemon's growth during both", ours=f"{grown:.0f} MB", goal="< 64 MB"))
    made.call("DELETE", "/external-services/again?purge=true")
    return rows


def _upgrade(made: Stage, size: str) -> Row:
    third = raw(f"{made.namespace}-raw-new", NEW, made.namespace)
    theirs = seconds(lambda: pipe(f"{made.namespace}-big", third))
    docker("rm", "-fv", third)
    made.call("POST", "/external-services/big/upgrade", docker_image=NEW)
    last = made.call("GET", "/operations?limit=1")[0]["id"]
    at = {step["name"]: step for step in made.call("GET", f"/operations/{last}")["steps"]}
    down = _between(at["quiet"]["started_at"], at["switch"]["ended_at"])
    return _row(
        f"downtime of 17 → 18 at {size}", down, theirs, "pg_dump | psql", "≤ 1.2", speed=False
    )


def _between(one: str, other: str) -> float:
    return (datetime.fromisoformat(other) - datetime.fromisoformat(one)).total_seconds()


def _row(what: str, ours: float, theirs: float, beside: str, goal: str, *, speed: bool) -> Row:
    ratio = theirs / ours if speed else ours / theirs
    return Row(
        what=what,
        ours=f"{ours:.1f} s",
        beside=beside,
        peer=f"{theirs:.1f} s",
        ratio=ratio,
        goal=goal,
    )
