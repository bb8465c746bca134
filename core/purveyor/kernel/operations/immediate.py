"""What an operation without steps is: checked, done and recorded in one transaction."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import msgspec

from purveyor.kernel.actors import Who
from purveyor.kernel.db import Tx
from purveyor.kernel.operations.operation import Target
from purveyor.kernel.operations.plan import Plan
from purveyor.kernel.parts import Kernel


class Moved(Exception):
    """What an operation is about is not any more what it was when it was prepared, or its locks were
    chosen: all is asked again."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What such an operation has done. `answer` is for whoever asked, and stored nowhere: a token in
    clear is in no record. The rest is what its plan tells, and whose history it is in."""

    answer: Any
    subject: str
    resources: list[str] = []
    warnings: list[str] = []
    project: int | None = None

    def plan(self, name: str) -> Plan:
        return Plan(
            verb=name,
            subject=self.subject,
            steps=[],
            resources=self.resources,
            warnings=self.warnings,
        )


class Changed(NamedTuple):
    """An operation that began and ended at once."""

    operation_id: int
    made: Result


class ImmediateOperation(ABC):
    """A type of operation that begins and ends in one transaction: nobody ever sees one under way,
    and a crash leaves all of it or nothing. What it publishes are facts, not moments of it."""

    name: ClassVar[str]
    arguments: ClassVar[type[msgspec.Struct]]

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def target(self, tx: Tx, given: Any) -> Target:
        """The locks that it takes. Raises `NotFound`."""
        return Target()

    async def prepare(self, given: Any) -> Any:
        """Find out what has to be known before the transaction, and change nothing of ours; the
        answer replaces `given`. What it relied on is compared in `change`, which raises `Moved` when
        that is another by now: then all is asked again."""
        return given

    @abstractmethod
    def change(self, tx: Tx, given: Any, actor: Who) -> Result:
        """Check everything and do it; events that it publishes are its operation's. A plan runs
        this too, and takes it back."""
