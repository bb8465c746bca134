"""The service type ``mariadb``: one database and one user for each project and environment. For
MariaDB 10.5 and later."""

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiomysql

import purveyor_hooks as ph
from purveyor_hooks import hookimpl

PORT = 3306
FIELDS = ("HOST", "PORT", "USER", "PASSWORD", "DATABASE")
PASSWORD_FILE = "/etc/purveyor/mariadb-password"
DATABASES = """SELECT schema_name FROM information_schema.schemata
WHERE schema_name NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')"""
MARK = "SELECT value FROM purveyor.marks WHERE name = %s"
TAKEN = """SELECT User FROM mysql.global_priv WHERE User = %s
UNION SELECT schema_name FROM information_schema.schemata WHERE schema_name = %s"""
TABLES = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = "
    "'BASE TABLE'"
)
THINGS = "CREATE TABLE IF NOT EXISTS things (name VARCHAR(99) PRIMARY KEY, value TEXT)"
OWN, BEAT = (
    "CREATE DATABASE IF NOT EXISTS purveyor",
    "REPLACE INTO purveyor.marks VALUES ('health', uuid())",
)
DUMP = ("mariadb-dump", "--user=root", "--single-transaction", "--routines", "--events",
    "--triggers", "--hex-blob",
        "--skip-extended-insert")  # fmt: skip
MARKS = (
    "CREATE TABLE IF NOT EXISTS purveyor.marks (name VARCHAR(190) PRIMARY KEY, value "
    "VARCHAR(190)) ENGINE=InnoDB"
)


@hookimpl
def service_type() -> ph.ServiceType:
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


@hookimpl
def container(service: ph.Service) -> ph.ContainerSpec:
    return ph.ContainerSpec(
        image=service.image.reference,
        command=("mariadbd", f"--max-connections={service.parameters['max_connections']}"),
        environment={"MARIADB_ROOT_PASSWORD_FILE": PASSWORD_FILE, "MARIADB_AUTO_UPGRADE": "1"},
        files=(ph.File(path=PASSWORD_FILE, content=service.parameters["password"], mode=0o444),),
        mount=ph.Mount(target="/var/lib/mysql"), ports=(ph.Port(container=PORT),), stop_timeout=60,
        evidence=("/var/lib/mysql/ibdata1", "/var/lib/mysql/mysql/global_priv.frm"),
        limits=ph.Limits(pids=1024 + service.parameters["max_connections"]),  # a thread for each
    )  # fmt: skip


@asynccontextmanager
async def connected(
    host: str, port: int, user: str, password: str, database: str | None = None
) -> AsyncIterator[Any]:
    """A cursor; each statement is a transaction of its own."""
    options = {
        "db": database,
        "autocommit": True,
        "connect_timeout": 5,
        "init_command": "SET sql_notes = 0",
    }
    opened = await aiomysql.connect(host=host, port=port, user=user, password=password, **options)
    try:
        async with opened.cursor() as cursor:
            yield cursor
    finally:
        opened.close()


def root(service: ph.Service, access: ph.Access) -> AbstractAsyncContextManager[Any]:
    address = access.address(PORT)
    return connected(address.host, address.port, "root", service.parameters["password"])


async def rows(cursor: Any, statement: str, *arguments: Any) -> Any:
    await cursor.execute(statement, arguments or None)
    return await cursor.fetchall()


async def value(cursor: Any, statement: str, *arguments: Any) -> Any:
    """The first column of the first row, None without one."""
    return next((row[0] for row in await rows(cursor, statement, *arguments)), None)


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


@hookimpl
async def ready(service: ph.Service, access: ph.Access) -> ph.Health:
    return await look(service, access, write=True)


@hookimpl
async def adopt(service: ph.Service, access: ph.Access) -> ph.Health:
    return await look(service, access, write=False)


@hookimpl
async def identity(service: ph.Service, access: ph.Access, create: bool) -> str:
    async with root(service, access) as cursor:
        if create:
            await cursor.execute("INSERT IGNORE INTO purveyor.marks VALUES ('identity', uuid())")
        return str(await value(cursor, MARK, "identity") or "")


def hashed(password: str) -> str:
    """What the server keeps of a password: sent instead of it, so that no log of the server's can
    show it."""
    return "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()


@hookimpl
async def bind(service: ph.Service, access: ph.Access, binding: ph.Binding) -> None:
    key, name = f"binding:{binding.account}", binding.resource
    async with root(service, access) as cursor:
        if await value(cursor, MARK, key) != binding.mark:
            if await value(cursor, TAKEN, name, name):
                remedy = "Rename or drop it, or choose another project name."
                raise ph.Conflict(
                    f"{service.name} has a user or database {name} that is not Purveyor's.",
                    remedy=remedy,
                )
            await cursor.execute("REPLACE INTO purveyor.marks VALUES (%s, %s)", (key, binding.mark))
        await cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4")
        await cursor.execute(f"CREATE USER IF NOT EXISTS `{binding.account}`@`%`")
        await cursor.execute(
            f"ALTER USER `{binding.account}`@`%` IDENTIFIED BY PASSWORD "
            f"'{hashed(binding.password)}' ACCOUNT UNLOCK"
        )
        # "_" stands for any character in the name that rights are given for
        escaped = name.replace("_", "\\_")
        await cursor.execute(f"GRANT ALL ON `{escaped}`.* TO `{binding.account}`@`%`")


@hookimpl
async def unbind(service: ph.Service, access: ph.Access, binding: ph.Binding) -> None:
    async with root(service, access) as cursor:
        await cursor.execute(f"ALTER USER IF EXISTS `{binding.account}`@`%` ACCOUNT LOCK")
        await cursor.execute(f"KILL USER `{binding.account}`")


