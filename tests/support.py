"""A stage for tests: a state directory and a namespace of the run's own, on the real engine."""

import json
import os
import random
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

import forkserver

PURVEYOR = [sys.executable, "-m", "purveyor"]
POSTGRES = "purveyor-test/postgres:17"
REDIS = "purveyor-test/redis:8.0"
MONGODB = "purveyor-test/mongodb:8.0"
RUSTFS = "purveyor-test/rustfs:1.0.1"
SEAWEEDFS = "purveyor-test/seaweedfs:4.48"
MINIO = "purveyor-test/minio:2026-02-12"
DEMO = "purveyor-test/demo:1"
PATIENCE = 60.0


def docker(*arguments: str, check: bool = True) -> str:
    """The docker command line: a peer that knows nothing of Purveyor."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


def storage() -> str:
    """The S3 server of stages that name none: RustFS, where it can be had."""
    return RUSTFS if docker("images", "-q", RUSTFS) else SEAWEEDFS


def eventually(what: Any, patience: float = PATIENCE) -> Any:
    """The first true answer of `what`, asked again and again."""
    deadline = time.monotonic() + patience
    while True:
        answer = what()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(0.05)


@contextmanager
def hanging(container: str) -> Iterator[None]:
    """Stop a container's processes: its server takes connections and says nothing, and the engine
    calls it running."""
    _signal(container, "STOP")
    try:
        yield
    finally:
        _signal(container, "CONT")


def _signal(container: str, name: str) -> None:
    # all but the first, if there are any
    docker("exec", "-u", "0", container, "sh", "-c", f"kill -{name} -1", check=False)
    docker("kill", "-s", name, container)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


ASKING = re.compile(
    r"(--json )?(stop|restart|update|upgrade|delete|unlink|rotate|apply|project delete|project "
    r"remove-environment|token revoke"
    r"|token end-session|backup restore|backup delete|backup archive stop|(kv|blob) "
    r"disable|operations abandon)( |$)"
)


def unasked(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a command with the flag for where there is no terminal to ask at."""
    asks = ASKING.match(" ".join(arguments)) and not {"--yes", "--plan", "--help"} & set(arguments)
    return (*arguments, "--yes") if asks else arguments


