"""Owners, logins and databases of bindings. Every statement may be repeated after a crash."""

from datetime import datetime
from typing import Any

from purveyor_hooks import Access, Binding, Conflict, Service
from purveyor_postgres import server, walls
from purveyor_postgres.sql import literal, quote, verifier
from purveyor_postgres.walls import KEEPER, RIGHTS, change, ensure_role, is_superuser, shut_out

SPARE = 10  # connections that one project alone cannot take


def most_connections(service: Service, of_server: int) -> int:
    """How many one project may hold; a service of before the parameter leaves but the spare ones to
    others."""
    wanted = int(service.parameters.get("project_connections", of_server))
    return min(wanted, of_server - SPARE if of_server > 2 * SPARE else of_server)


async def bind(service: Service, access: Access, connection: Any, binding: Binding) -> None:
    """The owner, the login that acts as the owner, their database, and nobody else in it. Other
    logins end, but for those whose end is set."""
    await _ensure_owner(service, connection, binding)
    if binding.account != binding.resource:
        await _ensure_login(service, connection, binding)
    full = await is_superuser(connection)
    for name in ("", *binding.extras):
        database = await _ensure_database(connection, binding, name)
        if full:
            await _take_over(service, access, connection, binding.resource, database)
    await walls.close_to_projects(connection)
    for role in await _others(connection, binding, with_an_end=False):
        await _end(service, access, connection, role, binding.resource)
    if said := await walls.keep(service, access, connection):
        access.logger.warning("postgres.walls", service=service.slug, found=said)


async def _mark(connection: Any, role: str) -> str | None:
    """A role's comment; None where there is no such role."""
    found = await connection.fetchrow(
        "SELECT shobj_description(oid, 'pg_authid') AS mark FROM pg_roles WHERE rolname = $1", role
    )
    return (found["mark"] or "") if found else None


def _require_ours(role: str, mark: str | None, ours: bool) -> None:
    if mark is not None and not ours:
        raise Conflict(
            f"The server has a role {role} already, and it is not Purveyor's.",
            remedy="Rename or drop it, or choose another project name.",
        )


async def _login_rights(service: Service, connection: Any) -> str:
    most = await connection.fetchval("SELECT current_setting('max_connections')::int")
    return (
        f"LOGIN {RIGHTS} CONNECTION LIMIT {most_connections(service, most)} VALID UNTIL 'infinity'"
    )


async def _ensure_owner(service: Service, connection: Any, binding: Binding) -> None:
    """Who owns what is in the database. An account of before logins were apart is the owner itself,
    until it is rotated."""
    mark = await _mark(connection, binding.resource)
    _require_ours(binding.resource, mark, mark == binding.mark)
    role, word = quote(binding.resource), "CREATE" if mark is None else "ALTER"
    rights = f"NOLOGIN {RIGHTS}" if mark is None else RIGHTS
    if binding.account == binding.resource:
        rights = (
            f"{await _login_rights(service, connection)} PASSWORD '{verifier(binding.password)}'"
        )
    async with connection.transaction():
        await connection.execute(f"{word} ROLE {role} {rights}")
        await connection.execute(f"COMMENT ON ROLE {role} IS '{binding.mark}'")


async def _ensure_login(service: Service, connection: Any, binding: Binding) -> None:
    """A member of the owner, whose sessions act as the owner: so it owns nothing, and no session
    can change it but one that puts that off, which can change its password alone."""
    mark = await _mark(connection, binding.account)
    _require_ours(binding.account, mark, (mark or "").startswith(f"{binding.mark} {walls.LOGIN} "))
    role, owner, word = (
        quote(binding.account),
        quote(binding.resource),
        "CREATE" if mark is None else "ALTER",
    )
    secret = verifier(binding.password)
    async with connection.transaction():
        await connection.execute(
            f"{word} ROLE {role} {await _login_rights(service, connection)} PASSWORD '{secret}'"
        )
        await connection.execute(f"COMMENT ON ROLE {role} IS '{walls.note(binding.mark, secret)}'")
        await connection.execute(f"GRANT {owner} TO {role}")
        await connection.execute(f"ALTER ROLE {role} SET role = {literal(binding.resource)}")


HOLDER = """
SELECT pg_get_userbyid(datdba) AS owner, coalesce(shobj_description(oid, 'pg_database'), '') AS mark FROM pg_database
WHERE datname = $1
"""


async def _ensure_database(connection: Any, binding: Binding, extra: str) -> str:
    """The database of a binding, "" or a further one; its name. A further one is told by its
    comment, for others may be ours."""
    name = binding.extras[extra] if extra else binding.resource
    mark = f"{binding.mark} {walls.EXTRA} {extra}"
    held = await connection.fetchrow(HOLDER, name)
    if held is None:
        # template0: nobody can be connected to it, which would make this fail
        await connection.execute(
            f"CREATE DATABASE {quote(name)} OWNER {quote(binding.resource)} TEMPLATE template0"
        )
    elif held["owner"] != binding.resource and not (
        held["owner"] == KEEPER and (not extra or held["mark"] == mark)
    ):
        raise Conflict(
            f"The server has a database {name} already, and it belongs to {held['owner']}.",
            remedy="Rename it, or choose another name.",
        )
    if extra:
        await connection.execute(f"COMMENT ON DATABASE {quote(name)} IS {literal(mark)}")
    return name


