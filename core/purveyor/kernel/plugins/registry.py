"""Plugins: found by entry point, loaded one by one, called with a guard and a deadline."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import anyio
import msgspec
import pluggy

from purveyor.kernel import redact
from purveyor.kernel.plugins import validation
from purveyor_hooks import (
    CONTRACT_VERSION,
    PROJECT_NAME,
    BadInput,
    Binding,
    DeadlineExceeded,
    Failed,
    Logger,
    NotFound,
    PurveyorError,
    Service,
    ServiceOperation,
    ServiceType,
    declared,
    specs,
)

T = TypeVar("T")
GROUP = "purveyor"
OWN = "purveyor"  # the distribution that the bundled plugins come with
BIND_DEADLINE = 60.0
HEALTH_DEADLINE = 10.0


class Plugin(msgspec.Struct, kw_only=True):
    """What is known of one plugin, for ``purveyor plugin list``."""

    name: str
    distribution: str = ""
    version: str = ""
    service_type: str | None = None
    hooks: list[str] = []
    deprecations: list[str] = []
    error: str = ""
    faults: int = 0
    last_fault: str = ""


class PluginFault(Failed):
    """A hook raised what is none of our errors."""


NAMED_BY_PEOPLE = ("browse", "download")  # hooks whose `path` a person may have typed
NOTHING_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, LookupError)


class Provider:
    """The type hooks of the one plugin that owns a service type, each call guarded."""

    def __init__(
        self, kind: ServiceType, plugin: Plugin, hooks: Callable[[str], Callable[..., list[Any]]]
    ) -> None:
        self.kind = kind
        self.plugin = plugin
        self.operations: Sequence[ServiceOperation[Any]] = ()
        self._hooks = hooks

    def offers(self, hook: str) -> bool:
        return hook in self.plugin.hooks

    def require(self, hook: str, what: str) -> None:
        """Raise `BadInput` unless the type implements a hook."""
        if not self.offers(hook):
            raise BadInput(f"The service type {self.kind.name!r} does not offer {what}.")

    def call(self, hook: str, service: Service | None = None, **arguments: Any) -> Any:
        """What a hook answers, at once or as an awaitable; None where it answers nothing."""
        if service is not None:
            arguments["service"] = service
        with self.guard(hook, service, arguments.get("binding")):
            answers = self._hooks(hook)(**arguments)
            if not answers and not self.offers(hook):
                raise NotImplementedError(f"the hook {hook} is not implemented")
            return answers[0] if answers else None  # pluggy leaves None out

    async def run(
        self,
        hook: str,
        service: Service | None = None,
        *,
        deadline: float = math.inf,
        watching: bool = False,
        **arguments: Any,
    ) -> Any:
        """What a hook answers that does I/O, within a deadline in seconds. `watching` is for
        whoever looks on while others may stop the server: what fails then is no fault of the
        plugin's."""
        pending = self.call(hook, service, **arguments)
        path = arguments.get("path") if hook in NAMED_BY_PEOPLE else ()
        name = service.name if service else self.kind.name
        with self.guard(hook, service, arguments.get("binding"), counted=not watching and not path):
            try:
                with anyio.move_on_after(deadline):
                    # a driver's own TimeoutError is its own, and told with the driver's words
                    return await pending
            except NOTHING_THERE as error:
                # a person's path that leads nowhere is no fault of the plugin's
                if not path:
                    raise
                raise NotFound(
                    f"There is nothing at {'/'.join(path)} in {name}.",
                    remedy="Open it from its list.",
                ) from error
            raise DeadlineExceeded(
                f"The plugin {self.plugin.name} did not finish {hook} of {name} "
                f"within {deadline:.0f} s."
            )

    @contextmanager
    def guard(
        self,
        hook: str,
        service: Service | None,
        binding: Binding | None,
        *,
        counted: bool = True,
        secrets: Sequence[str] = (),
    ) -> Any:
        try:
            yield
        except PurveyorError:
            raise
        except Exception as error:
            secrets = [*secrets]
            if service:
                secrets += redact.secret_values(self.kind, service.parameters)
                secrets += service.secrets.values()
            if binding:
                secrets.append(binding.password)
            text = redact.scrub(f"{type(error).__name__}: {error}", secrets)
            if service and _broke(error):
                raise PluginFault(
                    f"The server of {service.name} hung up during {hook}: {text}",
                    remedy=f"See: purveyor health {service.slug}; then try again.",
                ) from None
            if counted:
                self.plugin.faults += 1
                self.plugin.last_fault = f"{hook}: {text}"
            raise PluginFault(
                f"The plugin {self.plugin.name} failed in its hook {hook}: {text}",
                remedy="See: purveyor plugin list",
            ) from None


