"""Deploy a project's environment: bind, gather the variables, bring the app up, retire the old
one."""

import re
from contextlib import suppress
from typing import Annotated, Any, ClassVar

import msgspec

from purveyor.context import Context
from purveyor.deployments import containment
from purveyor.deployments import store as deployment_store
from purveyor.deployments.app_runtime import DockerAppRuntime, container_name
from purveyor.docker import capabilities, image_registry, names, port_registry
from purveyor.kernel import naming
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import SECRET, OperationType, Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.plan import PlannedContainer
from purveyor.projects import bindings
from purveyor.projects import store as projects
from purveyor.projects import variables as project_variables
from purveyor.projects.models import ProjectRecord
from purveyor.projects.operations.bind import BindingSteps, environment_for, record_missing
from purveyor.projects.operations.end_access import end_of_environment
from purveyor.projects.operations.link import BIND_DEADLINE
from purveyor.projects.operations.projects import PRODUCTION
from purveyor.services import hold, networks
from purveyor.services import store as services
from purveyor.services.operations.base import step_names
from purveyor_hooks import (
    AppSpec,
    BadInput,
    Deployment,
    DeployResult,
    EngineUnavailable,
    Failed,
    Image,
    ImageMissing,
    NotFound,
    PurveyorError,
    Scope,
    Variable,
    Vetoed,
    references,
)

HOOK_DEADLINE = 60.0
DEPLOY_DEADLINE = 3600.0
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PATH = re.compile(r"/[^\s\x00-\x1f\x7f]*")


class DeployRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without an `image` the hooks run and another tool brings the app up.

    `port` is what the app listens on; `health_path` is asked until it answers; `timeout` in
    seconds; `variables` are further ones, which may not be set by a linked service. `memory` in MB
    and `pids`, processes and threads, are limits within the installation's; `cap_add` names
    capabilities of Linux that the app is given, which an admin token may ask for.
    """

    environment: str = PRODUCTION
    create: bool = False
    image: str | None = None
    command: list[str] = []
    port: int | None = None
    health_path: str | None = None
    timeout: float = 60.0
    variables: Annotated[dict[str, str], SECRET] = {}
    memory: int | None = None
    pids: int | None = None
    cap_add: list[str] = []


class DeployArguments(DeployRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`project` is an id or slug; `by_project`: its own token asks, which may do less (see
    `containment`)."""

    project: str
    by_project: bool = False


