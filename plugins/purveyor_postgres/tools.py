"""PostgreSQL's own programs, run in a container as a user that is nobody, with a login for one
use."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from purveyor_hooks import Access, Address, Command, Service, certificates
from purveyor_postgres.logins import Login
from purveyor_postgres.server import PORT, maintenance, major, options, pins

T = TypeVar("T")

# Neither the superuser of the container nor of the server: a peer login would make it one.
NOBODY = """
as_nobody() {
    if [ "$(id -u)" != 0 ]; then "$@"
    elif command -v setpriv >/dev/null; then setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
    elif command -v gosu >/dev/null; then gosu nobody "$@"
    else su-exec nobody "$@"; fi
}
"""
EVERY = 3.0
LONGEST = "12 hours"
BUSY = f"""
SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND state = 'active' AND query_start > now() - interval '{LONGEST}'
AND coalesce(wait_event_type, '') NOT IN ('Lock', 'Client')
"""


def environment(service: Service, where: Address, who: Login, **settings: str) -> dict[str, str]:
    """Whom to be and where. A database's name is no connection string here, whatever is in it. What
    is not ASCII is set at the role, for it may be of any encoding."""
    return {
        "PGHOST": where.host,
        "PGPORT": str(where.port),
        "PGUSER": who.name,
        "PGPASSWORD": who.password,
        "PGDATABASE": who.database,
        "PGSSLMODE": "require" if certificates.demanded(service) else "prefer",
        "PGSSLCERT": "/none",  # whoever it runs as may not look for one in root's home
        "PGOPTIONS": options(
            {
                name: value
                for name, value in pins(major(service), **settings).items()
                if value.isascii()
            }
        ),
        "PGCONNECT_TIMEOUT": "10",
        "PGAPPNAME": "purveyor",
    }


def within(service: Service) -> Address:
    """The server, for what runs in its own container."""
    return Address(host="127.0.0.1", port=service.port(PORT))


def as_nobody(*argv: str, environment: dict[str, str]) -> Command:
    return Command(
        argv=("sh", "-c", f'{NOBODY}as_nobody "$@"', "nobody", *argv), environment=environment
    )


async def while_busy(
    service: Service, access: Access, role: str, work: Callable[[], Awaitable[T]]
) -> T:
    """Do something, and say that it goes on as long as the server works for this login."""

    async def watch() -> None:
        while True:
            await anyio.sleep(EVERY)
            try:
                async with maintenance(service, access) as opened:
                    while True:
                        if await opened.fetchval(BUSY, role):
                            access.beat()
                        await anyio.sleep(EVERY)
            except Exception as error:  # a look that fails is no reason to end the work
                access.logger.debug("postgres.watch", error=type(error).__name__)

    answer: list[T] = []
    failed: list[BaseException] = []

    async def run() -> None:
        try:
            answer.append(await work())
        except Exception as error:  # carried out of the group, which would wrap it
            failed.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await run()
        group.cancel_scope.cancel()
    if failed:
        raise failed[0]
    return answer[0]


async def compression(tools: Access) -> str:
    """zstd where the programs have it: they look before they connect anywhere."""
    probe = Command(
        argv=("pg_dump", "-Fc", "-Z", "zstd:1", "-f", "/dev/null"),
        environment={"PGHOST": "/nowhere", "PGCONNECT_TIMEOUT": "2"},
    )
    said = (await tools.exec(probe)).stderr
    return "1" if "compress" in said else "zstd:1"
