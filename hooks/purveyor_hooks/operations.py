"""Operations that a plugin brings, on services of its own type: run, planned, resumed and undone by
the core as its own are."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, Literal, TypeVar

import msgspec

from purveyor_hooks.protocols import Asking, Running
from purveyor_hooks.types import Draft, Step

# marks an argument whose value is secret, ``key: Annotated[str, ph.SECRET]``: it is kept encrypted
# until the operation has ended, and whoever else is shown the arguments gets its name alone
SECRET = msgspec.Meta(extra={"secret": True})


class Arguments(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False
):
    """What an operation is asked with; those of a plugin's are a subclass.

    A field is a str, int, float or bool, one of some texts (``Literal``), a tuple of texts or
    numbers, or None beside these. ``msgspec.Meta`` bounds and describes it. The route, the command
    line and the API's schema follow from the fields.
    """


A = TypeVar("A", bound=Arguments)


class ServiceOperation(ABC, Generic[A]):
    """An operation on services of the plugin's type.

    The core stores what `draft` answers and does those steps, each as often as a crash makes it
    necessary, in the order in which `steps` has them. When one fails, those that were begun and
    have an undo are taken back, last one first. `name`, the names of the steps and of the arguments
    are stored: a later version of the plugin keeps them, and what they mean, for it may have to go
    on with what an earlier one began.
    """

    # stored after the type's name, "mariadb.optimize", and the middle of its events' types:
    # service.mariadb.optimize.succeeded
    name: ClassVar[str]
    summary: ClassVar[str]  # one sentence in the imperative, for the command line and the API
    steps: ClassVar[tuple[Step, ...]]  # all that this version knows
    arguments: ClassVar[type[Arguments]] = Arguments
    # whom it takes turns with: "service" is all that changes the service, "backup" is its backups
    lock: ClassVar[Literal["service", "backup"]] = "service"
    # who may run it: "project" lets the token of a project run it on a service that the project is
    # linked to; `asked.bindings` are that project's then, and it may touch nothing else
    scope: ClassVar[Literal["admin", "project"]] = "admin"

    @abstractmethod
    async def draft(self, asked: Asking[A]) -> Draft:
        """Decide what will be done, and change nothing. Asked for a plan, too; within ten seconds.

        Raises `BadInput` for arguments that cannot be used, and `Conflict`.
        """

    @abstractmethod
    async def do(self, step: str, run: Running[A]) -> None:
        """Do a step. Idempotent: after a crash it is called again, with what was saved."""

    async def undo(self, step: str, run: Running[A]) -> None:
        """Take back what a step did, or began; for those that have an undo. Called again until it
        raises nothing."""
        raise NotImplementedError(f"{type(self).__name__} has no undo of {step}")
