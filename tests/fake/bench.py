"""The conformance kit on the fake engine: a bench whose daemon runs in a thread of this process, a
Docker API over the same world, and a type of which each hook can be exchanged while it runs."""

import logging
import re
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import wraps
from inspect import iscoroutinefunction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import unquote

import anyio.from_thread
import httpx
from litestar import Litestar

from fake import server
from fake.engine import Container, FakeEngine
from fake.scene import IMAGES
from fake.server import PORT, Server
from purveyor.app import App, open_app
from purveyor.asgi import create_api
from purveyor.cli.client import SOCKET
from purveyor.docker import Labels
from purveyor.kernel.api.server import listen_local, serving
from purveyor_hooks import Account, Binding, Service, Variable, hookimpl
from purveyor_hooks.conformance import Bench
from purveyor_hooks.conformance.engine import EngineView

PATIENCE = 5.0  # seconds: everything here answers at once
LISTENS = "listens"  # a label: on which address of the host a container's ports are
OPEN = (
    "open"  # a resource of this name: nobody is kept from anything; with a key "read", from reading
)


class Plugin:
    """The fake type with all its hooks; `replaced` are those that somebody does otherwise."""

    def __init__(self) -> None:
        self.replaced: dict[str, Callable[..., Any]] = {}
        self.bench: FakeBench
        for name, hook in vars(server).items():
            if hasattr(hook, "purveyor_impl"):
                setattr(self, name, self._exchangeable(name, hook))
        self.environment = self._exchangeable("environment", environment)

    def _exchangeable(self, name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        def current() -> Callable[..., Any]:
            return self.replaced.get(name, hook)

        if iscoroutinefunction(hook):

            @wraps(hook)
            async def call_async(*given: Any, **named: Any) -> Any:
                return await current()(*given, **named)

            return call_async

        @wraps(hook)
        def call(*given: Any, **named: Any) -> Any:
            return current()(*given, **named)

        return call

    @hookimpl
    def exercise(self) -> "Exercise":
        return Exercise(lambda: self.bench)


@hookimpl
def environment(service: Service, binding: Binding) -> list[Variable]:
    """All that an app needs."""
    return [
        Variable(name="FAKE_HOST", value=service.host_of(PORT)),
        Variable(name="FAKE_PORT", value=str(service.port(PORT))),
        Variable(name="FAKE_USER", value=binding.account),
        Variable(name="FAKE_PASSWORD", value=binding.password, secret=True),
        Variable(name="FAKE_RESOURCE", value=binding.resource),
    ]


class Exercise:
    """An app of the type: it comes by the published port, with its account."""

    def __init__(self, bench: Callable[[], "FakeBench"]) -> None:
        self._bench = bench

    def account(self, variables: Mapping[str, str]) -> Account:
        given = {name.removeprefix("FAKE_").lower(): value for name, value in variables.items()}
        port = int(given.pop("port"))
        fields = ("host", "user", "password", "resource")
        return Account(port=port, **{name: given[name] for name in fields})

    async def write(self, account: Account, name: str, value: str) -> None:
        await anyio.sleep(0.001)  # others have their turn
        self._bench().in_daemon(self._write, account, name, value)

    async def read(self, account: Account, name: str) -> str | None:
        found: str | None = self._bench().in_daemon(self._read, account, name)
        return found

    def _write(self, account: Account, name: str, value: str) -> None:
        found = self._logged_in(account)
        found.held.resources[account.resource][name] = value
        found.save()

    def _read(self, account: Account, name: str) -> str | None:
        found = self._logged_in(account)
        if "read" in found.held.resources.get(OPEN, {}):
            self._require_own(account)
        return found.held.resources[account.resource].get(name)

    def _logged_in(self, account: Account) -> Server:
        engine = self._bench().world
        for container in engine.world.containers:
            there = account.port in container.ports or account.host in container.networks.values()
            if container.state == "running" and there:
                break
        else:
            raise ConnectionRefusedError(account.port)
        found = Server.of(engine, container.name)
        known = found.held.accounts.get(account.user, ("", ""))[0]
        if account.password not in (known, found.held.former.get(account.user)):
            raise PermissionError(f"{account.user} is refused")
        if OPEN not in found.held.resources:
            self._require_own(account)
        return found

    @staticmethod
    def _require_own(account: Account) -> None:
        if not f"{account.resource}_".startswith(f"{account.user}_"):
            raise PermissionError(f"{account.resource} is not {account.user}'s")

    async def mischief(self, account: Account) -> None:
        await self.write(account, "../'; --", "\0")

    async def gained(self, account: Account) -> str:
        found = self._bench().in_daemon(self._logged_in, account)
        return "it reads whatever it likes" if OPEN in found.held.resources else ""

    def operations(self) -> Mapping[str, Mapping[str, Any]]:
        return {"tidy": {"label": "kit", "key": "a-secret-of-the-kit"}}


class Entry(NamedTuple):
    """What an entry point is, as far as plugins are loaded by one."""

    plugin: Any
    name: str = "fake"
    dist: None = None

    def load(self) -> Any:
        return self.plugin


class FakeBench(Bench):
    """A bench of the type as `plugin` has it. Its engine's world may be kept, and brought back."""

    def __init__(self, plugin: Any) -> None:
        self._given = plugin
        super().__init__("fake")
        plugin.bench = self
        self.engine.close()
        docker = httpx.MockTransport(Docker(self).answer)
        self.engine = EngineView(httpx.Client(transport=docker, base_url="http://docker"))
        self.world = self._engine_of(self.namespace, Labels(""))
        self.app: App
        self._portal: anyio.from_thread.BlockingPortal | None = None
        self._written: dict[str, str] = {}
        self._api: Litestar | None = None
        self._stack = ExitStack()
        self._kept = self._state.with_name(f"{self._state.name}.kept")

    def plugin_of(self, service_type: str) -> Any:  # type: ignore[override]
        return self._given

    # ---------------------------------------------------------------- its life

    def _serve(self) -> None:
        path = self._state / "settings.toml"
        path.write_text(re.sub(r"ready-timeout = \d+", "ready-timeout = 1", path.read_text()))
        self.log.touch()
        self._portal = self._stack.enter_context(anyio.from_thread.start_blocking_portal())
        living = self._portal.wrap_async_context_manager(self._living())
        self.app = self._stack.enter_context(living)

    @asynccontextmanager
    async def _living(self) -> AsyncIterator[App]:
        async with (
            open_app(
                self._state,
                serve=True,
                make_engine=self._engine_of,
                plugins=[Entry(self._given)],
                log_level=logging.CRITICAL,
            ) as app,
            serving(self._api_of(app), local=[listen_local(self._state / SOCKET)]),
        ):
            yield app

    def _api_of(self, app: App) -> Litestar:
        """Made once: that takes longer than most checks."""
        if self._api is None:
            self._api = create_api(app)
        self._api.state.core = app
        return self._api

    def _engine_of(self, namespace: str, labels: Labels) -> FakeEngine:
        self.world = FakeEngine(namespace, labels, self._state)
        self.world.world.images = IMAGES
        self.world.run = server.run
        return self.world

    def in_daemon(self, work: Callable[..., Any], *given: Any) -> Any:
        """Do something between what the daemon does."""
        return self._portal.call(work, *given) if self._portal else work(*given)

    def stop(self) -> None:
        self._portal = None
        self._stack.close()

    def kill_and_start_again(self) -> None:
        """What the next daemon finds is what there was at this moment."""
        moment = self._state.with_name(f"{self._state.name}.moment")
        self.in_daemon(self._copy, moment)
        self.stop()
        shutil.rmtree(self._state)
        moment.rename(self._state)
        self._serve()

    def _copy(self, folder: Path) -> None:
        left = shutil.ignore_patterns(SOCKET, "*-shm")
        shutil.copytree(self._state, folder, ignore=left)

    def keep(self) -> None:
        """Have it come back as it is now."""
        self.stop()
        self._copy(self._kept)
        self._written = dict(self.items)
        self._serve()

    def rewind(self, **replaced: Callable[..., Any]) -> None:
        """As it was when it was kept, with a type that does some things otherwise from now on."""
        self.stop()
        shutil.rmtree(self._state)
        shutil.copytree(self._kept, self._state)
        self._given.replaced = replaced
        self.items = dict(self._written)
        self._serve()

    def eventually(self, what: Any, why: str, patience: float = PATIENCE) -> Any:
        return super().eventually(what, why, min(patience, PATIENCE))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        super().__exit__(kind, error, trace)
        shutil.rmtree(self._kept, ignore_errors=True)


class Docker:
    """The calls of the Docker API that the kit makes, over the world of the fake engine."""

    def __init__(self, bench: FakeBench) -> None:
        self._bench = bench
        self._created: dict[str, Any] = {}
        self._calls = {
            "GET /containers/json": self._list,
            "GET /volumes": lambda _: {"Volumes": [{"Name": item.name} for item in self._volumes]},
            "GET /networks": lambda _: [
                {"Name": name, "Id": number} for name, number in self._engine.world.networks.items()
            ],
            r"GET /containers/(?P<name>[^/]+)/json": self._inspect,
            r"POST /containers/create": self._create,
            r"POST /containers/(?P<name>[^/]+)/start": self._start,
            r"POST /containers/(?P<name>[^/]+)/exec": lambda _, name: {"Id": name},
            r"POST /exec/(?P<name>[^/]+)/start": lambda _, name: None,
            r"POST /containers/(?P<name>[^/]+)/kill": self._signal,
            r"PUT /containers/(?P<name>[^/]+)/archive": lambda _, name: None,
            r"DELETE /containers/(?P<name>[^/]+)": self._remove,
            r"DELETE /volumes/(?P<name>[^/]+)": self._drop,
            r"DELETE /networks/(?P<name>[^/]+)": self._part,
            r"GET /images/(?P<name>.+)/json": self._image,
            r"POST /images/(?P<name>.+)/tag": self._tag,
            r"DELETE /images/(?P<name>.+)": self._untag,
        }

    def answer(self, request: httpx.Request) -> httpx.Response:
        asked = f"{request.method} {unquote(request.url.path)}"
        for pattern, work in self._calls.items():
            if found := re.fullmatch(pattern, asked):
                return self._bench.in_daemon(self._answered, work, request, found.groupdict())
        return httpx.Response(404, json={"message": f"the fake engine has no {asked}"})

    def _answered(
        self, work: Callable[..., Any], request: httpx.Request, given: Mapping[str, str]
    ) -> httpx.Response:
        try:
            return httpx.Response(200, json=work(request, **given))
        except LookupError as error:
            return httpx.Response(404, json={"message": str(error)})

    @property
    def _engine(self) -> FakeEngine:
        return self._bench.world

    @property
    def _volumes(self) -> Any:
        return self._engine.world.volumes

    def _container(self, name: str) -> Container:
        found = self._engine.find(name)
        if found is None:
            raise LookupError(name)
        return found

    def _list(self, _: httpx.Request) -> Any:
        return [
            {
                "Id": item.id,
                "Names": [f"/{item.name}"],
                "Ports": [
                    {"IP": item.labels.get(LISTENS, "127.0.0.1"), "PublicPort": port}
                    for port in item.ports
                ],
            }
            for item in self._engine.world.containers
        ]

    def _inspect(self, _: httpx.Request, name: str) -> Any:
        found = self._container(name)
        state = {"Running": found.state == "running", "StartedAt": str(found.started_at)}
        return {"Id": found.id, "State": state}

    def _create(self, request: httpx.Request) -> Any:
        self._created[request.url.params["name"]] = httpx.Response(
            200, content=request.content
        ).json()
        return {"Id": request.url.params["name"]}

    def _start(self, _: httpx.Request, name: str) -> None:
        body = self._created.pop(name)
        environment = dict(item.split("=", 1) for item in body["Env"])
        self._engine.foreign(name, body["Image"], environment, server.DATA)

    def _signal(self, request: httpx.Request, name: str) -> None:
        self._container(name).hangs = request.url.params["signal"] == "SIGSTOP"

    def _remove(self, _: httpx.Request, name: str) -> None:
        found = self._container(name)
        self._engine.world.containers.remove(found)
        self._engine.save()
        self._engine.tell("destroy", found)

    def _drop(self, _: httpx.Request, name: str) -> None:
        world = self._engine.world
        world.volumes = [item for item in world.volumes if item.name != name]
        self._engine.save()

    def _part(self, _: httpx.Request, name: str) -> None:
        world = self._engine.world
        world.networks = {key: value for key, value in world.networks.items() if value != name}
        self._engine.save()

    def _image(self, _: httpx.Request, name: str) -> Any:
        found = self._engine.world.meant(name)
        if found is None:
            raise LookupError(name)
        environment = [f"{key}={value}" for key, value in IMAGES[found].items()]
        return {"Id": f"sha256:{found}", "Config": {"Env": environment}}

    def _tag(self, request: httpx.Request, name: str) -> None:
        found = self._engine.world.meant(name)
        assert found is not None
        reference = f"{request.url.params['repo']}:{request.url.params['tag']}"
        self._engine.world.tags[reference] = found
        self._engine.save()

    def _untag(self, _: httpx.Request, name: str) -> None:
        self._engine.world.tags.pop(name, None)
        self._engine.save()
