"""The service type ``postgres``: one role and one database for each project and environment."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote

from purveyor_hooks import (
    Access,
    BadInput,
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
    UpgradePlan,
    Variable,
    bases,
    certificates,
    implemented_by,
)
from purveyor_postgres import (
    accounts,
    limits,
    logins,
    server,
    tls,
)

PORT = 5432
IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]{0,62}"


class Postgres(
    bases.Type,
    bases.Links,
    bases.Backups,
    bases.Upgrades,
    bases.Archiving,
    bases.Import,
    bases.Retelling,
    bases.Browsing,
):
    """What the type does."""

    def service_type(self) -> ServiceType:
        return ServiceType(
            name="postgres",
            label="PostgreSQL",
            description="Relational database",
            default_image="gotempsh/postgres-walg:18-bookworm",
            color="#336791",
            icon_url="/static/icons/postgres.svg",
            ports=(Port(container=PORT),),
            naming=Naming(separator="_", limit=63),
            numbered_accounts=True,
            extra_resources=True,
            parameters=(
                Parameter(
                    name="port",
                    help="Port on 127.0.0.1.",
                    kind="integer",
                    generated="port",
                    base=PORT,
                ),
                Parameter(
                    name="max_connections",
                    help="Connections that the server accepts at once.",
                    kind="integer",
                    default=100,
                    minimum=5,
                    maximum=10_000,
                ),
                limits.CONNECTIONS,
                limits.TEMPORARY,
                limits.DISK,
                certificates.SSL_MODE,
                Parameter(
                    name="database",
                    help="The administrator's database.",
                    default="postgres",
                    editable=False,
                    pattern=IDENTIFIER,
                ),
                Parameter(
                    name="username",
                    help="The administrator.",
                    default="postgres",
                    editable=False,
                    pattern=IDENTIFIER,
                ),
                Parameter(
                    name="password",
                    help="The administrator's password; no app ever gets it.",
                    generated="password",
                    length=16,
                    editable=False,
                    secret=True,
                ),
            ),
        )

    def data_major(self, image: Image, parameters: Mapping[str, Any]) -> str:
        """The image's own PG_MAJOR, else the number that its tag begins with, or that comes after "pg"
        in it."""
        if major := image.environment.get("PG_MAJOR"):
            return major
        tag = re.search(r"(?<![a-z])pg(\d{1,2})(?!\d)", image.parts.tag) or re.match(
            r"(\d{1,2})(?!\d)", image.parts.tag
        )
        if tag:
            return tag[1]
        if image.id:
            why = "it sets no PG_MAJOR and its tag begins with no number"
            raise BadInput(
                f"The PostgreSQL version of the image {image.reference} cannot be told: {why}.",
                remedy="Use an image whose tag begins with the major version, such as postgres:17.",
                errors={"docker_image": why},
            )
        return ""

    async def renew_certificate(self, service: Service, access: Access) -> None:
        async with server.connection(service, access) as connection:
            await connection.execute("SELECT pg_reload_conf()")

    async def ready(self, service: Service, access: Access) -> Health:
        return await server.ready(service, access, partial(logins.tidy, service, access))

    async def identity(self, service: Service, access: Access, create: bool) -> str:
        """The system identifier that initdb gave the cluster; there is nothing to create."""
        async with server.connection(service, access) as connection:
            return str(
                await connection.fetchval("SELECT system_identifier FROM pg_control_system()")
            )

    async def bind(self, service: Service, access: Access, binding: Binding) -> None:
        import asyncpg

        async with server.connection(service, access) as connection:
            await accounts.bind(service, access, connection, binding)
            # the administrator of an imported server may be none of all roles
            with suppress(asyncpg.InsufficientPrivilegeError):
                await limits.put_in_force(service, connection)

    async def unbind(self, service: Service, access: Access, binding: Binding) -> None:
        async with server.connection(service, access) as connection:
            await accounts.unbind(service, access, connection, binding)

    async def purge(self, service: Service, access: Access, binding: Binding) -> None:
        async with server.connection(service, access) as connection:
            await accounts.purge(service, access, connection, binding)

    async def purge_extra(
        self, service: Service, access: Access, binding: Binding, extra: str
    ) -> None:
        async with server.connection(service, access) as connection:
            await accounts.purge_extra(connection, binding, extra)

    def environment(self, service: Service, binding: Binding) -> list[Variable]:
        account, password = (quote(text, safe="") for text in (binding.account, binding.password))
        port = service.port(PORT)

        def url_of(database: str) -> str:
            where = f"{service.host}:{port}/{quote(database, safe='')}"
            return f"postgresql://{account}:{password}@{where}{tls.suffix(service)}"

        url = url_of(binding.resource)
        extras = []
        for name, database in binding.extras.items():
            extras.append(
                Variable(name=f"POSTGRES_{name.upper()}_URL", value=url_of(database), secret=True)
            )
            extras.append(Variable(name=f"POSTGRES_{name.upper()}_DATABASE", value=database))
        return [
            Variable(name="POSTGRES_URL", value=url, secret=True),
            Variable(name="POSTGRES_HOST", value=service.host),
            Variable(name="POSTGRES_PORT", value=str(port)),
            Variable(name="POSTGRES_NAME", value=binding.resource),
            Variable(name="POSTGRES_DATABASE", value=binding.resource),
            Variable(name="POSTGRES_USER", value=binding.account),
            Variable(name="POSTGRES_PASSWORD", value=binding.password, secret=True),
            Variable(name="DATABASE_URL", value=url, secret=True),
            *certificates.variables(service, "POSTGRES"),
            *extras,
        ]

    def client(self, service: Service) -> Client:
        """psql over the container's own socket."""
        values = service.parameters
        argv = ("psql", "--username", values["username"], "--dbname", values["database"])
        history = "/tmp/.psql_history"  # noqa: S108 - in the container, whose root is not written to
        return Client(
            argv=argv, environment={"PGPASSWORD": values["password"], "PSQL_HISTORY": history}
        )

    def probes(self, service: Service, binding: Binding) -> list[Probe]:
        environment = {
            "PGHOST": service.host,
            "PGPORT": str(PORT),
            "PGUSER": binding.account,
            "PGPASSWORD": binding.password,
            "PGDATABASE": binding.resource,
            "PGSSLMODE": certificates.mode(service),
            **({"PGSSLROOTCERT": service.tls.file} if service.tls else {}),
            "PGCONNECT_TIMEOUT": "5",
        }

        def sql(statement: str) -> Command:
            return Command(
                argv=("psql", "-XAtw", "-v", "ON_ERROR_STOP=1", "-c", statement),
                environment=environment,
            )

        tcp = Command(argv=("pg_isready", "-h", service.host, "-p", str(PORT), "-t", "5"))
        return [
            Probe(name="tcp", command=tcp),
            Probe(name="login", command=sql("SELECT 'logged in as ' || current_user")),
            Probe(name="query", command=sql("SELECT 'database ' || current_database()")),
            Probe(
                name="write",
                command=sql(
                    "CREATE TEMP TABLE probe AS SELECT 1; SELECT 'wrote ' || count(*) || ' row' FROM "
                    "probe"
                ),
            ),
        ]

    def outdated(self, service: Service, binding: Binding) -> str:
        """Before logins were apart, the owner of the data was the account."""
        return "logs in as the owner of its data" if binding.account == binding.resource else ""

    async def rotate(
        self,
        service: Service,
        access: Access,
        binding: Binding,
        previous: str,
        former: str,
        until: datetime | None,
    ) -> None:
        """Another login for the same owner; the old one and its sessions end, or its password is no
        more taken after that time."""
        async with server.connection(service, access) as connection:
            await accounts.rotate(service, access, connection, binding, until)

    async def retire(self, service: Service, access: Access, binding: Binding) -> None:
        async with server.connection(service, access) as connection:
            await accounts.retire(service, access, connection, binding)

    def upgrade_plan(self, service: Service, image: Image) -> UpgradePlan:
        from purveyor_postgres import upgrades

        return upgrades.plan(service, image.reference, self.data_major(image, service.parameters))

    async def upgrade_check(
        self, service: Service, access: Access, image: Image
    ) -> tuple[Finding, ...]:
        from purveyor_postgres import upgrades

        major = self.data_major(image, service.parameters)
        return (
            await upgrades.check(service, access, int(major))
            if major and major != service.major
            else ()
        )

    def exercise(self) -> Exercise:
        from purveyor_postgres.apps import Rows

        return Rows()

    # what asks the server, or is long: in a module of its own, imported when it is called
    container = implemented_by("purveyor_postgres.server:container")
    retell = implemented_by("purveyor_postgres.retold:retell")
    held = implemented_by("purveyor_postgres.retold:held")
    census = implemented_by("purveyor_postgres.dump:census")
    backup = implemented_by("purveyor_postgres.dump:backup")
    restore = implemented_by("purveyor_postgres.load:restore")
    extract = implemented_by("purveyor_postgres.dump:extract")
    contents = implemented_by("purveyor_postgres.telling:contents")
    rotate_administrator = implemented_by("purveyor_postgres.accounts:rotate_administrator")
    archive_helper = implemented_by("purveyor_postgres.wal:archive_helper")
    archive_base = implemented_by("purveyor_postgres.wal:archive_base")
    archive_beat = implemented_by("purveyor_postgres.wal:archive_beat")
    archive_gap = implemented_by("purveyor_postgres.wal:archive_gap")
    archive_end = implemented_by("purveyor_postgres.wal:archive_end")
    recovery = implemented_by("purveyor_postgres.wal:recovery")
    recover = implemented_by("purveyor_postgres.wal:recover")
    recovered = implemented_by("purveyor_postgres.wal:recovered")
    recognise = implemented_by("purveyor_postgres.found:recognise")
    adopt = implemented_by("purveyor_postgres.found:adopt")
    browse = implemented_by("purveyor_postgres.browsing:browse")


plugin = Postgres()
