"""Bindings: chosen and recorded first, then made on the server, taken back when that fails."""

from collections.abc import Sequence

import msgspec

from purveyor import names
from purveyor.access import ServiceAccess
from purveyor.house import House
from purveyor.store import Tx, projects, services
from purveyor.store.records import BindingRecord, EnvironmentRecord, ProjectRecord, ServiceRecord
from purveyor_hooks import Conflict, NotFound, Variable


def intend(tx: Tx, house: House, service: ServiceRecord, project: ProjectRecord, environment: EnvironmentRecord) -> BindingRecord:
    """The recorded binding of an environment on a service, chosen now if there is none. Raises `Conflict`."""
    found = projects.binding_of(tx, service.id, environment.id)
    if found is None:
        kind = house.registry.provider(service.service_type).kind
        resource = names.resource(project.slug, environment.slug, kind.naming, projects.resources_taken(tx, service.id))
        number = projects.insert_binding(
            tx,
            service_id=service.id,
            project_id=project.id,
            environment_id=environment.id,
            project=project.slug,
            environment=environment.slug,
            resource=resource,
            account=resource,
            password=names.password(),
            slot=_slot(tx, service, kind.slots) if kind.slots else None,
        )
    else:
        number = found.id
        if found.state == "unbound":  # the old password stays revoked for good
            projects.update_binding(tx, number, password=names.password(), state="intended")
    record = projects.binding(tx, number)
    assert record is not None
    return record


def _slot(tx: Tx, service: ServiceRecord, slots: tuple[int, int]) -> int:
    taken = projects.slots_taken(tx, service.id)
    first, last = slots
    for slot in range(first, last + 1):
        if slot not in taken:
            return slot
    idle = [item for item in projects.bindings(tx, service_id=service.id) if item.state == "unbound"]
    hint = f"purge what is not linked any more ({', '.join(item.resource for item in idle)}), or " if idle else ""
    raise Conflict(
        f"All {last - first + 1} numbers of {service.name} are in use.",
        remedy=f"To go on, {hint}create another one: purveyor create {service.service_type} NAME",
    )


def require_serving(service: ServiceRecord) -> None:
    """Raise `Conflict` unless accounts can be made on a service now."""
    if service.state != "active" or service.desired != "running":
        word = "stopped" if service.state == "active" else service.state
        raise Conflict(f"{service.name} is {word}.", remedy=f"Start it first: purveyor start {service.slug}")


class Binder:
    """The server side of bindings."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def _load(self, binding_id: int) -> tuple[BindingRecord, ServiceRecord] | None:
        def work(tx: Tx) -> tuple[BindingRecord, ServiceRecord] | None:
            record = projects.binding(tx, binding_id)
            return (record, services.get(tx, record.service_id)) if record else None

        return await self._house.store.read(work)

    def _access(self, service: ServiceRecord) -> ServiceAccess:
        kind = self._house.registry.provider(service.service_type).kind
        return ServiceAccess(self._house.engine, kind, service, self._house.logger)

    async def bind(self, binding_ids: Sequence[int]) -> None:
        """Make resource and account of each, and record that they are there."""
        for binding_id in binding_ids:
            loaded = await self._load(binding_id)
            if loaded is None:
                raise NotFound("The binding is gone.")
            binding, service = loaded
            provider = self._house.registry.provider(service.service_type)
            await provider.bind(service.view(), self._access(service), binding.view())
            await self._house.store.write(lambda tx: projects.update_binding(tx, binding_id, state="bound"))  # noqa: B023

    async def unbind(self, binding_ids: Sequence[int]) -> None:
        """End the access of each; its data stays."""
        for binding_id in binding_ids:
            if loaded := await self._load(binding_id):
                binding, service = loaded
                provider = self._house.registry.provider(service.service_type)
                await provider.unbind(service.view(), self._access(service), binding.view())
                await self._house.store.write(lambda tx: projects.update_binding(tx, binding_id, state="unbound"))  # noqa: B023

    async def purge(self, binding_ids: Sequence[int]) -> None:
        """Drop account, resource and data of each, and forget it."""
        for binding_id in binding_ids:
            if loaded := await self._load(binding_id):
                binding, service = loaded
                provider = self._house.registry.provider(service.service_type)
                await provider.purge(service.view(), self._access(service), binding.view())
                await self._house.store.write(lambda tx: projects.delete_binding(tx, binding_id))  # noqa: B023


def variables_of(
    tx: Tx, house: House, project_id: int, environment_id: int, *, from_host: bool = False
) -> dict[int, list[Variable]]:
    """The variables of every linked service for one environment, by service id: for apps on the network, or for
    commands on this host. Raises `NotFound` without a binding."""
    found = {}
    for link in projects.links(tx, project_id=project_id):
        service = services.get(tx, link.service_id)
        binding = projects.binding_of(tx, service.id, environment_id)
        if binding is None:
            raise NotFound(f"The environment has no binding on {service.name} yet.")
        provider = house.registry.provider(service.service_type)
        view = service.view()
        if from_host:
            ports = {port.container: int(service.parameters[port.parameter]) for port in provider.kind.ports}
            view = msgspec.structs.replace(view, host="127.0.0.1", ports=ports)
        found[service.id] = provider.environment(view, binding.view())
    return found


def merged(tx: Tx, by_service: dict[int, list[Variable]]) -> list[Variable]:
    """One list of all variables. Raises `Conflict` when two services set the same one differently."""
    owner: dict[str, tuple[int, Variable]] = {}
    for service_id, variables in by_service.items():
        for variable in variables:
            known = owner.setdefault(variable.name, (service_id, variable))
            if known[1].value != variable.value:
                first, second = (services.get(tx, number).name for number in (known[0], service_id))
                raise Conflict(
                    f"{first} and {second} both set {variable.name}, to different values.",
                    remedy=f"Unlink one of the two: {first} or {second}.",
                    errors={variable.name: f"set by {first} and by {second}"},
                )
    return [variable for _, variable in owner.values()]