async def _take_over(
    service: Service, access: Access, connection: Any, owner: str, name: str
) -> None:
    """The database is ours, what is in it the project's: so it makes schemas and extensions, and
    cannot set anything that everybody would get who comes in, nor forbid to come in. One of before
    is handed over without moving a table."""
    database, role = quote(name), quote(owner)
    await ensure_role(connection, KEEPER)
    if (await connection.fetchrow(HOLDER, name))["owner"] != KEEPER:
        await connection.execute(f"ALTER DATABASE {database} OWNER TO {KEEPER}")
    await connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC, {KEEPER}")
    await connection.execute(f"GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {role}")
    await connection.execute(f"ALTER DATABASE {database} RESET local_preload_libraries")
    if not await connection.fetchval(
        "SELECT datallowconn FROM pg_database WHERE datname = $1", name
    ):
        return
    async with server.connection(service, access, name) as inside:
        holder = await inside.fetchval(
            "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'"
        )
        if holder in ("pg_database_owner", service.parameters["username"], KEEPER):
            await inside.execute(f"ALTER SCHEMA public OWNER TO {role}")


async def rotate_administrator(service: Service, access: Access, previous: Service) -> None:
    """One of the two passwords works; from now on it is the new one."""
    import asyncpg

    role, secret = quote(service.parameters["username"]), verifier(service.parameters["password"])
    try:
        async with server.connection(previous, access) as connection:
            await connection.execute(f"ALTER ROLE {role} PASSWORD '{secret}'")
    except asyncpg.InvalidPasswordError:
        async with server.connection(service, access):  # a crash came after it was set
            return


async def _is_ours(connection: Any, binding: Binding) -> bool:
    return await _mark(connection, binding.resource) == binding.mark


async def rotate(
    service: Service, access: Access, connection: Any, binding: Binding, until: datetime | None
) -> None:
    """What the old password opened, or a password that was set with it, has ended before the new
    one works: or it has an end that the server itself keeps."""
    if await _is_ours(connection, binding):
        for role in await _others(connection, binding):
            if until is None:
                await shut_out(connection, role)
            else:
                await change(connection, role, f"VALID UNTIL '{until.isoformat()}'")
        if binding.account == binding.resource:
            await shut_out(connection, binding.account)
    await bind(service, access, connection, binding)


async def retire(service: Service, access: Access, connection: Any, binding: Binding) -> None:
    """Whoever logs in with something else than what the binding has now."""
    if await _is_ours(connection, binding):
        for role in await _others(connection, binding):
            await _end(service, access, connection, role, binding.resource)


async def unbind(service: Service, access: Access, connection: Any, binding: Binding) -> None:
    """The owner keeps its database, and nobody can log in for it any more."""
    if await _is_ours(connection, binding):
        for role in await _logins(connection, binding):
            await _end(service, access, connection, role, binding.resource)


LOGINS = """
SELECT rolname, rolvaliduntil < 'infinity' AS has_end FROM pg_roles r
WHERE starts_with(shobj_description(r.oid, 'pg_authid'), $1) OR (r.rolname = $2 AND r.rolcanlogin) ORDER BY r.oid
"""


async def _logins(connection: Any, binding: Binding, *, with_an_end: bool = True) -> list[str]:
    """Everybody who logs in for a binding, or could: the owner as well, if it is of before logins
    were apart."""
    found = await connection.fetch(LOGINS, f"{binding.mark} {walls.LOGIN} ", binding.resource)
    return [row["rolname"] for row in found if with_an_end or not row["has_end"]]


async def _others(connection: Any, binding: Binding, *, with_an_end: bool = True) -> list[str]:
    return [
        role
        for role in await _logins(connection, binding, with_an_end=with_an_end)
        if role != binding.account
    ]


async def _end(service: Service, access: Access, connection: Any, role: str, owner: str) -> None:
    await shut_out(connection, role)
    if role != owner:  # what is in use now is dropped at a later look
        await walls.quietly(walls.drop_login(service, access, connection, role, owner))


OF_BINDING = """
SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = ANY($1::name[])
AND (datname = ANY($2::name[]) OR starts_with(shobj_description(oid, 'pg_database'), $3))
"""


async def purge(service: Service, access: Access, connection: Any, binding: Binding) -> None:
    """Databases and roles are gone."""
    if not await _is_ours(connection, binding):
        return
    logins = await _logins(connection, binding)
    for role in logins:
        await shut_out(connection, role)
    owners, names = [binding.resource, KEEPER], [binding.resource, *binding.extras.values()]
    for row in await connection.fetch(OF_BINDING, owners, names, f"{binding.mark} {walls.EXTRA} "):
        await connection.execute(f"DROP DATABASE {quote(row['datname'])} WITH (FORCE)")
    for role in logins:
        if role != binding.resource:
            await walls.drop_login(service, access, connection, role, binding.resource)
    await connection.execute(f"DROP ROLE {quote(binding.resource)}")


async def purge_extra(connection: Any, binding: Binding, extra: str) -> None:
    """One further database is gone, with whoever is in it."""
    if not await _is_ours(connection, binding):
        return
    name = binding.extras[extra]
    held = await connection.fetchrow(HOLDER, name)
    if held is None:
        return
    if held["owner"] not in (KEEPER, binding.resource):
        raise Conflict(
            f"The database {name} belongs to {held['owner']}.",
            remedy="Give it back to the owner that it had, or rename it.",
        )
    await connection.execute(f"DROP DATABASE {quote(name)} WITH (FORCE)")
