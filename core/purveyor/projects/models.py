"""Projects, environments, links and bindings as the database has them."""

from datetime import datetime
from typing import Literal

import msgspec

from purveyor.kernel.db.models import Record
from purveyor_hooks import Binding, Scope


class ProjectRecord(Record, frozen=True):
    id: int
    slug: str
    name: str
    created_at: datetime


class EnvironmentRecord(Record, frozen=True):
    id: int
    project_id: int
    slug: str
    created_at: datetime


class LinkRecord(Record, frozen=True):
    id: int
    service_id: int
    project_id: int
    service_type: str
    state: Literal["linking", "linked", "unlinking"]
    created_at: datetime


class BindingRecord(Record, frozen=True):
    id: int
    service_id: int
    project_id: int | None
    environment_id: int | None
    project: str
    environment: str
    resource: str
    account: str
    password: str
    slot: int | None
    state: Literal["intended", "bound", "unbound"]
    created_at: datetime
    origin: int = 0
    ends_after: int = 0
    chosen_after: int = 0
    awaited: bool = False
    former_until: datetime | None = None
    extras: dict[str, str] = msgspec.field(default_factory=dict)

    def view(self) -> Binding:
        """The binding as plugins see it."""
        return Binding(
            id=self.id,
            scope=Scope(project=self.project, environment=self.environment),
            resource=self.resource,
            account=self.account,
            password=self.password,
            slot=self.slot,
            origin=self.origin,
            extras=self.extras,
        )
