"""Running an app's containers: what deploy hooks are handed, and how the core cleans up after
them."""

from dataclasses import dataclass

from purveyor.context import Context
from purveyor.deployments import containment
from purveyor.deployments import store as deployment_store
from purveyor.deployments.models import DeploymentRecord
from purveyor.docker import Engine, PortTaken, labels, names, port_registry, ports
from purveyor.docker.files import Placed
from purveyor.docker.models import digest
from purveyor.kernel import redact
from purveyor.kernel.api import address
from purveyor.kernel.db import Tx
from purveyor.projects import store as projects
from purveyor.services import certificates, networks
from purveyor.services.incidents import astray
from purveyor.services.models import AUTHORITIES
from purveyor.services.networks import Networks, find_missing
from purveyor_hooks import (
    Address,
    AppSpec,
    Conflict,
    Deployment,
    Failed,
    File,
    ImageMissing,
    NotFound,
    PurveyorError,
    Scope,
)

PORT_BASE = 18000
PORT_ATTEMPTS = 20


def container_name(engine: Engine, scope: Scope, deployment_id: int) -> str:
    """Dots, which no slug has, keep app containers apart from service containers."""
    return f"{engine.namespace}.{scope.project}.{scope.environment}.{deployment_id}"


async def remove_containers(engine: Engine, *, keep: int = 0, **fields: object) -> None:
    """Remove the app containers with these labels, but for those of the deployment to keep."""
    for found in await engine.containers.listed(**fields):
        if labels.id_in(found.labels, labels.DEPLOYMENT) not in (0, keep):
            await engine.containers.remove(found.name)


