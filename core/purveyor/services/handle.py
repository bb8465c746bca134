"""This service, now: its record, its type's hooks, its server."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from purveyor.context import Context
from purveyor.kernel.watchdog import Heartbeat
from purveyor.services import certificates
from purveyor.services.access import ServiceAccess
from purveyor.services.models import ServiceRecord
from purveyor.services.type_hooks import TypeHooks
from purveyor_hooks import (
    Access,
    Api,
    Binding,
    Client,
    Conflict,
    ContainerSpec,
    Finding,
    Health,
    HeldAccount,
    Image,
    Inventory,
    Listing,
    Probe,
    Recovery,
    RestoreOptions,
    Service,
    Sink,
    Source,
    UpgradePlan,
    Variable,
)

BIND_DEADLINE = 60.0
HEALTH_DEADLINE = 10.0
PLACEHOLDER = Api(url="http://purveyor", token="preview-only", project_id=0)


def handle_of(
    context: Context, record: ServiceRecord, pulse: Heartbeat | None = None
) -> "ServiceHandle":
    """A recorded service with what acts on it; `pulse` hears that long work goes on. Raises
    `NotFound` when its type's plugin is gone."""
    provider = context.registry.provider(record.service_type)
    access = ServiceAccess(context.engine, provider.kind, record, context.logger, pulse)
    return ServiceHandle(provider, record.view(), access)


def hooks_of(context: Context, service_type: str) -> TypeHooks:
    """What a service type is asked. Raises `NotFound` when its plugin is gone."""
    return TypeHooks(context.registry.provider(service_type))


