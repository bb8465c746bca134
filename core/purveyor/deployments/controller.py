"""Looks at the apps of active deployments: brings back those that should run and do not, and removes
containers that are over."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio

from purveyor.context import Context
from purveyor.deployments import store as deployments
from purveyor.deployments.models import DeploymentRecord
from purveyor.deployments.operations.repair_app import AppArguments, RepairApp
from purveyor.docker.labels import DEPLOYMENT, id_in
from purveyor.docker.models import Found
from purveyor.kernel.api import address
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Runner
from purveyor.projects import store as projects
from purveyor.services import hold, networks
from purveyor.services.above import Apps, Links
from purveyor.services.incidents import Incidents, Subject, trouble
from purveyor.services.networks import Networks
from purveyor.services.repairs import Repairs
from purveyor_hooks import EngineUnavailable, PurveyorError


class AppController(Apps):
    def __init__(
        self, context: Context, runner: Runner, incidents: Incidents, repairs: Repairs
    ) -> None:
        self._context = context
        self._runner = runner
        self._incidents = incidents
        self._repairs = repairs
        self._networks = context.part(Networks)
        self._projects: defaultdict[int, anyio.Lock] = defaultdict(anyio.Lock)

    def wanted(self, tx: Tx) -> list[int]:
        return [record.id for record in _wanted(tx)]

    async def take_in(self) -> None:
        for record in await self._context.store.read(_wanted):
            name = await self._context.store.read(lambda tx: self._network_of(tx, record))  # noqa: B023
            found = await self._found(record) if name else None
            if found is not None and found.state == "running":
                try:
                    await self._networks.take_in(record.environment_id, name, found)
                except EngineUnavailable:
                    raise
                except PurveyorError as error:
                    self._context.logger.warning("network", network=name, error=error.detail)

    def _network_of(self, tx: Tx, record: DeploymentRecord) -> str:
        """The name of the network that an app's environment lacks, "" when it has one."""
        if networks.find(tx, record.environment_id) is not None:
            return ""
        environment = projects.environment_by_id(tx, record.environment_id).slug
        project = projects.get(tx, record.project_id).slug
        return networks.name_of(self._context.engine.namespace, project, environment)

    async def sweep(
        self, look: Callable[[int], Awaitable[None]], seen: Mapping[int, anyio.Event]
    ) -> None:
        linked = await self._context.store.read(self._context.part(Links).services)

        async def app(record: DeploymentRecord) -> None:
            for number in linked.get(record.project_id, []):
                if number in seen:
                    await seen[number].wait()
            # while one is brought back, no other is looked at
            async with self._projects[record.project_id]:
                await look(record.id)

        async with anyio.create_task_group() as group:
            for record in await self._context.store.read(_wanted):
                group.start_soon(app, record)

    async def remove_others(self) -> None:
        # first: of a deploy that begins meanwhile there is nothing in it
        found = await self._context.engine.containers.listed()
        wanted = await self._context.store.read(deployments.active)
        for item in found:
            if (deployment := id_in(item.labels, DEPLOYMENT)) and deployment not in wanted:
                await self._context.engine.containers.remove(item.name)

    async def look(self, number: int) -> None:
        record = await self._context.store.read(lambda tx: deployments.deployment(tx, number))
        if not _should_run(record) or self._runner.busy(record.project_id, "project"):
            return
        subject = Subject("app", record.id)
        found = await self._found(record)
        where = await self._context.store.read(lambda tx: _place(tx, record))
        if reason := await self._trouble(subject, record, found):
            await self._incidents.tell(subject, reason, **where)
            if not self._repairs.due(subject, found):
                return
            given = AppArguments(deployment=record.id)
            if why := await self._repairs.attempt(subject, RepairApp.name, given):
                where = await self._context.store.read(lambda tx: _place(tx, record))
                await self._incidents.tell(subject, why, **where)
            found = await self._found(record)
            if await self._trouble(subject, record, found):
                return
        elif found is not None and found.health == "unhealthy":
            await self._incidents.tell(subject, "Its health check fails.", **where)
            return
        if found is not None and self._repairs.steady(subject, found):
            await self._incidents.over(subject)

    async def _found(self, record: DeploymentRecord) -> Found | None:
        """The app's container, whatever it is called now."""
        found = await self._context.engine.containers.listed(deployment=record.id)
        named = sorted(found, key=lambda item: item.name != record.container)
        return await self._context.engine.containers.inspect(named[0].id) if named else None

    async def _trouble(
        self, subject: Subject, record: DeploymentRecord, found: Found | None
    ) -> str:
        """Why an app does not run as it should, "" when it does."""
        expected = await self._networks.expected(environment=record.environment_id)
        hosts = await self._context.store.read(address.hosts)
        reason = trouble(found, expected, record.container, hosts)
        if (
            found is not None
            and (told := self._repairs.started_again(subject, found))
            and not reason
        ):
            where = await self._context.store.read(lambda tx: _place(tx, record))
            await self._incidents.tell(subject, told, **where)
        return reason


def _wanted(tx: Tx) -> list[DeploymentRecord]:
    """The deployments whose apps should run."""
    if hold.is_held(tx):  # an app acts on others: it waits for a person's word
        return []
    active = deployments.deployments(tx, state="active")
    return sorted((item for item in active if _should_run(item)), key=lambda item: item.id)


def _should_run(record: DeploymentRecord) -> bool:
    return record.state == "active" and record.app is not None


def _place(tx: Tx, record: DeploymentRecord) -> dict[str, Any]:
    """What an app's events carry. Raises `NotFound` when its environment is gone."""
    environment = projects.environment_by_id(tx, record.environment_id).slug
    return {"project": record.project_id, "environment": environment, "deployment": record.id}
