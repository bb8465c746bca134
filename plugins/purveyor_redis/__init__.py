"""The service type ``redis``: for each project and environment a server process of its own in the
service's container, or one database number and one ACL user on one server for all.

Redis 7.0 and later, and Valkey. Of one server for all, measured on 7.0: ``-select +select|3`` keeps an ACL user out of
every other database, scripts included; but a connection begins on database 0 before any SELECT, and
``COPY … DB n`` crosses databases. So 0 is never given out, and COPY is denied.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from purveyor_hooks import (
    Access,
    Binding,
    Census,
    Client,
    Command,
    ContainerSpec,
    Contents,
    Exercise,
    Finding,
    FoundContainer,
    Health,
    HeldAccount,
    Image,
    Listing,
    Naming,
    Parameter,
    Port,
    Probe,
    Reader,
    Recognition,
    RestoreOptions,
    Retold,
    Service,
    ServiceType,
    Sink,
    Source,
    UpgradePlan,
    Variable,
    certificates,
    hookimpl,
)
from purveyor_redis import accounts, division, found, retold, server, snapshot, upgrades

PORT = 6379


@hookimpl
def service_type() -> ServiceType:
    return ServiceType(
        name="redis",
        label="Redis",
        description="Cache, queue and key-value store",
        default_image="gotempsh/redis-walg:8-bookworm",
        color="#d82c20",
        icon_url="/static/icons/redis.svg",
        ports=(Port(container=PORT),),
        naming=Naming(separator="_", limit=63),
        slots=(server.FIRST_SLOT, server.LAST_SERVER),
        parameters=(
            Parameter(
                name="port", help="Port on 127.0.0.1.", kind="integer", generated="port", base=PORT
            ),
            Parameter(
                name="password",
                help="The password of the user `default`; no app ever gets it.",
                generated="password",
                length=32,
                editable=False,
                secret=True,
            ),
            server.MAXMEMORY,
            server.CHANNELS,
            server.PROJECT_MAXMEMORY,
            server.POLICY,
            certificates.SSL_MODE,
        ),
    )


@hookimpl
def data_major(image: Image, parameters: Mapping[str, Any]) -> str:
    """How the data is divided. Later servers read what earlier ones wrote; one that is too old says
    so and does not start."""
    return upgrades.layout(parameters)


@hookimpl
def notes(service: Service) -> list[str]:
    return server.notes(service)


@hookimpl
def container(service: Service) -> ContainerSpec:
    return server.container(service)


@hookimpl
async def renew_certificate(service: Service, access: Access) -> None:
    await server.renew_certificate(service, access)
    if server.divided(service):
        await division.run(access, "renew")


@hookimpl
async def ready(service: Service, access: Access) -> Health:
    health = await server.ready(service, access)
    # one that ends itself keeps nobody else from being served
    if health.healthy and server.divided(service):
        return msgspec.structs.replace(
            health, detail=" ".join(filter(None, (health.detail, await division.trouble(access))))
        )
    return health


@hookimpl
async def identity(service: Service, access: Access, create: bool) -> str:
    return await server.identity(service, access, create)


@hookimpl
async def retell(container: FoundContainer, read: Reader) -> Retold:
    return await retold.retell(container, read)


@hookimpl
async def regain(service: Service, access: Access) -> None:
    await retold.regain(service, access)


@hookimpl
async def held(service: Service, access: Access) -> list[HeldAccount]:
    return await retold.held(service, access)


@hookimpl
async def bind(service: Service, access: Access, binding: Binding) -> None:
    await accounts.bind(service, access, binding)


@hookimpl
async def unbind(service: Service, access: Access, binding: Binding) -> None:
    await accounts.unbind(service, access, binding)


@hookimpl
async def purge(service: Service, access: Access, binding: Binding) -> None:
    await accounts.purge(service, access, binding)


@hookimpl
def environment(service: Service, binding: Binding) -> list[Variable]:
    several = server.divided(service) and binding.slot is not None
    inner, encrypted, number = PORT, server.TLS_PORT, binding.slot
    if several:
        inner, number = server.port_of(binding.slot or 0), 0
        encrypted = inner + server.ENCRYPTED
    host, port = service.host_of(inner), service.port(inner)
    account, password = quote(binding.account, safe=""), quote(binding.password, safe="")
    where = f"{account}:{password}@{host}"
    url = f"redis://{where}:{port}/{number}"
    if certificates.demanded(service):
        url = f"rediss://{where}:{port}/{number}{server.asked(service, host)}"
    beside = []
    # it is not published
    if service.tls is not None and not certificates.demanded(service) and not service.ports:
        beside = [
            Variable(
                name="REDIS_TLS_URL",
                value=f"rediss://{where}:{encrypted}/{number}{server.asked(service, host)}",
                secret=True,
            ),
            Variable(name="REDIS_TLS_PORT", value=str(encrypted)),
        ]
    return [
        Variable(name="REDIS_URL", value=url, secret=True),
        Variable(name="REDIS_HOST", value=host),
        Variable(name="REDIS_PORT", value=str(port)),
        Variable(name="REDIS_DATABASE", value=str(number)),
        Variable(name="REDIS_USERNAME", value=binding.account),
        Variable(name="REDIS_PASSWORD", value=binding.password, secret=True),
        *beside,
        *certificates.variables(service, "REDIS"),
    ]


@hookimpl
def client(service: Service) -> Client:
    """Of servers of environments, the arguments say which one: ``-p 7001``."""
    program, *words = server.cli(service)
    argv = (division.LAUNCHER, "cli") if server.divided(service) else (program,)
    return Client(argv=(*argv, *words), environment=server.login(service))


@hookimpl
def probes(service: Service, binding: Binding) -> list[Probe]:
    several = server.divided(service)
    cli = server.cli(service, service.host, server.port_of(binding.slot or 0) if several else PORT)
    login = ("-e", "-n", "0" if several else str(binding.slot), "--user", binding.account)
    secret = {"REDISCLI_AUTH": binding.password}
    key = "purveyor:probe"

    def command(*words: str) -> Command:
        return Command(argv=(*cli, *login, *words), environment=secret)

    # of ours none answers without a password
    answers = "PONG|NOAUTH" if service.imported else "NOAUTH"
    tcp = Command(argv=("sh", "-c", f"{' '.join(cli)} PING | grep -Eo '{answers}'"))
    logged_in = " ".join((*cli, *login))
    write = ("sh", "-c", f"{logged_in} SET {key} 1 EX 10 && {logged_in} DEL {key}")
    return [
        Probe(name="tcp", command=tcp),
        Probe(name="login", command=command("ACL", "WHOAMI")),
        Probe(name="query", command=command("DBSIZE")),
        Probe(name="write", command=Command(argv=write, environment=secret)),
    ]


@hookimpl
async def examine(
    service: Service, access: Access, bindings: Sequence[Binding]
) -> tuple[Finding, ...]:
    if not server.divided(service):
        return ()
    found = await division.examine(service, access, bindings)
    return tuple(Finding(where=whose, what="server", why=why) for whose, why in found)


@hookimpl
async def census(service: Service, access: Access, binding: Binding | None) -> Census:
    return await snapshot.census(service, access)


@hookimpl
async def backup(service: Service, access: Access, sink: Sink, tools: Access | None) -> Census:
    """An RDB is read by every later version: the service's own programs are right for an upgrade as
    well."""
    return await snapshot.backup(service, access, sink)


@hookimpl
async def restore(
    service: Service, access: Access, source: Source, options: RestoreOptions
) -> tuple[Finding, ...]:
    return await snapshot.restore(service, access, source, options)


@hookimpl
async def extract(source: Source, database: str, sink: Sink) -> None:
    await snapshot.extract(source, database, sink)


@hookimpl
async def contents(source: Source, into: Contents) -> None:
    from purveyor_redis import telling

    await telling.contents(source, into)


@hookimpl
async def rotate(
    service: Service, access: Access, binding: Binding, until: datetime | None
) -> None:
    await accounts.rotate(service, access, binding, until)


@hookimpl
async def retire(service: Service, access: Access, binding: Binding) -> None:
    await accounts.retire(service, access, binding)


@hookimpl
async def rotate_administrator(service: Service, access: Access, previous: Service) -> None:
    await accounts.rotate_administrator(service, access, previous)


@hookimpl
def upgrade_plan(service: Service, image: Image) -> UpgradePlan:
    return upgrades.plan(service, image)


@hookimpl
def recognise(container: FoundContainer) -> Recognition | None:
    return found.recognise(container)


@hookimpl
async def adopt(service: Service, access: Access) -> Health:
    return await found.adopt(service, access)


@hookimpl
def exercise() -> Exercise:
    from purveyor_redis.apps import Keys

    return Keys()


@hookimpl
async def browse(
    service: Service, access: Access, path: tuple[str, ...], cursor: str, order: str
) -> Listing:
    from purveyor_redis import browsing

    return await browsing.browse(service, access, path, cursor)
