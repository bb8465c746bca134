"""Where the checks are made: an installation of its own, with a daemon, a service and projects."""

import inspect
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar, cast

import anyio
import httpx

from purveyor_hooks.conformance.engine import EngineView
from purveyor_hooks.conformance.told import Stored, Told
from purveyor_hooks.protocols import Exercise, HostileExercise
from purveyor_hooks.types import Account, Service, ServiceType
from purveyor_hooks.types import Image as ImageValue

T = TypeVar("T")
PATIENCE = 90.0
BUSY = "thing0"  # is written again and again beside what is done: it is there all the time
AHEAD = 0.3  # seconds that a writer writes before anything is done beside it
VERB_PATIENCE = 400.0


class ApiFailed(Exception):
    """What the API answered instead of what was asked for."""


class Bench:
    """One run of the kit. Everything on the engine has the run's own name, and is gone in the
    end."""

    def __init__(
        self, service_type: str, image: str = "", chosen: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self.name = service_type
        self.namespace = f"pvc-{secrets.token_hex(4)}"
        self.secrets: set[str] = set()
        self.items: dict[str, str] = {}
        self.looked: set[str] = set()  # names of the checks that were begun
        self.engine = EngineView()
        self._image = image
        self._chosen = dict(chosen)
        self._state = Path(tempfile.mkdtemp(prefix="purveyor-check-"))
        self._daemon: subprocess.Popen[bytes] | None = None
        self.plugin = self.plugin_of(service_type)
        self.kind: ServiceType = self.plugin.service_type()
        self.exercise: Exercise | None = (
            self.plugin.exercise() if hasattr(self.plugin, "exercise") else None
        )

    @staticmethod
    def plugin_of(service_type: str) -> Any:
        """The plugin that brings a type, as its entry point says. Raises `LookupError`."""
        return _plugin(service_type)

    # ---------------------------------------------------------------- its life

    def __enter__(self) -> "Bench":
        settings = [
            f'namespace = "{self.namespace}"',
            'listen = "127.0.0.1:0"',
            "health-interval = 2",
            "ready-timeout = 90",
        ]
        settings.append(f"port-offset = {random.randrange(1000, 30_000)}")
        if self._image:
            settings.append(f'[default-images]\n"{self.name}" = "{self._image}"')
        (self._state / "settings.toml").write_text("\n".join(settings) + "\n")
        try:
            self._serve()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _serve(self) -> None:
        environment = {**os.environ, "PURVEYOR_STATE": str(self._state)}
        command = [sys.executable, "-m", "purveyor", "serve"]
        with self.log.open("ab") as log:
            begun = log.tell()
            self._daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.eventually(
            lambda: (
                (self._state / "purveyor.sock").exists()
                and b'"serving"' in self.log.read_bytes()[begun:]
            ),
            "it serves",
        )

    def kill_and_start_again(self) -> None:
        """The daemon ends at once, as by a crash, and is started anew."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait(60)
        self._serve()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(60)
        for item in self.engine.containers(self.namespace):
            self.engine.remove(item["Id"])
        for name in self.engine.volumes(self.namespace):
            self.engine.call("DELETE", f"/volumes/{name}")
        for item in self.engine.call("GET", "/networks"):
            if item["Name"].startswith(self.namespace):
                self.engine.call("DELETE", f"/networks/{item['Id']}")
        self.engine.close()
        shutil.rmtree(self._state, ignore_errors=True)

    @property
    def log(self) -> Path:
        """What the daemon printed."""
        return self._state / "daemon.log"

    def eventually(self, what: Callable[[], T], why: str, patience: float = PATIENCE) -> T:
        """The first true answer. Raises `AssertionError`, with what the API answered last when it
        refused."""
        deadline = time.monotonic() + patience
        while True:
            refused = ""
            try:
                if answer := what():
                    return answer
            except ApiFailed as error:
                refused = f"; {error}"
            if self._daemon and self._daemon.poll() is not None:
                raise AssertionError(f"the daemon ended: {self.log.read_text()[-2000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {patience:.0f} s: {why}{refused}")
            time.sleep(0.2)

    # ---------------------------------------------------------------- the API

    def _http(self, timeout: float) -> httpx.Client:
        # no TLS there: reading the certificates takes longer than most answers
        transport = httpx.HTTPTransport(uds=str(self._state / "purveyor.sock"), verify=False)
        return httpx.Client(transport=transport, base_url="http://purveyor/api", timeout=timeout)

    def call(
        self, method: str, path: str, body: Any = None, *, soon: bool = False, **params: Any
    ) -> Any:
        """One call of the API; with `soon` an operation is answered when it has begun. Raises
        `ApiFailed` with what it answers instead."""
        with self._http(VERB_PATIENCE) as http:
            headers = {"Prefer": "respond-async"} if soon else {}
            answer = http.request(method, path, json=body, params=params, headers=headers)
        if answer.is_error:
            said = (
                answer.json()
                if "json" in answer.headers.get("content-type", "")
                else {"detail": answer.text}
            )
            raise ApiFailed(f"{method} {path}: {answer.status_code} {said.get('detail', '')}")
        return answer.json() if answer.content else None

    def begin(self, path: str, body: Any) -> int:
        """Start an operation, and do not wait for it; the answer is its number."""
        found: int = self.call("POST", path, body, soon=True)["operation_id"]
        return found

    def service(self, name: str = "main") -> Any:
        return self.call("GET", f"/external-services/{name}")["service"]

    def parameters(self) -> dict[str, str]:
        """For a new service: what is chosen, and secrets of the kit's own, so that it can look for
        them."""
        found = {}
        for item in self.kind.parameters:
            if item.secret and item.generated:
                found[item.name] = f"kit{secrets.token_hex(max(6, item.length // 2))}"[
                    : max(12, item.length)
                ]
        self.secrets |= set(found.values())
        return {**self._chosen, **found}

    def create(self, name: str) -> None:
        body = {"name": name, "service_type": self.name, "parameters": self.parameters()}
        self.call("POST", "/external-services", body)

    def project(self, name: str, service: str = "main") -> None:
        """A project, linked."""
        try:
            self.call("GET", f"/projects/{name}")
        except ApiFailed:
            self.call("POST", "/projects", {"name": name})
        self.call("POST", f"/external-services/{service}/projects", {"project_id": name})

    def unlink(self, name: str, service: str = "main", **params: Any) -> None:
        self.call("DELETE", f"/external-services/{service}/projects/{name}", **params)

    def variables(self, project: str, reach: str = "host") -> dict[str, str]:
        answer = self.call(
            "GET", f"/projects/{project}/environments/production/variables", reach=reach
        )
        found: dict[str, str] = answer["variables"]
        return found

    # ---------------------------------------------------------------- as an app

    def account(self, project: str) -> Account:
        assert self.exercise is not None
        found = self.exercise.account(self.variables(project))
        self.secrets.add(found.password)
        return found

    def write(self, account: Account, name: str, value: str) -> None:
        exercise = self.exercise
        assert exercise is not None
        _run(lambda: exercise.write(account, name, value))

    def read(self, account: Account, name: str) -> str | None:
        exercise = self.exercise
        assert exercise is not None
        return _run(lambda: exercise.read(account, name))

    def fill(self, project: str) -> None:
        """Twenty things, remembered."""
        account = self.account(project)
        for number in range(20):
            self.items[f"thing{number}"] = secrets.token_hex(8)
            self.write(account, f"thing{number}", self.items[f"thing{number}"])

    @contextmanager
    def writing(self, project: str) -> Iterator[None]:
        """An app that writes new things, and one of the old ones anew, without pause meanwhile.
        Raises what its driver raised."""
        exercise, account, ended = self.exercise, self.account(project), threading.Event()
        assert exercise is not None
        failed: list[Exception] = []

        async def write() -> None:
            number = 0
            while not ended.is_set():
                await exercise.write(account, f"noise{number}", secrets.token_hex(8))
                if BUSY in self.items:
                    await exercise.write(account, BUSY, self.items[BUSY])
                number += 1

        def run() -> None:
            try:
                anyio.run(write)
            except Exception as error:
                failed.append(error)

        writer = threading.Thread(target=run, daemon=True)
        writer.start()
        try:
            time.sleep(AHEAD)
            yield
        finally:
            ended.set()
            writer.join(60)
        if failed:
            raise failed[0]

    @property
    def hostile(self) -> HostileExercise | None:
        """What a hostile app does, where the type says it."""
        return cast(HostileExercise, self.exercise) if hasattr(self.exercise, "mischief") else None

    def do(self, work: Callable[[], Awaitable[T]]) -> T:
        """Something that an app does."""
        return _run(work)

    def told(self, service: str = "main") -> Told:
        """What the type tells of a backup that is made now. Raises `ApiFailed`."""
        made = self.call("POST", f"/backups/external-services/{service}/run")
        if made["state"] != "ok":
            raise ApiFailed(f"the backup is {made['state']}: {made['error_message']}")
        told = Told()
        _run(lambda: self.plugin.contents(source=Stored(Path(made["location"])), into=told))
        return told

    def operations(self) -> Mapping[str, Mapping[str, Any]]:
        """What each operation of the type is asked with, as its exercise says."""
        found = getattr(self.exercise, "operations", None)
        return found() if found is not None else {}

    def outcome(self, verb: str) -> Any:
        """What the last operation of a verb found."""
        found = next(
            item for item in self.call("GET", "/operations", limit=50) if item["verb"] == verb
        )
        return found["outcome"] or {}

    def missing(self, project: str) -> list[str]:
        """What of it is not there, or not as it was."""
        account = self.account(project)
        return [name for name, value in self.items.items() if self.read(account, name) != value]

    # ---------------------------------------------------------------- the plugin itself

    def value(self, name: str, parameters: dict[str, Any]) -> Service:
        """A service as the core would hand it to the plugin's pure hooks."""
        image = self.kind.default_image if not self._image else self._image
        found = self.engine.image(image)
        environment = dict(
            entry.partition("=")[::2] for entry in (found or {}).get("Config", {}).get("Env") or []
        )
        seen = ImageValue(reference=image, id=(found or {}).get("Id", ""), environment=environment)
        values = {
            item.name: item.default for item in self.kind.parameters if item.name != "docker_image"
        }
        for item in self.kind.parameters:
            if item.generated == "port":
                values[item.name] = item.base
            elif item.generated:
                values[item.name] = f"kit{secrets.token_hex(item.length)}"[
                    : max(12, item.length)
                ].lower()
        chosen = {**values, **self._chosen, **parameters}
        made = Service(
            id=1, name=name, slug=name, service_type=self.name, parameters=chosen, secrets={},
            image=seen, host=name,
            major=self._major(seen, chosen),
        )  # fmt: skip
        if hasattr(self.plugin, "secrets"):
            import msgspec

            made = msgspec.structs.replace(made, secrets=self.plugin.secrets(service=made))
        return made

    def _major(self, image: ImageValue, parameters: dict[str, Any]) -> str:
        if not hasattr(self.plugin, "data_major"):
            return ""
        taken = inspect.signature(self.plugin.data_major).parameters
        values = {"image": image, "parameters": parameters}
        return str(
            self.plugin.data_major(
                **{name: value for name, value in values.items() if name in taken}
            )
        )

    def journal(self) -> str:
        """All that was said of what was done: events and operations."""
        events = self._all("/events")
        return json.dumps([events, self.call("GET", "/operations", limit=1000)])

    def _all(self, path: str) -> Any:
        with self._http(60.0) as http:
            return http.get(
                path, params={"after": 0, "limit": 1000}, headers={"Accept": "application/json"}
            ).json()


def _plugin(service_type: str) -> Any:
    """The plugin that brings a type, as its entry point says."""
    wrong = []
    for entry in entry_points(group="purveyor"):
        try:
            plugin = entry.load()
        except Exception as error:  # another plugin's trouble
            wrong.append(f"{entry.name}: {error}")
            continue
        if hasattr(plugin, "service_type") and plugin.service_type().name == service_type:
            return plugin
    raise LookupError(
        f"No installed plugin brings the service type {service_type!r}. {' '.join(wrong)}".strip()
    )


def _run(work: Callable[[], Awaitable[T]]) -> T:
    async def go() -> T:
        with anyio.fail_after(60):
            return await work()

    return anyio.run(go)


@contextmanager
def halted(bench: Bench, name: str) -> Iterator[None]:
    """A server that runs and does nothing."""
    bench.engine.signal(name, "STOP")
    try:
        yield
    finally:
        bench.engine.signal(name, "CONT")