def _broke(error: BaseException) -> bool:
    """Whether a connection that broke is behind what a driver raised: whoever stops a server may do
    so at any moment, and that is no fault of the plugin's."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionError | EOFError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


class Registry:
    """All plugins of this process, the healthy and the broken."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._manager = pluggy.PluginManager(PROJECT_NAME)
        self._manager.add_hookspecs(specs)
        self._plugins: dict[str, Plugin] = {}
        self._providers: dict[str, Provider] = {}

    @property
    def plugins(self) -> Sequence[Plugin]:
        return list(self._plugins.values())

    @property
    def kinds(self) -> Sequence[ServiceType]:
        """All service types, by name."""
        return [self._providers[name].kind for name in sorted(self._providers)]

    def load(self, found: Iterable[EntryPoint] | None = None) -> None:
        """Load every plugin that is installed; what fails is listed with its error and the rest go
        on. The bundled ones come first: nobody takes their names and service types."""
        for entry in sorted(
            found if found is not None else entry_points(group=GROUP),
            key=lambda entry: (entry.dist is None or entry.dist.name != OWN, entry.name),
        ):
            plugin = Plugin(
                name=entry.name,
                distribution=entry.dist.name if entry.dist else "",
                version=entry.dist.version if entry.dist else "",
            )
            try:
                self.register(entry.load(), plugin)
            except Exception as error:  # a plugin may raise anything while it is imported
                self._refuse(plugin, f"{type(error).__name__}: {error}")

    def register(self, module: Any, plugin: Plugin) -> None:
        """Take one plugin in; what is wrong with it is recorded in `plugin.error`."""
        if wrong := validation.contract(getattr(module, "PURVEYOR_CONTRACT", CONTRACT_VERSION)):
            self._refuse(plugin, wrong)
            return
        if isinstance(module, type):
            self._refuse(
                plugin, f"it is the class {module.__name__}: name an object that is made of it"
            )
            return
        if plugin.name in self._plugins:
            self._refuse(
                msgspec.structs.replace(plugin, name=f"{plugin.name} (second)"),
                "the name is taken by another plugin",
            )
            return
        try:
            self._take(module, plugin)
        except Exception as error:
            if self._manager.is_registered(module):
                self._manager.unregister(module)
            told = str(error)
            if not isinstance(error, ValueError):
                told = f"{type(error).__name__}: {error}"
            self._refuse(plugin, told)
            return
        self._plugins[plugin.name] = plugin

    def _take(self, module: Any, plugin: Plugin) -> None:
        """Raises what is wrong with a plugin; `ValueError` names all that can be told."""
        self._manager.register(module, plugin.name)
        implemented = {
            caller.name: implementation.function
            for caller in self._manager.get_hookcallers(module) or []
            for implementation in caller.get_hookimpls()
            if implementation.plugin is module
        }
        plugin.hooks = sorted(implemented)
        plugin.deprecations = list(validation.deprecations(implemented))
        wrong = list(validation.hooks(implemented))
        if "service_type" in implemented:
            self._provide(module, plugin, wrong)
        if wrong:
            raise ValueError("; ".join(wrong))

    def _provide(self, module: Any, plugin: Plugin, wrong: list[str]) -> None:
        def hooks(name: str) -> Callable[..., list[Any]]:
            others = [other for other in self._manager.get_plugins() if other is not module]
            caller: Callable[..., list[Any]] = self._manager.subset_hook_caller(name, others)
            return caller

        kind = hooks("service_type")()[0]
        if not isinstance(kind, ServiceType):
            raise TypeError(f"service_type answers {type(kind).__name__}, not ServiceType")
        wrong += validation.service_type(kind)
        if kind.name in self._providers:
            owner = self._providers[kind.name].plugin.name
            wrong.append(f"the service type {kind.name!r} is taken by the plugin {owner}")
        if wrong:
            return
        provider = Provider(kind, plugin, hooks)
        if provider.offers("operations"):
            provider.operations = tuple(hooks("operations")()[0])
            wrong += declared.faults(provider.operations)
        if wrong:
            return
        plugin.service_type = kind.name
        self._providers[kind.name] = provider

    def module(self, name: str) -> Any:
        """What a plugin was loaded from: its module, or another object."""
        return self._manager.get_plugin(name)

    def _refuse(self, plugin: Plugin, why: str) -> None:
        plugin.error = why
        self._plugins.setdefault(plugin.name, plugin)
        self._logger.warning("plugin.refused", plugin=plugin.name, error=why)

    def kind(self, service_type: str) -> ServiceType:
        """A service type as its owner declares it. Raises `NotFound` when its plugin is gone."""
        return self.provider(service_type).kind

    def find(self, service_type: str) -> Provider | None:
        return self._providers.get(service_type)

    def provider(self, service_type: str) -> Provider:
        """The owner of a service type. Raises `NotFound` when its plugin is gone."""
        found = self.find(service_type)
        if found is None:
            raise NotFound(
                f"No plugin provides the service type {service_type!r}.",
                remedy=(
                    "Install its plugin again; the service and its data are kept. See: "
                    "purveyor plugin list"
                ),
            )
        return found

    # ---------------------------------------------------------------- everyone's hooks

    def everyone(self, hook: str, **arguments: Any) -> list[tuple[Plugin, Any]]:
        """Call a hook of all plugins, one by one; what one raises is noted and stops nobody
        else."""
        answers = []
        for plugin, call in self.callers(hook):
            try:
                answers.append((plugin, call(**arguments)))
            except Exception as error:
                self.note_fault(plugin, hook, error)
        return answers

    def callers(self, hook: str) -> list[tuple[Plugin, Callable[..., Any]]]:
        """The plugins that implement a hook of everyone's, and how to call each, unguarded."""
        found = []
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            plugin = self._plugins.get(implementation.plugin_name)
            if plugin is not None:
                others = [
                    other
                    for other in self._manager.get_plugins()
                    if other is not implementation.plugin
                ]
                caller = self._manager.subset_hook_caller(hook, others)
                found.append((plugin, lambda caller=caller, **arguments: caller(**arguments)[0]))
        return found

    def note_fault(self, plugin: Plugin, hook: str, error: BaseException) -> None:
        """Record that a plugin raised or hung where it must not hurt anybody."""
        plugin.faults += 1
        plugin.last_fault = redact.mask_url(f"{hook}: {type(error).__name__}: {error}")
        self._logger.warning("plugin.fault", plugin=plugin.name, hook=hook, error=plugin.last_fault)

    def gather(self, hook: str, **arguments: Any) -> list[Any]:
        """The answers of all plugins to a pure hook that answers a sequence, flattened."""
        return [item for _, answer in self.everyone(hook, **arguments) for item in answer or ()]

    async def ask(
        self, hook: str, deadline: float, **arguments: Any
    ) -> AsyncIterator[tuple[Plugin, Any]]:
        """The answers of all plugins to an async hook, in turn; what raises or hangs is noted and
        left out."""
        # one after the other: who comes after a refusal is not even called
        for plugin, call in self.callers(hook):
            try:
                with anyio.fail_after(deadline):
                    answer = await call(**arguments)
            except Exception as error:
                self.note_fault(plugin, hook, error)
                if isinstance(error, PurveyorError) and hook.startswith("before_"):
                    answer = str(error)  # a refusal that was raised instead of answered
                else:
                    continue
            yield plugin, answer

    async def strictly(self, hook: str, deadline: float, **arguments: Any) -> list[Any]:
        """The answers of all plugins to an async hook whose failure is the caller's: it is
        raised."""
        answers = []
        for plugin, call in self.callers(hook):
            try:
                with anyio.move_on_after(deadline) as scope:
                    answers.append(await _awaitable(call(**arguments)))
                if scope.cancelled_caught:
                    raise DeadlineExceeded(
                        f"The plugin {plugin.name} did not finish {hook} within {deadline:.0f} s."
                    )
            except PurveyorError:
                raise
            except Exception as error:
                self.note_fault(plugin, hook, error)
                message = (
                    f"The plugin {plugin.name} failed in its hook {hook}: {type(error).__name__}."
                )
                raise Failed(message, remedy="See: purveyor plugin list") from error
        return answers

    def each(self, hook: str) -> list[tuple[Plugin, Callable[..., Awaitable[None]]]]:
        """The plugins that implement an async hook of everyone's, and how to call it."""
        return self.callers(hook)


async def _awaitable(pending: Awaitable[T]) -> T:
    return await pending