@dataclass(frozen=True)
class DockerAppRuntime:
    """`AppRuntime` over the engine, for one project's environment. `plainly`: what the engine says
    goes to the daemon's log, for who asks is not to learn of this host what only its administrators
    know."""

    context: Context
    project_id: int
    environment_id: int
    plainly: bool = False

    def _name(self, deployment: Deployment) -> str:
        return container_name(self.context.engine, deployment.scope, deployment.id)

    async def run(self, deployment: Deployment, app: AppSpec) -> str:
        try:
            return await self._run(deployment, app)
        except (Failed, Conflict, NotFound) as error:
            if not self.plainly:
                raise
            self.context.logger.warning(
                "deploy.engine", deployment=deployment.id, error=error.detail
            )
            raise _plain(error, app) from None

    async def _run(self, deployment: Deployment, app: AppSpec) -> str:
        engine, name = self.context.engine, self._name(deployment)
        if self.plainly:
            await self.context.store.read(lambda tx: self._require_own(tx, app.image))
        await engine.images.ensure(app.image, _silent, self.context.settings.pull_timeout)
        network = await self._network(deployment.scope)
        hosts = await self.context.store.read(address.hosts)
        spec = containment.spec_of(deployment, app, self.context.settings)
        marks = engine.labels.of(
            project=self.project_id, environment=self.environment_id, deployment=deployment.id
        )
        for _ in range(PORT_ATTEMPTS):
            published = {app.port: await self._port(deployment.id)} if app.port else {}
            found = await engine.containers.inspect(name)
            wanted = digest(spec, published, network)
            bundle = await self.context.store.read(certificates.bundle)
            files = [Placed(File(path=AUTHORITIES, content=bundle))] if bundle else []
            if found is None or found.labels.get(labels.SPEC) != wanted or found.hosts != hosts:
                await engine.containers.remove(name)
                await engine.containers.create(
                    name,
                    spec,
                    labels=marks,
                    ports=published,
                    volume=None,
                    seed=False,
                    network=network,
                    hosts=hosts,
                    further=files,
                )
            elif files:
                await engine.containers.put(name, files)
            try:
                await engine.containers.start(name)
                return name
            except PortTaken:
                await self.context.store.write(
                    lambda tx: port_registry.release_ports(tx, deployment=deployment.id)
                )
        raise PortTaken(f"No free port from {PORT_BASE} up found for the app.")

    def _require_own(self, tx: Tx, image: str) -> None:
        """Raise `ImageMissing` for what is only another project's."""
        project = projects.get(tx, self.project_id)
        if containment.is_anothers(tx, self.context.settings, project, image):
            raise ImageMissing(
                f"Another project runs the image {image}, and {project.slug} does not.",
                remedy="Deploy it there once, or list it in deploy-images.",
            )

    async def _network(self, scope: Scope) -> str:
        """The environment's network, with the services that it uses."""
        name = networks.name_of(self.context.engine.namespace, scope.project, scope.environment)
        return (await self.context.part(Networks).ensure(self.environment_id, name)).name

    async def _port(self, deployment_id: int) -> int:
        def work(tx: Tx) -> int:
            port = port_registry.claimed_port(tx, deployment=deployment_id)
            if port is None:
                port = ports.lowest_free(
                    PORT_BASE + self.context.settings.port_offset, port_registry.ports_taken(tx)
                )
                port_registry.claim_port(tx, port, "port", deployment=deployment_id)
            return port

        return await self.context.store.write(work)

    async def address(self, deployment: Deployment) -> Address | None:
        port = await self.context.store.read(
            lambda tx: port_registry.claimed_port(tx, deployment=deployment.id)
        )
        return Address(host="127.0.0.1", port=port) if port else None

    async def state(self, deployment: Deployment) -> tuple[str, str]:
        found = await self.context.engine.containers.inspect(self._name(deployment))
        if found is None:
            raise NotFound(f"The container {self._name(deployment)} is gone.")
        return ("restarting" if found.restarting else found.state), found.health

    async def log(self, deployment: Deployment, lines: int = 20) -> str:
        text = "\n".join(
            await self.context.engine.containers.log(self._name(deployment), lines=lines)
        )
        return redact.scrub(
            text, [variable.value for variable in deployment.variables if variable.secret]
        )

    async def promote(self, deployment: Deployment) -> None:
        """The new one gets the name before the old one loses it: there is always somebody to
        answer."""
        await self._rename(deployment.scope, deployment.id)

    async def has(self, deployment_id: int) -> bool:
        """Whether there is a container of a deployment, by whatever name."""
        return bool(await self.context.engine.containers.listed(deployment=deployment_id))

    async def bring_back(self, deployment_id: int) -> None:
        """Have the container of a deployment on the network and running, if there is one. One whose
        name for the API leads astray goes: the engine changes no name of a container that there
        is."""
        engine = self.context.engine
        record = await self.context.store.read(
            lambda tx: deployment_store.deployment(tx, deployment_id)
        )
        listed = await engine.containers.listed(deployment=deployment_id)
        if not listed:
            return
        brief = sorted(listed, key=lambda item: item.name != record.container)[0]
        found = await engine.containers.inspect(brief.id)
        if found is None:
            return
        if (
            astray(found, await self.context.store.read(address.hosts))
            and record.variables is not None
        ):
            await engine.containers.remove(found.id)
            return
        if found.name != record.container:
            await engine.containers.rename(found.id, record.container)
        scope = await self.context.store.read(lambda tx: scope_of(tx, record))
        network = await self._network(scope)
        expected = await self.context.part(Networks).expected(environment=self.environment_id)
        if find_missing(found, expected):
            await engine.containers.connect(found.id, [], network)
        home = found.network_ids.get(engine.namespace)
        # of before; one that was lost keeps it from starting
        if home is not None and home != await engine.network_id():
            await engine.containers.leave(found.id)
        if found.state == "paused":
            await engine.containers.unpause(found.id)
        elif not found.holds_on:
            await engine.containers.start(found.id)

    async def name(self, scope: Scope, deployment_id: int) -> None:
        """Give a deployment the environment's name on the network."""
        await self._rename(scope, deployment_id)

    async def _rename(self, scope: Scope, current: int) -> None:
        engine, alias = self.context.engine, names.alias(scope.project, scope.environment)
        network = await self._network(scope)
        found = await engine.containers.listed(environment=self.environment_id)
        for item in sorted(
            found, key=lambda item: labels.id_in(item.labels, labels.DEPLOYMENT) != current
        ):
            wanted = labels.id_in(item.labels, labels.DEPLOYMENT) == current
            if (alias in await engine.containers.aliases(item.name, network)) != wanted:
                await engine.containers.connect(item.name, [alias] if wanted else [], network)

    async def retire_others(self, deployment: Deployment) -> None:
        await remove_containers(
            self.context.engine, keep=deployment.id, environment=self.environment_id
        )

    async def withdraw(self, scope: Scope, deployment_id: int) -> None:
        """Take a deployment back that did not come up: its containers go, the active one has the
        name."""
        engine = self.context.engine
        active = await self.context.store.read(
            lambda tx: deployment_store.deployments(
                tx, environment_id=self.environment_id, state="active"
            )
        )
        await remove_containers(engine, deployment=deployment_id)
        if active:
            await self._rename(scope, active[0].id)


def scope_of(tx: Tx, record: DeploymentRecord) -> Scope:
    """The project and environment of a deployment."""
    environment = projects.environment_by_id(tx, record.environment_id)
    return Scope(project=projects.get(tx, record.project_id).slug, environment=environment.slug)


def _plain(error: PurveyorError, app: AppSpec) -> PurveyorError:
    """What a project's own token is told."""
    remedy = "Check its name; an administrator finds what the engine said in the daemon's log."
    if isinstance(error, ImageMissing):  # the same whether it is nowhere, or another project's
        return ImageMissing(
            f"The image {app.image} is not available.",
            remedy=(
                "Check its name. An administrator finds the reason in the daemon's log, and can "
                "deploy it to this project once or list it in deploy-images."
            ),
            errors={"image": "not available"},
        )
    return Failed(
        "The app's container could not be started.",
        remedy=f"Does its command exist in the image {app.image}? {remedy}",
    )


async def _silent(text: str) -> None:
    """Progress that nobody follows."""
