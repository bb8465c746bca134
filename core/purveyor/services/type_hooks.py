"""What is asked of a service type, without one of its services."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from purveyor.providers.provider import Provider
from purveyor_hooks import (
    Contents,
    FoundContainer,
    Image,
    Reader,
    Recognition,
    Retold,
    Service,
    ServiceType,
    Sink,
    Source,
)


@dataclass(frozen=True)
class TypeHooks:
    """The hooks of a service type, typed. Optional ones that are not there answer nothing."""

    provider: Provider

    @property
    def kind(self) -> ServiceType:
        return self.provider.kind

    def offers(self, hook: str) -> bool:
        return self.provider.offers(hook)

    def require(self, hook: str, what: str) -> None:
        """Raise `BadInput` unless the type implements a hook."""
        self.provider.require(hook, what)

    def data_major(self, image: Image, parameters: Mapping[str, Any]) -> str:
        if not self.offers("data_major"):
            return ""
        return str(self.provider.call("data_major", image=image, parameters=parameters))

    def secrets(self, service: Service) -> dict[str, str]:
        if not self.offers("secrets"):
            return service.secrets
        return dict(self.provider.call("secrets", service))

    def recognise(self, container: FoundContainer) -> Recognition | None:
        if not self.offers("recognise"):
            return None
        found = self.provider.call("recognise", container=container)
        assert found is None or isinstance(found, Recognition)
        return found

    def archive_gap(self, names: Sequence[str]) -> str:
        if not self.offers("archive_gap"):
            return ""
        return str(self.provider.call("archive_gap", names=names))

    async def retell(self, container: FoundContainer, read: Reader) -> Retold:
        self.require("retell", "a way back without its record")
        found = await self.provider.run("retell", container=container, read=read)
        assert isinstance(found, Retold)
        return found

    async def extract(self, source: Source, database: str, sink: Sink) -> None:
        self.require("extract", "taking one database or bucket out of a backup")
        await self.provider.run("extract", source=source, database=database, sink=sink)

    async def contents(self, source: Source, into: Contents) -> None:
        self.require("contents", "the comparison of contents")
        await self.provider.run("contents", source=source, into=into)
