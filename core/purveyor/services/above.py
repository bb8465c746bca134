"""What services ask of the features that are built on them. Each class is answered by one part of a
feature above, which the program adds."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio

from purveyor.kernel.db import Tx
from purveyor.kernel.operations.plan import PlannedApp
from purveyor.services.models import HeldBinding, ServiceRecord
from purveyor.services.schemas import EndingView


class Links(ABC):
    """Who is linked to a service, and the accounts in it: of projects."""

    @abstractmethod
    def linked(self, tx: Tx, service_ids: Sequence[int]) -> Mapping[int, list[str]]:
        """The slugs of the projects that are linked to each service."""

    @abstractmethod
    def services(self, tx: Tx) -> Mapping[int, list[int]]:
        """The services that each project is linked to."""

    @abstractmethod
    def require_unlinked(self, tx: Tx, service: ServiceRecord) -> None:
        """The guard of what ends a service. Raises `BadInput` while a project is linked to it."""

    @abstractmethod
    def resources(self, tx: Tx, service_id: int) -> list[str]:
        """The names of what a service holds for projects."""

    @abstractmethod
    def passwords(self, tx: Tx, service_id: int) -> list[str]:
        """The passwords of its accounts, for what must not show them."""

    @abstractmethod
    def apps(self, tx: Tx, service: ServiceRecord, effect: str) -> list[PlannedApp]:
        """The apps that run with an account of a service, for plans; `effect` says what happens to
        them."""

    @abstractmethod
    def endings(self, tx: Tx, service_id: int) -> list[EndingView]:
        """The accounts that outlived their link, and the credentials that a rotation has left
        working."""

    @abstractmethod
    async def open_again(self, service_id: int) -> None:
        """Make the accounts that are recorded as open: a server may have forgotten them."""

    @abstractmethod
    async def settle(self, service_id: int, came: Sequence[HeldBinding]) -> None:
        """Give each account in the data the password that is recorded, or none, and end what a
        rotation has left: the data may hold them as they were. `came` are the bindings of the
        service that the data was of; the accounts of those that are not on record here end."""

    @abstractmethod
    def held(self, tx: Tx, service_id: int) -> list[HeldBinding]:
        """Whose data the resources of a service are."""

    @abstractmethod
    def take_in(self, tx: Tx, service_id: int, came: Sequence[HeldBinding]) -> None:
        """Record whose data the resources are that came to a service with other data."""

    @abstractmethod
    async def claim_copy(self, service_id: int, held: Sequence[HeldBinding]) -> None:
        """Record whose data the resources of a copy are, as its original had them; until somebody
        links, no account in it is open."""

    @abstractmethod
    def forget(self, tx: Tx, service_id: int) -> None:
        """Forget the accounts of a service that never came to be."""


class Archiving(ABC):
    """What is kept of a service's changes: of archiving."""

    @abstractmethod
    async def end(self, service: ServiceRecord) -> None:
        """End the archive of a service, if it has one: what was written down stays."""

    @abstractmethod
    def forget(self, tx: Tx, service_id: int) -> None:
        """A service that is deleted is not archived any more."""

    @abstractmethod
    async def let_go(self, service: ServiceRecord) -> None:
        """Have a server that serves and is not archived keep nothing for an archive: one may have
        ended while it was stopped."""


class Apps(ABC):
    """The controller of what is watched and brought back beside services, by the numbers of
    deployments: of deployments."""

    @abstractmethod
    def wanted(self, tx: Tx) -> list[int]:
        """Every app that should run."""

    @abstractmethod
    async def take_in(self) -> None:
        """Give apps that were deployed before there were networks of environments theirs, without a
        break."""

    @abstractmethod
    async def sweep(
        self, look: Callable[[int], Awaitable[None]], seen: Mapping[int, anyio.Event]
    ) -> None:
        """Look at every app that should run, once the services that it uses are `seen`."""

    @abstractmethod
    async def remove_others(self) -> None:
        """Remove the containers of deployments that are over."""

    @abstractmethod
    async def look(self, number: int) -> None:
        """One app: brought back, from its recorded deployment, if it should run and does not.
        Operations of its project go first. Raises `NotFound`."""
