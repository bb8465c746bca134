"""Bindings: chosen and recorded first, then made on the server, taken back when that fails."""

import difflib
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from purveyor.context import Context
from purveyor.kernel import naming as names
from purveyor.kernel.api import tokens as api_tokens
from purveyor.kernel.db import Tx
from purveyor.kernel.operations.plan import PlannedApp
from purveyor.projects import naming, tokens
from purveyor.projects import store as projects
from purveyor.projects.above import Deployed
from purveyor.projects.models import BindingRecord, EnvironmentRecord, ProjectRecord
from purveyor.services import store as services
from purveyor.services.handle import handle_of
from purveyor.services.models import ServiceRecord
from purveyor.services.networks import Networks
from purveyor_hooks import Conflict, NotFound


def record_intent(
    tx: Tx,
    context: Context,
    service: ServiceRecord,
    project: ProjectRecord,
    environment: EnvironmentRecord,
) -> BindingRecord:
    """The recorded binding of an environment on a service, chosen now if there is none. Raises
    `Conflict`."""
    found = projects.taken_up(tx, service.id, project, environment)
    kind = context.registry.kind(service.service_type)
    if kind.uses_api:
        tokens.ensure_of_environment(tx, project, environment)
    if found is None:
        taken = projects.names_taken(tx, service.id)
        resource = naming.resource(project.slug, environment.slug, kind.naming, taken)
        number = projects.insert_binding(
            tx,
            service_id=service.id,
            project_id=project.id,
            environment_id=environment.id,
            project=project.slug,
            environment=environment.slug,
            resource=resource,
            account=naming.account(kind, resource, "", taken),
            password=names.password(),
            slot=_slot(tx, service, kind.slots) if kind.slots else None,
        )
    else:
        number = found.id
        if found.state == "unbound":  # the old password stays revoked for good
            account = naming.account(
                kind, found.resource, found.account, projects.names_taken(tx, service.id)
            )
            projects.choose_again(tx, number, account, names.password())
    record = projects.binding(tx, number)
    assert record is not None
    return with_extras(tx, context, service, record, wanted_extras(tx, service, project))


def wanted_extras(tx: Tx, service: ServiceRecord, project: ProjectRecord) -> set[str]:
    """What any environment of a project has beside its first resource, every one has."""
    return {
        name
        for item in projects.bindings(tx, service_id=service.id, project_id=project.id)
        for name in item.extras
    }


def with_extras(
    tx: Tx, context: Context, service: ServiceRecord, record: BindingRecord, wanted: Collection[str]
) -> BindingRecord:
    """A binding with further resources, named now if they are not there."""
    kind = context.registry.kind(service.service_type)
    extras = dict(record.extras)
    for name in sorted(wanted):
        if name not in extras:
            taken = projects.names_taken(tx, service.id) | set(extras.values())
            extras[name] = naming.further(
                record.project, record.environment, name, kind.naming, taken
            )
    if extras != record.extras:
        projects.update_binding(tx, record.id, extras=extras)
    return msgspec.structs.replace(record, extras=extras)


def _slot(tx: Tx, service: ServiceRecord, slots: tuple[int, int]) -> int:
    taken = projects.slots_taken(tx, service.id)
    first, last = slots
    for slot in range(first, last + 1):
        if slot not in taken:
            return slot
    idle = [
        item for item in projects.bindings(tx, service_id=service.id) if item.state == "unbound"
    ]
    hint = (
        f"purge what is not linked any more ({', '.join(item.resource for item in idle)}), or "
        if idle
        else ""
    )
    raise Conflict(
        f"All {last - first + 1} numbers of {service.name} are in use.",
        remedy=f"To go on, {hint}create another one: purveyor create {service.service_type} NAME",
    )


def environment_of(tx: Tx, project: ProjectRecord, given: str) -> EnvironmentRecord:
    """The project's environment of this name. Raises `NotFound` that names the nearest one there
    is."""
    found = projects.find_environment(tx, project.id, given)
    if found is not None:
        return found
    known = [item.slug for item in projects.environments(tx, project.id)]
    near = difflib.get_close_matches(given.lower(), known, n=1)
    meant = f"Did you mean {near[0]}? " if near else f"It has {', '.join(known)}. "
    raise NotFound(
        f"{project.slug} has no environment {given[:100]!r}.",
        remedy=(
            f"{meant}To make it: purveyor project add-environment {project.slug} NAME, or "
            "purveyor deploy … -e NAME --create"
        ),
    )


