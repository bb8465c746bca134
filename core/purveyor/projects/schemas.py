"""Projects and links as the API is told and tells them."""

from datetime import datetime

import msgspec

from purveyor.projects.models import ProjectRecord
from purveyor.projects.naming import Extras
from purveyor.services.schemas import ServiceView


class EnvironmentRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str


class ProjectView(msgspec.Struct, frozen=True, kw_only=True):
    """A project in a list, and the names of the services that it is linked to."""

    id: int
    slug: str
    name: str
    created_at: datetime
    services: list[str]


class EnvironmentVariables(msgspec.Struct, frozen=True, kw_only=True):
    """One list of all variables of an environment, as a deploy injects them."""

    project: str
    environment: str
    variables: dict[str, str]


class LinkRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The id (or slug) of the project to link, and the names of further databases for it."""

    project_id: int | str
    extra_databases: Extras = ()


class VariableView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: str
    sensitive: bool


class ProjectBrief(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    slug: str
    created_at: datetime


class LinkView(msgspec.Struct, frozen=True, kw_only=True):
    """A link; `state` is linking, linked or unlinking; `notes` are what to know of the type's
    isolation.

    Of the projects of `service` it names this one alone: the list of a service's links would grow
    with its square.
    """

    id: int
    project: ProjectBrief
    service: ServiceView
    state: str
    notes: list[str]


def project_brief(record: ProjectRecord) -> ProjectBrief:
    return ProjectBrief(id=record.id, slug=record.slug, created_at=record.created_at)
