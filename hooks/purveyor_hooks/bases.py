"""The hooks as methods of typed classes, one for each capability: for plugins that want a type checker
to look at them. Functions that are marked `hookimpl` do as well, and a plugin is one or the other.

A plugin is an object of a class of its own, and the entry point names the object::

    class Acme(bases.Type, bases.Links):
        def service_type(self) -> ph.ServiceType: ...

    plugin = Acme()

    [project.entry-points.purveyor]
    acme = "acme_store:plugin"

What a capability cannot do without is abstract: a class that lacks it cannot be made into an object.
The rest of its hooks is seen by type checkers alone, so that what a class does not have is not
called. A method takes all arguments of its hook, by their names; `specs` says what they are. One whose
driver takes long to import stands elsewhere: ``ready = implemented_by("acme_store.server:ready")``.

`tests/kernel/test_bases.py` holds these classes against `specs`.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from purveyor_hooks import specs
from purveyor_hooks.elsewhere import ELSEWHERE
from purveyor_hooks.markers import hookimpl
from purveyor_hooks.operations import ServiceOperation
from purveyor_hooks.protocols import (
    Access,
    Application,
    AppRuntime,
    Contents,
    Core,
    Exercise,
    Reader,
    Sink,
    Source,
)
from purveyor_hooks.types import (
    Binding,
    Client,
    ContainerSpec,
    Deployment,
    DeployResult,
    Event,
    Finding,
    FoundContainer,
    Health,
    HeldAccount,
    Image,
    Inventory,
    Listing,
    Operation,
    Probe,
    Recognition,
    Recovery,
    RestoreOptions,
    Retold,
    Service,
    ServiceType,
    UpgradePlan,
    Variable,
)

if TYPE_CHECKING:
    import click


class Plugin(ABC):  # noqa: B024 - each class below has its own
    """What all of these are: methods that are named like a hook are its implementation."""

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        for name, member in list(vars(cls).items()):
            function = member.__func__ if isinstance(member, staticmethod) else member
            if not inspect.isfunction(function) or not inspect.isfunction(
                getattr(specs, name, None)
            ):
                continue
            if getattr(function, "__isabstractmethod__", False):
                continue
            hookimpl(function)
            if hasattr(function, ELSEWHERE):  # it takes the arguments of the hook alone
                setattr(cls, name, staticmethod(function))


class Type(Plugin):
    """What every service type is."""

    @abstractmethod
    def service_type(self) -> ServiceType: ...

    @abstractmethod
    def container(self, *, service: Service) -> ContainerSpec: ...

    @abstractmethod
    async def ready(self, *, service: Service, access: Access) -> Health: ...

    if TYPE_CHECKING:

        def data_major(self, *, image: Image, parameters: Mapping[str, Any]) -> str: ...

        def secrets(self, *, service: Service) -> dict[str, str]: ...

        def notes(self, *, service: Service) -> Sequence[str]: ...

        def exercise(self) -> Exercise: ...

        async def identity(self, *, service: Service, access: Access, create: bool) -> str: ...

        async def renew_certificate(self, *, service: Service, access: Access) -> None: ...

        async def rotate_administrator(
            self, *, service: Service, access: Access, previous: Service
        ) -> None: ...

        def client(self, *, service: Service) -> Client: ...

        async def examine(
            self, *, service: Service, access: Access, bindings: Sequence[Binding]
        ) -> tuple[Finding, ...]: ...


class Links(Plugin):
    """Accounts for projects."""

    @abstractmethod
    async def bind(self, *, service: Service, access: Access, binding: Binding) -> None: ...

    @abstractmethod
    async def unbind(self, *, service: Service, access: Access, binding: Binding) -> None: ...

    @abstractmethod
    async def purge(self, *, service: Service, access: Access, binding: Binding) -> None: ...

    @abstractmethod
    def environment(self, *, service: Service, binding: Binding) -> Sequence[Variable]: ...

    if TYPE_CHECKING:

        def outdated(self, *, service: Service, binding: Binding) -> str: ...

        async def rotate(
            self,
            *,
            service: Service,
            access: Access,
            binding: Binding,
            previous: str,
            former: str,
            until: datetime | None,
        ) -> None: ...

        async def retire(self, *, service: Service, access: Access, binding: Binding) -> None: ...

        async def purge_extra(
            self, *, service: Service, access: Access, binding: Binding, extra: str
        ) -> None: ...

        def probes(self, *, service: Service, binding: Binding) -> Sequence[Probe]: ...


class Backups(Plugin):
    """Backups and restores."""

    @abstractmethod
    async def backup(
        self, *, service: Service, access: Access, sink: Sink, tools: Access | None
    ) -> Inventory: ...

    @abstractmethod
    async def restore(
        self, *, service: Service, access: Access, source: Source, options: RestoreOptions
    ) -> tuple[Finding, ...]: ...

    @abstractmethod
    async def census(self, *, service: Service, access: Access) -> Inventory: ...

    if TYPE_CHECKING:

        async def extract(self, *, source: Source, database: str, sink: Sink) -> None: ...

        async def contents(self, *, source: Source, into: Contents) -> None: ...


class Upgrades(Plugin):
    """Other versions, with the data."""

    @abstractmethod
    def upgrade_plan(self, *, service: Service, image: Image) -> UpgradePlan: ...

    if TYPE_CHECKING:

        async def upgrade_check(
            self, *, service: Service, access: Access, image: Image
        ) -> tuple[Finding, ...]: ...


class Archiving(Plugin):
    """Continuous archiving."""

    @abstractmethod
    def archive_helper(self, *, service: Service) -> ContainerSpec: ...

    @abstractmethod
    async def archive_base(
        self, *, service: Service, access: Access, helper: Access, sink: Sink
    ) -> str: ...

    @abstractmethod
    async def archive_beat(self, *, service: Service, access: Access) -> datetime: ...

    @abstractmethod
    def recovery(self, *, service: Service, at: datetime | None) -> Recovery: ...

    @abstractmethod
    async def recover(self, *, service: Service, access: Access) -> str: ...

    if TYPE_CHECKING:

        async def archive_end(self, *, service: Service, access: Access) -> None: ...

        def archive_gap(self, *, names: Sequence[str]) -> str: ...

        async def recovered(self, *, service: Service, access: Access) -> tuple[Finding, ...]: ...


class Import(Plugin):
    """Containers that somebody else made."""

    @abstractmethod
    def recognise(self, *, container: FoundContainer) -> Recognition | None: ...

    @abstractmethod
    async def adopt(self, *, service: Service, access: Access) -> Health: ...


class Retelling(Plugin):
    """What a container was made with, after the record of its service was lost."""

    @abstractmethod
    async def retell(self, *, container: FoundContainer, read: Reader) -> Retold: ...

    if TYPE_CHECKING:

        async def regain(self, *, service: Service, access: Access) -> None: ...

        async def held(self, *, service: Service, access: Access) -> Sequence[HeldAccount]: ...


class Browsing(Plugin):
    """A look at what a service holds."""

    @abstractmethod
    async def browse(
        self, *, service: Service, access: Access, path: tuple[str, ...], cursor: str, order: str
    ) -> Listing: ...

    if TYPE_CHECKING:

        async def download(
            self, *, service: Service, access: Access, path: tuple[str, ...], sink: Sink
        ) -> None: ...


class Operating(Plugin):
    """Operations of the plugin's own."""

    @abstractmethod
    def operations(self) -> "Sequence[ServiceOperation[Any]]": ...


class Everyones(Plugin):
    """What any plugin may do, with or without a service type."""

    if TYPE_CHECKING:

        async def before_operation(self, *, operation: Operation) -> str | None: ...

        async def on_event(self, *, event: Event) -> None: ...

        async def before_deploy(self, *, deployment: Deployment) -> str | None: ...

        async def deploy(
            self, *, deployment: Deployment, runtime: AppRuntime
        ) -> DeployResult | None: ...

        async def after_deploy(
            self, *, deployment: Deployment, result: DeployResult | None
        ) -> None: ...

        async def startup(self, *, core: Core) -> None: ...

        async def shutdown(self) -> None: ...

        def cli_commands(self) -> "Sequence[click.Command]": ...

        def http_routes(self, *, app: Application) -> Sequence[Any]: ...
