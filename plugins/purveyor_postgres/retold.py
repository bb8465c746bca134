"""What a container of ours tells after the record of its service was lost."""

from purveyor_hooks import Access, FoundContainer, HeldAccount, Reader, Retold, Service
from purveyor_postgres import server

MARK = "purveyor binding "
HELD = """
SELECT rolname, substr(shobj_description(oid, 'pg_authid'), length($1) + 1) AS number FROM pg_roles
WHERE shobj_description(oid, 'pg_authid') ~ ('^' || $1 || '[0-9]{1,18}$') ORDER BY rolname
"""


async def retell(container: FoundContainer, read: Reader) -> Retold:
    """Names from the environment, settings from the command, the password from the file that it is given by."""
    told = dict(word.partition("=")[::2] for word in container.command if "=" in word)
    encrypted = "\nhostssl all" in f"\n{await read(server.HBA_FILE) or ''}"
    parameters = {
        "username": container.environment.get("POSTGRES_USER"),
        "database": container.environment.get("POSTGRES_DB"),
        "password": await read(server.PASSWORD_FILE),
        "max_connections": int(told["max_connections"]) if told.get("max_connections", "").isdecimal() else None,
        "ssl_mode": "require" if encrypted else "disable",
    }
    return Retold(parameters={name: value for name, value in parameters.items() if value is not None})


async def held(service: Service, access: Access) -> list[HeldAccount]:
    """Roles by their comments; each has the database of its name."""
    async with server.connection(service, access) as connection:
        rows = await connection.fetch(HELD, MARK)
    return [HeldAccount(number=int(row["number"]), resource=row["rolname"], account=row["rolname"]) for row in rows]
