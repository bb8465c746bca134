"""Upgrade a service to another image: a plan first; then on a copy, counted, switched; or back as
it was."""

from typing import Annotated, Any, ClassVar

import msgspec

from purveyor.kernel.db import Tx
from purveyor.kernel.operations import SECRET, Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer, PlannedVolume
from purveyor.projects import bindings
from purveyor.services import parameters, transfer
from purveyor.services import store as services
from purveyor.services.handle import handle_of
from purveyor.services.operations.base import STOP_DEADLINE, require_active, require_own, step_names
from purveyor.services.shadow import ShadowOperation, before
from purveyor_hooks import BadInput, Conflict, Finding, Image, RestoreOptions

MIGRATE, RESTART, REFUSE = "migrate", "restart", "refuse"


class UpgradeArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service` goes to `docker_image`, "" for the one that it runs; `parameters` are choices that
    only data takes that is made anew. `rehearse` runs the whole of it on a copy and changes
    nothing.

    What came over is compared with what was there: any loss stops the upgrade, unless `keep_going`;
    `skip_settings` are not set on the new server. `environment` is the image's own, and `refused`
    what its version will not take, both found out before the intent.
    """

    service: str
    docker_image: str = ""
    parameters: Annotated[dict[str, Any], SECRET] = {}
    rehearse: bool = False
    keep_going: bool = False
    skip_settings: tuple[str, ...] = ()
    environment: dict[str, str] | None = None
    refused: tuple[Finding, ...] = ()


class Upgrade(ShadowOperation):
    """The data of before is never touched: a migration reads it, a restart works on a copy of its
    volume."""

    name: ClassVar[str] = "upgrade"
    arguments = UpgradeArguments

    def target(self, tx: Tx, given: UpgradeArguments) -> Target:
        return Target(service=services.get(tx, given.service).id)

    async def prepare(self, given: UpgradeArguments) -> UpgradeArguments:
        """What the image is, when it is on the engine already; its tag says the rest."""
        record = await self.context.store.read(lambda tx: services.get(tx, given.service))
        reference = parameters.require_image(
            given.docker_image or (record.image if given.parameters else "")
        )
        found = await self.context.engine.images.inspect(reference)
        image = Image(reference=reference, environment=found.environment if found else {})
        refused: tuple[Finding, ...] = ()
        if record.state == "active" and record.desired == "running" and not record.imported:
            refused = await transfer.upgrade_check(self.context, record, image)
        return msgspec.structs.replace(
            given,
            docker_image=reference,
            environment=found.environment if found else None,
            refused=refused,
        )

    def validate_and_record(self, tx: Tx, given: UpgradeArguments, actor: str) -> int:
        record = services.get(tx, given.service)
        require_active(record)
        require_own(record)
        if record.desired != "running":
            raise Conflict(
                f"{record.name} is stopped.", remedy=f"Start it first: purveyor start {record.slug}"
            )
        service = handle_of(self.context, record)
        service.require("upgrade_plan", "upgrades")
        image = given.docker_image
        wanted = Image(reference=image, environment=given.environment or {})
        chosen = parameters.rebuild_parameters(
            service.kind, self.context.settings, record.parameters, given.parameters
        )
        if image == record.image and service.data_major(wanted, chosen) == record.major:
            raise BadInput(
                f"{record.name} runs {image} already.",
                remedy=(
                    f"If that name means a newer image now: purveyor update {record.slug} "
                    f"--image {image}"
                ),
                errors={"docker_image": "the one that it runs"},
            )
        plan = service.but(parameters=chosen).upgrade_plan(wanted)
        if plan.action == REFUSE:
            raise BadInput(
                plan.reason, remedy="Choose another image.", errors={"docker_image": plan.reason}
            )
        if chosen != record.parameters and plan.action != MIGRATE:
            errors = dict.fromkeys(given.parameters, "only a migration applies it")
            raise BadInput(
                f"This upgrade does not migrate the data of {record.name}.",
                remedy="Leave them out.",
                errors=errors,
            )
        scratch = self.create_shadow(
            tx, msgspec.structs.replace(record, parameters=chosen), image=image
        )
        old = self.create_shadow(tx, record, label="before") if plan.action == MIGRATE else None
        if old is not None:
            services.drop_made_volume(tx, old)
        shown = {
            "name": record.name,
            "image": image,
            "parameters": dict(given.parameters),
            "action": plan.action,
            "reason": plan.reason,
            "scratch": scratch,
            "old": old,
            "rehearse": given.rehearse,
            "keep_going": given.keep_going,
            "skip_settings": list(given.skip_settings),
            "refused": [
                str(item) for item in given.refused if not _skipped(item, given.skip_settings)
            ],
        }
        return operations.insert(
            tx,
            self.name,
            service_id=record.id,
            actor=actor,
            arguments=shown,
            private={**before(record), "parameters": record.parameters},
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        record = services.get(tx, operation.service)
        given = operation.arguments
        volume = services.volume(tx, record.volume_id or "")
        days = self.context.settings.old_data_days
        rehearse, until = given["rehearse"], "the new server is up"
        # a migration reads from the server that serves; a copy of the volume is of one that is
        # stopped
        if rehearse:
            until = "" if given["action"] == MIGRATE else "the old server is up again"
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=step_names(self.steps(operation)),
            containers=[
                PlannedContainer(
                    name=record.container_name,
                    action="nothing" if rehearse else "replace",
                    image=given["image"],
                )
            ],
            volumes=[
                PlannedVolume(
                    name=volume.name, action="nothing" if rehearse else f"keep for {days} days"
                )
            ],
            resources=[f"{given['action']}: {given['reason']}"],
            apps=bindings.apps(
                tx, self.context, record, f"does not reach {record.name} until {until}"
            )
            if until
            else [],
            downtime=f"from the copy of the data until {until}" if until else "none",
            warnings=[
                *(
                    self.former_ends(tx, record.id)
                    if given["action"] == MIGRATE and not rehearse
                    else ()
                ),
                *(f"The new version will not take it: {item}" for item in given.get("refused", [])),
            ],
        )

    # ---------------------------------------------------------------- steps

    def steps(self, operation: OperationRecord) -> list[Step]:
        service_id, given = operation.service, operation.arguments
        scratch = given["scratch"]
        if given["action"] == MIGRATE:
            steps = self._migrate(operation, service_id, scratch, given["old"])
        else:
            steps = self._copy(operation, service_id, scratch)
        if given["rehearse"]:
            return [*steps, self.discard_step(operation, scratch)]
        steps.append(self.switch_step(operation, service_id, scratch))
        if given["action"] == MIGRATE:  # the walls of a server that was filled are put up again
            steps.append(self.accounts_step(service_id))
        return [*steps, self.put_away_step(operation)]

    def _migrate(
        self, operation: OperationRecord, service_id: int, scratch: int, old: int
    ) -> list[Step]:
        """The new server is made first, so that what cannot start costs no downtime; then the old
        one serves us alone."""
        steps = self.shadow_steps(operation, scratch)
        rehearse = operation.arguments["rehearse"]
        if not rehearse:
            limit = self.context.settings.ready_timeout + STOP_DEADLINE
            quiet = Step(
                "quiet",
                lambda: self._isolate_old_server(operation, service_id, old),
                deadline=limit,
            )
            steps.append(quiet._replace(undo=lambda: self._restore_old_server(service_id, old)))
        source = service_id if rehearse else old
        carry = self.data_step(
            "migrate",
            lambda: self.fill(operation, scratch, lambda: self._carry(operation, source, scratch)),
        )
        steps.append(carry)
        if not rehearse:
            steps.append(Step("end old", lambda: self._end_old(old), deadline=STOP_DEADLINE))
        return steps

    async def _isolate_old_server(
        self, operation: OperationRecord, service_id: int, old: int
    ) -> None:
        """The same server on the same data under another name and port, which apps do not know."""
        await self.provision.stop(service_id)
        volume_id = (operation.private or {})["volume_id"]
        record = await self.load(service_id)

        def lend(tx: Tx) -> None:
            services.update(
                tx,
                old,
                volume_id=volume_id,
                image_id=record.image_id,
                image_environment=record.image_environment,
            )

        await self.context.store.write(lend)
        await self.provision.container(old)
        await self.provision.start(old)
        await self.provision.ready(old)

    async def _restore_old_server(self, service_id: int, old: int) -> None:
        await self._end_old(old)
        await self.provision.container(service_id)
        for step in self.start_steps(service_id):
            await step.do()

    async def _end_old(self, old: int) -> None:
        record = await self.load(old)
        await self.context.engine.containers.remove(record.container_name)

    async def _carry(self, operation: OperationRecord, old: int, scratch: int) -> None:
        source, target = await self.load(old), await self.load(scratch)
        given = operation.arguments
        options = RestoreOptions(
            takes_over=not given["rehearse"], skip_settings=tuple(given.get("skip_settings", ()))
        )
        census, findings = await transfer.pipe(
            self.context, source, target, self.teller(operation, "migrate"), options
        )
        stop = not given["rehearse"] and not given.get("keep_going", False)
        way = "; to leave a setting behind: --skip-setting NAME"
        await self.compare(operation, census, scratch, findings, stop=stop, way=way)

    def _copy(self, operation: OperationRecord, service_id: int, scratch: int) -> list[Step]:
        """The new server runs on a copy of the volume, taken while the old one is stopped."""
        image = self.image_step(operation, scratch)._replace(name="new image")
        volume = self.volume_step(scratch)._replace(
            name="new volume", undo=lambda: self.discard(operation, scratch)
        )
        copy = self.data_step("copy", lambda: self._copy_volume(operation, service_id, scratch))
        copy = copy._replace(undo=lambda: self._serve_again(service_id))
        container = self.container_step(scratch)._replace(name="new container")
        serve = [step._replace(name=f"new {step.name}") for step in self.start_steps(scratch)]
        return [image, volume, copy, container, *serve]

    async def _copy_volume(self, operation: OperationRecord, service_id: int, scratch: int) -> None:
        """Copy the folder, then say what it is: the same data set. A rehearsal lets the old server
        go on afterwards."""
        record, beside = await self.load(service_id), await self.load(scratch)

        def look(tx: Tx) -> Any:
            return services.volume(tx, record.volume_id or ""), services.volume(
                tx, beside.volume_id or ""
            )

        old, new = await self.context.store.read(look)
        await self.provision.stop(service_id)
        await self.context.engine.volumes.copy(old.name, new.name, new.path, record.image)
        facts = {"state": "used", "major": old.major, "identity": old.identity}
        await self.context.store.write(lambda tx: services.update_volume(tx, new.id, **facts))
        if operation.arguments["rehearse"]:
            await self._serve_again(service_id)

    async def _serve_again(self, service_id: int) -> None:
        await self.provision.container(service_id)
        for step in self.start_steps(service_id):
            await step.do()

    # ---------------------------------------------------------------- the end

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        given, service_id = operation.arguments, operation.service
        self._forget_old(tx, given["old"])
        if given["rehearse"]:
            return
        record = services.get(tx, service_id)
        services.end_filling(tx, service_id)
        services.update(tx, service_id, refusal="", given=sorted({*record.given, "docker_image"}))
        self.keep_old(
            tx, operation, service_id, given["scratch"], {"before": f"upgrade {operation.id}"}
        )

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        self._forget_old(tx, operation.arguments["old"])
        if services.find(tx, operation.arguments["scratch"]):
            services.forget_scratch(tx, operation.arguments["scratch"])

    def _forget_old(self, tx: Tx, old: int | None) -> None:
        if old is not None and services.find(tx, old):
            services.update(tx, old, volume_id=None)
            services.forget_scratch(tx, old)


def _skipped(found: Finding, names: tuple[str, ...]) -> bool:
    """Whether it is about a setting that is not to come along: NAME, or "NAME of whose it is"."""
    return found.what.partition(" of ")[0].lower() in {name.lower() for name in names}