@hookimpl
async def purge(service: ph.Service, access: ph.Access, binding: ph.Binding) -> None:
    key = f"binding:{binding.account}"
    async with root(service, access) as cursor:
        if await value(cursor, MARK, key) == binding.mark:
            await cursor.execute(f"DROP USER IF EXISTS `{binding.account}`@`%`")
            await cursor.execute(f"DROP DATABASE IF EXISTS `{binding.resource}`")
            await cursor.execute("DELETE FROM purveyor.marks WHERE name = %s", (key,))


@hookimpl
def environment(service: ph.Service, binding: ph.Binding) -> list[ph.Variable]:
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


@hookimpl
async def rotate(
    service: ph.Service, access: ph.Access, binding: ph.Binding, previous: str
) -> None:
    await bind(service, access, binding)


@hookimpl
async def rotate_administrator(
    service: ph.Service, access: ph.Access, previous: ph.Service
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


@hookimpl
async def census(service: ph.Service, access: ph.Access, binding: ph.Binding | None) -> ph.Census:
    counts: dict[str, dict[str, int]] = {"databases": {}, "rows": {}}
    async with root(service, access) as cursor:
        for (database,) in await rows(cursor, DATABASES):
            if database != "purveyor":
                counts["databases"][database] = 1
                for (table,) in await rows(cursor, TABLES, database):
                    number = await value(cursor, f"SELECT count(*) FROM `{database}`.`{table}`")
                    counts["rows"][f"{database}.{table}"] = int(number)
    return ph.Census(counts=counts)


def tool(service: ph.Service, *argv: str) -> ph.Command:
    return ph.Command(argv=argv, environment={"MYSQL_PWD": service.parameters["password"]})


class Counted:
    """Counts what is in a dump while it streams by: the server beside it is written to meanwhile.

    A row is a line of its own (``--skip-extended-insert``), and a line break in a text is escaped.
    Bodies of routines and triggers stand between two DELIMITER lines, and may look like anything.
    """

    SAID = re.compile(rb"(USE|CREATE TABLE|INSERT INTO) `((?:[^`]|``)+)`")
    ENOUGH = 600  # bytes of a line that tell what it is

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {"databases": {}, "rows": {}}
        self._line = b""
        self._database = ""
        self._body = False

    def feed(self, chunk: bytes) -> None:
        first, *others = chunk.split(b"\n")
        self._line = (self._line + first)[: self.ENOUGH]
        for line in others:
            self._ended(self._line)
            self._line = line[: self.ENOUGH]

    def _ended(self, line: bytes) -> None:
        if line.startswith(b"DELIMITER "):
            self._body = line != b"DELIMITER ;"
        found = None if self._body else self.SAID.match(line)
        if found is None:
            return
        kind, name = found[1], found[2].replace(b"``", b"`").decode()
        if kind == b"USE":
            self._database = name
            if name != "purveyor":
                self.counts["databases"][name] = 1
        elif self._database != "purveyor":
            table = f"{self._database}.{name}"
            self.counts["rows"][table] = self.counts["rows"].get(table, 0) + (
                kind == b"INSERT INTO"
            )


@hookimpl
async def backup(service: ph.Service, access: ph.Access, sink: ph.Sink) -> ph.Census:
    """The server's own dump, of one moment, counted as it passes."""
    counted = Counted()
    async with root(service, access) as cursor:
        names = [name for (name,) in await rows(cursor, DATABASES)]
    async with access.process(tool(service, *DUMP, "--databases", *names)) as process:
        async for chunk in process.output():
            counted.feed(chunk)
            await sink.write(chunk)
        await process.finish()
    return ph.Census(counts=counted.counts)


@hookimpl
async def restore(service: ph.Service, access: ph.Access, source: ph.Source) -> None:
    mark = await identity(service, access, False)
    async with access.process(tool(service, "mariadb", "--user=root")) as process:
        async for chunk in source:
            await process.write(chunk)
        await process.end_input()
        await process.finish()
    async with root(service, access) as cursor:
        await cursor.execute("REPLACE INTO purveyor.marks VALUES ('identity', %s)", (mark,))


@hookimpl
def upgrade_plan(service: ph.Service, image: ph.Image) -> ph.UpgradePlan:
    before, after = (re.match(r"(\d+)\.(\d+)", of.parts.tag) for of in (service.image, image))
    if not before or not after or [*map(int, after.groups())] < [*map(int, before.groups())]:
        reason = (
            "The tag has to begin with a version, and an older MariaDB cannot read what a "
            "newer one wrote."
        )
        return ph.UpgradePlan(action="refuse", reason=reason)
    return ph.UpgradePlan(action="restart", reason="A newer MariaDB reads what an older one wrote.")


@hookimpl
def recognise(container: ph.FoundContainer) -> ph.Recognition | None:
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


class Rows:
    """How an app uses it, for the conformance kit."""

    def account(self, variables: Mapping[str, str]) -> ph.Account:
        host, port, user, password, resource = (variables[f"MARIADB_{name}"] for name in FIELDS)
        return ph.Account(
            host=host, port=int(port), user=user, password=password, resource=resource
        )

    async def _ask(self, account: ph.Account, statement: str, *arguments: str) -> Any:
        async with connected(
            account.host, account.port, account.user, account.password, account.resource
        ) as cursor:
            await cursor.execute(THINGS)
            return await value(cursor, statement, *arguments)

    async def write(self, account: ph.Account, name: str, value: str) -> None:
        await self._ask(account, "REPLACE INTO things VALUES (%s, %s)", name, value)

    async def read(self, account: ph.Account, name: str) -> str | None:
        found: str | None = await self._ask(
            account, "SELECT value FROM things WHERE name = %s", name
        )
        return found


@hookimpl
def exercise() -> Rows:
    return Rows()
