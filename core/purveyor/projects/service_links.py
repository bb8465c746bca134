"""What services ask of projects, answered."""

from collections.abc import Mapping, Sequence

from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.operations.plan import PlannedApp
from purveyor.projects import bindings
from purveyor.projects import store as projects
from purveyor.projects.bindings import Binder
from purveyor.projects.claims import claim, held_bindings, take_in_others
from purveyor.projects.models import BindingRecord
from purveyor.services import store as services
from purveyor.services.above import Links
from purveyor.services.handle import handle_of
from purveyor.services.models import HeldBinding, ServiceRecord
from purveyor.services.schemas import EndingView
from purveyor_hooks import BadInput


class ProjectLinks(Links):
    def __init__(self, context: Context) -> None:
        self._context = context

    def linked(self, tx: Tx, service_ids: Sequence[int]) -> Mapping[int, list[str]]:
        return projects.linked_slugs(tx, service_ids)

    def services(self, tx: Tx) -> Mapping[int, list[int]]:
        found: dict[int, list[int]] = {}
        for link in projects.links(tx):
            found.setdefault(link.project_id, []).append(link.service_id)
        return found

    def require_unlinked(self, tx: Tx, service: ServiceRecord) -> None:
        linked = [
            projects.get(tx, link.project_id).slug
            for link in projects.links(tx, service_id=service.id)
        ]
        if linked:
            raise BadInput(
                f"{service.name} is still linked to {', '.join(linked)}.",
                remedy="Unlink first: "
                + "; ".join(f"purveyor unlink {service.slug} {slug}" for slug in linked),
                errors={"service": f"linked to {', '.join(linked)}"},
            )

    def resources(self, tx: Tx, service_id: int) -> list[str]:
        return [item.resource for item in projects.bindings(tx, service_id=service_id)]

    def passwords(self, tx: Tx, service_id: int) -> list[str]:
        return [item.password for item in projects.bindings(tx, service_id=service_id)]

    def apps(self, tx: Tx, service: ServiceRecord, effect: str) -> list[PlannedApp]:
        return bindings.apps(tx, self._context, service, effect)

    def endings(self, tx: Tx, service_id: int) -> list[EndingView]:
        return endings(tx, service_id=service_id)

    async def open_again(self, service_id: int) -> None:
        held = await self._held(service_id)
        await self._context.part(Binder).bind([item.id for item in held if item.state == "bound"])

    async def settle(self, service_id: int, came: Sequence[HeldBinding]) -> None:
        await self._close_unknown(service_id, came)
        held, binder = await self._held(service_id), self._context.part(Binder)
        bound = [item.id for item in held if item.state == "bound"]
        await binder.bind(bound)
        await binder.unbind([item.id for item in held if item.state == "unbound"])
        await binder.close_former(bound)

    async def _held(self, service_id: int) -> list[BindingRecord]:
        return await self._context.store.read(
            lambda tx: projects.bindings(tx, service_id=service_id)
        )

    async def _close_unknown(self, service_id: int, came: Sequence[HeldBinding]) -> None:
        """End the accounts that came with the data and that no binding has: of projects that were
        unlinked since, or of another service."""
        known = {(item.resource, item.account) for item in await self._held(service_id)}
        record = await self._context.store.read(lambda tx: services.get(tx, service_id))
        server = handle_of(self._context, record)
        # not all are on record: data that was put away long ago says nothing of its bindings
        found = [
            HeldBinding(
                project=item.resource,
                environment="",
                resource=item.resource,
                account=item.account,
                slot=item.slot,
                number=item.number,
                extras=item.extras,
            )
            for item in await server.held()
        ]
        for item in (*came, *found):
            if (item.resource, item.account) not in known:
                known.add((item.resource, item.account))
                await server.unbind(item.view())

    def held(self, tx: Tx, service_id: int) -> list[HeldBinding]:
        return held_bindings(tx, service_id)

    def take_in(self, tx: Tx, service_id: int, came: Sequence[HeldBinding]) -> None:
        take_in_others(tx, service_id, came)

    async def claim_copy(self, service_id: int, held: Sequence[HeldBinding]) -> None:
        await claim(self._context, service_id, held)

    def forget(self, tx: Tx, service_id: int) -> None:
        for binding in projects.bindings(tx, service_id=service_id):
            projects.delete_binding(tx, binding.id)


def endings(
    tx: Tx, *, service_id: int | None = None, project_id: int | None = None
) -> list[EndingView]:
    """The accounts that outlived their link, and the credentials that a rotation has left
    working."""
    former = [
        EndingView(
            service=services.get(tx, item.service_id).slug,
            project=item.project,
            environment=item.environment,
            deployment=None,
            until=item.former_until,
        )
        for item in projects.list_outlived(tx, service_id=service_id, project_id=project_id)
    ]
    return former + [
        EndingView(
            service=services.get(tx, item.service_id).slug,
            project=item.project,
            environment=item.environment,
            deployment=None if projects.is_due(tx, item) else item.ends_after,
        )
        for item in projects.ending(tx, service_id=service_id, project_id=project_id)
    ]
