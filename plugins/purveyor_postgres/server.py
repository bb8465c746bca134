"""The PostgreSQL server: its container, the administrator's connection, and whether it serves.

The driver is imported when it is first needed, here as everywhere: not every installation has a
PostgreSQL.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from purveyor_hooks import (
    Access,
    ContainerSpec,
    File,
    Health,
    Limits,
    Mount,
    Port,
    Service,
    certificates,
)
from purveyor_hooks.versions import version_of
from purveyor_postgres import tls

PORT = 5432
OLDEST = 13
ROOT = "/var/lib/postgresql"
PASSWORD_FILE = "/etc/purveyor/postgres-password"
HBA_FILE, IDENT_FILE = "/etc/purveyor/pg_hba.conf", "/etc/purveyor/pg_ident.conf"
# each table of a dump takes one; a project that has thousands must not stop another's work
LOCKS = "256"
SHARED_MEMORY = 256 * 1024 * 1024
OTHER_PROCESSES = 1024  # beside one for each connection: the server's own, parallel workers, tools
CONNECT_TIMEOUT = 5.0
# connections for the manager's own logins, beside those of superusers
RESERVED, RESERVES_SINCE = 5, 16
LOGIN_TRIGGERS_SINCE = 17


def container(service: Service) -> ContainerSpec:
    """The official image's conventions, with one layout of the data for every major.

    PostgreSQL 18 images want one mount at /var/lib/postgresql and the data in ``<major>/docker``
    below it; the older ones do as PGDATA says, so that two majors can stand side by side on one
    volume.
    """
    values = service.parameters
    data = f"{ROOT}/{service.major}/docker"
    options = {
        "max_connections": str(values["max_connections"]),
        "max_locks_per_transaction": LOCKS,
    }
    if major(service) >= RESERVES_SINCE and values["max_connections"] > 2 * RESERVED:
        options["reserved_connections"] = str(RESERVED)
    # made beside another one: what replicates from elsewhere goes on in one of them only
    if "." in service.slug:
        options["max_logical_replication_workers"] = "0"
    options |= {"hba_file": HBA_FILE, "ident_file": IDENT_FILE}
    files = [File(path=PASSWORD_FILE, content=values["password"], mode=0o444)]
    files += doors(str(values["username"]), encrypted=certificates.demanded(service))
    options |= tls.OPTIONS
    return ContainerSpec(
        image=service.image.reference,
        command=(
            "postgres",
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ),
        environment={
            "POSTGRES_USER": values["username"],
            "POSTGRES_PASSWORD_FILE": PASSWORD_FILE,
            "POSTGRES_DB": values["database"],
            "POSTGRES_INITDB_ARGS": "--data-checksums",
            "PGDATA": data,
        },
        mount=Mount(target=ROOT),
        ports=(Port(container=PORT),),
        files=tuple(files),
        evidence=(f"{data}/PG_VERSION", f"{data}/global/pg_control"),
        limits=Limits(pids=OTHER_PROCESSES + values["max_connections"]),
        shared_memory=SHARED_MEMORY,
        stop_timeout=60,
        certificate=tls.CERTIFICATE,
        read_only=True,
        scratch=("/tmp", "/var/run/postgresql"),  # noqa: S108 - in the container
    )


def doors(administrator: str, *, encrypted: bool) -> list[File]:
    """Who may come in, and how: nobody on trust. Over the socket the administrator is whoever is
    root in the container, or the server's own user; everybody else has a password. Replication is
    for continuous archiving, whose helper shares the container's own loopback."""
    host = "hostssl" if encrypted else "host"
    rules = [
        f'local all "{administrator}" peer map=purveyor',
        "local all all scram-sha-256",
        f"{host} replication all 127.0.0.1/32 scram-sha-256",
        f"{host} all all all scram-sha-256",
    ]
    names = [f'purveyor {user} "{administrator}"' for user in ("root", "postgres")]
    return [
        File(path=HBA_FILE, content="\n".join(rules) + "\n"),
        File(path=IDENT_FILE, content="\n".join(names) + "\n"),
    ]


# What a session of the manager says at its start wins over whatever a database or a role carries.
PINS = {
    "role": "none",
    "local_preload_libraries": "",
    "search_path": "pg_catalog",
    "statement_timeout": "0",
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "row_security": "off",
    "standard_conforming_strings": "on",
    "client_encoding": "UTF8",
    "client_min_messages": "warning",
    "constraint_exclusion": "partition",
    "quote_all_identifiers": "off",
    "synchronous_commit": "on",
    "vacuum_cost_delay": "0",
    "tcp_user_timeout": "0",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmloption": "content",
    "default_tablespace": "",
    "temp_tablespaces": "",
    "jit": "off",
}
NEWER_PINS = {
    14: {"idle_session_timeout": "0", "client_connection_check_interval": "0"},
    17: {"transaction_timeout": "0", "restrict_nonsystem_relation_kind": ""},
}


def pins(major: int, **chosen: str) -> dict[str, str]:
    """The settings of a session, for a server of this major: one that it does not know would be
    refused."""
    known = dict(PINS)
    for since, more in NEWER_PINS.items():
        if major >= since:
            known |= more
    return known | chosen


def options(settings: dict[str, str]) -> str:
    """The same as PGOPTIONS, for the server's own programs; these say their encoding themselves."""
    escaped = {
        name: value.replace("\\", "\\\\").replace(" ", "\\ ") for name, value in settings.items()
    }
    return " ".join(
        f"-c {name}={value}" for name, value in escaped.items() if name != "client_encoding"
    )


