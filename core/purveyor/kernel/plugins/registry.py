"""Plugins: found by entry point, loaded one by one, called with a guard and a deadline."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
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
    DeadlineExceeded,
    Failed,
    Logger,
    PurveyorError,
    specs,
)

T = TypeVar("T")
Calls = Callable[[str], Callable[..., list[Any]]]  # how a hook of one plugin is called, by its name
GROUP = "purveyor"
OWN = "purveyor"  # the distribution that the bundled plugins come with


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


class Registry:
    """All plugins of this process, the healthy and the broken."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._manager = pluggy.PluginManager(PROJECT_NAME)
        self._manager.add_hookspecs(specs)
        self._plugins: dict[str, Plugin] = {}

    @property
    def plugins(self) -> Sequence[Plugin]:
        return list(self._plugins.values())

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
        self.admit(plugin, implemented, self._calls(module), wrong)
        if wrong:
            raise ValueError("; ".join(wrong))

    def admit(
        self, plugin: Plugin, implemented: validation.Hooks, calls: Calls, wrong: list[str]
    ) -> None:
        """Look at a plugin for what is built on the kernel: add what is wrong with it, and, when
        nothing is, take up what it brings. Whoever knows more of hooks than their names does."""

    def _calls(self, module: Any) -> Calls:
        def of(hook: str) -> Callable[..., list[Any]]:
            others = [other for other in self._manager.get_plugins() if other is not module]
            caller: Callable[..., list[Any]] = self._manager.subset_hook_caller(hook, others)
            return caller

        return of

    def module(self, name: str) -> Any:
        """What a plugin was loaded from: its module, or another object."""
        return self._manager.get_plugin(name)

    def _refuse(self, plugin: Plugin, why: str) -> None:
        plugin.error = why
        self._plugins.setdefault(plugin.name, plugin)
        self._logger.warning("plugin.refused", plugin=plugin.name, error=why)

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
                caller = self._calls(implementation.plugin)(hook)
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
