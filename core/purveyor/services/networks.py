"""The networks of environments: each whose apps run here has one, and the services that it has
accounts on are joined to it.

So apps reach what is linked to them, and nothing of others. Services have the installation's own
network for a home: their published ports, their way out, and what a person attaches by hand. A
container's name resolves on every network that it is on, so that variables name the same hosts
everywhere.

The addresses are ours and recorded: the engine's own ranges end at some thirty networks, and a
network that is made anew has to be the same. What is recorded comes first, and everything here may
be done again after a crash.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from purveyor.context import Context
from purveyor.docker.files import Placed
from purveyor.docker.models import AddressesTaken, Found
from purveyor.kernel.db import Tx
from purveyor.kernel.db.database import convert, note, read_note
from purveyor.kernel.db.models import Record
from purveyor.services import store as services
from purveyor_hooks import Conflict, EngineUnavailable, File, PurveyorError

RANGE = "network-range"
# /16 each, in the order in which they are tried: out of the way of what engines, clouds, clusters
# and homes use
CANDIDATES = [f"10.{number}.0.0/16" for number in (213, 199, 187, 171, *range(170, 127, -1))]
# where a route takes all of 10.0.0.0/8
CANDIDATES += [f"172.{number}.0.0/16" for number in range(31, 19, -1)]
TOLD = "/etc/purveyor/networks"
PREFIX = 26  # 61 containers
MOST = 300  # networks of environments on one host: as far as it was measured
MOST_OF_SERVICE = 100  # a start joins them one by one

HOMES = (
    "SELECT subnet, environment_id, project_id FROM networks JOIN environments ON environments.id "
    "= environment_id"
)
USED = (
    "EXISTS (SELECT 1 FROM deployments WHERE deployments.environment_id = networks.environment_id "
)
USED += "AND deployments.state IN ('active', 'deploying') AND deployments.app IS NOT NULL)"
OF_SLOTS = (
    "SELECT slot, subnet FROM networks JOIN bindings ON bindings.environment_id = "
    "networks.environment_id WHERE service_id = ? AND slot IS NOT NULL ORDER BY slot"
)
JOINED = "SELECT service_id FROM bindings JOIN services ON services.id = service_id "
JOINED += "WHERE bindings.state = 'bound' AND services.state != 'deleted' AND environment_id"


class NetworkRecord(Record, frozen=True):
    """The network of an environment: its range of addresses, and the host's own one in it."""

    id: int
    environment_id: int
    name: str
    subnet: str
    gateway: str


# ---------------------------------------------------------------- records


def find(tx: Tx, environment_id: int) -> NetworkRecord | None:
    row = tx.row("SELECT * FROM networks WHERE environment_id = ?", [environment_id])
    return convert(row, NetworkRecord, tx.secrets) if row else None


def of_service(tx: Tx, service_id: int) -> list[NetworkRecord]:
    """The networks that a service has to be on: those of the environments with an account on it."""
    sql = (
        "SELECT networks.* FROM networks JOIN bindings ON bindings.environment_id = "
        "networks.environment_id "
    )
    sql += "WHERE bindings.service_id = ? AND bindings.state = 'bound' ORDER BY networks.id"
    return [convert(row, NetworkRecord, tx.secrets) for row in tx.rows(sql, [service_id])]


class Home(NamedTuple):
    """The environment whose network an address is on, and its project; both 0 for one that is on
    none of them."""

    environment_id: int = 0
    project_id: int = 0


def homes(tx: Tx) -> dict[str, int]:
    """The ranges of addresses of all environments, and their projects."""
    return {row["subnet"]: row["project_id"] for row in tx.rows(HOMES)}


def home(tx: Tx, address: str) -> Home:
    """Where whoever has an address is at home."""
    with suppress(ValueError):
        found = ipaddress.ip_address(address)
        found = getattr(found, "ipv4_mapped", None) or found
        for row in list(tx.rows(HOMES)):
            if found in ipaddress.ip_network(row["subnet"]):
                return Home(row["environment_id"], row["project_id"])
    return Home()


def _every(tx: Tx) -> list[NetworkRecord]:
    return [
        convert(row, NetworkRecord, tx.secrets)
        for row in tx.rows("SELECT * FROM networks ORDER BY id")
    ]


def _is_over(tx: Tx, record: NetworkRecord) -> bool:
    """Whether no app of its environment runs, or is about to; or it is not recorded any more."""
    return tx.row(f"SELECT 1 FROM networks WHERE id = ? AND {USED}", [record.id]) is None


