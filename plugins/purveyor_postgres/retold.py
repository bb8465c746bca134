"""What a container of ours tells after the record of its service was lost."""

import json

from purveyor_hooks import Access, FoundContainer, HeldAccount, Reader, Retold, Service
from purveyor_postgres import server
from purveyor_postgres.walls import COMMENT, EXTRA, IS_LOGIN, MARK, OWNERS_MARK

HELD = f"""
SELECT o.rolname AS owner, substr({COMMENT.format("o")}, length('{MARK}') + 1) AS number,
    coalesce((SELECT r.rolname FROM pg_roles r WHERE {IS_LOGIN} AND {OWNERS_MARK} = {COMMENT.format("o")} AND r.rolcanlogin
    ORDER BY r.oid DESC LIMIT 1), o.rolname) AS login,
    (SELECT json_object_agg(split_part(shobj_description(d.oid, 'pg_database'), ' {EXTRA} ', 2), d.datname)::text
    FROM pg_database d WHERE starts_with(shobj_description(d.oid, 'pg_database'), {COMMENT.format("o")} || ' {EXTRA} ')) AS extras
FROM pg_roles o WHERE {COMMENT.format("o")} ~ '^{MARK}[0-9]{{1,18}}$' ORDER BY 1
"""


async def retell(container: FoundContainer, read: Reader) -> Retold:
    """Names from the environment, settings from the command, the password from the file that it is
    given by."""
    told = dict(word.partition("=")[::2] for word in container.command if "=" in word)
    encrypted = "\nhostssl all" in f"\n{await read(server.HBA_FILE) or ''}"
    parameters = {
        "username": container.environment.get("POSTGRES_USER"),
        "database": container.environment.get("POSTGRES_DB"),
        "password": await read(server.PASSWORD_FILE),
        "max_connections": int(told["max_connections"])
        if told.get("max_connections", "").isdecimal()
        else None,
        "ssl_mode": "require" if encrypted else "disable",
    }
    return Retold(
        parameters={name: value for name, value in parameters.items() if value is not None}
    )


async def held(service: Service, access: Access) -> list[HeldAccount]:
    """Owners by their comments, each with the database of its name and its newest login."""
    async with server.connection(service, access) as connection:
        rows = await connection.fetch(HELD)
    return [
        HeldAccount(
            number=int(row["number"]),
            resource=row["owner"],
            account=row["login"],
            extras=json.loads(row["extras"] or "{}"),
        )
        for row in rows
    ]
