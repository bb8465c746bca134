"""Bindings: chosen and recorded first, then made on the server, taken back when that fails."""

import difflib
from collections.abc import Collection, Sequence

import msgspec

from purveyor import address, names
from purveyor.access import ServiceAccess
from purveyor.house import House
from purveyor.operations.plan import PlannedApp
from purveyor.store import Tx, projects, services, tokens
from purveyor.store.records import BindingRecord, EnvironmentRecord, ProjectRecord, ServiceRecord
from purveyor_hooks import Api, Binding, Conflict, NotFound, Service, ServiceType, Variable


def intend(tx: Tx, house: House, service: ServiceRecord, project: ProjectRecord, environment: EnvironmentRecord) -> BindingRecord:
    """The recorded binding of an environment on a service, chosen now if there is none. Raises `Conflict`."""
    found = projects.binding_of(tx, service.id, environment.id)
    kind = house.registry.provider(service.service_type).kind
    if kind.uses_api:
        tokens.ensure_of_environment(tx, project, environment)
    if found is None:
        resource = names.resource(project.slug, environment.slug, kind.naming, projects.resources_taken(tx, service.id))
        number = projects.insert_binding(
            tx,
            service_id=service.id,
            project_id=project.id,
            environment_id=environment.id,
            project=project.slug,
            environment=environment.slug,
            resource=resource,
            account=names.key(kind.account_length) if kind.account_length else resource,
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


def environment_of(tx: Tx, project: ProjectRecord, given: str) -> EnvironmentRecord:
    """The project's environment of this name. Raises `NotFound` that names the nearest one there is."""
    found = projects.find_environment(tx, project.id, given)
    if found is not None:
        return found
    known = [item.slug for item in projects.environments(tx, project.id)]
    near = difflib.get_close_matches(given.lower(), known, n=1)
    meant = f"Did you mean {near[0]}? " if near else f"It has {', '.join(known)}. "
    raise NotFound(
        f"{project.slug} has no environment {given[:100]!r}.",
        remedy=f"{meant}To make it: purveyor project add-environment {project.slug} NAME, or purveyor deploy … -e NAME --create",
    )


def require_serving(service: ServiceRecord) -> None:
    """Raise `Conflict` unless accounts can be made on a service now."""
    if service.state != "active" or service.desired != "running":
        word = "stopped" if service.state == "active" else service.state
        raise Conflict(f"{service.name} is {word}.", remedy=f"Start it first: purveyor start {service.slug}")
    if service.refusal:
        raise Conflict(f"{service.name} is refused: {service.refusal}")


PLACEHOLDER = Api(url="http://purveyor", token="preview-only", project_id=0)


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


def revoke_unused(tx: Tx, house: House, project_id: int) -> None:
    """End the tokens of a project's environments that have no account any more on a service that uses the API."""
    if any(_uses_api(house, link.service_type) for link in projects.links(tx, project_id=project_id)):
        return
    for environment in projects.environments(tx, project_id):
        held = [services.get(tx, item.service_id) for item in projects.ending(tx, environment_id=environment.id)]
        if not any(_uses_api(house, service.service_type) for service in held):
            tokens.revoke_of_environment(tx, environment.id)


def _uses_api(house: House, service_type: str) -> bool:
    provider = house.registry.find(service_type)
    return provider is not None and provider.kind.uses_api


def apps(tx: Tx, service: ServiceRecord, effect: str, environment_ids: Collection[int] | None = None) -> list[PlannedApp]:
    """The apps that run with an account of a service, for plans; `effect` says what happens to them."""
    return [
        PlannedApp(
            project=binding.project,
            environment=binding.environment,
            deployment=deployment.id,
            service=service.name,
            effect=effect,
        )
        for binding, deployment in projects.users(tx, service.id)
        if environment_ids is None or binding.environment_id in environment_ids
    ]


def ready(tx: Tx, house: House, service: ServiceRecord, environment_id: int) -> bool:
    """Whether an environment's variables of a service can be told as things are."""
    binding = projects.binding_of(tx, service.id, environment_id)
    if binding is None or binding.state != "bound":
        return False
    uses_api = house.registry.provider(service.service_type).kind.uses_api
    return not uses_api or tokens.of_environment(tx, environment_id) is not None


def seen_from(kind: ServiceType, service: ServiceRecord, *, from_host: bool) -> Service:
    """A service as its reader reaches it: apps on the network, or commands on this host."""
    view = service.view()
    if not from_host:
        return view
    if service.imported:
        return msgspec.structs.replace(view, host=service.imported.address)
    ports = {port.container: int(service.parameters[port.parameter]) for port in kind.ports}
    return msgspec.structs.replace(view, host="127.0.0.1", ports=ports)


def with_api(tx: Tx, house: House, kind: ServiceType, binding: BindingRecord, *, from_host: bool) -> Binding:
    """A binding as `environment` takes it: with the API's address and the environment's token, for types that use it."""
    view = binding.view()
    if not kind.uses_api:
        return view
    token = tokens.of_environment(tx, binding.environment_id or 0)
    if token is None:
        raise NotFound("The environment has no token yet.", remedy="Deploy it, or ask for its variables: purveyor env PROJECT")
    api = Api(url=address.url(tx, house.settings, from_host=from_host), token=token, project_id=binding.project_id or 0)
    return msgspec.structs.replace(view, api=api)


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
        view = seen_from(provider.kind, service, from_host=from_host)
        found[service.id] = provider.environment(view, with_api(tx, house, provider.kind, binding, from_host=from_host))
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
