"""What plugins are handed: the parts of the core that they may use, as Protocols."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from purveyor_hooks.types import (
    Account,
    Actor,
    Address,
    AppSpec,
    Arrival,
    Binding,
    Bound,
    Command,
    Departure,
    Deployment,
    Event,
    ExecResult,
    Health,
    OpenSession,
    Operation,
    Service,
)

T = TypeVar("T")
A_co = TypeVar("A_co", covariant=True)


class Logger(Protocol):
    """A structured logger. Fields with the name of a secret are masked, but do not lean on that."""

    def debug(self, event: str, **fields: Any) -> Any: ...

    def info(self, event: str, **fields: Any) -> Any: ...

    def warning(self, event: str, **fields: Any) -> Any: ...


class Process(Protocol):
    """A command that runs in the service's container, fed and read as it goes."""

    async def write(self, data: bytes) -> None:
        """Send it input; awaiting is the back-pressure."""

    async def end_input(self) -> None:
        """Tell it that nothing more comes."""

    def output(self) -> AsyncIterator[bytes]:
        """What it prints, until it ends."""

    async def finish(self) -> None:
        """Read what is left and wait for its end. Raises `Failed` with its last words unless it
        ended well."""


class Access(Protocol):
    """How a type hook reaches its own service, and nothing else."""

    @property
    def logger(self) -> Logger: ...

    def address(self, container_port: int) -> Address:
        """Where the core reaches this port of the service from the host."""

    def inside(self, container_port: int) -> Address:
        """Where other containers on the network reach this port of the service."""

    def beat(self) -> None:
        """Say that long work goes on although no byte moves: called when the server's own progress
        has moved. Work that moves nothing and says nothing for the stall time-out is ended."""

    async def exec(
        self, command: Command, *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        """Run a command in the service's container. Raises `EngineUnavailable`, `DeadlineExceeded`,
        `Conflict` when the container does not run."""

    def process(self, command: Command) -> AbstractAsyncContextManager[Process]:
        """Run a command in the service's container, for streams of any length. Raises as `exec`
        does."""


class Documents(Protocol):
    """What a plugin keeps of a service, by key: JSON, a thousand documents of at most 64 KiB.

    They go with the service: a deleted one has them when it is brought back, and its purge removes
    them. They are in the copies of the state, so they are there after the loss of the host.
    """

    async def get(self, key: str) -> Any:
        """A document, None when there is none."""

    async def write(self, changes: Mapping[str, Any], *, sealed: bool = False) -> None:
        """Write documents by their keys, all or none; None deletes one. Durable when it returns.

        `sealed` ones are encrypted. A key has at most 200 characters, none of them a control
        character. Raises `BadInput` for what is too much, or is no JSON.
        """

    async def list(self, prefix: str = "", after: str = "", limit: int = 100) -> Sequence[str]:
        """Keys that begin with a prefix, in their order, after a key; at most a thousand."""


class Asking(Protocol[A_co]):
    """An operation of a plugin that is asked for: on which service, with what."""

    @property
    def service(self) -> Service: ...

    @property
    def access(self) -> Access: ...

    @property
    def given(self) -> A_co:
        """The arguments."""

    @property
    def bindings(self) -> Sequence[Binding]:
        """Those of the project whose token asks, and nothing else may be touched then; none when an
        administrator asks, for the whole service."""

    @property
    def documents(self) -> Documents: ...


class Running(Asking[A_co], Protocol[A_co]):
    """An operation of a plugin under way, as one of its steps sees it."""

    @property
    def operation(self) -> Operation:
        """Its number and what it is called; secret arguments are in `given` alone."""

    @property
    def state(self) -> Mapping[str, Any]:
        """What the draft began with, and what was saved since: also by a process that was killed,
        and by steps before."""

    async def save(self, **changes: Any) -> None:
        """Keep how far it is; durable when it returns. A sign of progress. At most 64 KiB in all,
        as JSON; encrypted, and forgotten when the operation has ended."""

    async def progress(self, text: str) -> None:
        """Tell how far it is: an event, at most one in a second. A sign of progress."""


class Reader(Protocol):
    """Reads a small file of a container."""

    async def __call__(self, path: str) -> str | None:
        """The text of a file, None when there is none."""


class Exercise(Protocol):
    """How an app uses a service of a type: what the conformance kit proves the type's promises
    with."""

    def account(self, variables: Mapping[str, str]) -> Account:
        """What the injected variables say, taken apart."""

    async def write(self, account: Account, name: str, value: str) -> None:
        """Keep a short text under a name, replacing what was there. Raises whatever the driver does
        when it is refused."""

    async def read(self, account: Account, name: str) -> str | None:
        """What is kept under a name, None when nothing is. Raises whatever the driver does when it
        is refused."""


class Sink(Protocol):
    """Where a backup goes: bytes, in order; awaiting `write` is the back-pressure."""

    async def write(self, chunk: bytes) -> None: ...


class HostileExercise(Exercise, Protocol):
    """An exercise that also says what a hostile app would do. Optional."""

    async def mischief(self, account: Account) -> None:
        """Leave what is to trip whoever touches the app's data with more power than the app has:
        code, odd names, settings. What the server refuses is passed over. May be called again."""

    async def gained(self, account: Account) -> str:
        """What the app can do by now that it may not, in words; "" where that is nothing."""


class OperatedExercise(Exercise, Protocol):
    """An exercise of a type that brings operations which need arguments. Optional."""

    def operations(self) -> Mapping[str, Mapping[str, Any]]:
        """What the kit asks each operation with, by its name: again and again, on a service that
        holds what was written."""


class Contents(Protocol):
    """Takes what is in a backup, thing by thing, in any order."""

    async def put(
        self,
        kind: str,
        name: str,
        what: str,
        digest: bytes,
        *,
        number: int = 1,
        fleeting: bool = False,
    ) -> None:
        """One thing. `kind` and `name` are those by which a census counts it, "rows" of
        "shop.public.orders"; `what` is what it is called there, "" where the name is its own;
        `number` how many it counts for. `fleeting`: it may go, or change, by itself."""

    async def forget(self, kind: str, name: str) -> None:
        """Nothing of what was put under a name counts: it was not whole, and may come once more."""


class Source(Protocol):
    """Where a restore comes from: bytes in order, chunks of at most 1 MiB."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class AppRuntime(Protocol):
    """How a deploy hook runs an app's containers, by deployment; each call may be repeated after a
    crash."""

    async def run(self, deployment: Deployment, app: AppSpec) -> str:
        """Start the deployment's container on the network with its variables; the answer is its
        name."""

    async def address(self, deployment: Deployment) -> Address | None:
        """Where the app's port is published on this host; None when it has none."""

    async def state(self, deployment: Deployment) -> tuple[str, str]:
        """The container's state ("running", "exited", …), Docker's health of it, or "" where it has
        no check."""

    async def log(self, deployment: Deployment, lines: int = 20) -> str:
        """The last lines that the container printed."""

    async def promote(self, deployment: Deployment) -> None:
        """Give the environment's name on the network to this deployment and take it from the
        others."""

    async def retire_others(self, deployment: Deployment) -> None:
        """Stop and remove the containers of the environment's other deployments."""


# its former name, which the next version of the contract will not have
Workshop = AppRuntime


class Core(Protocol):
    """What `startup` hands to a plugin: operations by the name of their type, and the event stream."""

    @property
    def logger(self) -> Logger: ...

    async def run(
        self, verb: str, arguments: Mapping[str, Any], actor: Actor | str = "plugin"
    ) -> Mapping[str, Any]:
        """Run an operation with the fields that its API call takes, in the name of an actor; the answer
        is the operation."""

    async def services(self, service_type: str) -> Sequence[Service]:
        """The services of a type, oldest first, as this host reaches them."""

    async def health(self, service_id: int) -> Health:
        """A real round trip to a service, now."""

    async def bound(
        self, service_type: str, actor: Actor, project: str | int | None, environment: str | None
    ) -> Bound:
        """The service of a type that a project is linked to, and an environment's binding on it,
        made on first ask.

        A project's token implies its project, an environment's token its environment; else it is
        "production". Fast enough for every request: what was found is remembered until something
        changes. Raises `BadInput` when no project is named, `Forbidden` for another's, `NotFound`
        when it is not linked, `Conflict` when the service is stopped.
        """

    def events(self, after: int) -> AsyncIterator[Event]:
        """Every event with a higher number than `after` that is kept, then those to come."""

    async def last_event(self) -> int:
        """The highest number so far."""

    async def outward(self) -> bool:
        """Wait until this installation may act on others: not while its recovery from a lost host
        waits for a person's word. Whether it had to wait: what was to be told before then is of the
        lost host."""

    @property
    def history_days(self) -> int:
        """For how many days what happened is kept: events, operations, and what a plugin notes of
        them."""

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run something for as long as the core runs; it is cancelled before `shutdown`. What it
        raises is the plugin's fault."""

    def documents(self, service_id: int) -> Documents:
        """What this plugin keeps of a service of its own type. Raises `NotFound` when it is used
        for another."""

    def folder(self, name: str) -> Path:
        """A folder of the state directory that the plugin may use; it may not be there yet."""

    def seal(self, text: str) -> str:
        """A secret as it may be stored."""

    def unseal(self, sealed: str) -> str:
        """What was sealed."""


class Sessions(Protocol):
    """Who is signed in in a browser. Sessions end by themselves: some time after they were opened,
    or used last."""

    async def open(self, token: str, peer: str, agent: str = "") -> OpenSession:
        """Sign in, from an address, with a browser that calls itself so.

        Raises `Unauthorized` for a token that is not one, `TooMany` after too many of those,
        `Forbidden` for a project's.
        """

    async def find(self, credential: str, *, used: bool) -> OpenSession | None:
        """The session that this opens now; `used` for what a person does, which keeps it from
        ending."""

    async def end(self, credential: str) -> None:
        """Sign out."""

    @property
    def public(self) -> str:
        """Where people reach the dashboard, as the settings say it; "" when they do not."""

    @property
    def provider(self) -> str:
        """What the provider is called at which people may sign in, "" without one."""

    async def leave(self, path: str, wanted: str) -> Departure:
        """Begin to sign in at the provider, from which people come back to this path. Raises
        `Failed` when it is away."""

    async def arrive(
        self, secret: str, answer: Mapping[str, str], peer: str, agent: str = ""
    ) -> Arrival:
        """Sign in with what the provider sent along; `secret` is that of the departure, from the
        same browser.

        Raises `Unauthorized` for what is not the provider's answer to it, `Forbidden` for somebody
        who may not sign in, `Failed` when the provider is away.
        """

    async def refuse_foreign(self, peer: str) -> None:
        """Note that a page of somebody else tried to sign in."""


class Application(Protocol):
    """What `http_routes` is given.

    `authentication` is a Litestar middleware for the plugin's own routers: behind it `request.user`
    is an `Actor`. Errors of `purveyor_hooks.errors` become problem details by themselves.

    Whatever changes something below /api goes into the audit log by itself. A route's `opt` says
    the rest: `reveals="log"` that its answer shows something that only few may see, `audit="data"`
    that apps' own data goes through it: that is told once a minute, and not at all of an
    environment's own app.
    """

    @property
    def core(self) -> Core: ...

    @property
    def authentication(self) -> Any: ...

    @property
    def sessions(self) -> Sessions: ...

    async def still_valid(self, request: Any) -> bool:
        """Whether what a request was let in with holds still: an answer may go on for days."""

    def api(self, token: str) -> AbstractAsyncContextManager["ApiClient"]:
        """The HTTP API in this very process, as whoever holds the token or session; an error answer
        is raised as ours."""


class ApiClient(Protocol):
    """The HTTP API as the command line reaches it; an error answer is raised as ours."""

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """One call, with the options of an httpx request; the answer is the decoded body."""

    def stream(self, path: str, **parameters: Any) -> AsyncGenerator[bytes, None]:
        """The body of a GET, as it comes."""


class CommandLine(Protocol):
    """What a plugin's commands get as click's context object (``@click.pass_obj``)."""

    @property
    def as_json(self) -> bool: ...

    def run(self, work: Callable[[ApiClient], Awaitable[T]]) -> T:
        """Run a command's work with the API of the daemon, or of the core in this process where
        none runs."""