class Stage:
    """One installation: its state directory, namespace, command line and (when it serves) HTTP
    API."""

    def __init__(
        self, state: Path, namespace: str, settings: str = "", images: dict[str, str] | None = None
    ) -> None:
        self.state = state
        self.namespace = namespace
        self.address = ""
        self.daemon = 0  # the process id, while it serves
        self.environment = {**os.environ, "PURVEYOR_STATE": str(state), "COLUMNS": "200"}
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        chosen = {
            "postgres": POSTGRES,
            "redis": REDIS,
            "mongodb": MONGODB,
            "s3": storage(),
            "kv": REDIS,
            "blob": storage(),
            **(images or {}),
        }
        listed = "".join(f'{name} = "{image}"\n' for name, image in chosen.items())
        # ports of a stopped service are free for other runs: keep out of their way
        if "port-offset" not in settings:
            settings += f"\nport-offset = {random.randrange(1000, 30_000)}"
        if "listen" not in settings:
            settings += '\nlisten = "127.0.0.1:0"'
        text = f'namespace = "{namespace}"\n{settings}\n[default-images]\n{listed}'
        (state / "settings.toml").write_text(text)

    def run(
        self, *arguments: str, stdin: str = "", timeout: float = 180
    ) -> subprocess.CompletedProcess[str]:
        return forkserver.run(
            [*PURVEYOR, *arguments], env=self.environment, stdin=stdin, timeout=timeout
        )

    def cli(self, *arguments: str, code: int = 0) -> str:
        """Run a command that must end with `code`; the answer is what it printed. One that would
        ask goes on without."""
        done = self.run(*unasked(arguments))
        assert done.returncode == code, (
            f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout if code == 0 else done.stdout + done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.cli("--json", *arguments))

    @contextmanager
    def serving(self) -> Iterator["Stage"]:
        """A daemon of its own."""
        with open(self.state / "daemon.log", "ab") as log:
            begun = log.tell()
            daemon = forkserver.start([*PURVEYOR, "serve"], env=self.environment, output=log)
            self.daemon = daemon.pid
            try:
                self.address = eventually(lambda: self._address(daemon, begun))
                yield self
            finally:
                self.daemon = 0
                daemon.terminate()
                daemon.wait(PATIENCE)

    def _address(self, daemon: forkserver.Process, begun: int) -> str:
        """Where it serves, once this daemon has said so: what earlier ones said ends at `begun`."""
        text = (self.state / "daemon.log").read_bytes()[begun:].decode()
        assert daemon.poll() is None, f"the daemon ended:\n{text}"
        found = [json.loads(line) for line in text.splitlines() if '"event": "serving"' in line]
        return str(found[-1]["address"]) if found else ""

    def local(self) -> httpx.Client:
        """A client over the local socket, which is trusted."""
        # reading certificates takes long
        transport = httpx.HTTPTransport(uds=str(self.state / "purveyor.sock"), verify=False)
        return httpx.Client(transport=transport, base_url="http://purveyor", timeout=180)

    def http(self, token: str = "", connections: int | None = 100) -> httpx.Client:
        """The API over HTTP; `connections` at once, None for any number."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        limits = httpx.Limits(max_connections=connections)
        return httpx.Client(
            base_url=self.address, headers=headers, timeout=180, verify=False, limits=limits
        )

    def variables(
        self, project: str, environment: str = "production", *, host: bool = True
    ) -> dict[str, str]:
        """What a deploy of the environment gets, which is made when there is none: asked over HTTP
        while a daemon serves."""
        found: dict[str, str]
        if environment != "production":
            self.add_environment(project, environment)
        if self.daemon:
            path = f"/projects/{project}/environments/{environment}/variables"
            found = self.call("GET", path, params={"reach": "host" if host else "network"})[
                "variables"
            ]
        else:
            reach = ["--host"] if host else []
            found = self.json("env", project, "-e", environment, *reach)
        return found

    def add_environment(self, project: str, environment: str) -> None:
        if self.daemon:
            self.call("POST", f"/projects/{project}/environments", json={"name": environment})
        else:
            self.cli("project", "add-environment", project, environment)

    def sql(self, service: str, statement: str) -> list[str]:
        """What a PostgreSQL service answers its administrator, line by line; asked behind
        Purveyor's back."""
        name = f"{self.namespace}-{service}"
        return docker("exec", name, "psql", "-U", "postgres", "-Atc", statement).splitlines()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One API call over the local socket, which must succeed."""
        with self.local() as client:
            answer = client.request(method, f"/api{path}", **options)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def furnish(self, services: Mapping[str, str], projects: Sequence[str] = ()) -> None:
        """Services by their names with their types, and projects linked to each of them: begun in
        this order, done at once."""
        made = [
            ("/external-services", {"name": name, "service_type": kind})
            for name, kind in services.items()
        ]
        made += [("/projects", {"name": name}) for name in projects]
        links = [
            (f"/external-services/{name}/projects", {"project_id": project})
            for project in projects
            for name in services
        ]
        for posts in (made, links):
            headers = {"Prefer": "respond-async"}
            begun = [
                self.call("POST", path, json=body, headers=headers)["operation_id"]
                for path, body in posts
            ]
            for number in begun:
                eventually(lambda: self._ended(number))

    def _ended(self, number: int) -> bool:
        operation = self.call("GET", f"/operations/{number}")
        assert operation["state"] in ("running", "succeeded"), operation
        return bool(operation["state"] == "succeeded")

    # ---------------------------------------------------------------- what the engine holds

    @property
    def installation(self) -> str:
        with sqlite3.connect(f"file:{self.state}/purveyor.db?mode=ro", uri=True) as db:
            return str(
                db.execute("SELECT value FROM meta WHERE key = 'installation'").fetchone()[0]
            )

    def rows(self, sql: str) -> list[Any]:
        with sqlite3.connect(f"file:{self.state}/purveyor.db?mode=ro", uri=True) as db:
            return db.execute(sql).fetchall()

    def containers(self) -> set[str]:
        label = f"label=dev.purveyor.installation={self.installation}"
        return set(docker("ps", "-a", "--format", "{{.Names}}", "--filter", label).split())

    def networks(self) -> set[str]:
        """Those of environments."""
        named = docker(
            "network", "ls", "--format", "{{.Name}}", "--filter", f"name={self.namespace}"
        ).split()
        return {name for name in named if name.startswith(f"{self.namespace}.")}

    def volumes(self) -> set[str]:
        label = f"label=dev.purveyor.installation={self.installation}"
        return set(docker("volume", "ls", "-q", "--filter", label).split())

    def world(self) -> Any:
        """All that a plan or a refusal must leave as it is; what is observed, and when, apart."""
        seen = ("status_at", "version", "healthy", "latency_ms", "memory_bytes", "cpu_percent")
        listed = [{**item, **dict.fromkeys(seen)} for item in self.json("list")]
        return listed, self.json("project", "list"), self.containers(), self.volumes()

    def clean(self) -> None:
        """Leave nothing behind: every name here is the run's own."""
        for what, names in (
            (("rm", "-f", "-v"), docker("ps", "-aq", "--filter", f"name=^/{self.namespace}[-.]")),
            (("volume", "rm"), docker("volume", "ls", "-q", "--filter", f"name={self.namespace}")),
        ):
            if names:
                docker(*what, *names.split(), check=False)
        for name in (*self.networks(), self.namespace):
            docker("network", "rm", name, check=False)


MakeStage = Callable[..., Stage]  # makes stages that live as long as a module's tests
