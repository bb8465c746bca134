"""Services and volumes as the database has them."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from purveyor.kernel import naming
from purveyor.kernel.db.models import Record
from purveyor_hooks import Binding, Image, Scope, Service, Tls

AUTHORITIES = "/etc/purveyor/ca.crt"  # in the containers of apps and services


class HeldBinding(msgspec.Struct, frozen=True, kw_only=True):
    """Whose data a resource in a backup, a copy or kept data is, and by which account."""

    project: str
    environment: str
    resource: str
    account: str
    slot: int | None
    number: int
    extras: dict[str, str] = {}

    def view(self) -> Binding:
        """Its binding as plugins see it; nobody knows its account's password."""
        return Binding(
            id=self.number,
            scope=Scope(project=self.project, environment=self.environment),
            resource=self.resource,
            account=self.account,
            password=naming.password(),
            slot=self.slot,
            extras=self.extras,
        )


class Credentials(Record, frozen=True):
    """What opens a data set: its service's parameters and secrets at the time when it was put
    away. `bindings` are those of that time; None where it was not recorded."""

    parameters: dict[str, Any]
    secrets: dict[str, str]
    bindings: tuple[HeldBinding, ...] | None = None


class VolumeRecord(Record, frozen=True):
    id: str
    name: str
    path: str
    service_type: str
    major: str
    identity: str
    state: Literal["new", "used", "kept", "purged"]
    origin: str
    created_at: datetime
    kept_at: datetime | None
    kept_until: datetime | None = None
    facts: dict[str, Any] | None = None
    credentials: Credentials | None = None


class Imported(Record, frozen=True):
    """What is known of a container that somebody else made.

    `address` is where it was last reached from this host and `started_at` the start of it that was
    seen to; `ports` are where the server listens by the type's usual port. `joined` means that we
    put it on our network.
    """

    container: str
    address: str
    ports: dict[int, int]
    identity: str = ""
    started_at: datetime | None = None
    joined: bool = False


class ServiceRecord(Record, frozen=True):
    """`authorities` are the certificates that vouch for its server's, "" while this one has
    none."""

    id: int
    name: str
    slug: str
    service_type: str
    parameters: dict[str, Any]
    secrets: dict[str, str]
    given: list[str]
    image: str
    image_id: str
    image_environment: dict[str, str]
    volume_id: str | None
    container_name: str
    desired: Literal["running", "stopped"]
    state: Literal["creating", "active", "deleting", "deleted"]
    refusal: str
    created_at: datetime
    updated_at: datetime
    major: str
    purpose: str = ""
    imported: Imported | None = None
    authorities: str = ""

    def view(self) -> Service:
        """The service as plugins see it."""
        return Service(
            id=self.id,
            name=self.name,
            slug=self.slug,
            service_type=self.service_type,
            # of their own: what a plugin does to them is not done to the record
            parameters=dict(self.parameters),
            secrets=dict(self.secrets),
            image=Image(reference=self.image, id=self.image_id, environment=self.image_environment),
            host=self.container_name,
            major=self.major,
            desired=self.desired,
            ports=self.imported.ports if self.imported else {},
            imported=self.imported is not None,
            tls=Tls(authorities=self.authorities, file=AUTHORITIES) if self.authorities else None,
        )
