"""What a type of operation is: checks and intent in one transaction, then steps."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec

from purveyor.kernel.db import Tx
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import Plan
from purveyor.kernel.redact import MASK
from purveyor_hooks import SECRET as SECRET


class Step(NamedTuple):
    """One idempotent step. `undo`, when given, takes back what `do` did or began; `deadline` is in
    seconds.

    Once a step that is `final` is begun there is no way back: the operation cannot be cancelled any
    more. One that is `apart` works on no service, and takes as long as somebody else's program
    does: the services' locks are free meanwhile.
    """

    name: str
    do: Callable[[], Awaitable[None]]
    undo: Callable[[], Awaitable[None]] | None = None
    deadline: float = 60.0
    final: bool = False
    apart: bool = False


Key = tuple[str, int]  # a lock: its kind, and the id of what it is on


class Target(NamedTuple):
    """What an operation is about to touch: for locks, events and vetoes.

    Verbs that change a service take turns by the lock "service"; one that only reads it has a lock
    of its own. `also` are further locks, for an operation that may not run beside those readers.
    """

    service: int | None = None
    project: int | None = None
    services: tuple[int, ...] = ()
    lock: str = "service"
    also: tuple[Key, ...] = ()

    @property
    def keys(self) -> list[Key]:
        """The locks to take, in the order in which everybody takes them: by kind, then by id."""
        ids = {*self.services, *([self.service] if self.service else [])}
        wanted = {
            *self.also,
            *((self.lock, number) for number in ids),
            *([("project", self.project)] if self.project else []),
        }
        return sorted(wanted)


def mask_arguments(given: msgspec.Struct) -> dict[str, Any]:
    """Arguments as a plugin is shown them: of those that are marked `SECRET` names at most."""
    shown: dict[str, Any] = msgspec.to_builtins(given)
    for field in msgspec.structs.fields(given):
        if isinstance(inner := getattr(given, field.name), msgspec.Struct):
            shown[field.encode_name] = mask_arguments(inner)
        marks = getattr(field.type, "__metadata__", ())
        if any(
            isinstance(mark, msgspec.Meta) and (mark.extra or {}).get("secret") for mark in marks
        ):
            value = shown.get(field.encode_name)
            if value is not None:  # one that was not given is no secret, and may be left out
                shown[field.encode_name] = sorted(value) if isinstance(value, dict) else MASK
    return shown


class OperationType(ABC):
    """A type of operation. `name` is stored with its operations; `subject` begins its
    events' types."""

    name: ClassVar[str]
    subject: ClassVar[str] = "service"
    arguments: ClassVar[type[msgspec.Struct]]

    lock: ClassVar[str] = "service"

    # of what it records as its arguments: what only its own steps need, which nobody is shown
    internal: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def event(cls, moment: str) -> str:
        """The type of its operations' events: ``service.create.step``."""
        return f"{cls.subject}.{cls.name.removesuffix(f'-{cls.subject}')}.{moment}"

    def emit(self, tx: Tx, operation: OperationRecord, moment: str, data: dict[str, Any]) -> None:
        """Publish ``service.create.step``, ``project.create.succeeded`` and the like."""
        tx.emit(
            self.event(moment),
            operation=operation.id,
            service=operation.service_id,
            project=operation.project_id,
            data=data,
        )

    def target(self, tx: Tx, given: Any) -> Target:
        """What it touches. Raises `NotFound`."""
        return Target()

    async def prepare(self, given: Any) -> Any:
        """Find out what has to be known before the intent, and changes nothing of ours; the answer
        replaces `given`."""
        return given

    @abstractmethod
    def validate_and_record(self, tx: Tx, given: Any, actor: str) -> int:
        """Check everything and write the operation and the intended state; the answer is the
        operation's id.

        Raises our errors, upon which nothing has happened. A plan runs this too, and takes it back.
        """

    @abstractmethod
    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        """What the steps of an intended operation will do."""

    @abstractmethod
    def steps(self, operation: OperationRecord) -> Sequence[Step]:
        """The steps, the same ones each time they are asked for."""

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:  # noqa: B027
        """Write the state that holds once all steps are done, in the transaction that ends the
        operation."""

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:  # noqa: B027
        """Write the state that holds once all is undone, in the transaction that ends the
        operation."""

    def settle(self, tx: Tx, operation: OperationRecord, reason: str) -> None:  # noqa: B027
        """Write what keeps its records usable when it is abandoned, in the transaction that does
        so: all else stays as it is."""