class Deploy(OperationType):
    name: ClassVar[str] = "deploy"
    subject: ClassVar[str] = "project"
    arguments: ClassVar[type[msgspec.Struct]] = DeployArguments
    internal: ClassVar[tuple[str, ...]] = BindingSteps.INTERNAL

    def __init__(self, context: Context) -> None:
        self.context = context
        self._binding = BindingSteps(context)

    def target(self, tx: Tx, given: DeployArguments) -> Target:
        project = projects.get(tx, given.project)
        linked = [link.service_id for link in projects.links(tx, project_id=project.id)]
        ending = [item.service_id for item in projects.ending(tx, project_id=project.id)]
        return Target(project=project.id, services=(*linked, *ending))

    def validate_and_record(self, tx: Tx, given: DeployArguments, actor: str) -> int:
        _check(given)
        hold.require_free(tx, "A deploy")
        project = projects.get(tx, given.project)
        image = self._allowed(tx, project, given) if given.by_project else given.image
        if given.create:
            environment = environment_for(tx, self.context, project, given.environment)
        else:
            environment = bindings.environment_of(tx, project, given.environment)
        missing, new = record_missing(tx, self.context, project, environment)
        app = None
        if image:
            networks.require_room(tx, environment.id)
            names.require_own(tx, project.slug, environment.slug, environment.id)
            app = AppSpec(
                image=image,
                command=tuple(given.command),
                port=given.port,
                health_path=given.health_path,
                timeout=given.timeout,
                capabilities=tuple(sorted({capabilities.name_of(name) for name in given.cap_add})),
                memory=given.memory * containment.MB if given.memory is not None else None,
                pids=given.pids,
            )
        deployment_id = deployment_store.insert_deployment(
            tx,
            project_id=project.id,
            environment_id=environment.id,
            app=app,
            variables=given.variables,
        )
        shown = {
            "project": project.slug,
            "environment": environment.slug,
            "environment_id": environment.id,
            "deployment": deployment_id,
            "bindings": missing,
            "new_bindings": new,
            "by_project": given.by_project,
        }
        operation_id = operations.insert(
            tx,
            self.name,
            project_id=project.id,
            actor=actor,
            arguments=shown,
            private={"variables": given.variables},
        )
        # a conflict is found before anything is done
        self._variables(tx, operations.get(tx, operation_id))
        return operation_id

    def _allowed(self, tx: Tx, project: ProjectRecord, given: DeployArguments) -> str | None:
        """The image that a project's own token gets. Raises `Forbidden` and `Conflict` for what is
        not its to ask for."""
        settings = self.context.settings
        containment.require_modest(
            settings, memory=given.memory, pids=given.pids, cap_add=given.cap_add
        )
        if given.create:
            slug = naming.slug_of(given.environment, "environment")
            if projects.find_environment(tx, project.id, slug) is None:
                containment.require_room(tx, settings, project)
        if not given.image:
            return None
        ours = containment.is_ours(tx, project, given.image)
        return containment.require_image(settings, project, given.image, ours=ours)

    def _variables(self, tx: Tx, operation: OperationRecord) -> list[Variable]:
        """All variables of the deployment. Raises `Conflict` when two disagree."""
        environment_id = operation.arguments["environment_id"]
        injected = project_variables.merge_variables(
            tx,
            project_variables.variables_of(
                tx, self.context, operation.project_id or 0, environment_id, by_name=True
            ),
        )
        recorded = deployment_store.deployment(tx, operation.arguments["deployment"]).variables
        own: dict[str, str] = recorded or (operation.private or {}).get("variables", {})
        taken = {variable.name for variable in injected} & set(own)
        if taken:
            errors = {f"variables.{name}": "set by a linked service" for name in sorted(taken)}
            raise BadInput(
                f"{', '.join(sorted(taken))} is set by a linked service.",
                remedy="Leave it out.",
                errors=errors,
            )
        return [
            *injected,
            *(Variable(name=name, value=value, secret=True) for name, value in own.items()),
        ]

    def _deployment(self, tx: Tx, operation: OperationRecord) -> Deployment:
        record = deployment_store.deployment(tx, operation.arguments["deployment"])
        scope = Scope(
            project=operation.arguments["project"], environment=operation.arguments["environment"]
        )
        return Deployment(
            id=record.id,
            scope=scope,
            app=record.app,
            variables=tuple(self._variables(tx, operation)),
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        deployment = self._deployment(tx, operation)
        name = container_name(self.context.engine, deployment.scope, deployment.id)
        environment_id = operation.arguments["environment_id"]
        old = [
            item.container
            for item in deployment_store.deployments(
                tx, environment_id=environment_id, state="active"
            )
        ]
        held = [projects.binding(tx, number) for number in operation.arguments["bindings"]]
        planned = (
            [PlannedContainer(name=name, action="create", image=deployment.app.image)]
            if deployment.app
            else []
        )
        return Plan(
            verb=self.name,
            subject=f"{deployment.scope.project}/{deployment.scope.environment}",
            steps=step_names(self.steps(operation)),
            containers=[
                *planned,
                *(PlannedContainer(name=name, action="retire") for name in old if name),
            ],
            resources=[record.resource for record in held if record],
            variables=sorted(variable.name for variable in deployment.variables),
            warnings=[*self._more(deployment.app), *self._over(tx, environment_id)],
        )

    @staticmethod
    def _more(app: AppSpec | None) -> list[str]:
        return (
            [f"It gets {', '.join(app.capabilities)}, which apps are kept from."]
            if app and app.capabilities
            else []
        )

    def _over(self, tx: Tx, environment_id: int) -> list[str]:
        ending = projects.ending(tx, environment_id=environment_id)
        return [
            f"Its account on {services.get(tx, item.service_id).name} ends: it is not linked any "
            "more."
            for item in ending
        ]

    # ---------------------------------------------------------------- steps

    def steps(self, operation: OperationRecord) -> list[Step]:
        return [
            self._binding.step(operation),
            Step("before", lambda: self._before(operation), deadline=HOOK_DEADLINE * 10),
            Step(
                "deploy",
                lambda: self._deploy(operation),
                lambda: self._withdraw(operation),
                DEPLOY_DEADLINE,
                apart=True,
            ),
            Step("switch", lambda: self._switch(operation), final=True),
            Step("retire", lambda: self._retire(operation), deadline=DEPLOY_DEADLINE),
            Step("accounts", lambda: self._end_accounts(operation), deadline=BIND_DEADLINE),
            Step("after", lambda: self._after(operation), deadline=HOOK_DEADLINE * 10),
        ]

    async def _load(self, operation: OperationRecord) -> Deployment:
        return await self.context.store.read(lambda tx: self._deployment(tx, operation))

    def _runtime(self, operation: OperationRecord) -> DockerAppRuntime:
        plainly = bool(operation.arguments.get("by_project"))
        return DockerAppRuntime(
            self.context, operation.project_id or 0, operation.arguments["environment_id"], plainly
        )

    async def _before(self, operation: OperationRecord) -> None:
        deployment = await self._load(operation)
        async for plugin, reason in self.context.registry.ask(
            "before_deploy", HOOK_DEADLINE, deployment=deployment
        ):
            if reason:
                raise Vetoed(f"The plugin {plugin.name} refused the deploy: {reason}")

    async def _deploy(self, operation: OperationRecord) -> None:
        deployment = await self._load(operation)
        runtime = self._runtime(operation)
        try:
            answers = await self.context.registry.strictly(
                "deploy", DEPLOY_DEADLINE, deployment=deployment, runtime=runtime, workshop=runtime
            )
        except Failed as error:
            error.remedy = await self._advised(deployment.app, error)
            raise
        results = [answer for answer in answers if isinstance(answer, DeployResult)]
        if deployment.app and not results:
            raise NotFound("No plugin brings images up.", remedy="See: purveyor plugin list")
        if results:
            values = {"container": results[0].container, "url": results[0].url}
            image = await self._image(results[0].container)

            def work(tx: Tx) -> None:
                deployment_store.update_deployment(
                    tx, deployment.id, image_id=image.id if image else "", **values
                )
                if image is not None:
                    image_registry.note(tx, image)

            await self.context.store.write(work)

    async def _image(self, container: str) -> Image | None:
        """The image that a container really runs, None for one of another tool's."""
        listed = await self.context.engine.containers.named([container])
        return await self.context.engine.images.inspect(listed[0].image_id) if listed else None

    async def _advised(self, app: AppSpec | None, error: Failed) -> str:
        """What to do about an app that did not come up."""
        image = None
        if app is not None and not isinstance(error, ImageMissing):
            with suppress(EngineUnavailable):
                image = await self.context.engine.images.inspect(app.image)
        if app is None or image is None:
            return error.remedy
        advice = containment.advice(app, image.user, self.context.settings, error.detail)
        return " ".join(part for part in (error.remedy, advice) if part)

    async def _switch(self, operation: OperationRecord) -> None:
        """Hand the name over and record it. Until it is recorded, a failure gives the name back to
        the old one."""
        deployment = await self._load(operation)
        if deployment.app is not None:
            await self._runtime(operation).promote(deployment)
            await self.context.store.write(lambda tx: self._activate(tx, operation))

    async def _retire(self, operation: OperationRecord) -> None:
        """Remove the old containers; what cannot be removed now is swept up later and fails no
        deploy."""
        deployment = await self._load(operation)
        if deployment.app is not None:
            try:
                await self._runtime(operation).retire_others(deployment)
            except PurveyorError as error:
                self.context.logger.warning(
                    "deploy.retire", deployment=deployment.id, error=error.detail
                )

    async def _end_accounts(self, operation: OperationRecord) -> None:
        """What the environment is not linked to any more, and only the old app used."""
        await self.context.store.write(lambda tx: self._activate(tx, operation))
        await end_of_environment(self.context, operation, operation.arguments["environment_id"])()

    def _activate(self, tx: Tx, operation: OperationRecord) -> None:
        number = operation.arguments["deployment"]
        for other in deployment_store.deployments(
            tx, environment_id=operation.arguments["environment_id"], state="active"
        ):
            if other.id != number:
                deployment_store.update_deployment(
                    tx, other.id, state="retired", variables=None, ended_at=tx.now
                )
                port_registry.release_ports(tx, deployment=other.id)
        deployment_store.update_deployment(tx, number, state="active")

    async def _after(self, operation: OperationRecord) -> None:
        deployment = await self._load(operation)
        record = await self.context.store.read(
            lambda tx: deployment_store.deployment(tx, deployment.id)
        )
        result = (
            DeployResult(container=record.container, url=record.url) if record.container else None
        )
        async for _ in self.context.registry.ask(
            "after_deploy", HOOK_DEADLINE, deployment=deployment, result=result
        ):
            pass

    async def _withdraw(self, operation: OperationRecord) -> None:
        scope = Scope(
            project=operation.arguments["project"], environment=operation.arguments["environment"]
        )
        await self._runtime(operation).withdraw(scope, operation.arguments["deployment"])

    def on_success(self, tx: Tx, operation: OperationRecord) -> None:
        self._activate(tx, operation)

    def on_failure(self, tx: Tx, operation: OperationRecord, error: dict[str, Any]) -> None:
        number = operation.arguments["deployment"]
        port_registry.release_ports(tx, deployment=number)
        deployment_store.update_deployment(
            tx, number, state="failed", variables=None, error=error["detail"], ended_at=tx.now
        )
        self._binding.forget(tx, operation)

    def settle(self, tx: Tx, operation: OperationRecord, reason: str) -> None:
        """Its container goes with the next sweep."""
        number = operation.arguments["deployment"]
        if deployment_store.deployment(tx, number).state == "deploying":
            port_registry.release_ports(tx, deployment=number)
            deployment_store.update_deployment(
                tx, number, state="failed", error=reason, ended_at=tx.now
            )


def _check(given: DeployArguments) -> None:
    errors = {}
    if given.port is not None and not 0 < given.port < 65536:
        errors["port"] = "must be from 1 to 65535"
    if not 0 < given.timeout <= 3600:
        errors["timeout"] = "must be more than 0 and at most 3600 seconds"
    if given.health_path is not None and not PATH.fullmatch(given.health_path):
        errors["health_path"] = "must begin with /, and hold no spaces"
    if given.health_path is not None and given.port is None:
        errors["port"] = "needed for a health path"
    if given.image is not None:
        try:
            references.parse(given.image)
        except ValueError as error:
            errors["image"] = str(error)
    if given.image is None and (given.command or given.port):
        errors["image"] = "needed for a command or a port"
    if given.image is None and (
        given.memory is not None or given.pids is not None or given.cap_add
    ):
        errors["image"] = "needed for limits and capabilities"
    errors |= containment.wrong(memory=given.memory, pids=given.pids, cap_add=given.cap_add)
    if any("\0" in word for word in given.command):
        errors["command"] = "must not hold NUL"
    for name, value in given.variables.items():
        if not VARIABLE.fullmatch(name):
            errors[f"variables.{name[:40]}"] = "names are letters, digits and underscores"
        elif "\0" in value:
            errors[f"variables.{name}"] = "must not hold NUL"
    if errors:
        listed = "; ".join(f"{name}: {why}" for name, why in errors.items())
        raise BadInput(f"The deploy cannot be done as asked: {listed}.", errors=errors)
