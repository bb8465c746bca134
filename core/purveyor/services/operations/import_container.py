"""Import a container that somebody else made: log in first, join it to the network, leave it
running as it is."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from purveyor.docker import names
from purveyor.kernel import naming
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import SECRET, Plan, Step
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer
from purveyor.services import parameters
from purveyor.services import store as services
from purveyor.services.handle import handle_of, hooks_of
from purveyor.services.models import Imported
from purveyor.services.operations.base import ServiceOperation, step_names
from purveyor.services.operations.create import require_free, require_kind
from purveyor_hooks import BadInput, Conflict, FoundContainer, NotFound, Recognition, ServiceType

# clients send both; the container is found by its id, wherever its host is said to be
HOST, PORT = "host", "port"
PRIVATE = ("host", "none")  # networks that a container cannot leave or share


class ImportArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`container_id` is a container's id or name; `parameters` are its credentials and whatever
    else its type has.

    With `use_found` the parameters that are not given are taken from the container's own
    environment. `version` is taken and not needed: the server says its own. `found` is what the
    container is, found out before the intent.
    """

    container_id: str
    name: str
    service_type: str
    version: str | None = None
    parameters: Annotated[dict[str, Any], SECRET] = {}
    use_found: bool = False
    found: dict[str, Any] | None = None


class Import(ServiceOperation):
    """Wrong credentials register nothing. What is registered is a container that goes on belonging
    to its owner."""

    name: ClassVar[str] = "import"
    arguments = ImportArguments

    async def prepare(self, given: ImportArguments) -> ImportArguments:
        """What the container is, and where it can be reached before it is on our network."""
        engine = self.context.engine
        hooks = hooks_of(self.context, require_kind(self.context, given.service_type).name)
        found = (
            await engine.containers.foreign_of(given.container_id)
            if given.container_id.strip()
            else None
        )
        if found is None:
            raise NotFound(
                f"There is no container {given.container_id!r}.",
                remedy="See what can be imported: purveyor import",
                errors={"container_id": "there is none"},
            )
        if not found.running:
            raise Conflict(
                f"The container {found.name} does not run.",
                remedy=f"Start it first: docker start {found.name}",
            )
        seen = await engine.containers.inspect(found.id, foreign=True)
        networks = seen.networks if seen else {}
        address = next(
            (address for name, address in networks.items() if address and name not in PRIVATE), ""
        )
        if not address:
            raise Conflict(
                f"The container {found.name} uses the network {', '.join(networks) or 'none'}, and "
                "cannot join another one.",
                remedy="Make it anew with a network of its own: apps reach it there by its name.",
            )
        recognised = hooks.recognise(found)
        facts = {
            "container": msgspec.to_builtins(found),
            "address": address,
            "started_at": seen.started_at.isoformat() if seen and seen.started_at else None,
            "published": {
                str(outer): inner
                for outer, inner in (await engine.containers.published(found.id)).items()
            },
            "recognised": msgspec.to_builtins(recognised) if recognised else None,
        }
        return msgspec.structs.replace(given, found=facts)

    def validate_and_record(self, tx: Tx, given: ImportArguments, actor: str) -> int:
        facts = given.found or {}
        container = msgspec.convert(facts["container"], FoundContainer)
        hooks = hooks_of(self.context, given.service_type)
        hooks.require("adopt", "imports")
        slug = naming.slug_of(given.name)
        require_free(tx, given.name, slug)
        self._require_new(tx, container)
        names.require_service(tx, slug, container.name)
        recognised = msgspec.convert(facts["recognised"], Recognition | None)
        wanted = dict(recognised.suggested) if recognised and given.use_found else {}
        wanted |= given.parameters
        wanted.pop(HOST, None)
        ports = _ports(
            hooks.kind, wanted.pop(PORT, None), container, facts["published"], recognised
        )
        values = parameters.for_imported_service(hooks.kind, wanted)
        service_id = services.insert(
            tx,
            name=given.name.strip(),
            slug=slug,
            service_type=hooks.kind.name,
            parameters=values,
            secrets={},
            given=sorted(wanted),
            image=container.image.reference,
            image_id=container.image.id,
            image_environment=container.image.environment,
            container_name=container.name,
            desired="running",
            state="creating",
            imported=Imported(container=container.id, address=facts["address"], ports=ports),
        )
        shown = {
            "name": given.name.strip(),
            "service_type": hooks.kind.name,
            "container": container.name,
        }
        return operations.insert(tx, self.name, service_id=service_id, actor=actor, arguments=shown)

    def _require_new(self, tx: Tx, container: FoundContainer) -> None:
        if self.context.engine.labels.installation_of(container.labels):
            raise Conflict(
                f"The container {container.name} is a Purveyor's already.",
                remedy="See: purveyor list",
            )
        for record in services.list_all(tx):
            if record.container_name == container.name:
                raise Conflict(
                    f"The container {container.name} is imported already: {record.name}.",
                    remedy="See: purveyor list",
                )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        record = services.get(tx, operation.service)
        notes = handle_of(self.context, record).notes()
        action = f"log in, join to the network {self.context.engine.namespace}; it goes on running"
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=step_names(self.steps(operation)),
            containers=[
                PlannedContainer(name=record.container_name, action=action, image=record.image)
            ],
            warnings=[
                *notes,
                "Another image or other parameters would need its container to be recreated: that "
                "stays yours.",
            ],
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id = operation.service
        join = self.container_step(service_id)._replace(
            name="join", undo=lambda: self.provision.remove_container(service_id)
        )
        login = Step("log in", lambda: self.provision.adopt(service_id))
        see, ready, identity = self.start_steps(service_id)
        reach = Step("reach", lambda: self.provision.reach(service_id))
        # the mark stays in a server that is not ours
        return [login, join, see, reach, ready, identity._replace(final=True)]

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        services.update(tx, operation.service, state="active", refusal="")

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        services.delete(tx, operation.service)


def _ports(
    kind: ServiceType,
    given: Any,
    container: FoundContainer,
    published: Mapping[str, int],
    recognised: Recognition | None,
) -> dict[int, int]:
    """Where the server listens, by the type's usual ports. `given` may be a port of the container
    or of this host."""
    ports = {port.container: port.container for port in kind.ports}
    if given is None:
        inside = recognised.port if recognised and recognised.port else None
    elif 0 < (number := naming.number_of(str(given).strip())) < 65536:
        inside = published.get(str(number), number)
    else:
        errors = {PORT: "must be a port of the container, or one that it publishes on this host"}
        raise BadInput(
            f"The port {given!r} cannot be used.",
            remedy="Leave it out for the usual one.",
            errors=errors,
        )
    if inside is not None:
        ports[kind.ports[0].container] = inside
    return ports
