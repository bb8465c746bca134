"""The variables that links inject."""

from collections.abc import Mapping

import msgspec

from purveyor.context import Context
from purveyor.kernel.api import address
from purveyor.kernel.db import Tx
from purveyor.projects import store as projects
from purveyor.projects import tokens
from purveyor.projects.models import BindingRecord
from purveyor.services import store as services
from purveyor.services.handle import handle_of
from purveyor.services.models import ServiceRecord
from purveyor_hooks import Api, Binding, Conflict, NotFound, ServiceType, Variable


def ready(tx: Tx, context: Context, service: ServiceRecord, environment_id: int) -> bool:
    """Whether an environment's variables of a service can be told as things are."""
    binding = projects.binding_of(tx, service.id, environment_id)
    if binding is None or binding.state != "bound":
        return False
    uses_api = context.registry.kind(service.service_type).uses_api
    return not uses_api or tokens.of_environment(tx, environment_id) is not None


def with_api(
    tx: Tx,
    context: Context,
    kind: ServiceType,
    binding: BindingRecord,
    *,
    from_host: bool,
    by_name: bool = False,
) -> Binding:
    """A binding as `environment` takes it: with the API's address and the environment's token, for
    types that use it."""
    view = binding.view()
    if not kind.uses_api:
        return view
    token = tokens.of_environment(tx, binding.environment_id or 0)
    if token is None:
        raise NotFound(
            "The environment has no token yet.",
            remedy="Deploy it, or ask for its variables: purveyor env PROJECT",
        )
    where = address.url(tx, context.settings, from_host=from_host, by_name=by_name)
    api = Api(url=where, token=token, project_id=binding.project_id or 0)
    return msgspec.structs.replace(view, api=api)


def variables_of(
    tx: Tx,
    context: Context,
    project_id: int,
    environment_id: int,
    *,
    from_host: bool = False,
    addresses: Mapping[str, str] | None = None,
    by_name: bool = False,
) -> dict[int, list[Variable]]:
    """The variables of every linked service for one environment, by service id: for apps on the
    network, `by_name` those that are deployed, or for commands on this host, by the `addresses` of
    containers. Raises `NotFound` without a binding."""
    found = {}
    for link in projects.links(tx, project_id=project_id):
        service = services.get(tx, link.service_id)
        binding = projects.binding_of(tx, service.id, environment_id)
        if binding is None:
            raise NotFound(f"The environment has no binding on {service.name} yet.")
        server = handle_of(context, service)
        address = (addresses or {}).get(service.container_name, "")
        if from_host:
            server = server.from_host(context, address)
        bound = with_api(tx, context, server.kind, binding, from_host=from_host, by_name=by_name)
        found[service.id] = server.environment(bound)
    return found


def merge_variables(tx: Tx, by_service: dict[int, list[Variable]]) -> list[Variable]:
    """One list of all variables. Raises `Conflict` when two services set the same one
    differently."""
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
