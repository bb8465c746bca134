"""What the program is made of, as the command line is handed it: import paths, resolved when they
are needed."""

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from purveyor.context import Core
    from purveyor.docker import Engine, Labels
    from purveyor.kernel.events.catalog import Described
    from purveyor.kernel.operations import OperationType
    from purveyor.providers.registry import ProviderRegistry


class Program(NamedTuple):
    """`commands` has each command's module; `build` opens a state directory and answers its core,
    of which nothing runs yet, `open_core` one that runs, and `open_api` that one with its API, as
    the methods say; `make_engine` makes the engine alone; `operation_types` are its types of
    operation, `operation_types_of` answers those that plugins bring, `events` are what features
    publish by themselves."""

    commands: Mapping[str, str]
    build: str
    open_core: str
    open_api: str
    make_engine: str
    operation_types: str
    operation_types_of: str
    events: str

    def built(self, state: Path) -> AbstractAsyncContextManager["Core"]:
        opener: Callable[..., AbstractAsyncContextManager[Core]] = _at(self.build)
        return opener(state)

    def core(self, state: Path) -> AbstractAsyncContextManager["Core"]:
        opener: Callable[..., AbstractAsyncContextManager[Core]] = _at(self.open_core)
        return opener(state)

    def core_and_api(
        self, *given: Any, **more: Any
    ) -> AbstractAsyncContextManager[tuple["Core", Any]]:
        opener: Callable[..., AbstractAsyncContextManager[tuple[Core, Any]]] = _at(self.open_api)
        return opener(*given, **more)

    def engine(self, namespace: str, labels: "Labels") -> "Engine":
        make: Callable[..., Engine] = _at(self.make_engine)
        return make(namespace, labels)

    def load_operation_types(self) -> "Sequence[type[OperationType]]":
        """The core's, and those of the plugins that are installed."""
        from purveyor.providers.registry import load_installed

        found: Sequence[type[OperationType]] = _at(self.operation_types)
        brought: Callable[[ProviderRegistry], Sequence[type[OperationType]]] = _at(
            self.operation_types_of
        )
        return [*found, *brought(load_installed(logging.ERROR))]

    def load_event_types(self) -> "Sequence[Described]":
        found: Sequence[Described] = _at(self.events)
        return found


def _at(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
