"""What plugins are handed: the parts of the core that they may use, as Protocols."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from purveyor_hooks.types import Address, AppSpec, Command, Deployment, Event, ExecResult


class Logger(Protocol):
    """A structured logger. Fields with the name of a secret are masked, but do not lean on that."""

    def debug(self, event: str, **fields: Any) -> Any: ...

    def info(self, event: str, **fields: Any) -> Any: ...

    def warning(self, event: str, **fields: Any) -> Any: ...


class Access(Protocol):
    """How a type hook reaches its own service, and nothing else."""

    @property
    def logger(self) -> Logger: ...

    def address(self, container_port: int) -> Address:
        """Where the core reaches this port of the service from the host."""

    async def exec(self, command: Command, *, stdin: bytes = b"", timeout: float = 60.0) -> ExecResult:
        """Run a command in the service's container. Raises `EngineUnavailable`, `DeadlineExceeded`, `Conflict`
        when the container does not run."""


class Sink(Protocol):
    """Where a backup goes: bytes, in order; awaiting `write` is the back-pressure."""

    async def write(self, chunk: bytes) -> None: ...


class Source(Protocol):
    """Where a restore comes from: bytes in order, chunks of at most 1 MiB."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Workshop(Protocol):
    """How a deploy hook runs an app's containers, by deployment; each call may be repeated after a crash."""

    async def run(self, deployment: Deployment, app: AppSpec) -> str:
        """Start the deployment's container on the network with its variables; the answer is its name."""

    async def address(self, deployment: Deployment) -> Address | None:
        """Where the app's port is published on this host; None when it has none."""

    async def state(self, deployment: Deployment) -> tuple[str, str]:
        """The container's state ("running", "exited", …), Docker's health of it, or "" where it has no check."""

    async def log(self, deployment: Deployment, lines: int = 20) -> str:
        """The last lines that the container printed."""

    async def promote(self, deployment: Deployment) -> None:
        """Give the environment's name on the network to this deployment and take it from the others."""

    async def retire_others(self, deployment: Deployment) -> None:
        """Stop and remove the containers of the environment's other deployments."""


class Core(Protocol):
    """What `startup` hands to a plugin: verbs by name, and the event line."""

    @property
    def logger(self) -> Logger: ...

    async def run(self, verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run a verb with the fields that its API call takes; the answer is what the API would answer."""

    def events(self, after: int) -> AsyncIterator[Event]:
        """Every event with a higher number than `after`, then those to come."""
