"""Which plugin provides which service type."""

from collections.abc import Sequence

from purveyor.kernel.logs import make_logger
from purveyor.kernel.plugins.registry import Calls, Plugin, Registry
from purveyor.kernel.plugins.validation import Hooks
from purveyor.providers import validation
from purveyor.providers.provider import Provider
from purveyor_hooks import Logger, NotFound, ServiceType, declared


class ProviderRegistry(Registry):
    """All plugins of this process, and the service types that they provide."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logger)
        self._providers: dict[str, Provider] = {}

    @property
    def kinds(self) -> Sequence[ServiceType]:
        """All service types, by name."""
        return [self._providers[name].kind for name in sorted(self._providers)]

    def admit(self, plugin: Plugin, implemented: Hooks, calls: Calls, wrong: list[str]) -> None:
        wrong += validation.together(implemented)
        if "service_type" not in implemented:
            return
        kind = calls("service_type")()[0]
        if not isinstance(kind, ServiceType):
            raise TypeError(f"service_type answers {type(kind).__name__}, not ServiceType")
        wrong += validation.service_type(kind)
        if kind.name in self._providers:
            owner = self._providers[kind.name].plugin.name
            wrong.append(f"the service type {kind.name!r} is taken by the plugin {owner}")
        if wrong:
            return
        provider = Provider(kind, plugin, calls)
        if provider.offers("operations"):
            provider.operations = tuple(calls("operations")()[0])
            wrong += declared.faults(provider.operations)
        if wrong:
            return
        plugin.service_type = kind.name
        self._providers[kind.name] = provider

    def kind(self, service_type: str) -> ServiceType:
        """A service type as its owner declares it. Raises `NotFound` when its plugin is gone."""
        return self.provider(service_type).kind

    def find(self, service_type: str) -> Provider | None:
        return self._providers.get(service_type)

    def provider(self, service_type: str) -> Provider:
        """The owner of a service type. Raises `NotFound` when its plugin is gone."""
        found = self.find(service_type)
        if found is None:
            raise NotFound(
                f"No plugin provides the service type {service_type!r}.",
                remedy=(
                    "Install its plugin again; the service and its data are kept. See: "
                    "purveyor plugin list"
                ),
            )
        return found


def load_installed(log_level: int) -> ProviderRegistry:
    """All plugins that are installed here, for commands that need no daemon."""
    registry = ProviderRegistry(make_logger(log_level))
    registry.load()
    return registry
