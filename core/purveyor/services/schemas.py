"""Services as the API is told and tells them."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from purveyor_hooks import Client


class VolumeView(msgspec.Struct, frozen=True, kw_only=True):
    """A volume and where its data is. `service_id` is empty for one that is kept; `facts` say of
    what it is the data, and `kept_until` how long it is promised to stay. Nothing deletes it by
    itself. `size_missing` says why a size that was asked for is not known."""

    id: str
    name: str
    path: str
    service_type: str
    major: str
    state: str
    origin: str
    service_id: int | None
    created_at: datetime
    kept_at: datetime | None
    kept_until: datetime | None
    facts: dict[str, Any]
    size_bytes: int | None
    size_missing: str = ""


class PurgeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The name of the service that the data was made for, typed by whoever wants it gone."""

    confirm: str


class AttachRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The service that goes on with the volume's data; what it holds now is kept."""

    service: str | int


class CopyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The new service that a copy of the volume's data is for."""

    name: str


class ServiceChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `PUT` takes."""

    parameters: dict[str, Any] = {}
    docker_image: str | None = None


class ImportRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A container by id or name, and its credentials as the type's parameters; `use_found` takes
    those that are not given from the container's own environment."""

    container_id: str
    name: str
    service_type: str
    version: str | None = None
    parameters: dict[str, Any] = {}
    use_found: bool = False


class ProviderMetadata(msgspec.Struct, frozen=True, kw_only=True):
    service_type: str
    display_name: str
    description: str
    icon_url: str
    color: str


class ClientView(msgspec.Struct, frozen=True, kw_only=True):
    """How to open the service's interactive client."""

    container: str
    client: Client


class AvailableContainer(msgspec.Struct, frozen=True, kw_only=True):
    """A container that can be imported. `suggested` are parameters that its environment tells,
    secrets masked: they are used when the import says `use_found`."""

    container_id: str
    container_name: str
    image: str
    version: str
    service_type: str
    is_running: bool
    exposed_ports: list[int]
    suggested: dict[str, str]


class CloneRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The name of the copy, and the image that it runs where that is another one; `keep_going`
    although that one's server does not take all."""

    name: str
    docker_image: str | None = None
    keep_going: bool = False


Sort = Literal["id", "name", "service_type", "status", "memory_bytes", "cpu_percent"]


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """A service as clients see it; times are RFC 3339, `status_reason` is empty when all is plain.

    `healthy`, `latency_ms`, `memory_bytes` and `cpu_percent` (of one core) are of the last look,
    null before the first.
    """

    id: int
    name: str
    slug: str
    service_type: str
    version: str
    status: str
    status_reason: str
    status_at: datetime
    connection_info: str
    docker_image: str
    container_name: str
    port: int | None
    volume: str | None
    major: str
    imported: bool
    healthy: bool | None
    latency_ms: float | None
    memory_bytes: int | None
    cpu_percent: float | None
    projects: list[str]
    created_at: datetime
    updated_at: datetime


class EndingView(msgspec.Struct, frozen=True, kw_only=True):
    """An account that outlived its link: the active `deployment` uses it until the environment's
    next deploy. Null: it ends as soon as its service serves. With `until`: what a rotation has
    replaced, which works until then."""

    service: str
    project: str
    environment: str
    deployment: int | None
    until: datetime | None = None


class ServiceDetails(msgspec.Struct, frozen=True, kw_only=True):
    """`endings` are accounts that outlived their link or a rotation. `newer_image` is the id of the
    image that the service's reference means now, when that is another one than it runs;
    `image_digest` is what a registry calls the one that runs, "" where none is known.
    """

    service: ServiceView
    parameter_schema: dict[str, Any]
    current_parameters: dict[str, str]
    notes: list[str]
    newer_image: str = ""
    image_digest: str = ""
    endings: list[EndingView] = []


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """Which services, and in which order: those whose name holds `q`, of a type."""

    q: str = ""
    service_type: str = ""
    sort: Sort = "id"
