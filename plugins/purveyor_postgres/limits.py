"""What one project may take of a server: connections, temporary files, disk. A role can lift none
of it by itself.

They are put in force whenever the server is asked whether it serves, so that a changed parameter
needs no new link.
"""

from typing import Any, NamedTuple

from purveyor_hooks import Parameter, Service, quotas
from purveyor_postgres.accounts import most_connections
from purveyor_postgres.sql import quote
from purveyor_postgres.walls import EXTRA, MARK, NOTED, is_superuser, terminate

CONNECTIONS = Parameter(
    name="project_connections",
    help=(
        "Connections that one environment of a project may hold at once. Ten of the server's are "
        "always left to others."
    ),
    kind="integer",
    default=50,
    minimum=1,
    maximum=10_000,
)
TEMPORARY = Parameter(
    name="project_temp_files",
    help=(
        "Temporary files that one session of a project may fill, such as 500mb or 5gb; 0 is no "
        "limit."
    ),
    default="10gb",
    pattern=quotas.SIZE,
)
DISK = Parameter(
    name="project_disk",
    help="Disk that one project's databases may fill, such as 500mb or 20gb; 0 is no limit. At 80 percent it is told, at 100 "
    "percent sessions are read-only unless they say otherwise, at 110 percent nobody of the "
    "project gets in.",
    default="0",
    pattern=quotas.SIZE,
)
SHUT = 1.1  # of the limit

ROLES = f"""
WITH {NOTED}, extras AS (
    SELECT b.datname::text, b.oid, split_part(s.description, ' {EXTRA} ', 1) AS mark
    FROM pg_database b JOIN pg_shdescription s ON s.objoid = b.oid AND s.classoid = 'pg_database'::regclass
    WHERE b.datallowconn AND s.description LIKE '{MARK}% {EXTRA} %'
)
SELECT r.rolname AS role, o.rolname AS owner, r.rolconnlimit AS connections,
    (SELECT setconfig FROM pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase = 0) AS everywhere,
    ARRAY(SELECT d.datname FROM (
        SELECT b.datname::text, b.oid FROM pg_database b WHERE b.datname = o.rolname AND b.datallowconn
        UNION SELECT e.datname, e.oid FROM extras e WHERE e.mark = r.mark
    ) d ORDER BY d.oid) AS databases,
    ARRAY(SELECT e FROM pg_db_role_setting s, unnest(s.setconfig) e WHERE s.setrole = r.oid AND s.setdatabase <> 0) AS inside
FROM noted r JOIN noted o ON o.note = r.mark WHERE r.note LIKE '{MARK}%' AND r.rolcanlogin
"""
READ_ONLY = "default_transaction_read_only=on"
TAKEN = """
SELECT count(*) AS taken, current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0) AS room,
    (SELECT usename FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1 ORDER BY count(*) DESC LIMIT 1) AS most
FROM pg_stat_activity WHERE backend_type = 'client backend'
"""


class Standing(NamedTuple):
    """Where a project is with its disk: `share` of what it may have, and whether it was full when
    it was last looked at."""

    owner: str
    share: float
    was_full: bool

    @property
    def full(self) -> bool:
        return quotas.is_full(self.share, was_full=self.was_full)


async def put_in_force(service: Service, opened: Any) -> str:
    """Set the limits of every project's logins. The answer is what a person should know, the same
    while nothing changes."""
    said = []
    row = await opened.fetchrow(TAKEN)
    if row["taken"] >= row["room"]:
        said.append(
            "Projects cannot connect: all connections that they may have are taken, most of them "
            f"by {row['most']}."
        )
    full = await is_superuser(opened)
    quota = quotas.size(service, DISK)
    of_server = await opened.fetchval("SELECT current_setting('max_connections')::int")
    most = most_connections(service, of_server)
    for row in await opened.fetch(ROLES):
        standing = Standing(row["owner"], 0.0, READ_ONLY in row["inside"])
        if quota and row["databases"]:
            used = await opened.fetchval(
                "SELECT sum(pg_database_size(d))::float8 FROM unnest($1::name[]) d",
                row["databases"],
            )
            standing = standing._replace(share=used / quota)
        shut = standing.full and standing.share >= SHUT
        await _connections(opened, row, 0 if shut else most)
        if full:
            await _temporary(service, opened, row)
            if standing.full != standing.was_full:
                await _read_only(opened, row, on=standing.full)
        if (
            word := "nobody of it gets in"
            if shut
            else "its sessions are read-only"
            if standing.full
            else ""
        ):
            said.append(
                f"{standing.owner} has filled its disk ({service.parameters[DISK.name]}): {word}."
            )
        elif standing.share >= quotas.WARNED:
            said.append(
                f"{standing.owner} has filled more than {quotas.WARNED:.0%} of its disk "
                f"({service.parameters[DISK.name]})."
            )
    return " ".join(dict.fromkeys(said))  # once, however many logins a project has


async def _connections(opened: Any, row: Any, wanted: int) -> None:
    if row["connections"] != wanted:
        await opened.execute(f"ALTER ROLE {quote(row['role'])} CONNECTION LIMIT {wanted}")
        if wanted == 0:
            await terminate(opened, row["role"])


async def _temporary(service: Service, opened: Any, row: Any) -> None:
    kilobytes = quotas.size(service, TEMPORARY) // 1024
    wanted = f"temp_file_limit={kilobytes}kB" if kilobytes else ""
    there = next(
        (item for item in row["everywhere"] or [] if item.startswith("temp_file_limit=")), ""
    )
    if there == wanted:
        return
    change = f"SET temp_file_limit = '{kilobytes}kB'" if wanted else "RESET temp_file_limit"
    await opened.execute(f"ALTER ROLE {quote(row['role'])} {change}")


async def _read_only(opened: Any, row: Any, *, on: bool) -> None:
    """Its sessions begin read-only, those that are open end. Who deletes to make room says BEGIN
    READ WRITE."""
    change = (
        "SET default_transaction_read_only = on" if on else "RESET default_transaction_read_only"
    )
    for database in row["databases"]:
        await opened.execute(
            f"ALTER ROLE {quote(row['role'])} IN DATABASE {quote(database)} {change}"
        )
    if on:
        await terminate(opened, row["role"])
