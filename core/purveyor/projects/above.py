"""What projects ask of the feature that runs their apps. It is answered by one part, which the
program adds."""

from abc import ABC, abstractmethod

from purveyor.kernel.db import Tx
from purveyor.projects.models import BindingRecord


class Deployed(ABC):
    """The apps of projects: of deployments."""

    @abstractmethod
    def users(self, tx: Tx, service_id: int) -> list[tuple[BindingRecord, int]]:
        """The accounts of a service that an app runs with, and that one's deployment."""

    @abstractmethod
    def user_of(self, tx: Tx, binding: BindingRecord) -> int | None:
        """The deployment whose app runs with an account."""

    @abstractmethod
    def containers(
        self, tx: Tx, *, project_id: int | None = None, environment_id: int | None = None
    ) -> list[str]:
        """The names of the containers that serve."""

    @abstractmethod
    async def remove(
        self, *, project_id: int | None = None, environment_id: int | None = None
    ) -> None:
        """Remove the apps' containers. What is recorded of them stays."""

    @abstractmethod
    def retire(self, tx: Tx, environment_id: int) -> None:
        """The apps of an environment are gone."""
