"""PostgreSQL containers that somebody else made: told by image and environment, and logged in to
before anything else."""

import re

from purveyor_hooks import Access, FoundContainer, Health, Recognition, Service
from purveyor_postgres.server import connection, reason

NAMES = re.compile(
    r"(postgres(ql)?|pgvector|postgis|timescaledb)(-(alpine|ha|server|walg|repmgr))?"
)
OLDEST = 13
ENOUGH = (
    "SELECT rolsuper OR (rolcreaterole AND rolcreatedb) FROM pg_roles WHERE rolname = current_user"
)


def recognise(container: FoundContainer) -> Recognition | None:
    """The images' own names, or what the official image leaves in the environment of everything
    that is made from it."""
    environment = container.environment
    if not NAMES.fullmatch(container.image_name) and not {"PG_MAJOR", "PGDATA"} <= set(environment):
        return None
    suggested = {
        "username": environment.get("POSTGRES_USER") or environment.get("POSTGRESQL_USERNAME"),
        "password": environment.get("POSTGRES_PASSWORD") or environment.get("POSTGRESQL_PASSWORD"),
        "database": environment.get("POSTGRES_DB")
        or environment.get("POSTGRESQL_DATABASE")
        or environment.get("POSTGRES_USER"),
    }
    version = environment.get("PG_VERSION") or environment.get("PG_MAJOR") or container.tag
    return Recognition(
        service_type="postgres",
        version=version.partition("-")[0],
        suggested={name: value for name, value in suggested.items() if value},
    )


async def adopt(service: Service, access: Access) -> Health:
    """Log in and ask for the rights that links need."""
    import asyncpg

    try:
        async with connection(service, access) as opened:
            version = str(await opened.fetchval("SHOW server_version")).partition(" ")[0]
            if int(version.partition(".")[0]) < OLDEST:
                return Health(
                    healthy=False,
                    stage="query",
                    version=version,
                    detail=f"It is older than PostgreSQL {OLDEST}.",
                )
            if not await opened.fetchval(ENOUGH):
                detail = (
                    f"The role {service.parameters['username']} may not make roles and databases."
                )
                return Health(healthy=False, stage="query", version=version, detail=detail)
            return Health(healthy=True, stage="query", version=version)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Health(healthy=False, stage="login", detail=reason(error))
    except (OSError, TimeoutError):
        return Health(healthy=False, stage="tcp", detail="The server does not accept connections.")