def require_room(tx: Tx, environment_id: int) -> None:
    """Raise `Conflict` unless an environment may have a network, with all the services that it
    uses."""
    if find(tx, environment_id) is not None:
        return
    if int(tx.value("SELECT count(*) FROM networks")) >= MOST:
        raise Conflict(
            f"{MOST} environments have apps on this host, and each has a network of its own; no "
            "more were tried.",
            remedy=(
                "Delete environments that are over: purveyor project remove-environment "
                "PROJECT ENVIRONMENT"
            ),
        )
    for row in tx.rows(f"{JOINED} = ?", [environment_id]):
        if len(of_service(tx, row["service_id"])) >= MOST_OF_SERVICE:
            name = tx.value("SELECT name FROM services WHERE id = ?", [row["service_id"]])
            raise Conflict(
                f"{name} is on the networks of {MOST_OF_SERVICE} environments already.",
                remedy=(
                    "Link this project to another service of the type, or delete environments "
                    "that are over."
                ),
            )


def _allocated(tx: Tx, environment_id: int, name: str, taken: Iterable[str]) -> NetworkRecord:
    """The recorded network of an environment, chosen now if there is none."""
    found = find(tx, environment_id)
    if found is None:
        subnet = _free(tx, taken)
        values = {
            "environment_id": environment_id,
            "name": name,
            "subnet": str(subnet),
            "gateway": str(subnet[1]),
        }
        tx.insert("networks", **values)
        found = find(tx, environment_id)
        assert found is not None
    return found


def take_in(tx: Tx, environment_id: int, name: str, subnet: str) -> None:
    """Record a network that is there."""
    gateway = str(ipaddress.IPv4Network(subnet)[1])
    tx.insert("networks", environment_id=environment_id, name=name, subnet=subnet, gateway=gateway)


def _moved(tx: Tx, record: NetworkRecord, taken: Iterable[str]) -> NetworkRecord:
    """The network with other addresses, for somebody has those that were recorded."""
    subnet = _free(tx, [*taken, record.subnet])
    tx.update("networks", "id = ?", [record.id], subnet=str(subnet), gateway=str(subnet[1]))
    found = find(tx, record.environment_id)
    assert found is not None
    return found


def _free(tx: Tx, taken: Iterable[str]) -> ipaddress.IPv4Network:
    recorded = {
        ipaddress.IPv4Network(row["subnet"]) for row in tx.rows("SELECT subnet FROM networks")
    }
    others = [item for item in _ranges(taken) if item not in recorded]
    whole = ipaddress.IPv4Network(_range(tx, others))
    # a wider route, of a VPN that came later for one, gives way to ours; nobody's deploys end
    # because of it
    others = [item for item in others if not whole.subnet_of(item)]
    for subnet in whole.subnets(new_prefix=max(PREFIX, whole.prefixlen)):
        if subnet not in recorded and not any(subnet.overlaps(item) for item in others):
            return subnet
    raise Conflict(
        f"There are no free addresses in {whole} for the network of one more environment.",
        remedy="Choose a wider range in the settings file: network-range",
    )


def _range(tx: Tx, others: Iterable[ipaddress.IPv4Network]) -> str:
    """The range that all the networks are in: the one that was chosen, or the first that nobody
    uses."""
    known = read_note(tx, RANGE)
    if known:
        return known
    used = list(others)
    for candidate in CANDIDATES:
        if not any(ipaddress.IPv4Network(candidate).overlaps(item) for item in used):
            note(tx, RANGE, candidate)
            return candidate
    raise Conflict(
        "No range of addresses is free on this host.",
        remedy="Choose one in the settings file: network-range",
    )


def choose_range(tx: Tx, wanted: str) -> None:
    """Have the range that the settings say, for networks that are made from now on."""
    if wanted and wanted != read_note(tx, RANGE):
        note(tx, RANGE, wanted)


def _ranges(texts: Iterable[str]) -> list[ipaddress.IPv4Network]:
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(ipaddress.IPv4Network(text, strict=False))
    return found


# ---------------------------------------------------------------- on the engine


