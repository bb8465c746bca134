"""What an operation of a plugin is handed: what it is asked with, and how it keeps how far it is."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import msgspec

from purveyor.kernel import redact
from purveyor.kernel.db import Store, Tx
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.watchdog import Heartbeat
from purveyor.providers import masking
from purveyor.services.access import ServiceAccess
from purveyor.services.documents import ServiceDocuments
from purveyor.services.handle import ServiceHandle
from purveyor_hooks import Binding, Operation, PurveyorError, Service
from purveyor_hooks.declared import secret_names

if TYPE_CHECKING:
    from purveyor.extensions.operations.of_plugin import PluginOperation

T = TypeVar("T")
LARGEST = 64 * 1024  # bytes of an operation's state, as JSON
LONGEST_TEXT = 200  # characters of what is told of its progress
BETWEEN = 1.0  # seconds between two of these


class Asked:
    """`Asking`."""

    def __init__(
        self, store: Store, server: ServiceHandle, given: Any, bindings: Sequence[Binding]
    ) -> None:
        self._store = store
        self._server = server
        self._given = given
        self._bindings = bindings
        # what nobody is told, whatever the plugin says
        self.hidden = [
            *secrets_of(given),
            *masking.secret_values(server.kind, server.view.parameters),
            *server.view.secrets.values(),
            *(binding.password for binding in bindings),
        ]

    @property
    def service(self) -> Service:
        return self._server.view

    @property
    def access(self) -> ServiceAccess:
        return self._server.access

    @property
    def given(self) -> Any:
        return self._given

    @property
    def bindings(self) -> Sequence[Binding]:
        return self._bindings

    @property
    def documents(self) -> ServiceDocuments:
        return ServiceDocuments(
            self._store, self._server.provider.plugin.name, self._server.record.id
        )


class InStep(Asked):
    """`Running`."""

    def __init__(
        self,
        store: Store,
        server: ServiceHandle,
        given: Any,
        bindings: Sequence[Binding],
        operation_type: "PluginOperation",
        record: OperationRecord,
        step: str,
        pulse: Heartbeat,
    ) -> None:
        super().__init__(store, server, given, bindings)
        self._operation_type = operation_type
        self._record = record
        self._step = step
        self._pulse = pulse
        self._state: Mapping[str, Any] = (record.private or {})["state"]
        self._told = -BETWEEN

    @property
    def operation(self) -> Operation:
        return Operation(
            id=self._record.id,
            verb=self._record.verb,
            service=self._record.service_id,
            project=self._record.project_id,
            arguments=self._record.arguments["arguments"],
        )

    @property
    def state(self) -> Mapping[str, Any]:
        return self._state

    async def save(self, **changes: Any) -> None:
        kept = msgspec.to_builtins(changes)

        def work(tx: Tx) -> Mapping[str, Any]:
            private = operations.get(tx, self._record.id).private or {}
            state = {**private["state"], **kept}
            require_small(state)
            operations.keep_private(tx, self._record.id, {**private, "state": state})
            return state

        self._state = await self._store.write(work)
        self._pulse.beat()

    async def progress(self, text: str) -> None:
        self._pulse.beat()
        now = anyio.current_time()
        if now - self._told < BETWEEN:
            return
        self._told = now
        words = redact.scrub(text, self.hidden)[:LONGEST_TEXT]
        told = "".join(
            char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in words
        )
        data = {"step": self._step, "text": told}
        await self._store.write(
            lambda tx: self._operation_type.emit(tx, self._record, "progress", data)
        )


async def within(
    server: ServiceHandle, what: str, work: Callable[[], Awaitable[T]], secrets: Sequence[str]
) -> T:
    """What the plugin's own code answers, guarded as a hook is; `secrets` are masked in whatever it
    raises."""
    answers: list[T] = []
    try:
        with server.provider.guard(what, server.view, None, secrets=secrets):
            answers.append(await work())
    except PurveyorError as error:
        error.detail = redact.scrub(error.detail, secrets)
        error.remedy = redact.scrub(error.remedy, secrets)
        error.errors = {name: redact.scrub(why, secrets) for name, why in error.errors.items()}
        raise
    return answers[0]


def require_small(state: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a state that is too large, `TypeError` for one that is no JSON."""
    if len(msgspec.json.encode(state)) > LARGEST:
        raise ValueError(f"the state is larger than {LARGEST} bytes")


def select_arguments(given: msgspec.Struct, *, secret: bool) -> dict[str, Any]:
    """The arguments that are secret, or those that are not."""
    values: dict[str, Any] = msgspec.to_builtins(given)
    hidden = {*secret_names(type(given))}
    return {name: value for name, value in values.items() if (name in hidden) == secret}


def secrets_of(given: msgspec.Struct) -> list[str]:
    """The values of the secret ones, to be masked."""
    found: list[str] = []
    for value in select_arguments(given, secret=True).values():
        found += map(str, value) if isinstance(value, list | tuple) else [str(value)]
    return [text for text in found if text != "None"]
