"""The core that runs, as the API's routes see it: nothing of what is built on the kernel is named
here."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar, runtime_checkable

import anyio.abc
import msgspec

from purveyor.kernel.actors import Who
from purveyor.kernel.api.models import TokenRecord
from purveyor.kernel.api.peers import Network
from purveyor.kernel.api.refusals import Refusals
from purveyor.kernel.cache import Cache
from purveyor.kernel.events.bus import Bus
from purveyor.kernel.events.catalog import Described
from purveyor.kernel.operations import OperationType, Plan, Runner
from purveyor.kernel.operations.immediate import Changed
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.parts import Kernel
from purveyor.kernel.subjects import Subjects

T = TypeVar("T")


class Home(Protocol):
    """The environment and the project of whoever has an address; both 0 for nobody's."""

    @property
    def environment_id(self) -> int: ...
    @property
    def project_id(self) -> int: ...


class SignedIn(Protocol):
    """A session that is open, and the token that it was opened with."""

    @property
    def number(self) -> int: ...
    @property
    def token(self) -> TokenRecord: ...


@runtime_checkable
class Core(Protocol):
    """What routes need of the core that runs."""

    bus: Bus
    memory: Cache
    runner: Runner
    operation_types: Mapping[str, OperationType]
    events: Sequence[Described]  # that features publish by themselves
    subjects: Subjects
    workers: anyio.abc.TaskGroup | None
    wrong_tokens: Refusals
    token_uses: dict[int, datetime]

    @property
    def context(self) -> Kernel: ...

    def now(self) -> datetime: ...

    async def container_networks(self) -> Sequence[Network]:
        """The networks that containers of this host are on."""

    async def home(self, address: str) -> Home: ...

    async def homes(self) -> Mapping[str, int]:
        """The ranges of addresses of apps, and the project that each is of."""

    async def signed_in(self, credential: str) -> SignedIn | None:
        """The session that this opens now; None for what is no session's."""

    def part(self, kind: type[T]) -> T:
        """What a feature made once, by its class."""

    async def run(self, name: str, given: msgspec.Struct, actor: Who) -> OperationRecord:
        """Run an operation to its end. Raises what it failed with."""

    async def begin(self, name: str, given: msgspec.Struct, actor: Who) -> int:
        """Start an operation; the answer is its operation's id."""

    async def change(self, name: str, given: msgspec.Struct, actor: Who) -> Changed:
        """Do an operation without steps: it is done when this returns."""

    async def plan(self, name: str, given: msgspec.Struct) -> Plan:
        """What an operation would do."""
