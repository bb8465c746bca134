"""What the measurements of `contrib/bench` share: sizes, rows, a stage for each of them, and how
busy the machine is."""

from __future__ import annotations

import json
import os
import platform
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
from bench_rows import LARGE, SMALL, Amounts

POSTGRES = "purveyor-test/postgres:17"
REDIS = "purveyor-test/redis:8.0"
MINIO = "purveyor-test/minio:2026-02-12"
RUSTFS = "purveyor-test/rustfs:1.0.1"
IMAGES = {"redis": REDIS, "postgres": POSTGRES, "kv": REDIS, "blob": MINIO, "s3": MINIO}
MIB = 1024 * 1024
PATIENCE = 60.0
NAMES = f"pvb-{os.getpid()}"  # what all that this run makes on the engine is called


class NotToBeHad(Exception):
    """What a row needs is missing on this machine."""


QUIET = 0.2  # of all cores


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much each measurement does."""

    # of what is short; one more before them warms everything up, where there is more than one
    rounds: int
    blob_rounds: int
    fleet_rounds: int
    fleet: int  # services at once, and of the daemon whose memory is measured
    looks: int  # at each of its services
    requests: int
    calls: int  # one after the other
    blob: int  # MiB
    database: int  # rows: 8 million are about 1 GB as text
    listed: int  # services on the dashboard
    environments: int  # with an app each, on one host
    rows: Amounts  # of a full store
    asked: int  # for each list and page
    objects: tuple[int, ...]  # in one bucket, one size after the other
    peers: bool  # measure beside what has to be fetched first

    @property
    def warm_up(self) -> int:
        return int(self.rounds > 1)


# an hour has 120 looks at the default health-interval
FULL = Sizes(rounds=7, blob_rounds=3, fleet_rounds=3, fleet=20, looks=120, requests=5000,
    calls=1000, blob=1024,
             database=8_000_000, listed=200, environments=100, rows=LARGE, asked=100,
             objects=(5_000, 20_000, 100_000), peers=True)  # fmt: skip
QUICK = Sizes(rounds=1, blob_rounds=1, fleet_rounds=1, fleet=3, looks=3, requests=200, calls=20,
blob=16,
              database=20_000, listed=20, environments=4, rows=SMALL, asked=2,
              objects=(50, 100), peers=False)  # fmt: skip


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. Without `ours` it could not be measured, and `goal` says why."""

    what: str
    ours: str
    beside: str = ""
    peer: str = ""
    ratio: float | None = None
    goal: str = ""


def docker(*arguments: str, check: bool = True) -> str:
    """The docker command line: a peer that knows nothing of Purveyor."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


class Stage:
    """An installation of a measurement's own. Its processes are new ones, as people start them: not
    forked from a warm one."""

    def __init__(self, state: Path, settings: str) -> None:
        self.state = state
        self.namespace = f"{NAMES}-{secrets.token_hex(2)}"
        self.environment = {**os.environ, "PURVEYOR_STATE": str(state)}
        self.pid = 0  # of the daemon, while it serves
        self.address = ""
        images = "".join(f'{kind} = "{image}"\n' for kind, image in IMAGES.items())
        text = (
            f'namespace = "{self.namespace}"\nlisten = '
            f'"127.0.0.1:0"\n{settings}\n[default-images]\n{images}'
        )
        (state / "settings.toml").write_text(text)

    def cli(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "purveyor", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"purveyor {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def variables(self, project: str) -> dict[str, str]:
        """What an app of the project on this host gets."""
        found: dict[str, str] = json.loads(self.cli("--json", "env", project, "--host"))
        return found

    @contextmanager
    def serving(self) -> Iterator[None]:
        """A daemon."""
        path = self.state / "daemon.log"
        with path.open("wb") as log:
            command = [sys.executable, "-m", "purveyor", "serve"]
            daemon = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE
            while not (
                said := [
                    line for line in path.read_text().splitlines() if '"event": "serving"' in line
                ]
            ):
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the daemon does not serve:\n{path.read_text()}")
                time.sleep(0.05)
            self.pid, self.address = daemon.pid, json.loads(said[0])["address"]
            yield
        finally:
            daemon.terminate()
            daemon.wait(PATIENCE)

    def call(self, method: str, path: str, **body: Any) -> Any:
        """One call over the local socket, which must succeed."""
        transport = httpx.HTTPTransport(uds=str(self.state / "purveyor.sock"), verify=False)
        with httpx.Client(
            transport=transport, base_url="http://purveyor/api", timeout=7200
        ) as client:
            answer = client.request(method, path, json=body or None)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.text}")
        return answer.json() if answer.content else None

    def clean(self) -> None:
        for container in docker("ps", "-aq", "--filter", f"name=^/{self.namespace}[-.]").split():
            docker("rm", "-f", "-v", container, check=False)
        for volume in docker("volume", "ls", "-q", "--filter", f"name={self.namespace}").split():
            docker("volume", "rm", volume, check=False)
        listed = docker(
            "network", "ls", "--format", "{{.Name}}", "--filter", f"name=^{self.namespace}"
        )
        for network in listed.split():
            docker("network", "rm", network, check=False)


@contextmanager
def stage(settings: str = "") -> Iterator[Stage]:
    """A state directory and a namespace; nothing of them is left, whatever happens."""
    with tempfile.TemporaryDirectory(
        prefix="purveyor-bench-", ignore_cleanup_errors=True
    ) as folder:
        made = Stage(Path(folder), settings)
        try:
            yield made
        finally:
            made.clean()


def resident(pid: int, field: str = "VmRSS") -> float:
    """A process's resident memory in MiB: now, or with VmHWM at most."""
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{field}:")[2].split()[0]) / 1024


def empty_ports() -> Iterator[int]:
    """Ports that nobody listens on, none of them twice; below those that the system hands out by
    itself."""
    port = random.randrange(20_000, 30_000)
    while True:
        port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


class _Cpu(NamedTuple):
    """What all cores have done since the start, in ticks."""

    whole: int
    idle: int
    stolen: int

    @classmethod
    def now(cls) -> _Cpu:
        ticks = [
            int(word) for word in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
        ]
        return cls(sum(ticks), ticks[3] + ticks[4], ticks[7])


def busy_share(seconds: float) -> float:
    """The share of all cores that was busy for so long."""
    before = _Cpu.now()
    time.sleep(seconds)
    now = _Cpu.now()
    return 1 - (now.idle - before.idle) / max(now.whole - before.whole, 1)


def rest() -> None:
    """Wait until what was measured before has left the machine, a minute at most."""
    deadline = time.monotonic() + 60
    while busy_share(1) > QUIET and time.monotonic() < deadline:
        pass


class Machine:
    """How busy the machine was before anything was measured, and since then."""

    def __init__(self) -> None:
        self._busy = busy_share(1)
        self._begun = _Cpu.now()
        self._started = time.monotonic()
        self._load = os.getloadavg()

    def told(self) -> dict[str, Any]:
        now = _Cpu.now()
        return {
            "names": NAMES,
            "cores": os.cpu_count(),
            "docker": docker("version", "--format", "{{.Server.Version}}"),
            "python": platform.python_version(),
            "load_before": self._load,
            "load_after": os.getloadavg(),
            # by others: a share of all cores, in the second before
            "busy_before": round(self._busy, 3),
            "stolen": round(
                (now.stolen - self._begun.stolen) / max(now.whole - self._begun.whole, 1), 4
            ),
            "seconds": round(time.monotonic() - self._started, 1),
        }
