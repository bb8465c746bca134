"""MariaDB for Purveyor: a database and a user of its own for each project and environment. For
MariaDB 10.6 and later."""

import re
from datetime import datetime
from typing import Any
from urllib.parse import quote

import aiomysql

import purveyor_hooks as ph
from purveyor_hooks import bases

from . import dump
from .exercise import Rows
from .optimize import Optimize
from .server import PORT, every_table_of, hashed, root, value

PASSWORD_FILE = "/etc/purveyor/mariadb-password"
MARK = "SELECT value FROM purveyor.marks WHERE name = %s"
TAKEN = """SELECT User FROM mysql.global_priv WHERE User = %s
UNION SELECT schema_name FROM information_schema.schemata WHERE schema_name = %s"""
OWN, BEAT = (
    "CREATE DATABASE IF NOT EXISTS purveyor",
    "REPLACE INTO purveyor.marks VALUES ('health', uuid())",
)
MARKS = (
    "CREATE TABLE IF NOT EXISTS purveyor.marks (name VARCHAR(190) PRIMARY KEY, value "
    "VARCHAR(190)) ENGINE=InnoDB"
)


async def look(service: ph.Service, access: ph.Access, *, write: bool) -> ph.Health:
    """Log in and ask, and write if that is allowed."""
    stage, version = "tcp", ""
    try:
        async with root(service, access) as cursor:
            stage, version = "query", str(await value(cursor, "SELECT version()")).partition("-")[0]
            for statement in (OWN, MARKS, BEAT) if write else ():
                await cursor.execute(statement)
            return ph.Health(healthy=True, stage="write" if write else "query", version=version)
    except (aiomysql.Error, OSError, TimeoutError) as error:
        return ph.Health(
            healthy=False, stage=stage, version=version, detail=str(error) or type(error).__name__
        )