def major(service: Service) -> int:
    """What the service's data is of; the oldest that is known where nothing is recorded."""
    found = version_of(service.major or service.image.environment.get("PG_MAJOR", ""))
    return found.major if found else OLDEST


def ssl(service: Service) -> Any:
    """TLS where plain text is refused; elsewhere it would only cost."""
    return certificates.trusting(service) if certificates.demanded(service) else False


@asynccontextmanager
async def connection(
    service: Service, access: Access, database: str | None = None
) -> AsyncIterator[Any]:
    """The administrator's connection, to `database` or to the administrator's own: for catalogs,
    and never for what is in a tenant's tables. No trigger and no setting of the database's reaches
    it."""
    import asyncpg

    values = service.parameters
    opened = None
    quiet = {"session_replication_role": "replica"} | (
        {"event_triggers": "off"} if major(service) >= 17 else {}
    )
    for settings in (pins(major(service), **quiet), pins(major(service)), PINS):
        try:
            opened = await session(
                service,
                access,
                values["username"],
                values["password"],
                database or values["database"],
                settings,
            )
            break
        except (asyncpg.UndefinedObjectError, asyncpg.InsufficientPrivilegeError) as error:
            # an imported server: it is older than its image says, or its administrator is no
            # superuser
            refused = error
    if opened is None:
        raise refused
    try:
        yield opened
    finally:
        await end_session(opened)


async def session(
    service: Service,
    access: Access,
    user: str,
    password: str,
    database: str,
    settings: dict[str, str],
) -> Any:
    """A connection with pinned settings. Where the database has no encoding, bytes pass as they
    are."""
    import asyncpg

    address = access.address(PORT)
    opened = await asyncpg.connect(
        host=address.host,
        port=address.port,
        user=user,
        password=password,
        database=database,
        ssl=ssl(service),
        timeout=CONNECT_TIMEOUT,
        statement_cache_size=0,
        server_settings=settings,
    )
    if opened.get_settings().server_encoding == "SQL_ASCII":
        await opened.execute("SET client_encoding TO 'LATIN1'")
        return Bytewise(opened)
    return opened


class Bytewise:
    """A session in a database without an encoding: each character is a byte. The driver writes
    statements in UTF-8 all the same, so one with other characters goes as the octal numbers of its
    bytes."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)

    async def execute(self, statement: str, *values: Any) -> Any:
        if statement.isascii():
            return await self._opened.execute(statement, *values)
        escaped = _octal(statement)
        return await self._opened.execute(
            f"DO LANGUAGE plpgsql $purveyor$ BEGIN EXECUTE {escaped}; END $purveyor$"
        )

    async def fetchval(self, statement: str, *values: Any) -> Any:
        if statement.isascii():
            return await self._opened.fetchval(statement, *values)
        said = await self._opened.fetchval(
            f"SELECT query_to_xml({_octal(statement)}, true, true, '')::text"
        )
        found = re.search(r">(\d+)<", said)
        return int(found[1]) if found else None


def _octal(statement: str) -> str:
    return (
        "E'"
        + "".join(
            chr(byte) if 31 < byte < 127 and byte not in b"'\\$" else f"\\{byte:03o}"
            for byte in statement.encode("latin-1")
        )
        + "'"
    )


async def end_session(opened: Any) -> None:
    """A session that does not close in time, or was stopped in the middle of something, is cut
    off."""
    import asyncpg

    with anyio.CancelScope(shield=True):
        try:
            await opened.close(timeout=CONNECT_TIMEOUT)
        except (TimeoutError, OSError, asyncpg.InternalClientError):
            opened.terminate()


@asynccontextmanager
async def maintenance(service: Service, access: Access, but: str = "") -> AsyncIterator[Any]:
    """The administrator in a database that is there on every server, and is not the one that is
    about to be dropped."""
    import asyncpg

    async with AsyncExitStack() as stack:
        opened = None
        for name in ("postgres", "template1"):
            if name != but and opened is None:
                try:
                    opened = await stack.enter_async_context(connection(service, access, name))
                except asyncpg.InvalidCatalogNameError:
                    continue
        yield opened or await stack.enter_async_context(connection(service, access))


async def ready(
    service: Service, access: Access, afterwards: Callable[[Any], Awaitable[str]]
) -> Health:
    """Log in over TCP, ask, and write to the log that commits wait for. If it serves, do this over
    its connection: the answer is what is worth telling of a server that does."""
    import asyncpg

    stage, version = "tcp", ""
    try:
        async with connection(service, access) as opened:
            stage = "login"
            version = str(await opened.fetchval("SHOW server_version")).partition(" ")[0]
            stage = "query"
            if await opened.fetchval("SELECT pg_is_in_recovery()"):
                return Health(
                    healthy=False, stage=stage, version=version, detail="The server is in recovery."
                )
            await opened.execute("SELECT pg_logical_emit_message(true, 'purveyor', 'health')")
            return Health(
                healthy=True, stage="write", version=version, detail=await afterwards(opened)
            )
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Health(healthy=False, stage=stage, version=version, detail=reason(error))
    except (OSError, TimeoutError) as error:
        detail = (
            "The server does not accept connections."
            if stage == "tcp"
            else "The connection was lost."
        )
        return Health(
            healthy=False,
            stage="container" if stage == "tcp" else stage,
            detail=f"{detail} ({type(error).__name__})",
        )


def reason(error: Exception) -> str:
    """The first line of an error."""
    return str(error).partition("\n")[0] or type(error).__name__
