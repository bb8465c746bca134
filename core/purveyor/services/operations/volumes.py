"""Data that was kept comes back: in place of what a service holds now, or as a service of its
own."""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer, PlannedVolume
from purveyor.services import store as services
from purveyor.services.above import Links
from purveyor.services.models import Credentials, HeldBinding, ServiceRecord, VolumeRecord
from purveyor.services.operations.base import (
    IMAGE_DEADLINE,
    STOP_DEADLINE,
    require_active,
    require_own,
    step_names,
)
from purveyor.services.operations.create import CreateArguments, make
from purveyor.services.parameters import IMAGE
from purveyor.services.shadow import NewServiceOperation, before
from purveyor_hooks import BadInput, Conflict


class AttachVolumeArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` goes on with the data of `volume`, one that is kept (its id or name on the
    engine)."""

    service: str
    volume: str


class CloneVolumeArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The data of `volume`, one that is kept, is copied into a new service called `name`."""

    volume: str
    name: str


class _Exchange(NewServiceOperation):
    """A service goes on with the data of a volume that is kept; what it held until now is kept in
    its turn."""

    def exchange(self, tx: Tx, record: ServiceRecord, volume: VolumeRecord, actor: str) -> int:
        """Write the intent of going on with a volume."""
        require_active(record)
        require_own(record)
        number = (volume.facts or {}).get("image_id", "")
        shown = {
            "name": record.name,
            "volume": volume.id,
            "image": image_of(tx, volume),
            "image_id": number,
        }
        opening(tx, volume)
        held = {**before(record), "parameters": record.parameters, "secrets": record.secrets}
        return operations.insert(
            tx, self.name, service_id=record.id, actor=actor, arguments=shown, private=held
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        record, given = services.get(tx, operation.service), operation.arguments
        wanted, held = (
            services.volume(tx, given["volume"]),
            services.volume(tx, record.volume_id or ""),
        )
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=step_names(self.steps(operation)),
            containers=[
                PlannedContainer(name=record.container_name, action="replace", image=given["image"])
            ],
            volumes=[
                PlannedVolume(name=wanted.name, action="use again"),
                PlannedVolume(name=held.name, action="keep"),
            ],
            apps=self.context.part(Links).apps(
                tx, record, f"finds the data of before in {record.name}"
            ),
            downtime="while the containers are exchanged, some seconds",
            warnings=[
                "What was written since is not in that data; it is kept, and listed.",
                *self.former_ends(tx, record.id),
            ],
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id = operation.service
        limit = self.context.settings.ready_timeout + 2 * STOP_DEADLINE + IMAGE_DEADLINE
        back = Step("back", lambda: self._attach(operation, service_id), deadline=limit)
        return [
            back._replace(undo=lambda: self._detach(operation, service_id)),
            self.put_away_step(operation, lambda: self._came(operation)),
        ]

    async def _came(self, operation: OperationRecord) -> Sequence[HeldBinding]:
        """Whose data the volume holds: as it was put away, or else as its service has it now."""
        links, number = self.context.part(Links), operation.arguments["volume"]
        return await self.context.store.read(lambda tx: bindings_in(tx, links, number))

    async def _attach(self, operation: OperationRecord, service_id: int) -> None:
        given = operation.arguments
        settings = self.context.settings
        images = self.context.engine.images
        # its name may mean another by now
        found = await images.inspect(given["image_id"]) if given.get("image_id") else None
        found = found or await images.ensure(
            given["image"], self.progress(operation, "back"), settings.pull_timeout
        )
        await self.provision.remove_container(service_id)

        def work(tx: Tx) -> None:
            opened = opening(tx, services.volume(tx, given["volume"]))
            record = services.get(tx, service_id)
            kind = self.context.registry.kind(record.service_type)
            own = {
                item.name
                for item in kind.parameters
                if not item.editable and item.generated != "port"
            }
            theirs = {name: value for name, value in opened.parameters.items() if name in own}
            services.update_volume(tx, given["volume"], state="used")
            services.update(
                tx,
                service_id,
                parameters={**record.parameters, **theirs},
                secrets=opened.secrets,
                volume_id=given["volume"],
                image=given["image"],
                image_id=found.id,
                image_environment=found.environment,
                desired="running",
            )

        await self.context.store.write(work)
        await self._serve(service_id)
        await self.accounts_step(service_id, lambda: self._came(operation)).do()

    async def _detach(self, operation: OperationRecord, service_id: int) -> None:
        def work(tx: Tx) -> None:
            services.update_volume(tx, operation.arguments["volume"], state="kept")
            services.update(tx, service_id, **(operation.private or {}))

        await self.provision.remove_container(service_id)
        volume = await self.context.store.read(
            lambda tx: services.volume(tx, operation.arguments["volume"])
        )
        await self.context.engine.volumes.forget(volume.name)
        await self.context.store.write(work)
        await self._serve(service_id)

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        private = operation.private or {}
        opened = {name: private[name] for name in ("parameters", "secrets") if name in private}
        record = msgspec.structs.replace(services.get(tx, operation.service), **opened)
        services.keep_volume(
            tx,
            private["volume_id"],
            record,
            {"before": f"undo {operation.id}"},
            self.context.part(Links).held(tx, record.id),
            image=private["image"],
            image_id=private["image_id"],
        )
        services.update_volume(tx, operation.arguments["volume"], facts={})

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        """Nothing was made that would have to be forgotten."""


class AttachVolume(_Exchange):
    """Any data that is kept, of this service or of another of its type that is gone."""

    name: ClassVar[str] = "attach-volume"
    arguments = AttachVolumeArguments

    def target(self, tx: Tx, given: AttachVolumeArguments) -> Target:
        return Target(service=services.get(tx, given.service).id)

    def validate_and_record(self, tx: Tx, given: AttachVolumeArguments, actor: str) -> int:
        record, volume = services.get(tx, given.service), require_kept(tx, given.volume)
        if volume.service_type != record.service_type:
            why = (
                f"it is data of the type {volume.service_type}, {record.name} is of the type "
                f"{record.service_type}"
            )
            raise BadInput(
                f"The volume does not fit: {why}.",
                remedy="Choose another: purveyor volumes",
                errors={"volume": why},
            )
        return self.exchange(tx, record, volume, actor)


class CloneVolume(NewServiceOperation):
    """The data is copied; the credentials in it are those of the service that it was made for, so
    the new one has them too."""

    name: ClassVar[str] = "clone-volume"
    subject: ClassVar[str] = "service"
    arguments = CloneVolumeArguments

    def validate_and_record(self, tx: Tx, given: CloneVolumeArguments, actor: str) -> int:
        volume = require_kept(tx, given.volume)
        opened, owner = opening(tx, volume), services.owner_of(tx, volume)
        made = self._make(tx, given.name, volume, opened, image_of(tx, volume))
        shown = {"name": given.name, "volume": volume.id, "of": owner.id if owner else None}
        return operations.insert(tx, self.name, service_id=made, actor=actor, arguments=shown)

    def _make(
        self, tx: Tx, name: str, volume: VolumeRecord, opened: Credentials, image: str
    ) -> int:
        kind = self.context.registry.kind(volume.service_type)
        ours = {item.name for item in kind.parameters if item.generated == "port"}
        values = {
            key: value
            for key, value in opened.parameters.items()
            if key not in ours and value not in ("", None)
        }
        given = CreateArguments(
            name=name, service_type=volume.service_type, parameters={**values, IMAGE: image}
        )
        return make(tx, self.context, given, secrets=opened.secrets)

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        volume = services.volume(tx, operation.arguments["volume"])
        warning = f"It is a copy of {volume.path}; no project is let in before it is linked."
        return self.plan_of_new(tx, operation, "create", [warning])

    def steps(self, operation: OperationRecord) -> list[Step]:
        made = operation.service
        image = self.image_step(operation, made)
        volume = self.volume_step(made)._replace(undo=lambda: self.discard(operation, made))
        copy = self.data_step("copy", lambda: self._copy(operation, made))
        copy = copy._replace(undo=lambda: self._let_go(operation))
        container = self.container_step(made)
        claims = Step("claims", lambda: self._close(operation, made), deadline=600.0)
        return [image, volume, copy, container, *self.start_steps(made), claims]

    async def _copy(self, operation: OperationRecord, made: int) -> None:
        record, kept = await self.load(made), operation.arguments["volume"]

        def look(tx: Tx) -> tuple[VolumeRecord, VolumeRecord]:
            return services.volume(tx, kept), services.volume(tx, record.volume_id or "")

        old, new = await self.context.store.read(look)
        await self.context.engine.volumes.require(old.name, old.path, old.id)
        await self.context.engine.volumes.copy(old.name, new.name, new.path, record.image)
        await self._let_go(operation)
        facts = {"state": "used", "major": old.major, "identity": old.identity}
        await self.context.store.write(lambda tx: services.update_volume(tx, new.id, **facts))

    async def _let_go(self, operation: OperationRecord) -> None:
        """The kept volume has no name on the engine, but while a container copies it, which may not
        have ended in time."""

        def look(tx: Tx) -> tuple[VolumeRecord, VolumeRecord]:
            made = services.get(tx, operation.service)
            return services.volume(tx, operation.arguments["volume"]), services.volume(
                tx, made.volume_id or ""
            )

        kept, new = await self.context.store.read(look)
        await self.context.engine.containers.remove(f"{new.name}-copy")
        await self.context.engine.volumes.forget(kept.name)

    async def _close(self, operation: OperationRecord, made: int) -> None:
        """No project is let in before it is linked to the copy."""
        links, kept = self.context.part(Links), operation.arguments["volume"]
        held = await self.context.store.read(lambda tx: bindings_in(tx, links, kept))
        await links.claim_copy(made, held)


def require_kept(tx: Tx, reference: str) -> VolumeRecord:
    """A volume whose data is kept and in no use. Raises `NotFound`, `Conflict`."""
    volume = services.find_volume(tx, reference)
    if volume.state != "kept":
        word = "in use by a service" if volume.state in ("new", "used") else "gone"
        raise Conflict(
            f"The volume {volume.name} is {word}.",
            remedy="Choose one that is kept: purveyor volumes",
        )
    return volume


def opening(tx: Tx, volume: VolumeRecord) -> Credentials:
    """What opens a kept volume's data. Raises `Conflict` when that is not on record."""
    if volume.credentials is not None:
        return volume.credentials
    owner = services.owner_of(tx, volume)
    if owner is None:
        why = "the service that it was made for is not on record any more, nor are its credentials"
        raise Conflict(
            f"The volume {volume.name} cannot be opened: {why}.",
            remedy=f"Its files are in {volume.path}.",
        )
    return Credentials(parameters=owner.parameters, secrets=owner.secrets)


def bindings_in(tx: Tx, links: Links, volume_id: str) -> Sequence[HeldBinding]:
    """Whose data a volume holds that is or was kept: as it was put away, or else as its service has
    it now."""
    volume = services.volume(tx, volume_id)
    if volume.credentials is not None and volume.credentials.bindings is not None:
        return volume.credentials.bindings
    owner = services.owner_of(tx, volume)
    return links.held(tx, owner.id) if owner else ()


def image_of(tx: Tx, volume: VolumeRecord) -> str:
    """The image that a kept volume's data ran under. Raises `Conflict` when that is not on
    record."""
    image = (volume.facts or {}).get("image")
    if (
        image is None
        and (owner := services.owner_of(tx, volume)) is not None
        and owner.major == volume.major
    ):
        image = owner.image
    if image is None:
        detail = (
            f"It is not on record which image the data of {volume.name} (version "
            f"{volume.major}) ran under."
        )
        raise Conflict(detail, remedy=f"Its files are in {volume.path}.")
    return str(image)