class Networks:
    """Has networks and who is on them as they are recorded."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._engine = context.engine.networks

    async def ensure(self, environment_id: int, name: str) -> NetworkRecord:
        """The network of an environment whose app is about to run, with the services that it
        uses."""
        async with self._engine.turn:
            record = await self._context.store.read(lambda tx: find(tx, environment_id))
            if record is None:
                taken = await self._engine.taken()

                def work(tx: Tx) -> NetworkRecord:
                    choose_range(tx, self._context.settings.network_range)
                    return _allocated(tx, environment_id, name, taken)

                record = await self._context.store.write(work)
            record, number = await self._made(record)
        rows = await self._context.store.read(
            lambda tx: list(tx.rows(f"{JOINED} = ?", [environment_id]))
        )
        for row in rows:
            await self._join_one(row["service_id"], record.name, number)
        return record

    async def _made(self, record: NetworkRecord) -> tuple[NetworkRecord, str]:
        """The network on the engine, and its id; made anew with other addresses when its own are
        somebody's by now."""
        for _ in range(MOST):
            try:
                return record, await self._engine.ensure(
                    record.name, (record.subnet, record.gateway), record.environment_id
                )
            except AddressesTaken:
                taken, before = await self._engine.taken(), record
                record = await self._context.store.write(lambda tx: _moved(tx, before, taken))  # noqa: B023
        raise Conflict(
            "No free addresses found for the network.",
            remedy="Choose a range: network-range in the settings file.",
        )

    async def expected(self, *, service: int = 0, environment: int = 0) -> dict[str, str]:
        """The networks that the container of a service, or of an environment's app, has to be on,
        and which ones those are now; "" for one that is not there."""

        def look(tx: Tx) -> list[str]:
            found = of_service(tx, service) if service else [find(tx, environment)]
            return [item.name for item in found if item]

        names = await self._context.store.read(look)
        expected = {}
        # an app that was deployed before there were networks of environments is on this one
        if service or not names:
            expected[self._context.engine.namespace] = await self._context.engine.network_id()
        if names:
            ids = await self._engine.ids()
            expected |= {name: ids.get(name, "") for name in names}
        return expected

    async def take_in(self, environment_id: int, name: str, found: Found) -> None:
        """Have a network for an app that was deployed before there were any, and it on there under
        its names: it goes on being on the installation's own one until its next deployment."""
        aliases = await self._context.engine.containers.aliases(found.id)
        await self.ensure(environment_id, name)
        if name not in found.networks:
            await self._context.engine.containers.connect(
                found.id, [item for item in aliases if not found.id.startswith(item)], name
            )

    async def join(self, service_id: int, told: str | None = None) -> None:
        """Have a service's container on the networks of all environments that use it, and on no
        other of ours: one that is gone by now would keep it from starting. `told` is what it was
        just made with."""
        if (found := await self._container(service_id)) is not None:
            await self._tell(found, service_id, told)
            await self._join(
                found, await self._context.store.read(lambda tx: of_service(tx, service_id))
            )

    async def ownership(self, service_id: int) -> str | None:
        """Which networks are whose, for a service's container that is to know it; None for any
        other."""

        def look(tx: Tx) -> str | None:
            record = services.get(tx, service_id)
            provider = self._context.registry.find(record.service_type)
            if record.imported or provider is None or not provider.kind.told_networks:
                return None
            return "".join(
                f"{row['slot']} {row['subnet']}\n" for row in tx.rows(OF_SLOTS, [service_id])
            )

        return await self._context.store.read(look)

    async def _tell(self, found: Found, service_id: int, told: str | None = None) -> None:
        """Have a container that is to know it know which networks are whose, before it is on
        them."""
        owned = await self.ownership(service_id)
        if owned is not None and owned != told:
            try:
                await self._context.engine.containers.put(found.id, ownership_files(owned))
            except EngineUnavailable:
                raise
            except PurveyorError as error:  # one of before has no room for it
                self._context.logger.warning(
                    "networks.told", service=service_id, error=error.detail
                )

    async def admit(self, service_id: int, environment_id: int | None) -> None:
        """Have a service on the network of an environment that has an account on it now. One that
        has no network is not looked for: the engine takes long to tell hundreds of them."""

        def look(tx: Tx) -> bool:
            return environment_id is not None and find(tx, environment_id) is None

        if not await self._context.store.read(look):
            await self.join(service_id)

    async def _container(self, service_id: int) -> Found | None:
        """A service's container. It is asked for before the records are read: a network that it is
        on was recorded first, so one that is not recorded afterwards is over, and not about to
        begin."""
        name = await self._context.store.read(
            lambda tx: tx.value("SELECT container_name FROM services WHERE id = ?", [service_id])
        )
        return (
            await self._context.engine.containers.inspect(str(name), foreign=True) if name else None
        )

    async def _join(self, found: Found, wanted: Iterable[NetworkRecord]) -> None:
        records = {record.name: record for record in wanted}
        containers, ids = self._context.engine.containers, {}
        for name in sorted(found.networks.keys() - records.keys()):
            if self.ours(name):
                await containers.leave(found.id, name)
        if records:
            ids = await self._engine.ids()
        for name, record in records.items():
            try:
                number = ids.get(name) or await self._again(record)
            except EngineUnavailable:
                raise
            except PurveyorError as error:
                self._context.logger.warning("network", network=name, error=error.detail)
                continue
            if number:
                await self._put_on(found, name, number)

    async def _join_one(self, service_id: int, name: str, number: str) -> None:
        """Have a service's container on one network more. The others are not looked at: it may be
        on a hundred, and the engine takes long to tell them."""
        found = await self._container(service_id)
        if found is not None and found.network_ids.get(name) != number:
            await self._tell(found, service_id)
            await self._put_on(found, name, number)

    async def _put_on(self, found: Found, name: str, number: str) -> None:
        """Have a container on a network. One that cannot be had keeps no service from starting, and
        is told as an incident."""
        containers = self._context.engine.containers
        try:
            if name not in found.networks:
                await containers.join(found.id, name)
            elif found.network_ids.get(name) != number:  # of a network that is gone
                await containers.connect(found.id, [], name)
        except EngineUnavailable:
            raise
        except PurveyorError as error:
            self._context.logger.warning("network", network=name, error=error.detail)

    async def _again(self, record: NetworkRecord) -> str:
        """The id of a network that was lost and is made anew, "" when it is not wanted any more."""
        async with self._engine.turn:
            if await self._context.store.read(lambda tx: _is_over(tx, record)):
                return ""
            _, number = await self._made(record)
        return number

    async def leave(self, service_id: int, environment_id: int | None = None) -> None:
        """Take a service's container from the network of an environment whose account on it has
        ended, or from all of them."""

        def look(tx: Tx) -> list[NetworkRecord]:
            return [
                item
                for item in of_service(tx, service_id)
                if environment_id not in (None, item.environment_id)
            ]

        if (found := await self._container(service_id)) is not None:
            await self._join(found, await self._context.store.read(look))

    def strays(self, found: Found, expected: Mapping[str, str]) -> bool:
        """Whether a container is on a network of an environment that has no account on it."""
        return any(self.ours(name) and name not in expected for name in found.networks)

    def ours(self, name: str) -> bool:
        """Whether a network is one of an environment."""
        return name.startswith(f"{self._context.engine.namespace}.")

    async def drop(self, environment_id: int) -> None:
        """Remove the network of an environment whose apps are gone. What others have on it is
        named, and it stays until they have left."""
        async with self._engine.turn:
            await self._drop(environment_id)

    async def _drop(self, environment_id: int) -> None:
        record = await self._context.store.read(lambda tx: find(tx, environment_id))
        if record is None:
            return
        if others := await self._engine.delete(record.name):
            self._context.logger.warning(
                "network.in_use", network=record.name, containers=", ".join(others)
            )
            return
        await self._context.store.write(
            lambda tx: tx.db.execute("DELETE FROM networks WHERE id = ?", [record.id])
        )

    async def settle(self) -> None:
        """Remove the networks of environments without an app, and make those anew that somebody has
        removed."""

        recorded = await self._context.store.read(_every)
        if not recorded:
            return
        ids = await self._engine.ids()
        for record in recorded:
            try:
                async with self._engine.turn:
                    if await self._context.store.read(lambda tx: _is_over(tx, record)):  # noqa: B023
                        await self._drop(record.environment_id)
                    elif record.name not in ids:
                        await self._made(record)
            except EngineUnavailable:
                raise
            except PurveyorError as error:  # one that cannot be had keeps nobody from the others
                self._context.logger.warning("network", network=record.name, error=error.detail)


def ownership_files(owned: str) -> list[Placed]:
    """Which networks are whose, where a container looks for it; and its sum, for whoever looks
    while the engine writes it."""
    sum_of = hashlib.sha256(owned.rstrip("\n").encode()).hexdigest()
    return [
        Placed(File(path=TOLD, content=owned)),
        Placed(File(path=f"{TOLD}.sum", content=f"{sum_of}\n")),
    ]


def find_missing(found: Found | None, wanted: Mapping[str, str]) -> str:
    """The first network that a container has to be on and is not, "" when there is none."""
    here: Mapping[str, str] = found.network_ids if found is not None else {}
    return next(
        (name for name, number in wanted.items() if not number or here.get(name) != number), ""
    )


def name_of(namespace: str, project: str, environment: str) -> str:
    """Sorts after the installation's own network, whose name it begins with: the engine takes the
    first by name for a container's way out and its published ports."""
    return f"{namespace}.{project}.{environment}"
