"""Create a service: intent, image, volume, container, start, ready, identity."""

import uuid
from typing import Any, ClassVar

import msgspec

from purveyor import names, parameters
from purveyor.operations import Plan, Step
from purveyor.operations.plan import PlannedContainer, PlannedVolume
from purveyor.store import Tx, operations, services
from purveyor.store.records import OperationRecord
from purveyor.verbs.service_verb import STOP_DEADLINE, ServiceVerb, planned_ports, step_names
from purveyor_hooks import BadInput, Conflict, Image, Service, ServiceType


class CreateArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`parameters` by name, text or typed; `version` chooses the tag of the default image."""

    name: str
    service_type: str
    version: str | None = None
    parameters: dict[str, Any] = {}


class Create(ServiceVerb):
    name: ClassVar[str] = "create"
    arguments = CreateArguments

    def intend(self, tx: Tx, given: CreateArguments, actor: str) -> int:
        kind = self._kind(given.service_type)
        slug = names.slug_of(given.name)
        if services.find(tx, slug) or services.find(tx, given.name):
            errors = {"name": "taken"}
            raise Conflict(f"There is a service named {given.name!r} already.", remedy="Choose another name.", errors=errors)
        settings = self.house.settings
        chosen = dict(given.parameters)
        if given.version is not None and parameters.IMAGE not in chosen:
            chosen[parameters.IMAGE] = parameters.image_for(kind, settings, given.version)
        values = parameters.fresh(kind, settings, chosen, services.ports_taken(tx))
        image = values.pop(parameters.IMAGE)

        volume_id = uuid.uuid4().hex
        host = f"{self.house.engine.namespace}-{slug}"
        volume_name = f"{host}-{volume_id[:8]}"
        folder = str(self.house.volumes / volume_id)
        services.insert_volume(tx, id=volume_id, name=volume_name, path=folder, service_type=kind.name, origin=given.name.strip())
        view = Service(
            id=0, name=given.name, slug=slug, service_type=kind.name, parameters=values, secrets={},
            image=Image(reference=image), host=host,
        )  # fmt: skip
        provider = self.house.registry.provider(kind.name)
        provider.data_major(view.image)  # an image whose version cannot be told is refused before anything is done
        service_id = services.insert(
            tx,
            name=given.name.strip(),
            slug=slug,
            service_type=kind.name,
            parameters=values,
            secrets=provider.secrets(view),
            given=sorted(chosen),
            image=image,
            volume_id=volume_id,
            container_name=host,
            desired="running",
            state="creating",
        )
        for item in kind.parameters:
            if item.generated == "port":
                services.claim_port(tx, values[item.name], item.name, service=service_id)
        shown = {"name": given.name.strip(), "service_type": kind.name, "image": image}
        return operations.insert(tx, self.name, service_id=service_id, actor=actor, arguments=shown)

    def _kind(self, service_type: str) -> ServiceType:
        provider = self.house.registry.find(service_type)
        if provider is None:
            known = ", ".join(kind.name for kind in self.house.registry.kinds)
            errors = {"service_type": f"must be one of {known}"}
            raise BadInput(f"There is no service type {service_type!r}.", remedy=f"Known are: {known}.", errors=errors)
        return provider.kind

    def describe(self, tx: Tx, operation: OperationRecord) -> Plan:
        record = services.get(tx, operation.service_id or 0)
        provider = self.house.registry.provider(record.service_type)
        volume = services.volume(tx, record.volume_id or "")
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=step_names(self.steps(operation)),
            containers=[PlannedContainer(name=record.container_name, action="create", image=record.image)],
            volumes=[PlannedVolume(name=volume.name, action=f"create in {volume.path}")],
            ports=planned_ports(provider.kind, record.parameters),
            warnings=list(provider.kind.notes),
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id = operation.service_id or 0
        volume = self.volume_step(service_id)._replace(undo=lambda: self.provision.discard_volume(service_id))
        container = self.container_step(service_id)._replace(
            undo=lambda: self.provision.remove_container(service_id), deadline=STOP_DEADLINE
        )
        return [self.image_step(operation, service_id), volume, container, *self.start_steps(service_id)]

    def succeed(self, tx: Tx, operation: OperationRecord) -> None:
        services.update(tx, operation.service_id or 0, state="active", refusal="")

    def fail(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        record = services.get(tx, operation.service_id or 0)
        services.delete(tx, record.id)
        services.delete_volume(tx, record.volume_id or "")
