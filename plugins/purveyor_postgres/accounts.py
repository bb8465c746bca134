"""Roles and databases of bindings. Every statement may be repeated after a crash."""

import base64
import hashlib
import hmac
import os
from typing import Any

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
SPARE = 10  # connections that one project alone cannot take


async def ensure_role(connection: Any, name: str) -> None:
    """A role of ours that nobody logs in as."""
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
        await connection.execute(f"CREATE ROLE {name} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS")


MARKED = "coalesce(shobj_description(r.oid, 'pg_authid'), '') LIKE 'purveyor binding %'"
OTHERS = f"SELECT rolname FROM pg_roles r WHERE NOT rolsuper AND rolname !~ '^pg_' AND NOT {MARKED}"
OPEN_TO_ALL = """
SELECT datname AS database, array_agg(acl.privilege_type) AS rights
FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) acl
WHERE acl.grantee = 0 AND datallowconn GROUP BY 1
"""


async def close_to_projects(connection: Any) -> None:
    """On a server of somebody else's: what everybody may in its databases is given to each role that it has, and taken
    from everybody. So its own roles go on as before, and projects' roles are kept out."""
    for row in await connection.fetch(OPEN_TO_ALL):
        database, rights = quoted(row["database"]), ", ".join(row["rights"])
        async with connection.transaction():
            for other in await connection.fetch(OTHERS):
                await connection.execute(f"GRANT {rights} ON DATABASE {database} TO {quoted(other['rolname'])}")
            await connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")


async def bind(service: Service, access: Access, connection: Any, binding: Binding) -> None:
    """The role, its database, and nobody else in it."""
    await _ensure_role(connection, binding)
    await _ensure_database(connection, binding)
    if await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = session_user"):
        await _take_over(service, access, connection, binding)
    current = await connection.fetchval("SELECT current_database()")
    for database in (binding.resource, current, "postgres", "template1"):
        if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            await connection.execute(f"REVOKE ALL ON DATABASE {quoted(database)} FROM PUBLIC")


async def _ensure_role(connection: Any, binding: Binding) -> None:
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
    rights += f" CONNECTION LIMIT {most - SPARE if most > 2 * SPARE else -1}"
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


async def unbind(connection: Any, binding: Binding) -> None:
    """The role keeps its database and can no longer come in."""
    if await _is_ours(connection, binding):
        await connection.execute(f"ALTER ROLE {quoted(binding.account)} NOLOGIN PASSWORD NULL")
        await connection.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", binding.account)


async def purge(connection: Any, binding: Binding) -> None:
    """Database and role are gone."""
    if not await _is_ours(connection, binding):
        return
    owner = await connection.fetchval("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", binding.resource)
    if owner in (binding.account, KEEPER):
        await connection.execute(f"DROP DATABASE {quoted(binding.resource)} WITH (FORCE)")
    await connection.execute(f"DROP ROLE {quoted(binding.account)}")