class Binder:
    """The server side of bindings."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._networks = context.part(Networks)

    async def _load(self, binding_id: int) -> tuple[BindingRecord, ServiceRecord] | None:
        def work(tx: Tx) -> tuple[BindingRecord, ServiceRecord] | None:
            record = projects.binding(tx, binding_id)
            return (record, services.get(tx, record.service_id)) if record else None

        return await self._context.store.read(work)

    async def bind(self, binding_ids: Sequence[int]) -> None:
        """Make resource and account of each, and record that they are there."""
        for binding_id in binding_ids:
            loaded = await self._load(binding_id)
            if loaded is None:
                raise NotFound("The binding is gone.")
            binding, service = loaded
            await handle_of(self._context, service).bind(binding.view())
            await self._context.store.write(
                lambda tx: projects.update_binding(tx, binding_id, state="bound")  # noqa: B023
            )
            await self._networks.admit(service.id, binding.environment_id)

    async def unbind(self, binding_ids: Sequence[int]) -> None:
        """End the access of each; its data stays."""
        for binding_id in binding_ids:
            if loaded := await self._load(binding_id):
                binding, service = loaded
                await handle_of(self._context, service).unbind(binding.view())
                await self._networks.leave(
                    service.id, binding.environment_id
                )  # its sessions have ended: one that is cut off hangs
                ended: dict[str, Any] = {"state": "unbound", "former_until": None}
                await self._context.store.write(
                    lambda tx: projects.update_binding(tx, binding_id, **ended)  # noqa: B023
                )

    async def close_former(self, binding_ids: Sequence[int]) -> None:
        """End what rotations have replaced on a server that has other data now: that may hold what
        ended long ago, or not hold what is to work for a while. The record is over as well, and
        the sweep takes it away: after a step that is taken back the data of before is there again.
        """
        for binding_id in binding_ids:
            loaded = await self._load(binding_id)
            if loaded is None:
                continue
            binding, service = loaded
            server = handle_of(self._context, service)
            if server.offers("retire"):
                await server.retire(binding.view())
                await self._context.store.write(lambda tx: end_former(tx, binding))  # noqa: B023

    async def retire(self, binding_ids: Sequence[int]) -> None:
        """End what rotations have replaced."""
        for binding_id in binding_ids:
            if loaded := await self._load(binding_id):
                binding, service = loaded
                await handle_of(self._context, service).retire(binding.view())
                await self._context.store.write(
                    lambda tx: projects.update_binding(tx, binding_id, former_until=None)  # noqa: B023
                )

    async def purge_extra(self, binding_ids: Sequence[int], name: str) -> None:
        """Drop one further resource of each with its data, and forget it."""
        for binding_id in binding_ids:
            loaded = await self._load(binding_id)
            if loaded is None or name not in loaded[0].extras:
                continue
            binding, service = loaded
            await handle_of(self._context, service).purge_extra(binding.view(), name)
            left = {key: value for key, value in binding.extras.items() if key != name}
            await self._context.store.write(
                lambda tx: projects.update_binding(tx, binding_id, extras=left)  # noqa: B023
            )

    async def purge(self, binding_ids: Sequence[int]) -> None:
        """Drop account, resource and data of each, and forget it."""
        for binding_id in binding_ids:
            if loaded := await self._load(binding_id):
                binding, service = loaded
                await handle_of(self._context, service).purge(binding.view())
                await self._networks.leave(service.id, binding.environment_id)
                await self._context.store.write(lambda tx: projects.delete_binding(tx, binding_id))  # noqa: B023


def end_former(tx: Tx, record: BindingRecord) -> None:
    """The time of what a rotation has left is over now, if it has left anything."""
    if record.former_until is not None:
        if record.environment_id is not None:
            tokens.end_former(tx, record.environment_id, record.former_until)
        if record.former_until > tx.now:
            projects.update_binding(tx, record.id, former_until=tx.now)


def revoke_unused(tx: Tx, context: Context, project_id: int) -> None:
    """End the tokens of a project's environments that have no account any more on a service that
    uses the API."""
    if any(
        _uses_api(context, link.service_type) for link in projects.links(tx, project_id=project_id)
    ):
        return
    for environment in projects.environments(tx, project_id):
        held = [
            services.get(tx, item.service_id)
            for item in projects.ending(tx, environment_id=environment.id)
        ]
        if not any(_uses_api(context, service.service_type) for service in held):
            api_tokens.revoke_of_environment(tx, environment.id)


def _uses_api(context: Context, service_type: str) -> bool:
    provider = context.registry.find(service_type)
    return provider is not None and provider.kind.uses_api


def apps(
    tx: Tx,
    context: Context,
    service: ServiceRecord,
    effect: str,
    environment_ids: Collection[int] | None = None,
) -> list[PlannedApp]:
    """The apps that run with an account of a service, for plans; `effect` says what happens to
    them."""
    return [
        PlannedApp(
            project=binding.project,
            environment=binding.environment,
            deployment=deployment,
            service=service.name,
            effect=effect,
        )
        for binding, deployment in context.part(Deployed).users(tx, service.id)
        if environment_ids is None or binding.environment_id in environment_ids
    ]
