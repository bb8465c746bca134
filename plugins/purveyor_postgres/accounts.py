"""Roles and databases of bindings. Every statement may be repeated after a crash."""

import base64
import hashlib
import hmac
import os
from typing import Any

import anyio

from purveyor_hooks import Access, Binding, Conflict, Service
from purveyor_postgres import server

ITERATIONS = 4096
SALT_BYTES = 16


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL has it, in whatever session."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def verifier(password: str) -> str:
    """What the server stores for a password (RFC 5803): sent instead of the password, which no log can then show."""
    salt = os.urandom(SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${ITERATIONS}:{parts[0]}${parts[1]}:{parts[2]}"


KEEPER = "purveyor_databases"  # owns the databases of projects: who owns one could shut the manager out of it
HEIR = "purveyor_heir"  # owns what a superuser owned, after a restore
SHUTTING, PAUSE = 100, 0.1  # times, seconds
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1"
SPARE = 10  # connections that one project alone cannot take


def most_connections(service: Service, of_server: int) -> int:
    """How many one project may hold; a service of before the parameter leaves but the spare ones to others."""
    wanted = int(service.parameters.get("project_connections", of_server))
    return min(wanted, of_server - SPARE if of_server > 2 * SPARE else of_server)


async def terminate(connection: Any, role: str) -> bool:
    """End the sessions of a role; the answer is whether there were any."""
    return bool(await connection.fetch(TERMINATE, role))


async def ensure_role(connection: Any, name: str) -> None:
    """A role of ours that nobody logs in as."""
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
        await connection.execute(f"CREATE ROLE {name} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS")


MARKED = "coalesce(shobj_description(r.oid, 'pg_authid'), '') LIKE 'purveyor binding %'"
OTHERS = f"SELECT rolname FROM pg_roles r WHERE NOT rolsuper AND rolname !~ '^(pg|purveyor)_' AND NOT {MARKED}"
OPEN_TO_ALL = """
SELECT datname AS database, array_agg(acl.privilege_type) AS rights
FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) acl
WHERE acl.grantee = 0 AND datallowconn GROUP BY 1
"""


async def close_to_projects(connection: Any) -> None:
    """What everybody may in a database is given to each role that is no project's, and taken from everybody: a server's own
    roles go on as before, and projects are kept out, also of what an administrator made after they were linked."""
    for row in await connection.fetch(OPEN_TO_ALL):
        database, rights = quoted(row["database"]), ", ".join(row["rights"])
        async with connection.transaction():
            for other in await connection.fetch(OTHERS):
                await connection.execute(f"GRANT {rights} ON DATABASE {database} TO {quoted(other['rolname'])}")
            await connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")


async def bind(service: Service, access: Access, connection: Any, binding: Binding) -> None:
    """The role, its database, and nobody else in it."""
    await _ensure_role(service, connection, binding)
    await _ensure_database(connection, binding)
    if await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = session_user"):
        await _take_over(service, access, connection, binding)
    await close_to_projects(connection)


async def _ensure_role(service: Service, connection: Any, binding: Binding) -> None:
    role = quoted(binding.account)
    comment = await connection.fetchrow(
        "SELECT shobj_description(oid, 'pg_authid') AS mark FROM pg_roles WHERE rolname = $1", binding.account
    )
    if comment is not None and comment["mark"] != binding.mark:
        raise Conflict(
            f"The server has a role {binding.account} already, and it is not Purveyor's.",
            remedy="Rename or drop it, or choose another project name.",
        )
    word = "CREATE" if comment is None else "ALTER"
    most = await connection.fetchval("SELECT current_setting('max_connections')::int")
    rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    rights += f" CONNECTION LIMIT {most_connections(service, most)}"
    async with connection.transaction():
        await connection.execute(f"{word} ROLE {role} {rights} PASSWORD '{verifier(binding.password)}'")
        await connection.execute(f"COMMENT ON ROLE {role} IS '{binding.mark}'")


async def _ensure_database(connection: Any, binding: Binding) -> None:
    owner = await connection.fetchval("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", binding.resource)
    if owner is None:
        # template0: nobody can be connected to it, which would make this fail
        await connection.execute(f"CREATE DATABASE {quoted(binding.resource)} OWNER {quoted(binding.account)} TEMPLATE template0")
    elif owner not in (binding.account, KEEPER) or not await _is_ours(connection, binding):
        raise Conflict(
            f"The server has a database {binding.resource} already, and it belongs to {owner}.",
            remedy="Rename it, or choose another project name.",
        )


async def _take_over(service: Service, access: Access, connection: Any, binding: Binding) -> None:
    """The database is ours, what is in it the project's: so it makes schemas and extensions, and cannot set anything that
    everybody would get who comes in, nor forbid to come in. One of before is handed over without moving a table."""
    database, role = quoted(binding.resource), quoted(binding.account)
    await ensure_role(connection, KEEPER)
    owner = await connection.fetchval("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", binding.resource)
    if owner != KEEPER:
        await connection.execute(f"ALTER DATABASE {database} OWNER TO {KEEPER}")
    await connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC, {KEEPER}")
    await connection.execute(f"GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {role}")
    await connection.execute(f"ALTER DATABASE {database} RESET local_preload_libraries")
    if not await connection.fetchval("SELECT datallowconn FROM pg_database WHERE datname = $1", binding.resource):
        return
    async with server.connection(service, access, binding.resource) as inside:
        holder = await inside.fetchval("SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'")
        if holder in ("pg_database_owner", service.parameters["username"], KEEPER):
            await inside.execute(f"ALTER SCHEMA public OWNER TO {role}")


async def rotate_administrator(service: Service, access: Access, previous: Service) -> None:
    """One of the two passwords works; from now on it is the new one."""
    import asyncpg

    role, secret = quoted(service.parameters["username"]), verifier(service.parameters["password"])
    try:
        async with server.connection(previous, access) as connection:
            await connection.execute(f"ALTER ROLE {role} PASSWORD '{secret}'")
    except asyncpg.InvalidPasswordError:
        async with server.connection(service, access):  # a crash came after it was set
            return


async def _is_ours(connection: Any, binding: Binding) -> bool:
    mark = await connection.fetchval(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1", binding.account
    )
    return bool(mark == binding.mark)


async def rotate(service: Service, access: Access, connection: Any, binding: Binding) -> None:
    """What the old password opened, or a password that was set with it, has ended before the new one works."""
    if await _is_ours(connection, binding):
        await _shut_out(connection, binding.account)
    await bind(service, access, connection, binding)


async def unbind(connection: Any, binding: Binding) -> None:
    """The role keeps its database and can no longer come in."""
    if await _is_ours(connection, binding):
        await _shut_out(connection, binding.account)


async def _shut_out(connection: Any, role: str) -> None:
    """Nobody is in as this role, and nobody comes in.

    Whoever is in may hold the role's own row by an open transaction, so that a change of it waits: sessions are ended first,
    again until the change is made, and then those that came meanwhile. Only then is there no way back.
    """
    import asyncpg

    name = quoted(role)
    for attempt in range(SHUTTING):
        await terminate(connection, role)
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '300ms'")
                await connection.execute(f"ALTER ROLE {name} NOLOGIN PASSWORD NULL")
            break
        except (asyncpg.LockNotAvailableError, asyncpg.InternalServerError):  # "tuple concurrently updated"
            if attempt == SHUTTING - 1:
                raise
            await anyio.sleep(PAUSE)
    for _ in range(SHUTTING):
        if not await terminate(connection, role):
            return
        await anyio.sleep(PAUSE)


async def purge(connection: Any, binding: Binding) -> None:
    """Database and role are gone."""
    if not await _is_ours(connection, binding):
        return
    owner = await connection.fetchval("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", binding.resource)
    if owner in (binding.account, KEEPER):
        await connection.execute(f"DROP DATABASE {quoted(binding.resource)} WITH (FORCE)")
    await connection.execute(f"DROP ROLE {quoted(binding.account)}")