class MariaDB(
    bases.Type, bases.Links, bases.Backups, bases.Upgrades, bases.Import, bases.Operating
):
    """What the type does; its methods are looked at by mypy."""

    def service_type(self) -> ph.ServiceType:
        return ph.ServiceType(
            name="mariadb", label="MariaDB", description="Relational database",
            default_image="mariadb:11.8", color="#003545",
            ports=(ph.Port(container=PORT),), naming=ph.Naming(separator="_", limit=63),
            parameters=(
                ph.Parameter(name="port", help="Port on 127.0.0.1.", kind="integer", generated="port",
                base=PORT),
                ph.Parameter(name="max_connections", help="Connections at once.", kind="integer",
                default=100, minimum=10),
                ph.Parameter(name="password", help="The password of root; no app ever gets it.",
                generated="password", length=24,
                          editable=False, secret=True),
            ),
        )  # fmt: skip

    def container(self, service: ph.Service) -> ph.ContainerSpec:
        return ph.ContainerSpec(
            image=service.image.reference,
            command=("mariadbd", f"--max-connections={service.parameters['max_connections']}"),
            environment={"MARIADB_ROOT_PASSWORD_FILE": PASSWORD_FILE, "MARIADB_AUTO_UPGRADE": "1"},
            files=(ph.File(path=PASSWORD_FILE, content=service.parameters["password"], mode=0o444),),
            mount=ph.Mount(target="/var/lib/mysql"), ports=(ph.Port(container=PORT),), stop_timeout=60,
            evidence=("/var/lib/mysql/ibdata1", "/var/lib/mysql/mysql/global_priv.frm"),
            limits=ph.Limits(pids=1024 + service.parameters["max_connections"]),  # a thread for each
        )  # fmt: skip

    async def ready(self, service: ph.Service, access: ph.Access) -> ph.Health:
        return await look(service, access, write=True)

    async def adopt(self, service: ph.Service, access: ph.Access) -> ph.Health:
        return await look(service, access, write=False)

    async def identity(self, service: ph.Service, access: ph.Access, create: bool) -> str:
        async with root(service, access) as cursor:
            if create:
                await cursor.execute(
                    "INSERT IGNORE INTO purveyor.marks VALUES ('identity', uuid())"
                )
            return str(await value(cursor, MARK, "identity") or "")

    async def bind(self, service: ph.Service, access: ph.Access, binding: ph.Binding) -> None:
        key, name = f"binding:{binding.account}", binding.resource
        async with root(service, access) as cursor:
            if await value(cursor, MARK, key) != binding.mark:
                if await value(cursor, TAKEN, name, name):
                    remedy = "Rename or drop it, or choose another project name."
                    raise ph.Conflict(
                        f"{service.name} has a user or database {name} that is not Purveyor's.",
                        remedy=remedy,
                    )
                await cursor.execute(
                    "REPLACE INTO purveyor.marks VALUES (%s, %s)", (key, binding.mark)
                )
            await cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4")
            await cursor.execute(f"CREATE USER IF NOT EXISTS `{binding.account}`@`%`")
            await cursor.execute(
                f"ALTER USER `{binding.account}`@`%` IDENTIFIED BY PASSWORD "
                f"'{hashed(binding.password)}' ACCOUNT UNLOCK"
            )
            await cursor.execute(f"GRANT ALL ON {every_table_of(name)} TO `{binding.account}`@`%`")

    async def unbind(self, service: ph.Service, access: ph.Access, binding: ph.Binding) -> None:
        async with root(service, access) as cursor:
            await cursor.execute(f"ALTER USER IF EXISTS `{binding.account}`@`%` ACCOUNT LOCK")
            await cursor.execute(f"KILL USER `{binding.account}`")

    async def purge(self, service: ph.Service, access: ph.Access, binding: ph.Binding) -> None:
        key = f"binding:{binding.account}"
        async with root(service, access) as cursor:
            if await value(cursor, MARK, key) == binding.mark:
                await cursor.execute(f"DROP USER IF EXISTS `{binding.account}`@`%`")
                await cursor.execute(f"DROP DATABASE IF EXISTS `{binding.resource}`")
                await cursor.execute("DELETE FROM purveyor.marks WHERE name = %s", (key,))

    def environment(self, service: ph.Service, binding: ph.Binding) -> list[ph.Variable]:
        port, password = service.port(PORT), quote(binding.password, safe="")
        url = f"mysql://{quote(binding.account, safe='')}:{password}@{service.host}:{port}/{binding.resource}"
        plain = {
            "HOST": service.host,
            "PORT": str(port),
            "DATABASE": binding.resource,
            "USER": binding.account,
        }
        return [
            ph.Variable(name="MARIADB_URL", value=url, secret=True),
            *(ph.Variable(name=f"MARIADB_{name}", value=text) for name, text in plain.items()),
            ph.Variable(name="MARIADB_PASSWORD", value=binding.password, secret=True),
        ]

    async def rotate(
        self,
        service: ph.Service,
        access: ph.Access,
        binding: ph.Binding,
        previous: str,
        former: str,
        until: datetime | None,
    ) -> None:
        await self.bind(service, access, binding)

    async def rotate_administrator(
        self, service: ph.Service, access: ph.Access, previous: ph.Service
    ) -> None:
        secret = hashed(service.parameters["password"])
        try:
            async with root(previous, access) as cursor:
                for host in ("localhost", "%"):
                    await cursor.execute(
                        f"ALTER USER IF EXISTS root@`{host}` IDENTIFIED BY PASSWORD '{secret}'"
                    )
        except aiomysql.OperationalError:
            async with root(service, access):  # a crash came after it was set
                return

    def upgrade_plan(self, service: ph.Service, image: ph.Image) -> ph.UpgradePlan:
        before, after = (re.match(r"(\d+)\.(\d+)", of.parts.tag) for of in (service.image, image))
        if not before or not after or [*map(int, after.groups())] < [*map(int, before.groups())]:
            reason = (
                "The tag has to begin with a version, and an older MariaDB cannot read what a "
                "newer one wrote."
            )
            return ph.UpgradePlan(action="refuse", reason=reason)
        return ph.UpgradePlan(
            action="restart", reason="A newer MariaDB reads what an older one wrote."
        )

    def recognise(self, container: ph.FoundContainer) -> ph.Recognition | None:
        if (
            container.image_name not in ("mariadb", "mariadb-server")
            and "MARIADB_VERSION" not in container.environment
        ):
            return None
        password = container.environment.get("MARIADB_ROOT_PASSWORD")
        return ph.Recognition(
            service_type="mariadb",
            version=container.tag,
            suggested={"password": password} if password else {},
        )

    def exercise(self) -> Rows:
        return Rows()

    def operations(self) -> list[ph.ServiceOperation[Any]]:
        return [Optimize()]

    async def census(self, service: ph.Service, access: ph.Access) -> ph.Inventory:
        return await dump.census(service, access)

    async def backup(
        self, service: ph.Service, access: ph.Access, sink: ph.Sink, tools: ph.Access | None
    ) -> ph.Inventory:
        return await dump.backup(service, access, sink)

    async def contents(self, source: ph.Source, into: ph.Contents) -> None:
        await dump.contents(source, into)

    async def restore(
        self, service: ph.Service, access: ph.Access, source: ph.Source, options: ph.RestoreOptions
    ) -> tuple[ph.Finding, ...]:
        return await dump.restore(service, access, source, options)


plugin = MariaDB()
