"""What keeps projects apart on a server: who they are, what they act as, and that nobody is more
than that.

A project's data belongs to a role that nobody logs in as; its apps log in as a member of it, each
credential by a login of its own. Comments on roles say whose they are, for nobody but the
administrator can write these.
"""

import hashlib
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import anyio

from purveyor_hooks import Access, Service
from purveyor_postgres import server
from purveyor_postgres.sql import literal, quote

# owns the databases of projects: who owns one could shut the manager out of it
KEEPER = "purveyor_databases"
HEIR = "purveyor_heir"  # owns what a superuser owned, after a restore
SHUTTING, PAUSE = 100, 0.1  # times, seconds
SOON = "300ms"  # for a row or a table that whoever is in may hold
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1"
RIGHTS = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"

# Comments: on an owner the mark alone; on a login the mark, this word, and what tells a password
# that was changed; on a further database of an owner the mark, this word and what people call it.
MARK, LOGIN, EXTRA = "purveyor binding ", "login", "extra"
COMMENT = "coalesce(shobj_description({0}.oid, 'pg_authid'), '')"
MARKED = f"{COMMENT.format('r')} LIKE '{MARK}%'"
OWNERS_MARK = f"split_part({COMMENT.format('r')}, ' {LOGIN} ', 1)"  # of an owner its own
IS_LOGIN = f"{COMMENT.format('r')} LIKE '{MARK}% {LOGIN} %'"
# all roles with their comments, each read once: what asks for them by pairs of roles calls that
# function ten thousand times for a hundred projects
NOTED = f"""noted AS (
    SELECT r.*, coalesce(s.description, '') AS note, split_part(coalesce(s.description, ''), ' {LOGIN} ', 1) AS mark
    FROM pg_roles r LEFT JOIN pg_shdescription s ON s.objoid = r.oid AND s.classoid = 'pg_authid'::regclass
)"""
OTHERS = (
    "SELECT rolname FROM pg_roles r WHERE NOT rolsuper AND rolname !~ '^(pg|purveyor)_' AND "
    f"NOT {MARKED}"
)
OPEN_TO_ALL = """
SELECT datname AS database, array_agg(acl.privilege_type) AS rights
FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) acl
WHERE acl.grantee = 0 AND datallowconn GROUP BY 1
"""


async def close_to_projects(connection: Any) -> None:
    """What everybody may in a database is given to each role that is no project's, and taken from
    everybody: a server's own roles go on as before, and projects are kept out, also of what an
    administrator made after they were linked."""
    for row in await connection.fetch(OPEN_TO_ALL):
        database, rights = quote(row["database"]), ", ".join(row["rights"])
        async with connection.transaction():
            for other in await connection.fetch(OTHERS):
                await connection.execute(
                    f"GRANT {rights} ON DATABASE {database} TO {quote(other['rolname'])}"
                )
            await connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")


def note(mark: str, secret: str) -> str:
    """The comment on a login: nobody else can set its password without its showing here."""
    return f"{mark} {LOGIN} {hashlib.sha256(secret.encode()).hexdigest()[:32]}"


async def terminate(connection: Any, role: str) -> bool:
    """End the sessions of a role; the answer is whether there were any."""
    return bool(await connection.fetch(TERMINATE, role))


async def ensure_role(connection: Any, name: str) -> None:
    """A role of ours that nobody logs in as."""
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
        await connection.execute(f"CREATE ROLE {name} NOLOGIN {RIGHTS}")


async def is_superuser(connection: Any) -> bool:
    return bool(
        await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = session_user")
    )


async def change(connection: Any, role: str, what: str) -> None:
    """Alter a role, ending its sessions where one of them holds its row."""
    import asyncpg

    for attempt in range(SHUTTING):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{SOON}'")
                await connection.execute(f"ALTER ROLE {quote(role)} {what}")
            return
        except (asyncpg.LockNotAvailableError, asyncpg.InternalServerError):
            # "tuple concurrently updated"
            if attempt == SHUTTING - 1:
                raise
            await terminate(connection, role)
            await anyio.sleep(PAUSE)


async def shut_out(connection: Any, role: str) -> None:
    """Nobody is in as this role, and nobody comes in.

    Whoever is in may hold the role's own row by an open transaction, so that a change of it waits:
    sessions are ended first, again until the change is made, and then those that came meanwhile.
    Only then is there no way back.
    """
    await terminate(connection, role)
    await change(connection, role, "NOLOGIN PASSWORD NULL")
    for _ in range(SHUTTING):
        if not await terminate(connection, role):
            return
        await anyio.sleep(PAUSE)


OWNS = """
SELECT DISTINCT d.datname FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = (SELECT oid FROM pg_roles WHERE rolname = $1) AND d.datallowconn
"""


async def hand_over(
    service: Service, access: Access, connection: Any, role: str, owner: str, *, drop: bool
) -> None:
    """What a session made that put its role off becomes the owner's. Tables that are in use are
    waited for, not long."""
    for row in await connection.fetch(OWNS, role):
        async with server.connection(service, access, row["datname"]) as inside:
            await inside.execute(f"SET lock_timeout = '{SOON}'")
            await inside.execute(f"REASSIGN OWNED BY {quote(role)} TO {quote(owner)}")
            if drop:  # rights that it was given
                await inside.execute(f"DROP OWNED BY {quote(role)}")


async def drop_login(
    service: Service, access: Access, connection: Any, role: str, owner: str
) -> None:
    await hand_over(service, access, connection, role, owner, drop=True)
    await connection.execute(f"DROP OWNED BY {quote(role)}")  # of what databases share
    await connection.execute(f"DROP ROLE {quote(role)}")


