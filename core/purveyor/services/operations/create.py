"""Create a service: intent, image, volume, container, start, ready, identity."""

import uuid
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from purveyor.context import Context
from purveyor.docker import names, port_registry
from purveyor.kernel import naming
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import SECRET, Plan, Step
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import parameters
from purveyor.services import store as services
from purveyor.services.handle import handle_of, hooks_of
from purveyor.services.operations.base import STOP_DEADLINE, ServiceOperation
from purveyor_hooks import BadInput, Conflict, Image, Service, ServiceType

# what addresses have in the place of a service's name: a service of that name could only be reached
# by its id
WORDS = frozenset(
    ["types", "providers", "available-containers", "import", "by-slug", "projects", "new"]
)


class CreateArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`parameters` by name, text or typed; `version` chooses the tag of the default image."""

    name: str
    service_type: str
    version: str | None = None
    parameters: Annotated[dict[str, Any], SECRET] = {}


def make(
    tx: Tx,
    context: Context,
    given: CreateArguments,
    *,
    slug: str = "",
    purpose: str = "",
    secrets: Mapping[str, str] | None = None,
) -> int:
    """Record a new service, its volume and its ports; the answer is its id.

    A `slug` of the caller's is for a service that has a `purpose`: one that an operation makes for
    itself.
    """
    kind = require_kind(context, given.service_type)
    slug = slug or naming.slug_of(given.name)
    require_free(tx, "" if purpose else given.name, slug)
    settings = context.settings
    chosen = dict(given.parameters)
    if given.version is not None and parameters.IMAGE not in chosen:
        chosen[parameters.IMAGE] = parameters.image_for(kind, settings, given.version)
    values = parameters.for_new_service(kind, settings, chosen, port_registry.ports_taken(tx))
    image = values.pop(parameters.IMAGE)

    volume_id = uuid.uuid4().hex
    host = f"{context.engine.namespace}-{slug}"
    names.require_service(tx, slug, host)
    volume_name = f"{host}-{volume_id[:8]}"
    folder = str(context.volumes / volume_id)
    services.insert_volume(
        tx,
        id=volume_id,
        name=volume_name,
        path=folder,
        service_type=kind.name,
        origin=given.name.strip(),
    )
    view = Service(
        id=0, name=given.name, slug=slug, service_type=kind.name, parameters=values,
        secrets=dict(secrets or {}),
        image=Image(reference=image), host=host,
    )  # fmt: skip
    hooks = hooks_of(context, kind.name)
    # an image whose version cannot be told is refused before anything is done
    hooks.data_major(view.image, values)
    service_id = services.insert(
        tx,
        name=given.name.strip(),
        slug=slug,
        service_type=kind.name,
        parameters=values,
        secrets=hooks.secrets(view),
        given=sorted(chosen),
        image=image,
        volume_id=volume_id,
        container_name=host,
        desired="running",
        state="creating",
        purpose=purpose,
    )
    for item in kind.parameters:
        if item.generated == "port":
            port_registry.claim_port(tx, values[item.name], item.name, service=service_id)
    return service_id


def require_free(tx: Tx, name: str, slug: str) -> None:
    """Raise `Conflict` when a name, or the slug that is made of it, is taken, `BadInput` when it
    means something else."""
    if slug in WORDS:
        why = f"{slug!r} is a word of the API"
        raise BadInput(
            f"The name cannot be used: {why}.", remedy="Choose another name.", errors={"name": why}
        )
    if services.find(tx, slug) or (name and services.find(tx, name)):
        errors = {"name": "taken"}
        raise Conflict(
            f"There is a service named {name or slug!r} already.",
            remedy="Choose another name.",
            errors=errors,
        )


def require_kind(context: Context, service_type: str) -> ServiceType:
    """The service type of this name. Raises `BadInput` that lists those there are."""
    provider = context.registry.find(service_type)
    if provider is None:
        known = ", ".join(kind.name for kind in context.registry.kinds)
        errors = {"service_type": f"must be one of {known}"}
        raise BadInput(
            f"There is no service type {service_type!r}.",
            remedy=f"Known are: {known}.",
            errors=errors,
        )
    return provider.kind


class Create(ServiceOperation):
    name: ClassVar[str] = "create"
    arguments = CreateArguments

    def validate_and_record(self, tx: Tx, given: CreateArguments, actor: str) -> int:
        service_id = make(tx, self.context, given)
        record = services.get(tx, service_id)
        shown = {"name": record.name, "service_type": record.service_type, "image": record.image}
        return operations.insert(tx, self.name, service_id=service_id, actor=actor, arguments=shown)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        record = services.get(tx, operation.service)
        notes = handle_of(self.context, record).notes()
        return self.plan_of_new(tx, operation, "create", notes)

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id = operation.service
        volume = self.volume_step(service_id)._replace(
            undo=lambda: self.provision.discard_volume(service_id)
        )
        container = self.container_step(service_id)._replace(
            undo=lambda: self.provision.remove_container(service_id), deadline=STOP_DEADLINE
        )
        return [
            self.image_step(operation, service_id),
            volume,
            container,
            *self.start_steps(service_id),
        ]

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        services.update(tx, operation.service, state="active", refusal="")

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        record = services.get(tx, operation.service)
        services.delete(tx, record.id)
        services.delete_volume(tx, record.volume_id or "")
