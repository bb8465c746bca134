"""Making a service's container match its record: the steps that create, start, update and repair
share.

Every function may be called again after a crash. Data comes first: a container is only started on
the volume that is recorded, and only goes on serving when the data set in it carries the recorded
mark.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import anyio
import msgspec

from purveyor.context import Context
from purveyor.docker import PortTaken, image_registry, port_registry, ports
from purveyor.docker.files import Placed
from purveyor.docker.labels import SERVICE, SPEC
from purveyor.docker.models import Found, digest
from purveyor.kernel.db import Tx
from purveyor.services import certificates
from purveyor.services import store as services
from purveyor.services.handle import ServiceHandle, handle_of
from purveyor.services.models import AUTHORITIES, ServiceRecord, VolumeRecord
from purveyor.services.networks import Networks, find_missing, ownership_files
from purveyor_hooks import (
    BadInput,
    Certificate,
    Conflict,
    ContainerSpec,
    DataRefused,
    DeadlineExceeded,
    Failed,
    File,
    Health,
    NotFound,
    references,
)

PORT_ATTEMPTS = 20
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
LOG_TAIL = 8


class Provisioner:
    """The Docker side of a service's life."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._networks = context.part(Networks)
        # two at once may take each other's marks
        self._asking: defaultdict[int, anyio.Lock] = defaultdict(anyio.Lock)

    async def _load(self, service_id: int) -> tuple[ServiceRecord, ServiceHandle]:
        record = await self._context.store.read(lambda tx: services.get(tx, service_id))
        return record, handle_of(self._context, record)

    async def _volume(self, record: ServiceRecord) -> VolumeRecord | None:
        volume_id = record.volume_id
        return (
            await self._context.store.read(lambda tx: services.volume(tx, volume_id))
            if volume_id
            else None
        )

    # ---------------------------------------------------------------- image

    async def image(self, service_id: int, progress: Callable[[str], Awaitable[None]]) -> None:
        """Have the service's image on the engine and record what it is. Raises `ImageMissing`,
        `BadInput`.

        What is recorded by its id is what runs, whatever its name means by now: an operation that asks
        for an image clears the id.
        """
        record, service = await self._load(service_id)
        if record.imported:
            return
        if record.image_id and (held := await self._context.engine.images.inspect(record.image_id)):
            if held.digest != await self._context.store.read(
                lambda tx: image_registry.digest_of(tx, held.id)
            ):
                await self._context.store.write(lambda tx: image_registry.note(tx, held))
            return
        found = await self._context.engine.images.ensure(
            record.image, progress, self._context.settings.pull_timeout
        )
        major = service.data_major(found, record.parameters)
        volume = await self._volume(record)
        if volume and volume.state == "used" and volume.major != major:
            former = volume.major or "before"
            raise BadInput(
                f"{record.name} holds data of version {former}; the image {record.image} is of "
                f"version {major}.",
                remedy=(
                    f"Data has to be carried over: purveyor upgrade {record.slug} {record.image}"
                ),
                errors={"docker_image": f"another major version than {volume.major}"},
            )

        def work(tx: Tx) -> None:
            services.update(tx, service_id, image_id=found.id, image_environment=found.environment)
            image_registry.note(tx, found)
            if volume and volume.state == "new":
                services.update_volume(tx, volume.id, major=major)

        if (record.image_id, record.major) != (found.id, major):
            await self._context.store.write(work)

    async def newer_image(self, record: ServiceRecord) -> str:
        """The id of the image that the service's reference means now, "" when it is the one that it
        runs."""
        if record.imported or not record.image_id:
            return ""
        found = await self._context.engine.images.inspect(record.image)
        return found.id if found and found.id != record.image_id else ""

    async def _runnable(self, record: ServiceRecord, spec: ContainerSpec) -> ContainerSpec:
        """The container with the recorded image: by its name while that means it, for people to
        read, else by its id."""
        if spec.image != record.image or not record.image_id:
            return spec
        found = await self._context.engine.images.inspect(record.image)
        return (
            spec
            if found and found.id == record.image_id
            else msgspec.structs.replace(spec, image=record.image_id)
        )

    # ---------------------------------------------------------------- volume

    async def volume(self, service_id: int) -> None:
        """Make the volume of a new service; of any other, make sure that it is the recorded one."""
        record, _ = await self._load(service_id)
        volume = await self._volume(record)
        if volume is None:
            return
        if volume.state == "new":
            await self._context.engine.volumes.create(volume.name, volume.path, volume.id)
        else:
            await self._context.engine.volumes.require(volume.name, volume.path, volume.id)

    async def discard_volume(self, service_id: int) -> None:
        """Remove the volume of a service that never came to be."""
        record, _ = await self._load(service_id)
        volume = await self._volume(record)
        if volume is not None and volume.state == "new":
            await self._context.engine.volumes.destroy(volume.name, volume.path, record.image)

    # ---------------------------------------------------------------- container

    async def container(self, service_id: int) -> None:
        """Have the container that the record describes, created; one that differs is replaced.

        One that was imported is only put on the network. Raises `DataRefused` when the volume no
        longer holds what must be in it.
        """
        record, service = await self._load(service_id)
        told = None
        if record.imported:
            await self._join(record)
        else:
            told = await self._create(record, self.spec(service))
        await self._networks.join(record.id, told)

    def spec(self, service: ServiceHandle) -> ContainerSpec:
        """The container that its type describes, with a root that is written to where the settings
        say that the image needs one."""
        spec = service.container()
        repository = references.parts_of(service.record.image).repository
        if any(fnmatchcase(repository, one) for one in self._context.settings.writable_images):
            return msgspec.structs.replace(spec, read_only=False)
        return spec

    async def _create(self, record: ServiceRecord, spec: ContainerSpec) -> str | None:
        """The answer is what a container that was made now was told of networks."""
        engine = self._context.engine
        published = published_ports(record, spec)
        volume = await self._volume(record)
        new = volume is None or volume.state == "new"
        found = await self._claim(record, volume)
        # one that was lost has its name
        if found and found.network_ids.get(engine.namespace) != await engine.network_id():
            await engine.containers.connect(found.id, [])
            found = await engine.containers.inspect(found.id)
        by_id = msgspec.structs.replace(spec, image=record.image_id)
        digests = [digest(item, published, engine.namespace) for item in (spec, by_id)]
        told: str | None = None
        if found and _matches(found, record, digests, engine.namespace):
            container_id = found.id
            if not found.holds_on:
                await engine.containers.put(container_id, await self._certify(record, spec))
        else:
            if found:
                await engine.containers.remove(found.id)
            # once nothing shows the one of before any more
            files = await self._certify(record, spec)
            if (told := await self._networks.ownership(record.id)) is not None:
                files += ownership_files(told)
            container_id = await engine.containers.create(
                record.container_name,
                await self._runnable(record, spec),
                labels=engine.labels.of(service=record.id, type=record.service_type),
                ports=published,
                volume=volume.name if volume else None,
                seed=new,
                network=engine.namespace,
                further=files,
            )
            found = None
        if volume and not new and (found is None or found.state != "running"):
            for path in spec.evidence:
                if not await engine.containers.holds(container_id, path):
                    raise DataRefused(
                        f"The data of {record.name} is not in its volume: {path} is missing in "
                        f"{volume.path}.",
                        remedy=(
                            "The folder was emptied or replaced. Put the data back, or restore "
                            "a backup into a new service."
                        ),
                    )
        return told

    async def _certify(self, record: ServiceRecord, spec: ContainerSpec) -> list[Placed]:
        """The certificate of a container that does not run, and what vouches for it, as its files;
        another one when it is time."""
        wanted = spec.certificate
        if wanted is None:
            if record.authorities:  # it showed one before, and would keep its authority
                await self._context.store.write(lambda tx: certificates.forget(tx, record.id))
            return []
        names = certificates.names_of(record.container_name)
        if await self._context.store.read(lambda tx: certificates.is_due(tx, record.id, names)):
            await self._context.store.write(lambda tx: certificates.issue(tx, record.id, names))
            await certificates.publish(self._context)
        return await self._certificate_files(record, wanted)

    async def renew_certificate(self, service_id: int) -> None:
        """Another certificate for a server that runs, which goes on. Raises `Conflict` when its
        container has none yet."""
        record, service = await self._load(service_id)
        wanted = service.container().certificate
        if wanted is None or not record.authorities:
            remedy = f"Restart it: purveyor restart {record.slug}" if wanted else ""
            raise Conflict(f"{record.name} has no certificate of Purveyor's.", remedy=remedy)
        found = await self._context.engine.containers.require_running(record.container_name)
        names = certificates.names_of(record.container_name)
        await self._context.store.write(lambda tx: certificates.issue(tx, record.id, names))
        files = await self._certificate_files(record, wanted)
        await self._context.engine.containers.put(found.id, files)
        if service.offers("renew_certificate"):
            _, service = await self._load(service_id)
            await service.renew_certificate()

    async def _certificate_files(self, record: ServiceRecord, wanted: Certificate) -> list[Placed]:
        """The recorded certificate, and what vouches for it."""
        held, bundle = await self._context.store.read(
            lambda tx: (certificates.find(tx, record.id), certificates.bundle(tx))
        )
        assert held is not None
        text = held.key if wanted.chain else held.key + held.certificate
        files = [File(path=wanted.file, content=text, mode=0o600)]
        if wanted.chain:
            files.append(File(path=wanted.chain, content=held.certificate))
        return [
            *(Placed(file, wanted.owners) for file in files),
            Placed(File(path=AUTHORITIES, content=bundle)),
        ]

    async def _claim(self, record: ServiceRecord, volume: VolumeRecord | None) -> Found | None:
        """The service's container, whatever it is called now: one that was renamed gets its name
        back.

        Raises `Conflict` when another container runs on the service's data, for two servers on one
        data set destroy it.
        """
        containers = self._context.engine.containers
        if volume is None or volume.state == "new":  # nobody can know it yet
            return await containers.inspect(record.container_name)
        users = (await containers.users({volume.name: volume.path}))[volume.name]
        named = next((item for item in users if item.name == record.container_name), None)
        others = [item for item in users if item is not named]
        running = [item for item in others if item.holds_on]
        mine = [item for item in running or others if self._is_of(item, record)]
        if running and (len(running) > 1 or not mine or (named is not None and named.holds_on)):
            strangers = [item.name for item in running if item not in mine] or [
                item.name for item in running
            ]
            raise Conflict(
                f"The data of {record.name} is in use by the container {', '.join(strangers)}.",
                remedy=f"Two servers on one data set destroy it. Stop it (docker stop {' '.join(strangers)}), "
                f"then: purveyor start {record.slug}",
            )
        if len(mine) == 1 and (running or named is None):
            self._context.logger.warning(
                "service.renamed", service=record.name, container=mine[0].name
            )
            if named is not None:  # one that was made in its place and does not run
                await containers.remove(named.id)
            await containers.rename(mine[0].id, record.container_name)
        return await containers.inspect(record.container_name)

    def _is_of(self, item: Found, record: ServiceRecord) -> bool:
        """Whether a container is the one that was made for a service. A copy of it (docker commit)
        has its labels and another image."""
        labels = self._context.engine.labels
        return (
            labels.ours(item.labels)
            and item.labels.get(SERVICE) == str(record.id)
            and item.image_id == record.image_id
        )

    async def remove_container(self, service_id: int) -> None:
        """Remove the container; one that was imported is left as it was found."""
        record, _ = await self._load(service_id)
        if record.imported is None:
            found = await self.found(record)
            await self._context.engine.containers.remove(
                found.id if found else record.container_name
            )
        elif record.imported.joined:
            await self._networks.leave(record.id)
            await self._context.engine.containers.leave(record.container_name)

    async def found(self, record: ServiceRecord) -> Found | None:
        """The service's container as it is: that of its name, unless one of its own runs under
        another."""
        containers = self._context.engine.containers
        found = await containers.inspect(record.container_name, foreign=record.imported is not None)
        if record.imported or (found is not None and found.holds_on):
            return found
        labelled = [
            item for item in await containers.listed(service=record.id) if self._is_of(item, record)
        ]
        renamed = [
            item
            for item in labelled
            if item.name != record.container_name and (item.holds_on or found is None)
        ]
        return await containers.inspect(renamed[0].id) if len(renamed) == 1 else found

    # ---------------------------------------------------------------- somebody else's container

    async def _join(self, record: ServiceRecord) -> None:
        """Put an imported container on the network; that we did is recorded first."""
        engine = self._context.engine
        assert record.imported is not None
        found = await self.found(record)
        if found is None:
            raise NotFound(
                f"The container {record.container_name} is gone, and Purveyor did not make it.",
                remedy=(
                    "Bring it back the way it was made, under the same name. Or let go of it: "
                    f"purveyor delete {record.slug}"
                ),
            )
        if engine.namespace not in found.networks:
            await self._note(record, joined=True)
            await engine.ensure_network()
            await engine.containers.join(record.container_name)

    async def _see(self, record: ServiceRecord) -> None:
        """Record where an imported container is now: its address changes with each start of it."""
        found = await self.found(record)
        if found is not None:
            address = found.networks.get(self._context.engine.namespace, "")
            await self._note(
                record, container=found.id, address=address, started_at=found.started_at
            )

    def moved(self, record: ServiceRecord, found: Found) -> bool:
        """Whether an imported container was started anew, or taken from the network, since it was
        last seen to."""
        known = record.imported
        if known is None:
            return False
        here = found.networks.get(self._context.engine.namespace)
        return (known.container, known.started_at, known.address) != (
            found.id,
            found.started_at,
            here,
        )

    async def _note(self, record: ServiceRecord, **facts: Any) -> None:
        def work(tx: Tx) -> None:
            known = services.get(tx, record.id).imported
            assert known is not None
            services.update(tx, record.id, imported=msgspec.structs.replace(known, **facts))

        await self._context.store.write(work)

    async def adopt(self, service_id: int) -> None:
        """Log in with the credentials that were given. Raises `BadInput` with the reason when they
        do not do."""
        record, service = await self._load(service_id)
        service.require("adopt", "imports")
        health = await _asked(service.adopt())
        if not health.healthy:
            raise BadInput(
                f"The container {record.container_name} cannot be imported: "
                f"{health.detail or f'failed at {health.stage}'}",
                remedy=(
                    "Check the parameters; nothing was registered, and nothing in it was changed."
                ),
                errors={"parameters": health.detail or f"failed at {health.stage}"},
            )

    async def reach(self, service_id: int) -> None:
        """See that an imported server also answers on our network, where apps look for it. Raises
        `Conflict`."""
        record, service = await self._load(service_id)
        health = await _asked(service.adopt())
        if not health.healthy:
            raise Conflict(
                f"{record.container_name} answers on its own network and not on "
                f"{self._context.engine.namespace}: {health.detail}",
                remedy="Have its server listen on all addresses (0.0.0.0), then import it again.",
            )

    # ---------------------------------------------------------------- start

    async def start(self, service_id: int) -> None:
        """Start the container. A port that somebody took in the meantime is settled by the next
        one, if ours to choose."""
        for _ in range(PORT_ATTEMPTS):
            record, _ = await self._load(service_id)
            try:
                await self._launch(record)
                if record.imported:
                    await self._see(record)
                return
            except PortTaken as error:
                if record.imported:
                    raise
                if not await self._context.store.write(lambda tx: self._move_port(tx, service_id)):
                    port = record.parameters.get("port")
                    raise PortTaken(
                        f"Port {port} on 127.0.0.1 is in use by another program.",
                        remedy=(
                            f"Free it, or choose another: purveyor update {record.slug} -p "
                            "port=NUMBER"
                        ),
                        errors={"port": "in use"},
                    ) from error
                await self.container(service_id)
        raise Conflict("No free port was found.", remedy="Give one: -p port=NUMBER")

    async def _launch(self, record: ServiceRecord) -> None:
        containers = self._context.engine.containers
        if record.imported is None:
            found = await self._claim(record, await self._volume(record))
            if found is not None and found.state == "paused":
                await containers.unpause(found.id)
                return
        await containers.start(record.container_name)

    def _move_port(self, tx: Tx, service_id: int) -> bool:
        """Choose other ports for a service that has never served; False when its owner relies on
        those it has."""
        record = services.get(tx, service_id)
        volume = services.volume(tx, record.volume_id) if record.volume_id else None
        if record.state != "creating" or (volume and volume.state != "new"):
            return False
        kind = self._context.registry.kind(record.service_type)
        parameters = dict(record.parameters)
        ours = [
            item
            for item in kind.parameters
            if item.generated == "port" and item.name not in record.given
        ]
        blocked = [item for item in ours if not ports.is_free(int(parameters[item.name]))] or ours
        for item in blocked:
            parameters[item.name] = ports.lowest_free(
                int(parameters[item.name]) + 1, port_registry.ports_taken(tx)
            )
            port_registry.move_port(tx, service_id, item.name, parameters[item.name])
        services.update(tx, service_id, parameters=parameters)
        return bool(blocked)

    async def lift(self, service_id: int) -> None:
        """Have a server run that should, for an operation on it that cannot end without: as a
        repair does, under its locks."""
        record = await self._context.store.read(lambda tx: services.find(tx, service_id))
        if (
            record is None
            or record.imported
            or record.refusal
            or (record.state, record.desired) != ("active", "running")
        ):
            return
        found = await self.found(record)
        expected = await self._networks.expected(service=record.id)
        if found is not None and found.state == "running" and not find_missing(found, expected):
            return
        await self._context.engine.ensure_network()
        await self.volume(service_id)
        await self.container(service_id)
        await self.start(service_id)
        await self.ready(service_id)

    async def stop(self, service_id: int) -> None:
        record, _ = await self._load(service_id)
        found = await self.found(record)
        if found is not None:
            await self._context.engine.containers.stop(found.id)

    # ---------------------------------------------------------------- serving

    async def ready(self, service_id: int) -> None:
        """Wait until the driver's round trip succeeds. Raises as soon as the container has given
        up."""
        record, service = await self._load(service_id)
        limit = self._context.settings.ready_timeout
        health = Health(healthy=False, stage="container")
        pause = FIRST_PAUSE
        with anyio.move_on_after(limit):
            while True:
                health = await self._asked(service)
                if health.healthy:
                    return
                found = await self.found(record)
                if found is None or found.restarting or found.state in ("exited", "dead"):
                    raise Failed(
                        f"The server of {record.name} ended at once: "
                        f"{await self._last_words(record)}",
                        remedy=f"See: purveyor logs {record.slug}",
                    )
                # its ports went with it
                if record.imported is None and self._context.engine.namespace not in found.networks:
                    raise Failed(
                        f"{record.name} was taken from the network {self._context.engine.namespace}.",
                        remedy=f"Start it again: purveyor start {record.slug}",
                    )
                await anyio.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PAUSE)
        reason = health.detail or f"failed at {health.stage}"
        raise DeadlineExceeded(
            f"{record.name} did not serve within {limit:.0f} s: {reason}",
            remedy=f"See: purveyor logs {record.slug}",
        )

    async def answers(self, record: ServiceRecord, either: Sequence[Mapping[str, Any]]) -> None:
        """Wait until the server takes one of these parameters for its administrator's. Raises
        `DeadlineExceeded`."""
        limit, pause = self._context.settings.ready_timeout, FIRST_PAUSE
        servers = [
            handle_of(self._context, record).but(parameters=dict(parameters))
            for parameters in either
        ]
        with anyio.move_on_after(limit):
            while True:
                for server in servers:
                    if (await _asked(server.ready())).healthy:
                        return
                await anyio.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PAUSE)
        raise DeadlineExceeded(
            f"{record.name} did not serve within {limit:.0f} s.",
            remedy=f"See: purveyor logs {record.slug}",
        )

    async def _last_words(self, record: ServiceRecord) -> str:
        try:
            lines = await self._context.engine.containers.log(record.container_name, lines=LOG_TAIL)
        except Exception:  # the container may be gone by now
            return "its container is gone."
        return " / ".join(line.strip() for line in lines if line.strip()) or "it printed nothing."

    async def identity(
        self, service_id: int, accept: bool = False, *, watching: bool = False
    ) -> None:
        """Mark a new data set, or compare the mark of a known one; with another mark the service is
        stopped.

        `accept` records the mark that is found instead. Raises `DataRefused`.
        """
        record, service = await self._load(service_id)
        if record.imported:
            await self._compare(service, accept, watching)
            return
        volume = await self._volume(record)
        if volume is None:
            return
        fresh = volume.state == "new"
        # without a mark it is still somebody's data from now on
        if not service.offers("identity"):
            if fresh:
                await self._context.store.write(
                    lambda tx: services.update_volume(tx, volume.id, state="used")
                )
            return
        found = await service.identity(fresh or accept, watching=watching)
        if not fresh and not accept and found != volume.identity:
            await self._context.engine.containers.stop(record.container_name)
            raise DataRefused(
                f"{record.name} holds another data set than the recorded one, and was stopped.",
                remedy=f"Put the right data back into {volume.path}. If you replaced it on purpose: "
                f"purveyor start {record.slug} --accept-data",
            )
        if fresh or found != volume.identity:
            await self._context.store.write(
                lambda tx: services.update_volume(tx, volume.id, identity=found, state="used")
            )

    async def _compare(self, service: ServiceHandle, accept: bool, watching: bool) -> None:
        """An imported container goes on running whatever it holds; it is not used when that is
        another data set."""
        record = service.record
        if record.imported is None or not service.offers("identity"):
            return
        known = record.imported.identity
        create = accept or not known
        found = await service.identity(create, watching=watching)
        if known and not accept and found != known:
            raise DataRefused(
                f"The container {record.container_name} holds another data set than the one that "
                "was imported.",
                remedy=(
                    "Put the right one back. If you replaced it on purpose: purveyor start "
                    f"{record.slug} --accept-data"
                ),
            )
        if found != known:
            await self._note(record, identity=found)

    async def _asked(self, service: ServiceHandle) -> Health:
        async with self._asking[service.record.id]:
            return await _asked(service.ready())

    async def health(self, service: ServiceHandle) -> Health:
        """One real round trip, from the container's state on."""
        found = await self.found(service.record)
        if found is None:
            return Health(healthy=False, stage="container", detail="There is no container.")
        if found.state != "running":
            return Health(
                healthy=False, stage="container", detail=f"The container is {found.state}."
            )
        try:
            return await self._asked(service)
        except Failed as error:
            return Health(healthy=False, stage="container", detail=error.detail)


async def _asked(answer: Awaitable[Health]) -> Health:
    """A server that hangs is one that does not serve yet."""
    try:
        return await answer
    except DeadlineExceeded as error:
        return Health(healthy=False, stage="tcp", detail=error.detail)


def _matches(found: Found, record: ServiceRecord, specs: Sequence[str], network: str) -> bool:
    """Whether a container is the one that the record describes, and complete."""
    # never started: a crash may have come before its files were put in
    if found.state == "created":
        return False
    return (
        found.labels.get(SPEC) in specs
        and found.image_id == record.image_id
        and network in found.networks
    )


def published_ports(record: ServiceRecord, spec: ContainerSpec) -> dict[int, int]:
    """Container port -> host port."""
    return {port.container: int(record.parameters[port.parameter]) for port in spec.ports}
