"""The service type ``redis``: for each project and environment a server process of its own in the
service's container, or one database number and one ACL user on one server for all.

Redis 7.0 and later, and Valkey. Of one server for all, measured on 7.0: ``-select +select|3`` keeps an ACL user out of
every other database, scripts included; but a connection begins on database 0 before any SELECT, and
``COPY … DB n`` crosses databases. So 0 is never given out, and COPY is denied.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from purveyor_hooks import (
    Access,
    Binding,
    Client,
    Command,
    Exercise,
    Finding,
    Health,
    Image,
    Naming,
    Parameter,
    Port,
    Probe,
    Service,
    ServiceType,
    Variable,
    bases,
    certificates,
    implemented_by,
)
from purveyor_redis import division, server, upgrades

PORT = 6379


class Server(
    bases.Type, bases.Links, bases.Backups, bases.Upgrades, bases.Retelling, bases.Browsing
):
    """What the server does, whichever type it is of."""

    def data_major(self, image: Image, parameters: Mapping[str, Any]) -> str:
        """How the data is divided. Later servers read what earlier ones wrote; one that is too old says
        so and does not start."""
        return upgrades.layout(parameters)

    async def renew_certificate(self, service: Service, access: Access) -> None:
        await server.renew_certificate(service, access)
        if server.is_divided(service):
            await division.run(access, "renew")

    async def ready(self, service: Service, access: Access) -> Health:
        health = await server.ready(service, access)
        # one that ends itself keeps nobody else from being served
        if health.healthy and server.is_divided(service):
            return msgspec.structs.replace(
                health,
                detail=" ".join(filter(None, (health.detail, await division.trouble(access)))),
            )
        return health

    def client(self, service: Service) -> Client:
        """Of servers of environments, the arguments say which one: ``-p 7001``."""
        program, *words = server.cli(service)
        argv = (division.LAUNCHER, "cli") if server.is_divided(service) else (program,)
        return Client(argv=(*argv, *words), environment=server.login(service))

    def probes(self, service: Service, binding: Binding) -> list[Probe]:
        several = server.is_divided(service)
        cli = server.cli(
            service, service.host, server.port_of(binding.slot or 0) if several else PORT
        )
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

    # what asks the server, or is long: in a module of its own, imported when it is called
    identity = implemented_by("purveyor_redis.server:identity")
    retell = implemented_by("purveyor_redis.retold:retell")
    regain = implemented_by("purveyor_redis.retold:regain")
    held = implemented_by("purveyor_redis.retold:held")
    bind = implemented_by("purveyor_redis.accounts:bind")
    unbind = implemented_by("purveyor_redis.accounts:unbind")
    purge = implemented_by("purveyor_redis.accounts:purge")
    census = implemented_by("purveyor_redis.snapshot:census")
    backup = implemented_by("purveyor_redis.snapshot:backup")
    restore = implemented_by("purveyor_redis.snapshot:restore")
    extract = implemented_by("purveyor_redis.snapshot:extract")
    contents = implemented_by("purveyor_redis.telling:contents")
    rotate = implemented_by("purveyor_redis.accounts:rotate")
    retire = implemented_by("purveyor_redis.accounts:retire")
    rotate_administrator = implemented_by("purveyor_redis.accounts:rotate_administrator")
    upgrade_plan = implemented_by("purveyor_redis.upgrades:upgrade_plan")
    browse = implemented_by("purveyor_redis.browsing:browse")


class Redis(Server, bases.Import):
    """What the type does."""

    def service_type(self) -> ServiceType:
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
            told_networks=True,
            parameters=(
                Parameter(
                    name="port",
                    help="Port on 127.0.0.1.",
                    kind="integer",
                    generated="port",
                    base=PORT,
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

    def environment(self, service: Service, binding: Binding) -> list[Variable]:
        several = server.is_divided(service) and binding.slot is not None
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

    async def examine(
        self, service: Service, access: Access, bindings: Sequence[Binding]
    ) -> tuple[Finding, ...]:
        if not server.is_divided(service):
            return ()
        found = await division.examine(service, access, bindings)
        return tuple(Finding(where=whose, what="server", why=why) for whose, why in found)

    def exercise(self) -> Exercise:
        from purveyor_redis.apps import Keys

        return Keys()

    notes = implemented_by("purveyor_redis.server:notes")
    container = implemented_by("purveyor_redis.server:container")
    recognise = implemented_by("purveyor_redis.found:recognise")
    adopt = implemented_by("purveyor_redis.found:adopt")


plugin = Redis()
