"""What is known of things on the engine, as values."""

import hashlib
from collections.abc import Mapping
from datetime import datetime

import msgspec

from purveyor_hooks import Conflict, ContainerSpec


class PortTaken(Conflict):
    """Somebody else has the host port."""

    code = "port-taken"


class AddressesTaken(Conflict):
    """Somebody else has these addresses."""

    code = "addresses-taken"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A container as the engine shows it.

    `state` is Docker's word: created, running, exited, …; `networks` are those that it is on, with
    its address on each, and `network_ids` which ones those are, for a network that is made anew has
    the old one's name. `restarts` is how often the engine has started it again by itself. A list
    leaves out `health`, `exit_code`, `killed` (for want of memory), `error` (why the engine could
    not start it), `restarts`, `started_at`, `contained` (it has none of root's capabilities by
    itself), `read_only` (its root file system) and `hosts` (further names that it knows, with their
    addresses).
    """

    id: str
    name: str
    state: str
    labels: dict[str, str]
    image_id: str = ""
    health: str = ""
    exit_code: int = 0
    restarting: bool = False
    started_at: datetime | None = None
    networks: dict[str, str] = {}
    network_ids: dict[str, str] = {}
    restarts: int = 0
    killed: bool = False
    error: str = ""
    contained: bool = True
    read_only: bool = False
    hosts: dict[str, str] = {}

    @property
    def holds_on(self) -> bool:
        """Whether it has processes now, or will have some by itself."""
        return self.state in ("running", "paused", "restarting")


class FoundVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as the engine shows it. `path` is the folder that it is bound to, "" when the engine
    keeps it itself."""

    name: str
    path: str
    labels: dict[str, str]


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network as the engine shows it, with its ranges of addresses; `ours` when it is one of this
    installation's."""

    name: str
    subnets: tuple[str, ...]
    ours: bool


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a container uses: `memory` in bytes without the page cache, `cpu` in nanoseconds since
    it started."""

    memory: int
    cpu: int


def digest(spec: ContainerSpec, ports: Mapping[int, int], network: str | None) -> str:
    """A short hash that changes whenever the container has to be made anew."""
    content = msgspec.json.encode([spec, sorted(ports.items()), network])
    return hashlib.sha256(content).hexdigest()[:16]
