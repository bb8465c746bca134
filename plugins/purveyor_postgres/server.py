"""The PostgreSQL server: its container, the administrator's connection, and whether it serves.

The driver is imported when it is first needed, here as everywhere: not every installation has a PostgreSQL.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from purveyor_hooks import Access, ContainerSpec, File, Health, Mount, Port, Service
from purveyor_postgres import tls

PORT = 5432
ROOT = "/var/lib/postgresql"
PASSWORD_FILE = "/etc/purveyor/postgres-password"
SHARED_MEMORY = 256 * 1024 * 1024
CONNECT_TIMEOUT = 5.0


def container(service: Service) -> ContainerSpec:
    """The official image's conventions, with one layout of the data for every major.

    PostgreSQL 18 images want one mount at /var/lib/postgresql and the data in ``<major>/docker`` below it; the
    older ones do as PGDATA says, so that two majors can stand side by side on one volume.
    """
    values = service.parameters
    data = f"{ROOT}/{service.major}/docker"
    options = {"max_connections": str(values["max_connections"])}
    files = [File(path=PASSWORD_FILE, content=values["password"], mode=0o444)]
    entrypoint: tuple[str, ...] = ()
    if values["ssl_mode"] != "disable":
        options |= tls.options(required=values["ssl_mode"] == "require")
        files += tls.files(service.secrets, required=values["ssl_mode"] == "require")
        entrypoint = tls.ENTRYPOINT
    return ContainerSpec(
        image=service.image.reference,
        entrypoint=entrypoint,
        command=("postgres", *(part for name, value in options.items() for part in ("-c", f"{name}={value}"))),
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
        shared_memory=SHARED_MEMORY,
        stop_timeout=60,
    )


@asynccontextmanager
async def connection(service: Service, access: Access, database: str | None = None) -> AsyncIterator[Any]:
    """The administrator's connection, to `database` or to the administrator's own."""
    import asyncpg

    values = service.parameters
    address = access.address(PORT)
    opened = await asyncpg.connect(
        host=address.host,
        port=address.port,
        user=values["username"],
        password=values["password"],
        database=database or values["database"],
        ssl="require" if values["ssl_mode"] == "require" else False,
        timeout=CONNECT_TIMEOUT,
        statement_cache_size=0,
    )
    try:
        yield opened
    finally:
        await opened.close(timeout=CONNECT_TIMEOUT)


async def ready(service: Service, access: Access) -> Health:
    """Log in over TCP, ask, and write to the log that commits wait for."""
    import asyncpg

    stage, version = "tcp", ""
    try:
        async with connection(service, access) as opened:
            stage = "login"
            version = str(await opened.fetchval("SHOW server_version")).partition(" ")[0]
            stage = "query"
            if await opened.fetchval("SELECT pg_is_in_recovery()"):
                return Health(healthy=False, stage=stage, version=version, detail="The server is in recovery.")
            await opened.execute("SELECT pg_logical_emit_message(true, 'purveyor', 'health')")
            return Health(healthy=True, stage="write", version=version)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Health(healthy=False, stage=stage, version=version, detail=reason(error))
    except (OSError, TimeoutError) as error:
        detail = "The server does not accept connections." if stage == "tcp" else "The connection was lost."
        return Health(healthy=False, stage="container" if stage == "tcp" else stage, detail=f"{detail} ({type(error).__name__})")


def reason(error: Exception) -> str:
    """The first line of an error."""
    return str(error).partition("\n")[0] or type(error).__name__
