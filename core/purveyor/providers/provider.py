"""The plugin that provides a service type: its hooks, each call guarded and within a deadline."""

import math
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import anyio

from purveyor.kernel import redact
from purveyor.kernel.plugins.registry import Calls, Plugin
from purveyor.providers import masking
from purveyor_hooks import (
    BadInput,
    Binding,
    DeadlineExceeded,
    Failed,
    NotFound,
    PurveyorError,
    Service,
    ServiceOperation,
    ServiceType,
)

NAMED_BY_PEOPLE = ("browse", "download")  # hooks whose `path` a person may have typed
NOTHING_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, LookupError)


class PluginFault(Failed):
    """A hook raised what is none of our errors."""


class Provider:
    """The type hooks of the one plugin that owns a service type, each call guarded."""

    def __init__(self, kind: ServiceType, plugin: Plugin, calls: Calls) -> None:
        self.kind = kind
        self.plugin = plugin
        self.operations: Sequence[ServiceOperation[Any]] = ()
        self._calls = calls

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
            answers = self._calls(hook)(**arguments)
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
                secrets += masking.secret_values(self.kind, service.parameters)
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