STANDING = f"""
WITH {NOTED} SELECT r.rolname AS login, o.rolname AS owner, NOT r.rolcanlogin AND a.rolpassword IS NULL AS ended,
    encode(sha256(convert_to(coalesce(a.rolpassword, ''), 'UTF8')), 'hex') AS secret, r.note,
    EXISTS (SELECT 1 FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid AND s.deptype = 'o')
        AS owns,
    EXISTS (SELECT 1 FROM pg_db_role_setting s, unnest(s.setconfig) e WHERE s.setrole = r.oid AND s.setdatabase = 0
        AND e = 'role=' || o.rolname) AS acts,
    ARRAY(SELECT d.datname::text FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
        WHERE s.setrole = r.oid AND EXISTS (SELECT 1 FROM unnest(s.setconfig) e WHERE starts_with(e, 'role='))) AS differs
FROM noted r JOIN pg_authid a ON a.oid = r.oid JOIN noted o ON o.note = r.mark WHERE r.note LIKE '{MARK}% {LOGIN} %'
"""
# What no project has, whoever gave it.
MORE = f"""
WITH {NOTED} SELECT r.rolname AS role, concat_ws(', ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END,
    CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END,
    CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END, (
        SELECT string_agg('member of ' || o.rolname, ', ' ORDER BY o.rolname)
        FROM pg_auth_members m JOIN noted o ON o.oid = m.roleid
        WHERE m.member = r.oid AND (o.rolsuper OR o.rolname ~ '^pg_(execute_|read_server|read_all_data|write_|signal_)'
            OR o.note LIKE '{MARK}%' AND o.note <> r.mark)
    )) AS more
FROM noted r WHERE r.note LIKE '{MARK}%' ORDER BY 1
"""


async def keep(service: Service, access: Access, connection: Any) -> list[str]:
    """Put right what a session can have undone of its login, and end what was left of ended ones.
    The answer is what only a person can put right, the same while nothing changes."""
    said = [
        f"{row['role']} has rights that no project has: {row['more']}."
        for row in await connection.fetch(MORE)
        if row["more"]
    ]
    if not await is_superuser(connection):
        return said
    for row in await connection.fetch(STANDING):
        login = quote(row["login"])
        if row["ended"]:
            await quietly(drop_login(service, access, connection, row["login"], row["owner"]))
            continue
        for database in row["differs"]:
            await quietly(
                connection.execute(f"ALTER ROLE {login} IN DATABASE {quote(database)} RESET role")
            )
        if not row["acts"]:
            await quietly(
                connection.execute(f"ALTER ROLE {login} SET role = {literal(row['owner'])}")
            )
        if row["owns"]:
            await quietly(
                hand_over(service, access, connection, row["login"], row["owner"], drop=False)
            )
        if not row["secret"].startswith(row["note"].rpartition(" ")[2]):
            said.append(
                f"Somebody changed the password of {row['login']}: rotate the credentials of its "
                "project."
            )
    await _settings(connection)
    return said


# What logins of an owner begin with, where it is not what the owner has chosen for itself; NULL is
# to be reset.
SETTINGS = f"""
WITH entries AS (
    SELECT s.setrole, s.setdatabase, split_part(e, '=', 1) AS name, substr(e, position('=' IN e) + 1) AS value
    FROM pg_db_role_setting s, unnest(s.setconfig) e
    WHERE split_part(e, '=', 1) NOT IN ('role', 'temp_file_limit', 'default_transaction_read_only')
), logins AS (
    SELECT r.oid, r.rolname AS login, o.oid AS owner FROM pg_roles r
    JOIN pg_roles o ON {COMMENT.format("o")} = {OWNERS_MARK} WHERE {IS_LOGIN} AND r.rolcanlogin
)
SELECT l.login, coalesce(d.datname, '') AS database, wanted.name, wanted.value FROM logins l
    JOIN entries wanted ON wanted.setrole = l.owner LEFT JOIN pg_database d ON d.oid = wanted.setdatabase
    WHERE NOT EXISTS (SELECT 1 FROM entries h WHERE h.setrole = l.oid AND h.setdatabase = wanted.setdatabase
        AND h.name = wanted.name AND h.value = wanted.value)
UNION ALL SELECT l.login, coalesce(d.datname, ''), held.name, NULL FROM logins l
    JOIN entries held ON held.setrole = l.oid LEFT JOIN pg_database d ON d.oid = held.setdatabase
    WHERE NOT EXISTS (SELECT 1 FROM entries w WHERE w.setrole = l.owner AND w.setdatabase = held.setdatabase
        AND w.name = held.name)
"""


async def _settings(connection: Any) -> None:
    """A session has the settings of the role that logs in: what an owner has set for itself is set
    for its logins."""
    from purveyor_postgres import statements
    from purveyor_postgres.record import Setting

    found = await connection.fetch(SETTINGS)
    version = (
        await connection.fetchval("SELECT current_setting('server_version_num')::int")
        if found
        else 0
    )
    for row in found:
        if row["value"] is not None:
            given = Setting(
                role=row["login"], database=row["database"], name=row["name"], value=row["value"]
            )
            await quietly(statements.setting(connection, given, version))
        else:
            within = f" IN DATABASE {quote(row['database'])}" if row["database"] else ""
            name = ".".join(quote(part) for part in row["name"].split("."))
            await quietly(
                connection.execute(f"ALTER ROLE {quote(row['login'])}{within} RESET {name}")
            )


async def quietly(work: Awaitable[Any]) -> None:
    """Whoever is in may hold what this needs: the next look tries again."""
    import asyncpg

    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        await work
