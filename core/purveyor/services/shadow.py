"""A service made beside another: to verify a backup, to restore, to carry data over, to copy.

Its container, volume and ports are its own. In the end it is taken away again, or its volume takes
the place of the other's, which is kept.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from purveyor.context import Context
from purveyor.docker import port_registry
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Step
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord, Outcome
from purveyor.services import store as services
from purveyor.services.above import Links
from purveyor.services.handle import handle_of
from purveyor.services.models import HeldBinding, ServiceRecord
from purveyor.services.operations.base import STOP_DEADLINE, ServiceOperation
from purveyor.services.operations.create import CreateArguments, make
from purveyor.services.parameters import alike
from purveyor_hooks import Failed, Finding, Inventory, NotFound

SCRATCH = "scratch"
# what a switch changes of a service; an upgrade may change the last as well
SWITCHED = ("volume_id", "image", "image_id", "image_environment", "desired")
PUT_BACK = (*SWITCHED, "parameters")
Came = Callable[[], Awaitable[Sequence[HeldBinding]]]  # whose data it is that a service gets
FEW = 5
PURGE_DEADLINE = 3600.0


class ShadowOperation(ServiceOperation):
    """An operation that makes a service beside another."""

    # ---------------------------------------------------------------- intent

    def create_shadow(
        self, tx: Tx, record: ServiceRecord, *, image: str = "", label: str = "next"
    ) -> int:
        """Record a service like another, credentials included, on ports and a volume of its own."""
        kind = self.context.registry.kind(record.service_type)
        ours = {item.name for item in kind.parameters if item.generated == "port"}
        values = alike(kind, record.parameters, ours)
        given = CreateArguments(
            name=record.name,
            service_type=record.service_type,
            parameters={**values, "docker_image": image or record.image},
        )
        return make(
            tx,
            self.context,
            given,
            slug=f"{record.slug}.{label}",
            purpose=SCRATCH,
            secrets=record.secrets,
        )

    def make_like(
        self,
        tx: Tx,
        name: str,
        service_type: str,
        image: str,
        parameters: Mapping[str, Any],
        *,
        scratch: str = "",
    ) -> int:
        """Record a new service of a type with the parameters of another, on ports and with
        credentials of its own; `scratch` is the slug of one that is taken away again."""
        kind = self.context.registry.kind(service_type)
        own = {item.name for item in kind.parameters if item.generated or item.secret}
        values = alike(kind, parameters, own)
        given = CreateArguments(
            name=name, service_type=service_type, parameters={**values, "docker_image": image}
        )
        return make(tx, self.context, given, slug=scratch, purpose=SCRATCH if scratch else "")

    # ---------------------------------------------------------------- steps

    def shadow_steps(self, operation: OperationRecord, service_id: int) -> list[Step]:
        """Make it and have it serve; all of it is taken away again when the operation fails."""
        steps = [
            self.image_step(operation, service_id),
            self.volume_step(service_id),
            self.container_step(service_id),
        ]
        steps += self.start_steps(service_id)
        named = [step._replace(name=f"new {step.name}") for step in steps]
        return [
            named[0],
            named[1]._replace(undo=lambda: self.discard(operation, service_id)),
            *named[2:],
        ]

    async def discard(self, operation: OperationRecord, service_id: int) -> None:
        """Take a service away that was made beside another, with its data: it is a copy of what is
        elsewhere."""

        def look(tx: Tx) -> Any:
            record = services.find(tx, service_id)
            return record and (
                record,
                services.volume(tx, record.volume_id) if record.volume_id else None,
            )

        found = await self.context.store.read(look)
        if not found:
            return
        record, volume = found
        if not (record.purpose == SCRATCH or record.state == "creating"):
            return
        if volume is not None and volume.id == (operation.private or {}).get("volume_id"):
            # never, whatever led here
            raise Failed(f"{record.slug} holds the data of before; it is not deleted.")
        # the second when it could not be removed in time
        for name in (record.container_name, unpacker(record)):
            await self.context.engine.containers.remove(name)
        if volume is not None and volume.state != "purged":
            await self.context.engine.volumes.destroy(volume.name, volume.path, record.image)

    def discard_step(self, operation: OperationRecord, service_id: int) -> Step:
        async def work() -> None:
            await self.discard(operation, service_id)
            await self.context.store.write(lambda tx: _forget(tx, service_id))

        return Step("clean up", work, deadline=PURGE_DEADLINE)

    def data_step(self, name: str, work: Callable[[], Awaitable[None]]) -> Step:
        """A step that takes as long as it takes: what it does is watched for progress."""
        return Step(name, work, deadline=math.inf)

    def teller(self, operation: OperationRecord, step: str) -> Callable[[int], Awaitable[None]]:
        async def tell(size: int) -> None:
            text = f"{size / 1024 / 1024:.0f} MB"
            await self.context.store.write(
                lambda tx: self.emit(tx, operation, "progress", {"step": step, "text": text})
            )

        return tell

    async def load(self, service_id: int) -> ServiceRecord:
        return await self.context.store.read(lambda tx: services.get(tx, service_id))

    async def fill(
        self, operation: OperationRecord, service_id: int, pour: Callable[[], Awaitable[None]]
    ) -> None:
        """Fill an empty service. Where an earlier process was at it already, the service is made
        anew first: half of what it poured in would be taken for damage, or for too much."""
        if not await self.context.store.write(
            lambda tx: services.begin_filling(tx, service_id, operation.id)
        ):
            await self._empty(service_id)
            for step in self.shadow_steps(operation, service_id):
                await step.do()
        await pour()

    async def _empty(self, service_id: int) -> None:
        """Take container and data away of a service that only this operation knows."""
        record = await self.load(service_id)
        volume = await self.context.store.read(
            lambda tx: services.volume(tx, record.volume_id or "")
        )
        await self.context.engine.containers.remove(record.container_name)
        await self.context.engine.volumes.destroy(volume.name, volume.path, record.image)
        await self.context.store.write(
            lambda tx: services.update_volume(tx, volume.id, state="new", identity="")
        )

    async def compare(
        self,
        operation: OperationRecord,
        expected: Inventory,
        service_id: int,
        findings: Sequence[Finding] = (),
        *,
        only: Collection[str] = (),
        stop: bool = False,
        way: str = "",
    ) -> None:
        """Count what has come, and note everything that is not as it was. Raises `Failed` that
        names it, and one more `way` to go on, where that is to `stop` the operation, for data that
        is in use would be exchanged; else the person is told, and has the rest."""
        found = await handle_of(self.context, await self.load(service_id)).census()
        if only:
            expected, found = expected.only(only), found.only(only)
        outcome = Outcome(
            differences=tuple(expected.differences(found)),
            findings=tuple(findings),
            left_out=(*expected.failed, *expected.left_out),
        )
        await self.context.store.write(
            lambda tx: operations.note_outcome(tx, operation.id, outcome)
        )
        if stop and (lost := outcome.losses):
            raise Failed(
                f"The restored data does not match the original: {few(lost)}.",
                remedy="Nothing was switched; the data that was there is untouched. See all of it with: "
                f"purveyor operations {operation.id}. To go on with what came: --keep-going{way}",
            )

    # ---------------------------------------------------------------- switching

    def switch_step(self, operation: OperationRecord, service_id: int, scratch_id: int) -> Step:
        """The service goes on with the scratch service's volume and image; its own volume is
        kept."""

        async def work() -> None:
            scratch = await self.load(scratch_id)
            await self.context.engine.containers.remove(scratch.container_name)
            # a container keeps the volume that it was made with
            await self.provision.remove_container(service_id)
            await self.context.store.write(
                lambda tx: _switch(tx, operation, service_id, scratch_id)
            )
            await self._serve(service_id)

        async def back() -> None:
            await self.provision.remove_container(service_id)
            await self.forget_volume(service_id)
            await self.context.store.write(
                lambda tx: _switch_back(
                    tx,
                    operation,
                    service_id,
                    scratch_id,
                    self.context.part(Links).held(tx, service_id),
                )
            )
            record = await self.load(service_id)
            if record.desired == "running":
                await self._serve(service_id)

        limit = self.context.settings.ready_timeout + 2 * STOP_DEADLINE
        return Step("switch", work, undo=back, deadline=limit)

    async def _serve(self, service_id: int) -> None:
        await self.context.engine.ensure_network()
        await self.provision.volume(service_id)
        await self.provision.container(service_id)
        for step in self.start_steps(service_id):
            await step.do()

    def put_away_step(self, operation: OperationRecord, came: Came | None = None) -> Step:
        """Take the name of the volume of before from the engine; its folder and its record stay.
        This comes last: whose data came with the other one is recorded when nothing can be taken
        back any more."""

        async def work() -> None:
            number = (operation.private or {})["volume_id"]
            volume = await self.context.store.read(lambda tx: services.volume(tx, number))
            await self.context.engine.volumes.forget(volume.name)
            if came is not None:
                held = await came()
                await self.context.store.write(
                    lambda tx: self.context.part(Links).take_in(tx, operation.service, held)
                )

        return Step("put away", work)

    def former_ends(self, tx: Tx, service_id: int) -> list[str]:
        """What `accounts_step` ends before its time, for the plan."""
        return [
            f"The former credentials of {item.project}/{item.environment}, which were to work until "
            f"{item.until:%Y-%m-%d %H:%M} UTC, end."
            for item in self.context.part(Links).endings(tx, service_id)
            if item.until and item.until > tx.now
        ]

    def accounts_step(self, service_id: int, came: Came | None = None) -> Step:
        """The data may hold accounts as they were: give each the password that is recorded, or
        none, and end what a rotation has left, and those that nobody has here."""

        async def work() -> None:
            await self.context.part(Links).settle(service_id, await came() if came else ())

        return Step("accounts", work, deadline=600.0)

    def keep_old(
        self,
        tx: Tx,
        operation: OperationRecord,
        service_id: int,
        scratch_id: int,
        facts: Mapping[str, Any],
    ) -> None:
        """The volume that the service had is kept for the stated time, and says what it is; the
        scratch service ends."""
        before = (operation.private or {})["volume_id"]
        services.update(tx, scratch_id, volume_id=None)
        services.forget_scratch(tx, scratch_id)
        until = tx.now + timedelta(days=self.context.settings.old_data_days)
        image, image_id = (operation.private or {})["image"], (operation.private or {})["image_id"]
        owner = services.get(tx, service_id)
        owner = msgspec.structs.replace(
            owner, parameters=(operation.private or {}).get("parameters", owner.parameters)
        )
        held = self.context.part(Links).held(tx, service_id)
        services.keep_volume(
            tx, before, owner, facts, held, image=image, image_id=image_id, until=until
        )


def few(told: Sequence[str]) -> str:
    """The first of many, for a sentence."""
    more = f", and {len(told) - FEW} more" if len(told) > FEW else ""
    return "; ".join(told[:FEW]) + more


def _forget(tx: Tx, service_id: int) -> None:
    if services.find(tx, service_id):
        services.forget_scratch(tx, service_id)


def forget_made(tx: Tx, context: Context, service_id: int) -> None:
    """Forget a service that never came to be, and its discarded volume."""
    record = services.find(tx, service_id)
    if record is None:
        return
    port_registry.release_ports(tx, service=service_id)
    context.part(Links).forget(tx, service_id)
    services.delete(tx, service_id)
    if record.volume_id:
        services.drop_volume(tx, record.volume_id)


def before(record: ServiceRecord) -> dict[str, Any]:
    """What a switch changes of a service, to put it back."""
    return {name: getattr(record, name) for name in SWITCHED}


def _switch(tx: Tx, operation: OperationRecord, service_id: int, scratch_id: int) -> None:
    scratch, record = services.get(tx, scratch_id), services.get(tx, service_id)
    if (
        scratch.volume_id == (operation.private or {})["volume_id"]
        or record.volume_id == scratch.volume_id
    ):
        return  # done before a crash
    old = record.volume_id
    services.update(tx, scratch_id, volume_id=old)
    # what its data is made with
    chosen = {name: scratch.parameters[name] for name in operation.arguments.get("parameters", {})}
    services.update(
        tx,
        service_id,
        parameters={**record.parameters, **chosen},
        volume_id=scratch.volume_id,
        image=scratch.image,
        image_id=scratch.image_id,
        image_environment=scratch.image_environment,
        desired="running",
    )


def _switch_back(
    tx: Tx,
    operation: OperationRecord,
    service_id: int,
    scratch_id: int,
    held: Sequence[HeldBinding],
) -> None:
    """Go back to the volume of before. The one that the service has had since is kept: apps may
    have written to it."""
    if operation.private is None:
        raise NotFound("The operation does not say what was before.")
    record = services.get(tx, service_id)
    if record.volume_id and record.volume_id != operation.private["volume_id"]:
        facts = {"before": f"the undo of operation {operation.id}"}
        services.keep_volume(tx, record.volume_id, record, facts, held)
        services.update(tx, scratch_id, volume_id=None)
    was = {name: value for name, value in operation.private.items() if name in PUT_BACK}
    services.update(tx, service_id, **was)


def unpacker(record: ServiceRecord) -> str:
    """The name of the container that fills a service's volume."""
    return f"{record.container_name}.unpack"


class NewServiceOperation(ShadowOperation):
    """An operation whose end is a new service, filled."""

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        services.end_filling(tx, operation.service)
        services.update(tx, operation.service, state="active", refusal="")

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        forget_made(tx, self.context, operation.service)
