"""Change a service's parameters or image: the container is made anew on the same volume, or the old
one comes back."""

from typing import Annotated, Any, ClassVar

import msgspec

from purveyor.docker import port_registry
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import SECRET, Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer, PlannedVolume
from purveyor.services import parameters
from purveyor.services import store as services
from purveyor.services.above import Links
from purveyor.services.handle import hooks_of
from purveyor.services.operations.base import (
    ServiceOperation,
    planned_ports,
    require_active,
    require_own,
    step_names,
)
from purveyor_hooks import BadInput, Image


class UpdateArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` is an id or a name; `docker_image` is short for the parameter of that name.

    `found` is the image as it is on the engine, found out before the intent.
    """

    service: str
    parameters: Annotated[dict[str, Any], SECRET] = {}
    docker_image: str | None = None
    found: Image | None = None

    @property
    def image(self) -> str | None:
        """The image that is asked for."""
        return (
            self.docker_image
            if self.docker_image is not None
            else self.parameters.get(parameters.IMAGE)
        )


class Update(ServiceOperation):
    name: ClassVar[str] = "update"
    arguments = UpdateArguments

    def target(self, tx: Tx, given: UpdateArguments) -> Target:
        return Target(service=services.get(tx, given.service).id)

    async def prepare(self, given: UpdateArguments) -> UpdateArguments:
        """What the image is, when it is on the engine already; else it is looked into when it has
        come, before anything stops."""
        if not isinstance(given.image, str):
            return given
        return msgspec.structs.replace(
            given, found=await self.context.engine.images.inspect(given.image)
        )

    def validate_and_record(self, tx: Tx, given: UpdateArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        require_active(record)
        require_own(record)
        hooks = hooks_of(self.context, record.service_type)
        wanted = dict(given.parameters)
        if given.docker_image is not None:
            wanted[parameters.IMAGE] = given.docker_image
        before = {**record.parameters, parameters.IMAGE: record.image}
        after = parameters.change_parameters(
            hooks.kind, self.context.settings, before, wanted, port_registry.ports_taken(tx)
        )
        image = after.pop(parameters.IMAGE)
        major = (
            hooks.data_major(given.found, after)
            if given.found and image == given.found.reference
            else ""
        )
        if record.major and major and major != record.major:
            raise BadInput(
                f"{record.name} holds data of version {record.major}; the image {image} is of "
                f"version {major}.",
                remedy=f"Data has to be carried over: purveyor upgrade {record.slug} {image}",
                errors={"docker_image": f"another major version than {record.major}"},
            )
        view = msgspec.structs.replace(record.view(), parameters=after)
        private = {
            "parameters": record.parameters,
            "secrets": record.secrets,
            "image": record.image,
            "image_id": record.image_id,
            "image_environment": record.image_environment,
            "given": record.given,
        }
        operation_id = operations.insert(
            tx,
            self.name,
            service_id=record.id,
            actor=actor,
            arguments={"changes": sorted(wanted)},
            private=private,
        )
        given_names = sorted({*record.given, *wanted})
        services.update(
            tx,
            record.id,
            parameters=after,
            secrets=hooks.secrets(view),
            image=image,
            given=given_names,
        )
        if given.image is not None:  # what its name means now is what is wanted
            services.update(tx, record.id, image_id="", image_environment={})
        for item in hooks.kind.parameters:
            if item.generated == "port" and after[item.name] != record.parameters[item.name]:
                port_registry.claim_port(tx, after[item.name], item.name, service=record.id)
        return operation_id

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        record = services.get(tx, operation.service)
        kind = self.context.registry.kind(record.service_type)
        volume = services.volume(tx, record.volume_id or "")
        running = record.desired == "running"
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=step_names(self.steps(operation)),
            containers=[
                PlannedContainer(name=record.container_name, action="replace", image=record.image)
            ],
            volumes=[PlannedVolume(name=volume.name, action="keep")],
            ports=planned_ports(kind, record.parameters),
            apps=self.context.part(Links).apps(
                tx, record, f"does not reach {record.name} until it is up again"
            )
            if running
            else [],
            downtime="while the container is replaced, a few seconds"
            if running
            else "none, it is stopped",
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id = operation.service
        steps = [self.image_step(operation, service_id), self.volume_step(service_id)]
        container = self.container_step(service_id)._replace(undo=lambda: self._put_back(operation))
        steps.append(container)
        return [
            *steps,
            Step(
                "serve",
                lambda: self._serve(service_id),
                deadline=self.context.settings.ready_timeout + 60,
            ),
        ]

    async def _serve(self, service_id: int) -> None:
        record = await self.context.store.read(lambda tx: services.get(tx, service_id))
        if record.desired == "running":
            for step in self.start_steps(service_id):
                await step.do()

    async def _put_back(self, operation: OperationRecord) -> None:
        """The old container, serving as before."""
        service_id = operation.service
        await self.context.store.write(lambda tx: self._restore(tx, operation))
        await self.provision.container(service_id)
        await self._serve(service_id)

    def _restore(self, tx: Tx, operation: OperationRecord) -> None:
        if operation.private:
            services.update(tx, operation.service, **operation.private)

    def _claim(self, tx: Tx, service_id: int) -> None:
        """Hold the ports of the record and no others."""
        record = services.get(tx, service_id)
        kind = self.context.registry.kind(record.service_type)
        port_registry.release_ports(tx, service=service_id)
        for item in kind.parameters:
            if item.generated == "port":
                port_registry.claim_port(
                    tx, record.parameters[item.name], item.name, service=service_id
                )

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        self._claim(tx, operation.service)
        services.update(tx, operation.service, refusal="")

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        self._restore(tx, operation)
        self._claim(tx, operation.service)
