"""Whose data the resources of a service are, as a backup or a copy is told it."""

from collections.abc import Sequence

from purveyor.context import Context
from purveyor.kernel import naming
from purveyor.kernel.db import Tx
from purveyor.projects import store as projects
from purveyor.projects.bindings import Binder
from purveyor.services.models import HeldBinding


def held_bindings(tx: Tx, service_id: int) -> list[HeldBinding]:
    """Whose data the resources of a service are, by the numbers that the data itself carries."""
    return [
        HeldBinding(
            project=item.project,
            environment=item.environment,
            resource=item.resource,
            account=item.account,
            slot=item.slot,
            number=item.origin or item.id,
            extras=item.extras,
        )
        for item in projects.bindings(tx, service_id=service_id)
        if item.state != "intended"
    ]


def take_in(tx: Tx, service_id: int, item: HeldBinding) -> None:
    """Record whose data a resource is that came with a backup; nobody knows its account's
    password."""
    projects.insert_restored_binding(
        tx,
        service_id,
        item.project,
        item.environment,
        naming.password(),
        resource=item.resource,
        account=item.account,
        slot=item.slot,
        origin=item.number,
        extras=item.extras,
    )


def take_in_others(tx: Tx, service_id: int, held: Sequence[HeldBinding]) -> None:
    """Record whose data the resources are that came to a service and that none of its bindings has,
    so that linking brings each project back to its own."""
    for item in held:
        known = projects.bindings(tx, service_id=service_id)
        if item.resource not in {one.resource for one in known} and (
            item.slot is None or item.slot not in {one.slot for one in known}
        ):
            take_in(tx, service_id, item)


async def claim(context: Context, service_id: int, held: Sequence[HeldBinding]) -> None:
    """Record whose data the resources of a copy are; until it is linked no account in it is
    open."""

    def work(tx: Tx) -> list[int]:
        take_in_others(tx, service_id, held)
        return [item.id for item in projects.bindings(tx, service_id=service_id)]

    await context.part(Binder).unbind(await context.store.write(work))