@dataclass(frozen=True)
class ServiceHandle(TypeHooks):
    """A service with its type's hooks, each asked of its server.

    `view` is what hooks are shown. Hooks up to `probes` are pure; what does I/O has a deadline,
    but for the moves of whole data sets, whose callers watch that they go on.
    """

    view: Service
    access: ServiceAccess

    @property
    def record(self) -> ServiceRecord:
        return self.access.service

    def but(self, **changes: Any) -> "ServiceHandle":
        """The same server, shown to hooks with other parameters, credentials or API."""
        return replace(self, view=msgspec.structs.replace(self.view, **changes))

    def from_host(self, context: Context, address: str = "") -> "ServiceHandle":
        """As commands on this host reach it, where the state directory has the file of
        authorities and its container an `address`; else it is shown as apps on its network do."""
        changes: dict[str, Any] = {}
        if self.view.tls is not None:
            file = str(context.state / certificates.FILE)
            changes["tls"] = msgspec.structs.replace(self.view.tls, file=file)
        if imported := self.record.imported:
            return self.but(**changes, host=imported.address)
        parameters = self.record.parameters
        ports = {port.container: int(parameters[port.parameter]) for port in self.kind.ports}
        return self.but(**changes, host="127.0.0.1", ports=ports, address=address)

    # ---------------------------------------------------------------- pure

    def container(self) -> ContainerSpec:
        spec = self.provider.call("container", self.view)
        assert isinstance(spec, ContainerSpec)
        return spec

    def notes(self) -> list[str]:
        own = self.provider.call("notes", self.view) if self.offers("notes") else ()
        return [*self.kind.notes, *own]

    def environment(self, binding: Binding) -> list[Variable]:
        return list(self.provider.call("environment", self.view, binding=binding))

    def outdated(self, binding: Binding) -> str:
        if not self.offers("outdated"):
            return ""
        return str(self.provider.call("outdated", self.view, binding=binding) or "")

    def client(self) -> Client:
        self.require("client", "an interactive client")
        client = self.provider.call("client", self.view)
        assert isinstance(client, Client)
        return client

    def upgrade_plan(self, image: Image) -> UpgradePlan:
        plan = self.provider.call("upgrade_plan", self.view, image=image)
        assert isinstance(plan, UpgradePlan)
        return plan

    def archive_helper(self) -> ContainerSpec:
        spec = self.provider.call("archive_helper", self.view)
        assert isinstance(spec, ContainerSpec)
        return spec

    def recovery(self, at: datetime | None) -> Recovery:
        found = self.provider.call("recovery", self.view, at=at)
        assert isinstance(found, Recovery)
        return found

    def probes(self, binding: Binding) -> list[Probe]:
        if not self.offers("probes"):
            return []
        return list(self.provider.call("probes", self.view, binding=binding))

    # ---------------------------------------------------------------- its server

    async def _run(
        self, hook: str, deadline: float = BIND_DEADLINE, *, watching: bool = False, **given: Any
    ) -> Any:
        return await self.provider.run(
            hook, self.view, deadline=deadline, watching=watching, access=self.access, **given
        )

    async def ready(self) -> Health:
        health = await self._run("ready", HEALTH_DEADLINE)
        assert isinstance(health, Health)
        return health

    async def adopt(self) -> Health:
        health = await self._run("adopt", HEALTH_DEADLINE)
        assert isinstance(health, Health)
        return health

    async def identity(self, create: bool, *, watching: bool = False) -> str:
        return str(await self._run("identity", watching=watching, create=create))

    async def regain(self) -> None:
        self.require("regain", "new credentials for an administrator whose own are lost")
        await self._run("regain")

    async def held(self) -> list[HeldAccount]:
        return list(await self._run("held")) if self.offers("held") else []

    async def renew_certificate(self) -> None:
        await self._run("renew_certificate")

    async def rotate_administrator(self, previous: Service) -> None:
        await self._run("rotate_administrator", previous=previous)

    async def browse(self, path: tuple[str, ...], cursor: str, order: str) -> Listing:
        self.require("browse", "a look at what it holds")
        found = await self._run("browse", path=path, cursor=cursor, order=order)
        assert isinstance(found, Listing)
        return found

    async def download(self, path: tuple[str, ...], sink: Sink) -> None:
        self.require("download", "downloads")
        await self._run("download", math.inf, path=path, sink=sink)

    # ---------------------------------------------------------------- accounts

    async def bind(self, binding: Binding) -> None:
        await self._run("bind", binding=binding)

    async def unbind(self, binding: Binding) -> None:
        await self._run("unbind", binding=binding)

    async def rotate(
        self, binding: Binding, previous: str, former: str, until: datetime | None = None
    ) -> None:
        await self._run("rotate", binding=binding, previous=previous, former=former, until=until)

    async def retire(self, binding: Binding) -> None:
        await self._run("retire", binding=binding)

    async def purge(self, binding: Binding) -> None:
        await self._run("purge", binding=binding)

    async def purge_extra(self, binding: Binding, extra: str) -> None:
        await self._run("purge_extra", binding=binding, extra=extra)

    async def examine(self, bindings: Sequence[Binding]) -> tuple[Finding, ...]:
        if not self.offers("examine"):
            return ()
        return _findings(await self._run("examine", bindings=bindings))

    # ---------------------------------------------------------------- whole data sets

    async def census(self) -> Inventory:
        return _census(await self._run("census", math.inf, binding=None))

    async def backup(self, sink: Sink, tools: Access | None = None) -> Inventory:
        return _census(await self._run("backup", math.inf, sink=sink, tools=tools))

    async def restore(self, source: Source, options: RestoreOptions) -> tuple[Finding, ...]:
        return _findings(await self._run("restore", math.inf, source=source, options=options))

    async def upgrade_check(self, image: Image) -> tuple[Finding, ...]:
        if not self.offers("upgrade_check"):
            return ()
        return _findings(await self._run("upgrade_check", image=image))

    # ---------------------------------------------------------------- archives of changes

    async def archive_base(self, helper: Access, sink: Sink) -> str:
        return str(await self._run("archive_base", math.inf, helper=helper, sink=sink))

    async def archive_beat(self) -> datetime:
        found = await self._run("archive_beat")
        assert isinstance(found, datetime)
        return found

    async def archive_end(self, *, watching: bool = False) -> None:
        await self._run("archive_end", watching=watching)

    async def recover(self) -> str:
        return str(await self._run("recover"))

    async def recovered(self) -> tuple[Finding, ...]:
        if not self.offers("recovered"):
            return ()
        return _findings(await self._run("recovered"))


def _census(answer: Any) -> Inventory:
    assert isinstance(answer, Inventory)
    return answer


def _findings(answer: Any) -> tuple[Finding, ...]:
    """None, as pluggy leaves it out, is nothing found."""
    findings = tuple(answer or ())
    assert all(isinstance(item, Finding) for item in findings)
    return findings


def require_serving(service: ServiceRecord) -> None:
    """Raise `Conflict` unless accounts can be made on a service now."""
    if service.state != "active" or service.desired != "running":
        word = "stopped" if service.state == "active" else service.state
        raise Conflict(
            f"{service.name} is {word}.", remedy=f"Start it first: purveyor start {service.slug}"
        )
    if service.refusal:
        raise Conflict(f"{service.name} is refused: {service.refusal}")
